"""Networks in evaluation mode on many images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ase_matprop.diffraction.xrd.networks import PatternNetwork

EVALUATION_BATCH = 32


def image_scale(images: NDArray[np.float32]) -> float:
    """Return what counts are divided by: the median over the images of their mean, 1 if that is not above zero."""
    scale = float(np.median(np.abs(images).mean(axis=(1, 2, 3))))
    return scale if scale > 0.0 else 1.0


def probabilities(
    network: PatternNetwork,
    images: NDArray[np.float32],
    compositions: NDArray[np.float64] | None,
    *,
    mirror: bool = False,
) -> NDArray[np.float64]:
    """Return the probability of each phase region, shape (n, n_classes).

    Args:
        network: in evaluation mode.
        images: divided by the scale of the training, shape (n, frames, size, size).
        compositions: shape (n, 3), or None for a network on images alone.
        mirror: whether to return the mean over each image and its mirror image.
    """
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), EVALUATION_BATCH):
            rows = slice(start, start + EVALUATION_BATCH)
            batch = torch.from_numpy(np.ascontiguousarray(images[rows], dtype=np.float32))
            cations = None if compositions is None else torch.from_numpy(compositions[rows].astype(np.float32))
            views = [batch, batch.flip(-1)] if mirror else [batch]
            parts.append(np.mean([network(view, cations).double().softmax(dim=1).numpy() for view in views], axis=0))
    return np.concatenate(parts)
