"""Files with patterns: HDF5 of kikuchipy, EDAX and Bruker, .up1 and .up2 of EDAX, TIFF."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ase_matprop.diffraction.ebsd.errors import PatternError
from ase_matprop.diffraction.ebsd.geometry import Detector, bruker_from_edax
from ase_matprop.diffraction.ebsd.maps import ScanGrid
from ase_matprop.errors import missing_dependency

ENDINGS = (".h5", ".hdf5", ".up1", ".up2", ".tif", ".tiff")
_UP_HEADER = 16
_UP_SCAN = "<B2iB2d"
_GREY = ("L", "I", "I;16", "I;16L", "I;16B", "F")  # of PIL


@dataclass(frozen=True, eq=False)
class PatternFile:
    """The patterns of a file, and what it says of them; these are read as they are asked for.

    Attributes:
        path: of the file.
        shape: pixels of the patterns (rows, columns).
        dtype: of the patterns.
        n: number of patterns.
        detector: with the mean pattern centre; None where the file has none.
        centers: pattern centre of each pattern, shape (n, 3), Bruker's convention, NaN for a pattern without one; None
            where the file has none at all.
        static_background: shape (rows, columns), or None.
        grid: of the scan, or None.
        dataset: of an HDF5 file, where the patterns are.
        order: rows of the dataset in the order of the scan, shape (n,); None where they are in it.
    """

    path: Path
    shape: tuple[int, int]
    dtype: np.dtype
    n: int
    detector: Detector | None = None
    centers: NDArray[np.float64] | None = None
    static_background: NDArray | None = None
    grid: ScanGrid | None = None
    dataset: str = ""
    order: NDArray[np.intp] | None = None

    def blocks(self, size: int = 1024) -> Iterator[NDArray]:
        """Yield the patterns, shape (up to ``size``, rows, columns), in the order of the scan.

        Raises:
            PatternError: if the file has become shorter.
        """
        if self.path.suffix.lower() in (".h5", ".hdf5"):
            with _open_hdf5(self.path) as file:
                data = file[self.dataset]
                for start in range(0, self.n, size):
                    yield _rows(data, slice(start, start + size) if self.order is None else self.order[start:][:size])
        elif self.path.suffix.lower() in (".up1", ".up2"):
            with self.path.open("rb") as stream:
                offset = struct.unpack("<4i", stream.read(_UP_HEADER))[3]
            data = np.memmap(self.path, self.dtype, mode="r", offset=offset, shape=(self.n, *self.shape))
            for start in range(0, self.n, size):
                yield np.array(data[start : start + size])
        else:
            yield from _pages(self.path, self.n, size)

    def read(self) -> NDArray:
        """Return all patterns, shape (n, rows, columns)."""
        return np.concatenate(list(self.blocks()) or [np.empty((0, *self.shape), self.dtype)])


def open_patterns(path: str | os.PathLike[str], *, scan: str | None = None) -> PatternFile:
    """Open a file with patterns.

    Args:
        path: ending in .h5, .hdf5, .up1, .up2, .tif or .tiff.
        scan: name of the scan in an HDF5 file, for one that has several; by default the first.

    Raises:
        PatternError: if the file cannot be read, is none of these, is incomplete or has no patterns.
        MissingDependencyError: if h5py is needed, and not installed.
    """
    name = Path(path).expanduser()
    ending = name.suffix.lower()
    if ending not in ENDINGS:
        raise PatternError(f"{name} is no file of patterns; these end in {', '.join(ENDINGS)}")
    if not name.is_file():
        raise PatternError(f"the file {name} does not exist")
    if ending in (".h5", ".hdf5"):
        return _hdf5(name, scan)
    return _up(name) if ending in (".up1", ".up2") else _tiff(name)


def _up(path: Path) -> PatternFile:
    with path.open("rb") as stream:
        header = stream.read(_UP_HEADER + struct.calcsize(_UP_SCAN))
    if len(header) < _UP_HEADER:
        raise PatternError(f"{path} is too short for a file of patterns")
    version, width, height, offset = struct.unpack("<4i", header[:_UP_HEADER])
    dtype = np.dtype(np.uint8 if path.suffix.lower() == ".up1" else "<u2")
    size = path.stat().st_size
    impossible = min(width, height) < 1 or max(width, height) > 1 << 14 or not _UP_HEADER <= offset <= size
    if version < 1 or version == 2 or impossible:  # a version 2 is unknown
        raise PatternError(f"{path} has no header of an EDAX {path.suffix} file, or one that is corrupted")
    n, rest = divmod(size - offset, width * height * dtype.itemsize)
    if n == 0 or rest:
        raise PatternError(
            f"{path} is incomplete: behind its header there are {size - offset} bytes, which are no whole number of "
            f"patterns of {height} x {width} pixels of {8 * dtype.itemsize} bits"
        )
    grid = None
    if version >= 3 and offset >= _UP_HEADER + struct.calcsize(_UP_SCAN) <= len(header):
        _, columns, rows, hexagonal, step_x, step_y = struct.unpack(_UP_SCAN, header[_UP_HEADER:])
        if not hexagonal and rows * columns == n:
            grid = ScanGrid(rows, columns, step_x or 1.0, step_y or 1.0)
    return PatternFile(path, (height, width), dtype, n, grid=grid)


def _rows(data: Any, chosen: slice | NDArray[np.intp]) -> NDArray:
    if isinstance(chosen, slice):
        return np.asarray(data[chosen])
    ascending = np.argsort(chosen)  # h5py wants ascending rows
    found = np.empty((len(chosen), *data.shape[1:]), data.dtype)
    found[ascending] = data[chosen[ascending]]
    return found


def _pages(path: Path, n: int, size: int) -> Iterator[NDArray]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            for start in range(0, n, size):
                pages = []
                for number in range(start, min(start + size, n)):
                    image.seek(number)
                    pages.append(_page(path, image))
                yield np.stack(pages)
    except (OSError, EOFError, SyntaxError) as error:
        raise PatternError(f"{path} is incomplete or damaged: {error}") from None


def _page(path: Path, image: Any) -> NDArray:
    if image.mode not in _GREY:
        raise PatternError(f"{path} has colours (mode {image.mode}); patterns are greyscale images of 8 or 16 bits")
    page = np.array(image)
    if page.dtype != np.int32:  # how PIL gives some files of 16 bits
        return page
    if page.min() < 0 or page.max() > np.iinfo(np.uint16).max:
        raise PatternError(f"{path} has values from {page.min()} to {page.max()}; patterns have 8 or 16 bits")
    return page.astype(np.uint16)


def _tiff(path: Path) -> PatternFile:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            n = getattr(image, "n_frames", 1)
            sizes = set()
            first = _page(path, image)
            for number in range(n):
                image.seek(number)
                sizes.add(image.size)
    except (UnidentifiedImageError, OSError, EOFError, SyntaxError) as error:
        raise PatternError(f"{path} cannot be read as TIFF: {error}") from None
    if len(sizes) > 1:
        raise PatternError(f"{path} has images of {len(sizes)} sizes; write those of one size into one file")
    return PatternFile(path, (first.shape[0], first.shape[1]), first.dtype, n)


def _open_hdf5(path: Path) -> Any:
    try:
        import h5py  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise missing_dependency("h5py", "a file of patterns in HDF5", extra="ebsd") from None
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise PatternError(f"{path} cannot be read as HDF5: {error}") from None


#: manufacturer (lower case) -> name of the patterns in EBSD/Data
_PATTERNS = {"kikuchipy": "patterns", "edax": "Pattern", "bruker nano": "RawPatterns"}


def _hdf5(path: Path, scan: str | None) -> PatternFile:
    try:
        return _read_hdf5(path, scan)
    except (LookupError, TypeError, AttributeError) as error:
        raise PatternError(f"{path} is not laid out as files of patterns are: {error}") from None


def _read_hdf5(path: Path, scan: str | None) -> PatternFile:
    with _open_hdf5(path) as file:
        maker = _text(file, "Manufacturer").lower() or _text(file, "manufacturer").lower()
        if maker not in _PATTERNS:
            raise PatternError(
                f"{path} says that it comes from {maker or 'nobody'}; files of kikuchipy, EDAX and Bruker can be read. "
                "Save others with kikuchipy: kikuchipy.load(FILE).save(NEW_FILE)"
            )
        scans = [name for name in file if f"{name}/EBSD/Data/{_PATTERNS[maker]}" in file]
        if not scans:
            raise PatternError(f"{path} has no patterns; save them with the scan in the program that wrote the file")
        if scan is not None and scan not in scans:
            raise PatternError(f"{path} has no scan {scan!r}; it has {', '.join(scans)}")
        chosen = scan or scans[0]
        dataset = f"{chosen}/EBSD/Data/{_PATTERNS[maker]}"
        data = file[dataset]
        if data.ndim < 3 or not data.size:
            raise PatternError(f"{path}: {dataset} has the shape {data.shape}, which are no patterns")
        n = int(np.prod(data.shape[:-2]))
        if data.ndim != 3:
            raise PatternError(f"{path}: {dataset} has the shape {data.shape}; three dimensions are understood")
        shape = (int(data.shape[-2]), int(data.shape[-1]))
        header, values = file[f"{chosen}/EBSD/Header"], file[f"{chosen}/EBSD/Data"]
        centers, tilts, grid, static = _READERS[maker](header, values, shape)
        for name in ("azimuth_angle", "twist_angle", "Camera Azimuthal Angle"):
            if _number(header, name, 0.0) != 0.0:
                raise PatternError(
                    f"{path}: the detector is turned ({name} {_number(header, name, 0.0):g} degrees), which is not "
                    "understood; only tilts are"
                )
        centers = _calibrated(centers)
        order, region = _region(path, file[f"{chosen}/EBSD"], n) if maker == "bruker nano" else (None, None)
        if region is not None:
            grid = ScanGrid(*region, *((grid.step_x, grid.step_y) if grid is not None else (1.0, 1.0)))
        if order is not None and centers is not None and centers.shape == (n, 3):
            centers = centers[order]
        return PatternFile(
            path,
            shape,
            data.dtype,
            n,
            detector=_detector(shape, centers, tilts),
            centers=centers if centers is not None and centers.shape == (n, 3) else None,
            static_background=static if static is not None and static.shape == shape and static.any() else None,
            grid=grid if grid is not None and grid.rows * grid.columns == n else None,
            dataset=dataset,
            order=order,
        )


def _detector(
    shape: tuple[int, int], centers: NDArray[np.float64] | None, tilts: tuple[float, float]
) -> Detector | None:
    if centers is None:
        return None
    x, y, z = (float(value) for value in np.nanmean(centers, axis=0))
    return Detector(shape=shape, pattern_center=(x, y, z), sample_tilt=tilts[0], tilt=tilts[1])


def _calibrated(centers: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """Return the centres with NaN for impossible ones: programs write zeros where nothing was calibrated."""
    if centers is None:
        return None
    known = np.isfinite(centers).all(axis=1) & (centers[:, 2] > 0.0)
    return np.where(known[:, None], centers, np.nan) if known.any() else None


def _region(path: Path, group: Any, n: int) -> tuple[NDArray[np.intp] | None, tuple[int, int] | None]:
    """Return the order of the patterns of a region of interest of Bruker's, and its rows and columns."""
    if "SEM/IX" not in group or "SEM/IY" not in group:
        return None, None
    x, y = (np.asarray(group[f"SEM/{name}"][()]).reshape(-1).astype(np.int64) for name in ("IX", "IY"))
    rows, columns = int(np.ptp(y)) + 1, int(np.ptp(x)) + 1
    places = (y - y.min()) * columns + x - x.min()
    if len(places) != n or rows * columns != n or len(np.unique(places)) != n:
        raise PatternError(f"{path}: the region of interest is no rectangle; only rectangular scans are understood")
    return np.argsort(places), (rows, columns)


