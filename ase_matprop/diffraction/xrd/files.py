"""Detector images from files: TIF, GFRM and what else fabio reads."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ase_matprop.diffraction.xrd.errors import DiffractionImageError
from ase_matprop.errors import missing_dependency

#: endings that are read; the thesis has .gfrm (Bruker) and .tif
ENDINGS = (".tif", ".tiff", ".gfrm", ".edf", ".cbf", ".mccd", ".npy")


def read_image(path: Path) -> NDArray[Any]:
    """Return the counts of one detector image in the type of the file, shape (height, width).

    ``.npy`` files are read by NumPy, all others by fabio.  Headers are not read: where the detector was is in the
    geometry that comes with the images (:meth:`ase_matprop.diffraction.xrd.geometry.DetectorGeometry.read`).

    Raises:
        DiffractionImageError: if the file cannot be read, or is no single image.
        MissingDependencyError: if fabio is not installed.
    """
    if path.suffix.lower() not in ENDINGS:
        raise DiffractionImageError(f"the image {path} must end in {', '.join(ENDINGS)}")
    if not path.is_file():
        raise DiffractionImageError(f"the image {path} does not exist")
    image = _read_npy(path) if path.suffix.lower() == ".npy" else _read_with_fabio(path)
    if image.ndim != 2:
        raise DiffractionImageError(
            f"the image {path} has the shape {image.shape}; it must be one frame of rows and columns of counts"
        )
    return image


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise DiffractionImageError(f"the image {path} cannot be read: {error}") from None


def _read_with_fabio(path: Path) -> NDArray[Any]:
    fabio = _import_fabio(f"reading {path.suffix} images")
    try:
        with fabio.open(str(path)) as image:
            data = image.data
            if image.nframes > 1:
                raise DiffractionImageError(
                    f"the image {path} has {image.nframes} frames; split it into files of one frame each"
                )
    except DiffractionImageError:
        raise
    except Exception as error:  # fabio's readers raise what they come across
        raise DiffractionImageError(f"the image {path} cannot be read by fabio: {error}") from None
    if data is None:
        raise DiffractionImageError(f"the image {path} has no pixels")
    return np.asarray(data)


def check_outputs(inputs: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Refuse outputs that cannot be written, before anything is computed.

    Raises:
        DiffractionImageError: if an output is an input or another output, is a folder, or its folder does not exist or
            cannot be written to.
    """
    taken = {path.resolve() for path in inputs}
    for path in outputs:
        if path.resolve() in taken:
            raise DiffractionImageError(f"the output {path} is an input or another output, too; give another name")
        taken.add(path.resolve())
        if not path.parent.is_dir() or path.is_dir():
            raise DiffractionImageError(f"the output {path} is a folder, or its folder does not exist; make that first")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise DiffractionImageError(f"the output {path} cannot be written: no permission")


def check_image_output(path: Path) -> None:
    """Refuse an image file that cannot be written, before anything is computed.

    Raises:
        DiffractionImageError: for endings other than .npy and .tif, or as :func:`check_outputs`.
        MissingDependencyError: for TIF without fabio.
    """
    if path.suffix.lower() not in (".npy", ".tif", ".tiff"):
        raise DiffractionImageError(f"the output {path} must end in .npy or .tif")
    check_outputs([], [path])
    if path.suffix.lower() != ".npy":
        _import_fabio("writing TIF")


def write_image(path: Path, image: NDArray[np.float64]) -> None:
    """Write an image as .npy (float64) or .tif (32-bit floats).

    Raises:
        DiffractionImageError: as for :func:`check_image_output`.
        MissingDependencyError: for TIF without fabio.
    """
    check_image_output(path)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")  # with the ending, to which numpy would add its own
    if path.suffix.lower() == ".npy":
        np.save(partial, image)
    else:
        _import_fabio("writing TIF").tifimage.TifImage(data=image.astype(np.float32)).write(str(partial))
    partial.replace(path)


def read_compositions(path: Path, metals: Sequence[str], names: Sequence[str]) -> NDArray[np.float64]:
    """Return the cation fractions of samples from a CSV file, shape (n, n_metals).

    Args:
        path: file with a column for each metal.  Where it has a column ``name`` with file names, these decide which
            row belongs to which sample (without their folders); without it rows and samples are in the same order.
        metals: names of the columns, in the order to return.
        names: first file of each sample.

    Raises:
        DiffractionImageError: if columns, rows or numbers are missing.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype={"name": str})
    except (OSError, ValueError) as error:
        raise DiffractionImageError(f"the compositions {path} cannot be read: {error}") from None
    missing = [metal for metal in metals if metal not in table]
    if missing:
        raise DiffractionImageError(f"the compositions {path} have no column {', '.join(missing)}")
    if "name" in table:
        table = table.assign(name=[Path(str(name)).name for name in table["name"]])
        short = [Path(name).name for name in names]
        if len(set(short)) < len(short):
            twice = next(name for name in short if short.count(name) > 1)
            raise DiffractionImageError(
                f"more than one sample has a file named {twice}, the compositions {path} cannot tell them apart; leave "
                "out the column name and give the rows in the order of the samples"
            )
        if table["name"].duplicated().any():
            twice = table["name"][table["name"].duplicated()].iloc[0]
            raise DiffractionImageError(f"the compositions {path} have more than one row for {twice}")
        absent = [name for name in short if name not in set(table["name"])]
        if absent:
            raise DiffractionImageError(f"the compositions {path} have no row for {absent[0]} ({len(absent)} in all)")
        table = table.set_index("name").loc[short]
    elif len(table) != len(names):
        raise DiffractionImageError(
            f"the compositions {path} have {len(table)} rows for {len(names)} samples; add a column name with files"
        )
    try:
        return table[list(metals)].to_numpy(dtype=np.float64)
    except ValueError as error:
        raise DiffractionImageError(f"the compositions {path} are no numbers: {error}") from None


def _import_fabio(purpose: str) -> Any:
    try:
        return importlib.import_module("fabio")
    except ImportError:
        raise missing_dependency("fabio", purpose, extra="xrd") from None
