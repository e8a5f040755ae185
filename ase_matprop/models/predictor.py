"""From structures to predictions: descriptor, scaler, network and units of one model, in batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.descriptors.registry import Descriptor, get_descriptor
from ase_matprop.errors import ArtefactError, MatPropError
from ase_matprop.models import artefact, registry
from ase_matprop.models.card import ModelCard
from ase_matprop.models.predictions import Predictions
from ase_matprop.structures import StructureEntry, iter_structures, one_entry_each

DEFAULT_MODEL = "irnet17-mp"

#: called with the number of rows that have been done so far
Progress = Callable[[int], None]


class Predictor:
    """A loaded model.  Use :func:`load_model` to get one.

    Attributes:
        card: the model's card.
        device: torch device on which the network is evaluated.
    """

    def __init__(self, loaded: artefact.Artefact, device: str = "cpu") -> None:
        self.card: ModelCard = loaded.card
        try:
            self.device = torch.device(device)
            self._network = loaded.network.to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise MatPropError(f"the device {device!r} cannot be used: {str(error).splitlines()[0]}") from None
        self._scaler = loaded.scaler
        self._target = loaded.target
        self._descriptor = _descriptor_of(self.card)
        self._elements = frozenset(self.card.elements)

    def __repr__(self) -> str:
        return f"Predictor({self.card.name!r}, property={self.card.property!r}, unit={self.card.unit!r})"

    def predict(
        self,
        inputs: Any,
        *,
        batch_size: int = 256,
        n_jobs: int = 1,
        progress: Progress | None = None,
    ) -> Predictions:
        """Predict the property of each input.

        Args:
            inputs: ASE ``Atoms``, pymatgen ``Structure`` or paths of files with one structure each; a single one counts
                as a list of one.
            batch_size: number of structures that are held and evaluated together.
            n_jobs: number of processes for the descriptor; -1 for one per core.
            progress: called with the number of finished rows after each batch.

        Returns:
            Exactly one row per input; a bad input costs its own row only, and that row says why.
        """
        return self.predict_entries(one_entry_each(inputs), batch_size=batch_size, n_jobs=n_jobs, progress=progress)

    def predict_entries(
        self,
        entries: Iterable[StructureEntry],
        *,
        batch_size: int = 256,
        n_jobs: int = 1,
        progress: Progress | None = None,
    ) -> Predictions:
        """Predict for entries as :func:`ase_matprop.structures.iter_structures` yields them."""
        parts: list[Predictions] = []
        done = 0
        for part in self.iter_batches(entries, batch_size=batch_size, n_jobs=n_jobs):
            parts.append(part)
            done += len(part)
            if progress is not None:
                progress(done)
        return Predictions.concatenate(parts) if parts else self._predict_batch([], n_jobs)

    def iter_batches(
        self, entries: Iterable[StructureEntry], *, batch_size: int = 256, n_jobs: int = 1
    ) -> Iterator[Predictions]:
        """Predict batch by batch, so that neither structures nor results need to be held."""
        if not isinstance(batch_size, int) or batch_size < 1:
            raise MatPropError(f"the batch_size must be a positive integer. Got {batch_size!r}.")
        iterator = iter(entries)
        while batch := list(islice(iterator, batch_size)):
            yield self._predict_batch(batch, n_jobs)

    def predict_features(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the predictions of each ensemble member in the property's unit, shape (n_members, n)."""
        inputs = torch.from_numpy(self._scaler.transform(features)).to(self.device)
        with torch.inference_mode():
            outputs = self._network.member_outputs(inputs).cpu().double().numpy()
        return self._target.inverse(outputs)[..., 0]

    def _predict_batch(self, batch: Sequence[StructureEntry], n_jobs: int) -> Predictions:
        features, errors = self._descriptor.compute_sound(
            [entry.atoms for entry in batch],
            [entry.error or self._element_error(entry.atoms) for entry in batch],
            n_jobs=n_jobs,
        )
        values = np.full(len(batch), np.nan)
        spread = np.full(len(batch), np.nan)
        good = [row for row, error in enumerate(errors) if error is None]
        if good:
            members = self.predict_features(features[good])
            values[good] = members.mean(axis=0)
            if len(members) > 1:
                spread[good] = members.std(axis=0)
        return Predictions(
            values=values,
            unit=self.card.unit,
            errors=errors,
            property=self.card.property,
            model=self.card.name,
            names=[entry.name for entry in batch],
            formulas=["" if entry.atoms is None else entry.atoms.get_chemical_formula(mode="metal") for entry in batch],
            n_atoms=np.array([0 if entry.atoms is None else len(entry.atoms) for entry in batch], dtype=np.int64),
            spread=spread,
        )

    def unknown_elements(self, atoms: Atoms) -> list[str]:
        """Return the symbols of the elements in a structure that the model never saw in training."""
        return sorted(set(atoms.get_chemical_symbols()) - self._elements)

    def _element_error(self, atoms: Atoms) -> str | None:
        unknown = self.unknown_elements(atoms)
        if not unknown:
            return None
        return f"the model {self.card.name} never saw {', '.join(unknown)} in training; use a model that has"


def load_model(name_or_path: str | os.PathLike[str] = DEFAULT_MODEL, *, device: str = "cpu") -> Predictor:
    """Load a model by the name of a shipped one or by the path of a model folder.

    The weights are read with safetensors, so nothing is unpickled, after a check of their SHA-256.

    Raises:
        UnknownNameError: if there is no such model.
        ArtefactError: if the model folder is incomplete or was altered.
    """
    return Predictor(artefact.load(registry.find_model(name_or_path)), device)


def predict(
    inputs: Any,
    *,
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    batch_size: int = 256,
    n_jobs: int = 1,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Predictions:
    """Predict the property of a model for files or objects.

    Args:
        inputs: one or a list of ASE ``Atoms``, pymatgen ``Structure``, paths, glob patterns or folders; every
            structure in a file or folder gives a row (see :func:`ase_matprop.structures.iter_structures`).
        model: name of a shipped model, or path of a model folder.
        batch_size: number of structures that are held and evaluated together.
        n_jobs: number of processes for the descriptor; -1 for one per core.
        device: torch device of the network.
        progress: called with the number of finished rows after each batch.

    Returns:
        One row per structure, and one for each file, pattern or folder from which none could be read.

    Raises:
        UnknownNameError: if there is no such model.
        ArtefactError: if the model folder is incomplete or was altered.
    """
    predictor = load_model(model, device=device)
    return predictor.predict_entries(iter_structures(inputs), batch_size=batch_size, n_jobs=n_jobs, progress=progress)


def _descriptor_of(card: ModelCard) -> Descriptor:
    descriptor = get_descriptor(card.descriptor.name)
    if descriptor.version != card.descriptor.version or list(descriptor.labels) != card.descriptor.labels:
        raise ArtefactError(
            f"the model {card.name} was trained on version {card.descriptor.version} of the descriptor "
            f"{card.descriptor.name}, this package has version {descriptor.version}; get a matching version of either"
        )
    return descriptor
