"""The featurizers around trained networks: one for every model, and one class per family."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ase_matprop.errors import (
    CompositionError,
    DescriptorError,
    FeaturizerError,
    MatPropError,
    StructureError,
    UnknownElementError,
    unknown_name,
)
from ase_matprop.featurizers.base import BatchFeaturizer, Errors, Features
from ase_matprop.featurizers.cache import RememberingDescriptor
from ase_matprop.featurizers.citations import bibtex_of_all
from ase_matprop.models import DEFAULT_MODEL, Predictor, families
from ase_matprop.models.card import ModelCard
from ase_matprop.models.families import Family
from ase_matprop.models.predictor import COMPOSITIONS_AT_ONCE, STRUCTURES_AT_ONCE, Entry
from ase_matprop.models.registry import find_model
from ase_matprop.models.sharing import evaluation_threads, shared_model
from ase_matprop.properties import get_property

OUTPUTS = ("prediction", "representation")

Model = str | os.PathLike[str]


class NetworkFeaturizer(BatchFeaturizer):
    """What a model predicts, or the activations of one of its hidden layers.

    Takes the structures that the model takes; for a model that needs nothing but the composition also pymatgen
    ``Composition``, formulas and molecules.  The weights are loaded at the first use, and again after pickling, once in
    a process.

    Args:
        model: name of a shipped model, or path of a model folder.
        output: ``"prediction"``, or ``"representation"`` for the activations of a hidden layer.  None means the
            representation if a ``layer`` is given, and the prediction otherwise.
        layer: number of the hidden layer, counted from 0 for the first or backwards from -1 for the last; None for the
            last one.
        device: torch device on which the network is evaluated.

    Features:
        one number for each property, "formation_energy_per_atom (irnet17-mp) [eV/atom]" for example, or one
        probability for each class, "probability of metal (name)"; of a representation one activation for each unit,
        "irnet17-mp member 0 layer 15 unit 31", the members of an ensemble side by side (a single network has no
        "member" in its labels).  SchNet and PaiNN have the mean over the atoms after an interaction block.

    Raises:
        MatPropError: at the first use, if there is no such model, output, layer or device.

    References:
        D. Jha, Ph.D. thesis, Northwestern University (2020), section 8.2.1, on hidden layers as representations;
        :meth:`citations` names those of the model.
    """

    #: models of which family the class takes; None for all
    family: ClassVar[Family | None] = None

    _loaded: tuple[Any, Predictor] | None = None

    def __init__(
        self,
        model: Model = DEFAULT_MODEL,
        output: str | None = None,
        layer: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.model = model
        self.output = output
        self.layer = layer
        self.device = device

    @property
    def predictor(self) -> Predictor:
        """The loaded model, another one if that of its folder has changed; each access reads the card."""
        folder = find_model(self.model).resolve()
        # set_params may have changed what is wanted, and another training what is in the folder
        wanted = (folder, ModelCard.read(folder).weights.sha256, self.device)
        if self._loaded is None or self._loaded[0] != wanted:
            predictor = shared_model(self.model, self.device)
            if self.family is not None:
                self.family.check(predictor.card, type(self).__name__, "NetworkFeaturizer")
            predictor = copy.copy(predictor)  # the shared one shall not fill the cache of featurizers
            predictor._descriptor = RememberingDescriptor.of(predictor._descriptor)
            self._loaded = (wanted, predictor)
        return self._loaded[1]

    @property
    def rows_at_once(self) -> int:  # type: ignore[override]
        """Rows between two steps of the progress bar."""
        return STRUCTURES_AT_ONCE if self.predictor.needs_structure else COMPOSITIONS_AT_ONCE

    def compute(self, rows: Sequence[Any], n_jobs: int) -> tuple[Features, Errors]:
        """Return the features of ``rows`` and None or an error for each."""
        predictor, layer = self.predictor, self._hidden_layer()  # one model for all rows
        entries = list(predictor.entries(rows))
        with evaluation_threads():
            if layer is not None:
                features, reasons = predictor.represent_entries(entries, layer=layer, n_jobs=n_jobs)
            else:
                predictions = predictor.predict_entries(entries, n_jobs=n_jobs)
                reasons = predictions.errors
                further = [each.values for each in predictions.further.values()]
                probabilities = predictions.probabilities
                features = np.column_stack([predictions.values, *further]) if probabilities is None else probabilities
        return features, [
            None if reason is None else _error_class(predictor, entry)(reason)
            for entry, reason in zip(entries, reasons, strict=True)
        ]

    def _hidden_layer(self) -> int | None:
        """Number of the layer whose activations are the features, None for predictions."""
        if self.output not in (None, *OUTPUTS):
            raise unknown_name("output of a NetworkFeaturizer", self.output, OUTPUTS)
        if self.output == "prediction" and self.layer is not None:
            raise FeaturizerError(
                f"a prediction has no layer. Got layer={self.layer!r}; set output='representation' or layer=None."
            )
        return -1 if self.output == "representation" and self.layer is None else self.layer

    def precheck(self, entry: Any) -> bool:
        """Whether an entry can be featurized, as far as a look at it without its descriptor tells."""
        predictor = self.predictor
        (only,) = predictor.entries([entry])
        return only.error is None and not predictor.unknown_elements(only.elements)

    def feature_labels(self) -> list[str]:
        """Return the names of the features, a fresh list."""
        predictor, layer = self.predictor, self._hidden_layer()
        card = predictor.card
        if layer is None:
            if card.material_property.classes:
                return [f"probability of {name} ({card.name})" for name in card.material_property.classes]
            entries = [get_property(name) for name in card.properties]
            return [f"{entry.name} ({card.name})" + (f" [{entry.unit}]" if entry.unit else "") for entry in entries]
        width = predictor.representation_width(layer)
        number = range(predictor.n_layers)[layer]
        n_members = card.network.n_members
        return [
            f"{card.name} {f'member {member} ' if n_members > 1 else ''}layer {number} unit {unit}"
            for member in range(n_members)
            for unit in range(width // n_members)
        ]

    def _generate_column_labels(self, multiindex: bool, return_errors: bool) -> Any:
        """Return the columns, that of the reasons with the model in its name.

        Several of these stand side by side in matminer's ``MultipleFeaturizer``, and columns of one name would be
        doubled there.
        """
        labels = super()._generate_column_labels(multiindex, return_errors)
        names = {self.exceptions_label: self._own_exceptions_label()}
        if isinstance(labels, list):
            return [names.get(label, label) for label in labels]
        return pd.MultiIndex.from_tuples([(first, names.get(label, label)) for first, label in labels])

    def _own_exceptions_label(self) -> str:
        predictor, layer = self.predictor, self._hidden_layer()
        of_layer = "" if layer is None else f", layer {range(predictor.n_layers)[layer]}"
        return f"{type(self).__name__}({predictor.card.name}{of_layer}) Exceptions"

    def citations(self) -> list[str]:
        """Return the BibTeX entries of the model and of its descriptor."""
        return bibtex_of_all(self.predictor.card.citation)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_loaded"}


def _error_class(predictor: Predictor, entry: Entry) -> type[MatPropError]:
    if entry.error is not None:
        return StructureError if predictor.needs_structure else CompositionError
    return UnknownElementError if predictor.unknown_elements(entry.elements) else DescriptorError


class SIPFENNFeaturizer(NetworkFeaturizer):
    """NN9, NN20 and NN24 of SIPFENN; everything else as for :class:`NetworkFeaturizer`.

    A. M. Krajewski et al., Comput. Mater. Sci. 208, 111254 (2022), doi:10.1016/j.commatsci.2022.111254.
    """

    family = families.SIPFENN

    def __init__(
        self,
        model: Model = families.SIPFENN.default_model,
        output: str | None = None,
        layer: int | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(model, output, layer, device)


class IRNetFeaturizer(NetworkFeaturizer):
    """IRNet, SRNet and plain networks on feature vectors; everything else as for :class:`NetworkFeaturizer`.

    D. Jha et al., Sci. Rep. 11, 4244 (2021), doi:10.1038/s41598-021-83193-1.
    """

    family = families.IRNET

    def __init__(
        self,
        model: Model = families.IRNET.default_model,
        output: str | None = None,
        layer: int | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(model, output, layer, device)


class ElemNetFeaturizer(NetworkFeaturizer):
    """ElemNet, for which formulas are enough; everything else as for :class:`NetworkFeaturizer`.

    D. Jha et al., Sci. Rep. 8, 17593 (2018), doi:10.1038/s41598-018-35934-y.
    """

    family = families.ELEMNET

    def __init__(
        self,
        model: Model = families.ELEMNET.default_model,
        output: str | None = None,
        layer: int | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(model, output, layer, device)


class SchNetFeaturizer(NetworkFeaturizer):
    """SchNet and PaiNN, which see the neighbours of each atom; everything else as for :class:`NetworkFeaturizer`.

    K. T. Schütt et al., J. Chem. Phys. 148, 241722 (2018), doi:10.1063/1.5019779.
    """

    family = families.SCHNET

    def __init__(
        self,
        model: Model = families.SCHNET.default_model,
        output: str | None = None,
        layer: int | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(model, output, layer, device)
