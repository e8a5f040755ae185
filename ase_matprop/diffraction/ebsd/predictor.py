"""Prediction: arrays of patterns in, orientations with their confidence out; needs NumPy and torch only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ase_matprop.diffraction.ebsd import artefact
from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.card import EbsdCard
from ase_matprop.diffraction.ebsd.errors import DetectorError
from ase_matprop.diffraction.ebsd.evaluation import predict_all
from ase_matprop.diffraction.ebsd.geometry import Detector
from ase_matprop.diffraction.ebsd.preprocessing import check_patterns, remove_static_background
from ase_matprop.diffraction.ebsd.warping import warp
from ase_matprop.diffraction.shipped import model_path

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_MODEL = "omnet-nickel"
_LEAST_COVERED = 0.7
_NO_CENTER = "the pattern has no pattern centre, or an impossible one; give one for all (--pattern-center, centers=)"


@dataclass(frozen=True, eq=False)
class OrientationPredictions:
    """One row per pattern.

    Attributes:
        quaternions: in the fundamental zone, shape (n, 4), NaN where the pattern failed; conventions of
            ``orientations``.
        spread: mean disorientation of the estimates (branches, members of the ensemble) from the result, degrees, (n,).
        residual: how far what the network gave is from any orientation, shape (n,).
        distance: the larger of spread and residual, in units of what is usual for a right result, shape (n,).
        warnings: why a result is doubtful, None where it is not; n of them.
        errors: why there is no result, None where there is one; n of them.
        symmetry: name of the Laue group.
        model: name of the model.
    """

    quaternions: NDArray[np.float64]
    spread: NDArray[np.float64]
    residual: NDArray[np.float64]
    distance: NDArray[np.float64]
    warnings: list[str | None]
    errors: list[str | None]
    symmetry: str
    model: str

    def __len__(self) -> int:
        return len(self.quaternions)

    @property
    def euler(self) -> NDArray[np.float64]:
        """Bunge Euler angles in degrees, shape (n, 3), NaN where the pattern failed."""
        angles = np.full((len(self), 3), np.nan)
        good = self.succeeded
        angles[good] = convert.to_euler(self.quaternions[good])
        return angles

    @property
    def succeeded(self) -> NDArray[np.bool_]:
        """Which patterns have a result, shape (n,)."""
        return np.array([error is None for error in self.errors], dtype=bool)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """1 / (1 + distance): 1 where all estimates agree, 0.5 at the usual limit, 0 where the pattern failed; (n,)."""
        return np.where(self.succeeded, 1.0 / (1.0 + np.nan_to_num(self.distance, nan=np.inf)), 0.0)

    def to_frame(self) -> pd.DataFrame:
        """Return a table: phi1, Phi, phi2 and spread in degrees, residual, distance, confidence, warning, error."""
        import pandas as pd

        table = pd.DataFrame(self.euler, columns=["phi1", "Phi", "phi2"])
        table["spread"], table["residual"], table["distance"] = self.spread, self.residual, self.distance
        table["confidence"] = self.confidence
        table["warning"] = pd.Series(self.warnings, dtype=object)
        table["error"] = pd.Series(self.errors, dtype=object)
        return table

    @classmethod
    def concatenate(cls, parts: Sequence[OrientationPredictions]) -> OrientationPredictions:
        """Join predictions of one model."""
        arrays = ("quaternions", "spread", "residual", "distance")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
        return cls(
            **joined,
            warnings=[warning for part in parts for warning in part.warnings],
            errors=[error for part in parts for error in part.errors],
            symmetry=parts[0].symmetry,
            model=parts[0].model,
        )


class EbsdPredictor:
    """Orientations from patterns.

    Args:
        loaded: model, see :meth:`load`.
    """

    def __init__(self, loaded: artefact.EbsdArtefact) -> None:
        self._loaded = loaded

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str] = DEFAULT_MODEL) -> EbsdPredictor:
        """Load a model that comes with the package, or a model folder.

        Raises:
            UnknownNameError: if there is neither such a model nor such a folder.
            ArtefactError: if the folder is no model folder, is incomplete or was altered.
        """
        return cls(artefact.load(model_path(name_or_path, "ebsd")))

    @property
    def card(self) -> EbsdCard:
        """The model's card."""
        return self._loaded.card

    def predict(
        self,
        patterns: ArrayLike,
        *,
        detector: Detector | None = None,
        centers: ArrayLike | None = None,
        static_background: ArrayLike | None = None,
    ) -> OrientationPredictions:
        """Return one row for each pattern; what is wrong with one costs its own row and no other.

        Args:
            patterns: shape (n, rows, columns), as they were recorded (8 or 16 bit integers), or floating-point numbers.
            detector: where they were recorded; by default the detector that the model was trained for.  Patterns of
                another one are resampled to it.
            centers: pattern centres, shape (3,) or (n, 3), Bruker's convention; by default the detector's.  Of
                n centres one that is impossible costs its own row.
            static_background: mean of many patterns, shape (rows, columns), which is subtracted.

        Raises:
            PatternError: if these are no patterns, or the static background does not belong to them.
            DetectorError: if the pattern centres are impossible, or not as many as the patterns.
        """
        given = np.asarray(patterns)
        wanted = self.card.detector
        source = detector or wanted
        errors = check_patterns(given, source.shape)
        if detector is None:
            hint = "; or say how they were recorded (detector=)"
            errors = [e + hint if e is not None and " are needed" in e else e for e in errors]
        chosen = _centers(centers, source, len(given))
        if centers is not None and np.ndim(centers) == 2:  # one that is missing costs its own row
            known = np.isfinite(chosen).all(axis=1) & (chosen[:, 2] > 0.0)
            errors = [e or (None if ok else _NO_CENTER) for e, ok in zip(errors, known, strict=True)]
        good = np.array([error is None for error in errors], dtype=bool)
        kept = given[good].astype(np.float32)
        if self.card.preparation.scale == "full_range" and given.dtype.kind in "ui":
            kept *= np.float32(255.0 / np.iinfo(given.dtype).max)
        if static_background is not None:
            static = np.asarray(static_background)
            kept = remove_static_background(kept, static) if len(kept) else kept
        covered = np.ones(len(kept))
        tensor = torch.from_numpy(np.ascontiguousarray(kept))
        if centers is not None or source != wanted:
            tensor, shares = warp(tensor, source, wanted, chosen[good])
            covered = shares.numpy()
        result = self._predict(tensor, len(given), good, errors)
        return _drop_uncovered(result, np.flatnonzero(good), covered)

    def _predict(
        self, kept: torch.Tensor, n: int, good: NDArray[np.bool_], errors: list[str | None]
    ) -> OrientationPredictions:
        quaternions = np.full((n, 4), np.nan)
        spread, residual = np.full(n, np.nan), np.full(n, np.nan)
        found = predict_all(self._loaded.members, self._loaded.preparation, kept)
        quaternions[good], spread[good], residual[good] = found
        distance = self.card.confidence.distances(spread, residual)
        with np.errstate(invalid="ignore"):
            doubtful = good & ~(distance <= self.card.confidence.limit)
        warning = (
            "the network is not sure: of simulated patterns with such a spread or residual, more than 1 in 100 were "
            "wrong by more than 5 degrees"
        )
        return OrientationPredictions(
            quaternions,
            spread,
            residual,
            distance,
            warnings=[warning if bad else None for bad in doubtful],
            errors=errors,
            symmetry=self.card.phase.symmetry,
            model=self.card.name,
        )


def _centers(centers: ArrayLike | None, source: Detector, n: int) -> NDArray[np.float64]:
    chosen = np.asarray(source.pattern_center if centers is None else centers, dtype=np.float64)
    if chosen.shape not in ((3,), (n, 3)):
        raise DetectorError(f"{n} patterns need as many pattern centres, or one. Got the shape {chosen.shape}.")
    return np.broadcast_to(chosen, (n, 3))


def _drop_uncovered(
    result: OrientationPredictions, rows: NDArray[np.intp], covered: NDArray[np.float64]
) -> OrientationPredictions:
    for row, share in zip(rows, covered, strict=True):
        if share < _LEAST_COVERED:
            for values in (result.quaternions, result.spread, result.residual, result.distance):
                values[row] = np.nan
            result.warnings[row] = None
            result.errors[row] = (
                f"the detector sees {share:.0%} of what the network was trained for; it needs {_LEAST_COVERED:.0%}: "
                "check the pattern centre, or train a network for this detector"
            )
    return result
