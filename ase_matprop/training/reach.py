"""What a model saw in training, collected from the rows of its training run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ase_matprop.descriptors.neighbors import Graphs
from ase_matprop.models import artefact
from ase_matprop.models.atomistic import AtomisticPredictor
from ase_matprop.models.card import ModelCard
from ase_matprop.models.predictor import Predictor
from ase_matprop.models.reach import ElementPairs, Environments, Reach, TrainingDistance
from ase_matprop.training.datasets import FeatureTable
from ase_matprop.training.splits import Split

_ROWS_AT_ONCE = 4096


def collect_reach(predictor: Predictor, table: FeatureTable, split: Split, initial: Reach | None = None) -> Reach:
    """Collect which elements met in the training rows, and fit the distance to them.

    Args:
        predictor: the trained model.
        table: all rows.
        split: which of them it was trained on, and which it was validated on.
        initial: reach of the model from which the training started.
    """
    train = table.numbers[split.train]
    occurrences = np.zeros((len(train), int(table.numbers.max(initial=0)) + 1), dtype=bool)
    np.put_along_axis(occurrences, train, True, axis=1)
    occurrences[:, 0] = False  # unused slots
    features = table.features
    environments = Environments.of(features[split.train]) if isinstance(features, Graphs) else None
    distance = TrainingDistance.fit(*(_hidden(predictor, features, rows) for rows in (split.train, split.validation)))
    reach = Reach(ElementPairs.of(occurrences), environments, distance)
    return reach if initial is None else reach.joined(initial)


def add_reach(
    folder: Path, predictor: Predictor, table: FeatureTable, split: Split, initial: Reach | None = None
) -> ModelCard:
    """Write the reach of a model into its folder and return its card, with the new hash of the weights.

    Args:
        folder: the model folder.
        predictor: the model in it.
        table: all rows.
        split: what they were used for.
        initial: reach of the model from which the training started.
    """
    stored = artefact.load(folder)
    reach = collect_reach(predictor, table, split, initial)
    return artefact.save(folder, stored.card, stored.network, stored.scaler, stored.target, reach)


def _hidden(
    predictor: Predictor, features: NDArray[np.float64] | Graphs, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the activations of the last hidden layer, shape (n, width)."""
    if isinstance(features, Graphs):
        assert isinstance(predictor, AtomisticPredictor)
        return predictor.represent_graphs(features[rows])
    parts = np.split(rows, range(_ROWS_AT_ONCE, len(rows), _ROWS_AT_ONCE))
    return np.concatenate([predictor.represent_features(features[part]) for part in parts])
