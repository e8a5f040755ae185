"""How far an input lies from the training set, in the representation that the network has learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

_N_COMPONENTS = 16
_N_CENTERS = 4096
_PERCENTILE = 90.0  # of the distances of validation rows: the unit
_FEWEST_ROWS = 10  # of training


@dataclass(frozen=True, eq=False)
class TrainingDistance:
    """Distance to the nearest training rows, in units of what is usual for rows that were not trained on.

    Distances in a network's last hidden layer follow its errors better than those in the space of its inputs
    (J. P. Janet et al., Chem. Sci. 10, 7913 (2019), doi:10.1039/C9SC02298H).  The activations of the members of an
    ensemble stand side by side; of them the first principal components are kept, and of the training rows the centres
    of k-means clusters if there are more rows than centres.

    Attributes:
        mean: mean activations of the training rows, shape (width,).
        components: principal components as columns, shape (width, n_components).
        centers: training rows, or centres of clusters of them, shape (n_centers, n_components).
        unit: the distance beyond which one in ten validation rows lies.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    centers: NDArray[np.float16]
    unit: float

    @classmethod
    def fit(
        cls, training: NDArray[np.float64], validation: NDArray[np.float64], *, seed: int = 0
    ) -> TrainingDistance | None:
        """Fit to the activations of the last hidden layer, each of shape (n, width).

        Args:
            training: of rows that the network was trained on.
            validation: of rows that it was not trained on.
            seed: of the clustering.

        Returns:
            None if there are too few rows, or no distances among them.
        """
        from sklearn.cluster import MiniBatchKMeans
        from sklearn.decomposition import PCA

        if len(training) < _FEWEST_ROWS or not len(validation):
            return None
        if not np.ptp(training, axis=0).any():
            return None
        decomposition = PCA(min(_N_COMPONENTS, *training.shape), svd_solver="full").fit(training)
        mean, components = (a.astype(np.float32) for a in (decomposition.mean_, decomposition.components_.T))
        projected = (training - mean) @ components
        if len(projected) > _N_CENTERS:
            clusters = MiniBatchKMeans(
                _N_CENTERS, random_state=seed, n_init=1, batch_size=8192, max_iter=5, init="random",
                reassignment_ratio=0.0,
            )  # fmt: skip
            projected = clusters.fit(projected.astype(np.float32)).cluster_centers_
        largest = np.abs(projected).max()
        if not 0.0 < largest < np.finfo(np.float16).max:
            return None
        fitted = cls(mean, components, projected.astype(np.float16), 1.0)
        unit = float(np.percentile(fitted.of(validation), _PERCENTILE))
        return None if unit <= 0.0 else cls(mean, components, fitted.centers, unit)

    def of(self, activations: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance of rows of activations, shape (n, width), NaN where they are not finite, shape (n,)."""
        projected = (activations - self.mean) @ self.components
        finite = np.isfinite(projected).all(axis=1)  # those of a diverged network are not
        distances = np.full(len(projected), np.nan)
        distances[finite], _ = self._tree.query(projected[finite])
        return distances / self.unit

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.centers.astype(np.float64))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {
            "distance_mean": self.mean,
            "distance_components": self.components,
            "distance_centers": self.centers,
            "distance_unit": np.array([self.unit]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> TrainingDistance:
        """Return what :meth:`to_arrays` wrote."""
        mean, components, centers = (arrays[f"distance_{name}"] for name in ("mean", "components", "centers"))
        if components.shape != (len(mean), centers.shape[1]):
            raise ValueError(f"the components of the distance to the training set have the shape {components.shape}")
        return cls(mean, components, centers, float(arrays["distance_unit"][0]))
