"""Phase regions from detector images: one row per sample, with an answer or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ase_matprop.diffraction.shipped import model_path
from ase_matprop.diffraction.xrd.background import remove_background
from ase_matprop.diffraction.xrd.card import PatternCard, load
from ase_matprop.diffraction.xrd.errors import DiffractionImageError
from ase_matprop.diffraction.xrd.evaluation import probabilities
from ase_matprop.diffraction.xrd.files import read_image
from ase_matprop.diffraction.xrd.geometry import DetectorGeometry
from ase_matprop.diffraction.xrd.images import check_geometry, check_image, to_size
from ase_matprop.diffraction.xrd.networks import PatternNetwork
from ase_matprop.errors import MatPropError

if TYPE_CHECKING:
    import pandas as pd

_BATCH = 32
_UNSURE = 0.5


@dataclass(frozen=True, eq=False)
class PhaseRegionPredictions:
    """Predicted phase regions, one row per sample and in the order of the samples.

    Attributes:
        labels: name of the most probable region, None where there is none.
        probabilities: of each region, NaN where there is none, shape (n, n_classes).
        classes: names of the regions.
        errors: None or the reason why there is no answer, one entry per row.
        warnings: None or why an answer should not be trusted, one entry per row.
        names: where each sample came from.
        model: name of the model.
    """

    labels: list[str | None]
    probabilities: NDArray[np.float64]
    classes: tuple[str, ...]
    errors: list[str | None]
    warnings: list[str | None]
    names: list[str]
    model: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_failed(self) -> int:
        """Number of rows without an answer."""
        return sum(error is not None for error in self.errors)

    def to_frame(self) -> pd.DataFrame:
        """Return a table: name, phase_region, probability of each region, warning, model, error."""
        import pandas as pd

        columns: dict[str, Any] = {
            "name": pd.Series(self.names, dtype=object),
            "phase_region": pd.Series(self.labels, dtype=object),
        }
        for number, name in enumerate(self.classes):
            columns[f"probability of {name}"] = self.probabilities[:, number]
        columns |= {
            "warning": pd.Series(self.warnings, dtype=object),
            "model": self.model,
            "error": pd.Series(self.errors, dtype=object),
        }
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self)))


class PatternPredictor:
    """A trained network with the card that says what its inputs must be.

    Args:
        card: of the network.
        network: in evaluation mode.
    """

    def __init__(self, card: PatternCard, network: PatternNetwork) -> None:
        self.card = card
        self.network = network
        self.geometries = card.inputs.detector_geometries()

    @classmethod
    def load(cls, model: Path | str) -> PatternPredictor:
        """Load a network that comes with the package by its name, or from a model folder.

        Raises:
            UnknownNameError: if it is neither.
            ArtefactError: if the folder is incomplete or was altered.
        """
        return cls(*load(model_path(model, "xrd")))

    def predict(
        self,
        images: Sequence[ArrayLike],
        compositions: ArrayLike | None = None,
        *,
        geometries: Sequence[DetectorGeometry] | None,
        names: Sequence[str] | None = None,
        saturation: float | None = None,
    ) -> PhaseRegionPredictions:
        """Return the phase region of each sample; one bad sample costs its own row and no other.

        Args:
            images: raw counts of each sample, shape (height, width), or (frames, height, width) for several frames.
            compositions: cation fractions of each sample in the order of ``card.inputs.composition``, shape (n, 3).
            geometries: detector position of each frame of these images.  A network knows only scattering angles where
                they were in training, so that images without geometry are refused; pass ``predictor.geometries`` for
                images from the very setup of the training.
            names: of the samples, for the result; by default their numbers.
            saturation: count at which the detector saturates; by default the largest count of the image, if that is
                1000 or more.

        Raises:
            DiffractionImageError: if there is no geometry or another one than that of the training, or there are not as
                many compositions as images.
        """
        names = [str(number) for number in range(len(images))] if names is None else list(names)
        if len(names) != len(images):
            raise DiffractionImageError(f"{len(names)} names were given for {len(images)} images; give one for each")
        cations, shapes = self._check_call(len(images), compositions, geometries)
        return self._predict(names, images.__getitem__, cations, shapes, saturation)

    def predict_files(
        self,
        samples: Sequence[Sequence[Path]],
        compositions: ArrayLike | None = None,
        *,
        geometries: Sequence[DetectorGeometry] | None,
        saturation: float | None = None,
    ) -> PhaseRegionPredictions:
        """Return the phase region of each sample; a file that cannot be read costs its own row and no other.

        Args:
            samples: the files of each sample, one for each frame.
            compositions: as for :meth:`predict`, and so are ``geometries`` and ``saturation``.
            geometries: detector position of each frame.
            saturation: count at which the detector saturates.

        Raises:
            DiffractionImageError: as for :meth:`predict`.
        """
        cations, shapes = self._check_call(len(samples), compositions, geometries)

        def read(row: int) -> NDArray[Any]:
            frames = [read_image(path) for path in samples[row]]
            if len({(frame.shape, frame.dtype) for frame in frames}) > 1:
                raise DiffractionImageError("the frames of the sample differ in size or type; give those of one")
            return np.stack(frames)

        return self._predict([str(files[0]) for files in samples], read, cations, shapes, saturation)

    def _predict(
        self,
        names: list[str],
        read: Callable[[int], ArrayLike],
        cations: NDArray[np.float64] | None,
        shapes: list[tuple[int, int]],
        saturation: float | None,
    ) -> PhaseRegionPredictions:
        errors: list[str | None] = [None] * len(names)
        warnings: list[str | None] = [None] * len(names)
        found = np.full((len(names), len(self.card.classes)), np.nan)
        for start in range(0, len(names), _BATCH):
            rows, inputs = [], []
            for row in range(start, min(start + _BATCH, len(names))):
                try:
                    prepared = self._prepare(read(row), shapes, saturation)
                    if cations is not None:
                        _check_composition(cations[row], self.card.inputs.composition)
                except MatPropError as error:
                    errors[row] = str(error)
                    continue
                warnings[row] = self._warning(prepared)
                rows.append(row)
                inputs.append(self._without_background(prepared))
            if rows:
                scaled = (np.stack(inputs) / self.card.inputs.image_scale).astype(np.float32)
                found[rows] = probabilities(
                    self.network,
                    scaled,
                    None if cations is None else cations[rows],
                    mirror=bool(self.card.training.get("flip")),
                )
        for row in np.flatnonzero(
            found.max(axis=1) < _UNSURE
        ).tolist():  # not where there is none: a comparison with NaN
            unsure = f"no phase region is more probable than {_UNSURE:g}"
            warnings[row] = f"{warnings[row]}; {unsure}" if warnings[row] else unsure
        labels = [None if np.isnan(row).any() else self.card.classes[int(row.argmax())] for row in found]
        return PhaseRegionPredictions(labels, found, tuple(self.card.classes), errors, warnings, names, self.card.name)

    def _check_call(
        self, n: int, compositions: ArrayLike | None, geometries: Sequence[DetectorGeometry] | None
    ) -> tuple[NDArray[np.float64] | None, list[tuple[int, int]]]:
        """Return compositions as an array, and the size of the images of each frame by their geometry."""
        if geometries is None:
            raise DiffractionImageError(
                "the images have no geometry; give that of each frame (a .poni file of pyFAI, or JSON), or "
                "predictor.geometries for images from the very setup of the training"
            )
        if len(geometries) != len(self.geometries):
            raise DiffractionImageError(
                f"{len(geometries)} geometries were given, the network {self.card.name} needs {len(self.geometries)}, "
                "one for each frame"
            )
        for frame, (given, trained) in enumerate(zip(geometries, self.geometries, strict=True)):
            check_geometry(given, trained, frame)
        shapes = [geometry.shape for geometry in geometries]
        metals = self.card.inputs.composition
        if not metals:
            return None, shapes
        if compositions is None:
            raise DiffractionImageError(
                f"the network {self.card.name} needs the composition of each sample: cation fractions of "
                f"{' '.join(metals)}"
            )
        cations = np.asarray(compositions, dtype=np.float64)
        if cations.shape != (n, len(metals)):
            raise DiffractionImageError(
                f"the compositions have the shape {cations.shape}; {n} images need ({n}, {len(metals)}), the cation "
                f"fractions of {' '.join(metals)}"
            )
        return cations, shapes

    def _prepare(
        self, image: ArrayLike, shapes: list[tuple[int, int]], saturation: float | None
    ) -> NDArray[np.float64]:
        """Return the frames of one sample in the network's size, shape (frames, size, size)."""
        pixels = np.asarray(image)
        frames = pixels[np.newaxis] if pixels.ndim == 2 else pixels
        if frames.ndim != 3 or len(frames) != len(self.geometries):
            raise DiffractionImageError(
                f"the image has the shape {pixels.shape}; the network needs {len(self.geometries)} frame(s) of rows "
                "and columns"
            )
        parts = []
        for frame, shape, geometry in zip(frames, shapes, self.geometries, strict=True):
            if frame.shape != shape:
                raise DiffractionImageError(
                    f"the image has {frame.shape[0]} x {frame.shape[1]} pixels, its geometry {shape[0]} x {shape[1]}; "
                    "give the geometry of this image"
                )
            parts.append(to_size(check_image(frame, saturation), geometry.shape))
        return np.stack(parts)

    def _without_background(self, frames: NDArray[np.float64]) -> NDArray[np.float64]:
        return remove_background(frames, self.card.inputs.background, self.card.inputs.background_size)[0]

    def _warning(self, frames: NDArray[np.float64]) -> str | None:
        low, high = self.card.inputs.mean_counts
        mean = float(frames.mean())
        if low / 3.0 <= mean <= high * 3.0:
            return None
        return f"the mean count is {mean:.4g}, in training it was {low:.4g} to {high:.4g}"


def _check_composition(cations: NDArray[np.float64], metals: list[str]) -> None:
    if not np.isfinite(cations).all() or cations.min() < 0.0 or abs(cations.sum() - 1.0) > 0.02:
        given = ", ".join(f"{fraction:g}" for fraction in cations)
        raise DiffractionImageError(
            f"the composition ({given}) must be cation fractions of {' '.join(metals)} that sum to 1"
        )
