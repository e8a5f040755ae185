"""Loading models by name, and predicting in one call."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from ase_matprop.compositions import iter_compositions
from ase_matprop.models import artefact, registry
from ase_matprop.models.predictions import Predictions
from ase_matprop.models.predictor import Entry, Predictor, Progress
from ase_matprop.networks import ATOMISTIC_NETWORKS
from ase_matprop.structures import iter_structures

DEFAULT_MODEL = "irnet17-mp"

Names = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None


def load_model(
    name_or_path: str | os.PathLike[str] = DEFAULT_MODEL, *, device: str = "cpu", compare_with: Names = ()
) -> Predictor:
    """Load a model by the name of a shipped one or by the path of a model folder.

    The weights are read with safetensors, so nothing is unpickled, after a check of their SHA-256.

    Args:
        name_or_path: the model.
        device: torch device on which the network is evaluated.
        compare_with: other models of the same property; the predictions have their disagreement with this one.

    Raises:
        UnknownNameError: if there is no such model.
        ArtefactError: if the model folder is incomplete or was altered.
        MatPropError: if the models cannot be compared.
    """
    loaded = artefact.load(registry.find_model(name_or_path))
    kind = Predictor
    if loaded.card.network.name in ATOMISTIC_NETWORKS:
        from ase_matprop.models.atomistic import AtomisticPredictor

        kind = AtomisticPredictor
    return kind(loaded, device, [load_model(other, device=device) for other in names_of(compare_with)])


def names_of(models: Names) -> list[str | os.PathLike[str]]:
    """Return a list of models, of which one alone or None may be given."""
    if models is None:
        return []
    return [models] if isinstance(models, str | os.PathLike) else list(models)


def predict(
    inputs: Any,
    *,
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    batch_size: int | None = None,
    n_jobs: int = 1,
    device: str = "cpu",
    compare_with: Names = (),
    progress: Progress | None = None,
) -> Predictions:
    """Predict the property of a model for files or objects.

    Args:
        inputs: one or a list of ASE ``Atoms``, pymatgen ``Structure``, paths, glob patterns or folders; every
            structure in a file or folder gives a row (see :func:`ase_matprop.structures.iter_structures`).  For a model
            that does not need the structure also formulas and tables of formulas (see
            :func:`ase_matprop.compositions.iter_compositions`).
        model: name of a shipped model, or path of a model folder.
        batch_size: number of inputs that are held and evaluated together.
        n_jobs: number of processes for the descriptor; -1 for one per core.
        device: torch device of the network.
        compare_with: other models of the same property, for the disagreement with them.
        progress: called with the number of finished rows after each batch.

    Returns:
        One row per structure, and one for each file, pattern or folder from which none could be read.

    Raises:
        UnknownNameError: if there is no such model.
        ArtefactError: if the model folder is incomplete or was altered.
    """
    predictor = load_model(model, device=device, compare_with=compare_with)
    entries: Iterator[Entry] = iter_structures(inputs) if predictor.needs_structure else iter_compositions(inputs)
    return predictor.predict_entries(entries, batch_size=batch_size, n_jobs=n_jobs, progress=progress)
