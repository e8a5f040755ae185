"""What PADNet is compared with: trees on integrated patterns, and on the composition alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ase_matprop.diffraction.xrd.background import remove_background, scaled_filter_size
from ase_matprop.diffraction.xrd.features import line_patterns
from ase_matprop.diffraction.xrd.geometry import DetectorGeometry


@dataclass(frozen=True)
class Baseline:
    """A method without a network.

    Attributes:
        classifier: ``"adaboost"`` or ``"random_forest"``.
        patterns: None, or the 1D patterns that it sees: ``"raw"``; ``"line"``, without the background of the 1D
            pattern as in the thesis; or ``"image"``, without that of the image (I-CS with a small filter) and then
            without what remains in the 1D pattern.
        composition: whether it sees the composition.
    """

    classifier: str
    patterns: str | None
    composition: bool = False


#: filter size of the background of images in "image", for images of 2048 pixels: three times the width of a line
IMAGE_FILTER_SIZE = 64

BASELINES: dict[str, Baseline] = {
    f"{short}-{name}": Baseline(classifier, patterns, composition)
    for short, classifier in (("adaboost", "adaboost"), ("forest", "random_forest"))
    for name, patterns, composition in (
        ("1d", "raw", False),
        ("1d-line", "line", False),
        ("1d-line-composition", "line", True),
        ("1d-image", "image", False),
        ("1d-image-composition", "image", True),
        ("composition", None, True),
    )
}


def baseline_features(
    name: str,
    images: NDArray[np.float32],
    geometries: Sequence[DetectorGeometry],
    compositions: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the features of a method of :data:`BASELINES`, shape (n, n_features).

    Args:
        name: of the method.
        images: shape (n, frames, height, width).
        geometries: one per frame.
        compositions: shape (n, 3).
    """
    baseline = BASELINES[name]
    parts: list[NDArray[np.float64]] = []
    if baseline.patterns is not None:
        if baseline.patterns == "image":
            size = scaled_filter_size(images.shape, IMAGE_FILTER_SIZE)
            images = remove_background(images, "minimum_mean", size)[0].astype(np.float32)
        parts.append(line_patterns(images, geometries, remove_background=baseline.patterns != "raw"))
    if baseline.composition:
        parts.append(compositions)
    return np.concatenate(parts, axis=1)


def fit_baseline(name: str, features: NDArray[Any], labels: NDArray[np.int64], seed: int) -> Any:
    """Return the fitted scikit-learn classifier of a method of :data:`BASELINES`.

    AdaBoost has trees of depth 6 and ten of them with a learning rate of 1, inside the grid of the thesis (depth 2 to
    10, 5 or 10 trees, section 7.4.4); the forest has 500 trees.
    """
    from sklearn.ensemble import AdaBoostClassifier, RandomForestClassifier
    from sklearn.tree import DecisionTreeClassifier

    if BASELINES[name].classifier == "adaboost":
        tree = DecisionTreeClassifier(max_depth=6)
        model = AdaBoostClassifier(tree, n_estimators=10, learning_rate=1.0, random_state=seed)
    else:
        model = RandomForestClassifier(500, random_state=seed)
    return model.fit(features, labels)