_Found = tuple[NDArray[np.float64] | None, tuple[float, float], ScanGrid | None, NDArray | None]


def _kikuchipy(header: Any, values: Any, shape: tuple[int, int]) -> _Found:
    parts = [_array(header, name) for name in ("pcx", "pcy", "pcz")]
    tilts = (_number(header, "sample_tilt", 70.0), _number(header, "elevation_angle", 0.0))
    grid = _grid(header, "n_rows", "n_columns", "step_x", "step_y")
    return (
        _stack(parts),
        tilts,
        grid,
        np.asarray(header["static_background"]) if "static_background" in header else None,
    )


def _edax(header: Any, values: Any, shape: tuple[int, int]) -> _Found:
    parts = [_array(header, f"Pattern Center Calibration/{axis}-star") for axis in "xyz"]
    centers = _stack(parts)
    tilts = (_number(header, "Sample Tilt", 70.0), _number(header, "Camera Elevation Angle", 0.0))
    grid = _grid(header, "nRows", "nColumns", "Step X", "Step Y")
    return None if centers is None else bruker_from_edax(centers, shape), tilts, grid, None


def _bruker(header: Any, values: Any, shape: tuple[int, int]) -> _Found:
    parts = [_array(values, name) for name in ("PCX", "PCY", "DD")]
    tilts = (_number(header, "SampleTilt", _number(header, "Sample Tilt", 70.0)), _number(header, "CameraTilt", 0.0))
    grid = _grid(header, "NROWS", "NCOLS", "XSTEP", "YSTEP")
    return _stack(parts), tilts, grid, np.asarray(header["StaticBackground"]) if "StaticBackground" in header else None


