"""The featurizer around a trained network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ase_matprop.errors import CompositionError, DescriptorError, MatPropError, StructureError, UnknownElementError
from ase_matprop.featurizers.base import BatchFeaturizer, Errors, Features
from ase_matprop.models import DEFAULT_MODEL, Predictor, load_model
from ase_matprop.models.predictor import Entry
from ase_matprop.properties import get_property


class NetworkFeaturizer(BatchFeaturizer):
    """What a model predicts, or the activations of one of its hidden layers.

    Takes the structures that the model takes; for a model that needs nothing but the composition also pymatgen
    ``Composition``, formulas and molecules.  The weights are loaded at the first use, and again after pickling.

    Args:
        model: name of a shipped model, or path of a model folder.
        layer: None for the predictions; the number of a hidden layer, counted from 0 for the first or backwards from
            -1 for the last, for its activations.
        device: torch device on which the network is evaluated.

    Features:
        one number for each property, "formation_energy_per_atom (irnet17-mp) [eV/atom]" for example, or one
        probability for each class, "probability of metal (name)"; with ``layer`` one activation for each unit,
        "irnet17-mp member 0 layer 15 unit 31", the members of an ensemble side by side (a single network has no
        "member" in its labels).

    Raises:
        MatPropError: at the first use, if there is no such model, layer or device.

    References:
        D. Jha, Ph.D. thesis, Northwestern University (2020), section 8.2.1, on hidden layers as representations;
        :meth:`citations` names those of the model.
    """

    _loaded: tuple[Any, Predictor] | None = None

    def __init__(
        self, model: str | os.PathLike[str] = DEFAULT_MODEL, layer: int | None = None, device: str = "cpu"
    ) -> None:
        self.model = model
        self.layer = layer
        self.device = device

    @property
    def predictor(self) -> Predictor:
        """The loaded model."""
        wanted = (self.model, self.device)  # which set_params may have changed
        if self._loaded is None or self._loaded[0] != wanted:
            self._loaded = (wanted, load_model(self.model, device=self.device))
        return self._loaded[1]

    def compute(self, rows: Sequence[Any], n_jobs: int) -> tuple[Features, Errors]:
        """Return the features of ``rows`` and None or an error for each."""
        predictor = self.predictor
        entries = list(predictor.entries(rows))
        if self.layer is not None:
            features, reasons = predictor.represent_entries(entries, layer=self.layer, n_jobs=n_jobs)
        else:
            predictions = predictor.predict_entries(entries, n_jobs=n_jobs)
            reasons = predictions.errors
            further = [each.values for each in predictions.further.values()]
            probabilities = predictions.probabilities
            features = np.column_stack([predictions.values, *further]) if probabilities is None else probabilities
        return features, [
            None if reason is None else self._error_class(entry)(reason)
            for entry, reason in zip(entries, reasons, strict=True)
        ]

    def _error_class(self, entry: Entry) -> type[MatPropError]:
        if entry.error is not None:
            return StructureError if self.predictor.needs_structure else CompositionError
        return UnknownElementError if self.predictor.unknown_elements(entry.elements) else DescriptorError

    def precheck(self, entry: Any) -> bool:
        """Whether an entry can be featurized, as far as a look at it without its descriptor tells."""
        (only,) = self.predictor.entries([entry])
        return only.error is None and not self.predictor.unknown_elements(only.elements)

    def feature_labels(self) -> list[str]:
        """Return the names of the features, a fresh list."""
        card = self.predictor.card
        if self.layer is None:
            if card.material_property.classes:
                return [f"probability of {name} ({card.name})" for name in card.material_property.classes]
            entries = [get_property(name) for name in card.properties]
            return [f"{entry.name} ({card.name})" + (f" [{entry.unit}]" if entry.unit else "") for entry in entries]
        width = self.predictor.representation_width(self.layer)
        layer = range(self.predictor.n_layers)[self.layer]
        n_members = card.network.n_members
        return [
            f"{card.name} {f'member {member} ' if n_members > 1 else ''}layer {layer} unit {unit}"
            for member in range(n_members)
            for unit in range(width // n_members)
        ]

    def citations(self) -> list[str]:
        """Return what the model asks to be cited."""
        return list(self.predictor.card.citation)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_loaded"}