_READERS = {"kikuchipy": _kikuchipy, "edax": _edax, "bruker nano": _bruker}


def _stack(parts: list[NDArray[np.float64] | None]) -> NDArray[np.float64] | None:
    known = [part for part in parts if part is not None]
    if len(known) < 3 or len({len(part) for part in known}) > 1:
        return None
    return np.stack(known, axis=1)


def _array(group: Any, name: str) -> NDArray[np.float64] | None:
    return np.asarray(group[name][()], dtype=np.float64).reshape(-1) if name in group else None


def _number(group: Any, name: str, default: float) -> float:
    values = _array(group, name)
    return float(values[0]) if values is not None and len(values) else default


def _grid(header: Any, rows: str, columns: str, step_x: str, step_y: str) -> ScanGrid | None:
    n_rows, n_columns = int(_number(header, rows, 0.0)), int(_number(header, columns, 0.0))
    if n_rows < 1 or n_columns < 1:
        return None
    return ScanGrid(n_rows, n_columns, _number(header, step_x, 1.0) or 1.0, _number(header, step_y, 1.0) or 1.0)


def _text(file: Any, name: str) -> str:
    for key in file:
        if key.strip() == name:
            value = np.asarray(file[key][()]).reshape(-1)[0]
            return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()
    return ""
