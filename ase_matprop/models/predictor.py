"""From structures to predictions: descriptor, scaler, network and units of one model, in batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import scipy.special
import torch
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from ase_matprop.compositions import CompositionEntry, composition_entries, is_formula
from ase_matprop.descriptors.neighbors import Graphs
from ase_matprop.descriptors.registry import Descriptor, get_descriptor
from ase_matprop.errors import ArtefactError, MatPropError
from ase_matprop.models import artefact
from ase_matprop.models.card import ModelCard
from ase_matprop.models.comparison import check_comparable_models, disagreement
from ase_matprop.models.predictions import FurtherProperty, Predictions
from ase_matprop.networks.rounding import with_rounded_layers
from ase_matprop.properties import get_property
from ase_matprop.structures import StructureEntry, one_entry_each

#: how many inputs are held and evaluated together by default
STRUCTURES_AT_ONCE = 256
COMPOSITIONS_AT_ONCE = 4096
#: in which a network can be evaluated
PRECISIONS = ("float32", "bfloat16")

Entry = StructureEntry | CompositionEntry

#: called with the number of rows that have been done so far
Progress = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Extent:
    """How far rows lie from the training set: warnings, and distances of shape (n,), None where a model has none."""

    warnings: list[str | None]
    distance: NDArray[np.float64] | None


class Predictor:
    """A loaded model.  Use :func:`load_model` to get one.

    Attributes:
        card: the model's card.
        device: torch device on which the network is evaluated.
    """

    def __init__(self, loaded: artefact.Artefact, device: str = "cpu", compare_with: Sequence[Predictor] = ()) -> None:
        self.card: ModelCard = loaded.card
        try:
            self.device = torch.device(device)
            self._network = loaded.network.to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise MatPropError(f"the device {device!r} cannot be used: {str(error).splitlines()[0]}") from None
        self._scaler = loaded.scaler
        self._target = loaded.target
        self._reach = loaded.reach
        self._others = tuple(compare_with)
        check_comparable_models(self.card, [other.card for other in self._others])
        self._classes = self.card.material_property.classes
        self._minima = self.card.minima()
        self._descriptor = descriptor_of(self.card)
        self._elements = frozenset(atomic_numbers[symbol] for symbol in self.card.elements)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_descriptor"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._descriptor = descriptor_of(self.card)  # which has local functions, and cannot be sent

    def __repr__(self) -> str:
        return f"Predictor({self.card.name!r}, property={self.card.property!r}, unit={self.card.unit!r})"

    @property
    def needs_structure(self) -> bool:
        """Whether a formula alone does not do."""
        return self._descriptor.needs_structure

    @property
    def elements(self) -> frozenset[int]:
        """Atomic numbers of the elements that were in training."""
        return self._elements

    @property
    def n_layers(self) -> int:
        """Number of hidden layers of the network, as :meth:`represent` counts them."""
        return self._network.n_layers

    def entries(self, inputs: Any) -> Iterator[Entry]:
        """Yield exactly one entry for each of ``inputs``, as :meth:`predict` takes them."""
        return one_entry_each(inputs) if self.needs_structure else composition_entries(inputs)

    def predict(
        self,
        inputs: Any,
        *,
        batch_size: int | None = None,
        n_jobs: int = 1,
        progress: Progress | None = None,
    ) -> Predictions:
        """Predict the property of each input.

        Args:
            inputs: ASE ``Atoms``, pymatgen ``Structure`` or paths of files with one structure each; a single one counts
                as a list of one.  A model that does not need the structure takes formulas, pymatgen ``Composition``
                objects and mappings of element -> amount besides; a string that is a formula is taken as one.
            batch_size: number of inputs that are held and evaluated together; 256 structures or 4096 compositions by
                default.
            n_jobs: number of processes for the descriptor; -1 for one per core.
            progress: called with the number of finished rows after each batch.

        Returns:
            Exactly one row per input; a bad input costs its own row only, and that row says why.
        """
        return self.predict_entries(self.entries(inputs), batch_size=batch_size, n_jobs=n_jobs, progress=progress)

    def predict_entries(
        self,
        entries: Iterable[Entry],
        *,
        batch_size: int | None = None,
        n_jobs: int = 1,
        progress: Progress | None = None,
    ) -> Predictions:
        """Predict for entries as ``iter_structures`` or ``composition_entries`` yield them."""
        parts: list[Predictions] = []
        done = 0
        for part in self.iter_batches(entries, batch_size=batch_size, n_jobs=n_jobs):
            parts.append(part)
            done += len(part)
            if progress is not None:
                progress(done)
        return Predictions.concatenate(parts) if parts else self._predict_batch([], n_jobs)

    def iter_batches(
        self, entries: Iterable[Entry], *, batch_size: int | None = None, n_jobs: int = 1
    ) -> Iterator[Predictions]:
        """Predict batch by batch, so that neither structures nor results need to be held."""
        for batch in self._batches(entries, batch_size):
            yield self._predict_batch(batch, n_jobs)

    def predict_features(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what each ensemble member predicts for rows of descriptor values.

        Args:
            features: shape (n, n_features).

        Returns:
            Values of each property in its unit, or probabilities of each class, shape (n_members, n, n_outputs).
        """
        return self._values(self._evaluate(self._network.member_outputs, features))

    def with_precision(self, precision: str) -> Predictor:
        """Return a predictor whose network multiplies in another precision; this one stays as it is.

        Args:
            precision: ``"float32"``, or ``"bfloat16"`` for the matrix products of wide layers of networks on features,
                where the values may change by some meV/atom.

        Raises:
            MatPropError: if there is no such precision, or not for this network.
        """
        if precision not in PRECISIONS:
            raise MatPropError(f"the precision must be one of {', '.join(PRECISIONS)}. Got {precision!r}.")
        if precision == "float32":
            return self
        if self._scaler is None:
            raise MatPropError(f"{self.card.name} is evaluated in float32 only; leave the precision out")
        other = copy.copy(self)
        other._network = with_rounded_layers(self._network)
        return other

    def _values(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the properties, or probabilities of classes, that outputs of the networks stand for."""
        if self._classes:
            return np.asarray(scipy.special.softmax(outputs, axis=-1))
        values = self._target.inverse(outputs)
        return np.maximum(values, self._minima)

    def represent(
        self, inputs: Any, *, layer: int = -1, batch_size: int | None = None, n_jobs: int = 1
    ) -> tuple[NDArray[np.float64], list[str | None]]:
        """Return the activations of a hidden layer, a representation that the network has learnt.

        D. Jha, Ph.D. thesis, Northwestern University (2020), sections 5.3.8 and 8.2.1.

        Args:
            inputs: as for :meth:`predict`.
            layer: number of the hidden layer, counted from 0 for the first, or backwards from -1 for the last.
            batch_size: number of inputs that are held and evaluated together.
            n_jobs: number of processes for the descriptor; -1 for one per core.

        Returns:
            Activations of shape (n, n_members * width of the layer), NaN in the rows without, the members of an
            ensemble side by side; and n entries of None or the reason.

        Raises:
            MatPropError: if the network has no such layer.
        """
        return self.represent_entries(self.entries(inputs), layer=layer, batch_size=batch_size, n_jobs=n_jobs)

    def represent_entries(
        self, entries: Iterable[Entry], *, layer: int = -1, batch_size: int | None = None, n_jobs: int = 1
    ) -> tuple[NDArray[np.float64], list[str | None]]:
        """As :meth:`represent`, for entries as ``iter_structures`` or ``composition_entries`` yield them."""
        blocks: list[NDArray[np.float64]] = []
        reasons: list[str | None] = []
        width = self.representation_width(layer)
        for batch in self._batches(entries, batch_size):
            good, inputs, errors = self._inputs(batch, n_jobs)
            block = np.full((len(batch), width), np.nan)
            if good:
                block[good] = self._represent(inputs, layer)
            blocks.append(block)
            reasons += errors
        return np.concatenate(blocks) if blocks else np.empty((0, width)), reasons

    def represent_features(self, features: NDArray[np.float64], *, layer: int = -1) -> NDArray[np.float64]:
        """Return the activations of a hidden layer for rows of descriptor values, shape (n, n_members * width).

        Raises:
            MatPropError: if the network has no such layer.
        """
        self._check_layer(layer)
        members = self._evaluate(lambda inputs: self._network.member_activations(inputs, int(layer)), features)
        return np.concatenate(list(members), axis=1)

    def _check_layer(self, layer: int) -> None:
        n_layers = self.n_layers
        if not isinstance(layer, int | np.integer) or not -n_layers <= layer < n_layers:
            raise MatPropError(
                f"the network of {self.card.name} has the hidden layers 0 to {n_layers - 1}. Got {layer!r}."
            )

    def representation_width(self, layer: int = -1) -> int:
        """Return the number of activations of a hidden layer, of all members together.

        Raises:
            MatPropError: if the network has no such layer.
        """
        return int(self.represent_features(np.zeros((1, self.card.network.n_inputs)), layer=layer).shape[1])

    def _represent(self, inputs: Any, layer: int) -> NDArray[np.float64]:
        return self.represent_features(inputs, layer=layer)

    def _evaluate(
        self, function: Callable[[torch.Tensor], torch.Tensor], features: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        assert self._scaler is not None  # a network on features has one
        inputs = torch.from_numpy(self._scaler.transform(features)).to(self.device)
        with torch.inference_mode():
            outputs: NDArray[np.float64] = function(inputs).cpu().double().numpy()
        return outputs

    def _batches(self, entries: Iterable[Entry], batch_size: int | None) -> Iterator[list[Entry]]:
        if batch_size is None:
            batch_size = STRUCTURES_AT_ONCE if self.needs_structure else COMPOSITIONS_AT_ONCE
        if not isinstance(batch_size, int) or batch_size < 1:
            raise MatPropError(f"the batch_size must be a positive integer. Got {batch_size!r}.")
        iterator = iter(entries)
        while batch := list(islice(iterator, batch_size)):
            yield batch

    def _inputs(self, batch: Sequence[Entry], n_jobs: int) -> tuple[list[int], Any, list[str | None]]:
        """Return which rows can be evaluated, what :meth:`_members` takes for these, and the errors of all rows."""
        features, errors = self._descriptor.compute_sound(
            [entry.item for entry in batch],
            [self._error(entry) for entry in batch],
            n_jobs=n_jobs,
        )
        good = [row for row, error in enumerate(errors) if error is None]
        return good, features[good], errors

    def _members_and_hidden(self, inputs: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what each member predicts, shape (n_members, n, n_outputs), and its last hidden layer beside that."""
        return self._apart(self._evaluate(self._network.members_and_hidden, inputs), self._values)

    def _apart(
        self, evaluated: NDArray[np.float64], values: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Take apart what the networks gave, shape (n_members, n, n_outputs + width)."""
        n_outputs = self.card.network.n_outputs
        return values(evaluated[..., :n_outputs]), np.concatenate(list(evaluated[..., n_outputs:]), axis=1)

    def _predict_batch(self, batch: Sequence[Entry], n_jobs: int) -> Predictions:
        good, inputs, errors = self._inputs(batch, n_jobs)
        if not good:
            return self._compared(batch, self._collect(batch, errors), n_jobs)
        members, hidden = self._members_and_hidden(inputs)
        predictions = self._collect(batch, errors, good, members, self._extent(batch, good, hidden, inputs))
        return self._compared(batch, predictions, n_jobs)

    def _extent(self, batch: Sequence[Entry], good: Sequence[int], hidden: NDArray[np.float64], inputs: Any) -> Extent:
        """Return what is known of how far the rows that have values lie from the training set."""
        if self._reach is None:
            return Extent([None] * len(good), None)
        graphs = inputs if isinstance(inputs, Graphs) else None
        distance = self._reach.distance
        return Extent(
            self._reach.warnings([batch[row].elements for row in good], graphs),
            None if distance is None else distance.of(hidden),
        )

    def _compared(self, batch: Sequence[Entry], predictions: Predictions, n_jobs: int) -> Predictions:
        """Add the disagreement with the models that this one is compared with."""
        if not self._others:
            return predictions
        values = [predictions.values, *(other._predict_batch(batch, n_jobs).values for other in self._others)]
        names = tuple(other.card.name for other in self._others)
        return replace(predictions, disagreement=disagreement(np.array(values)), compared_with=names)

    def _collect(
        self,
        batch: Sequence[Entry],
        errors: list[str | None],
        good: Sequence[int] = (),
        members: NDArray[np.float64] | None = None,
        extent: Extent | None = None,
    ) -> Predictions:
        """Return the rows of a batch.

        Args:
            batch: the entries.
            errors: None or why there is no value, one entry per row.
            good: rows that have values.
            members: what each member predicts for these, shape (n_members, n, n_outputs).
            extent: how far they lie from the training set.
        """
        errors, good, members, extent = _without_infinite(self.card, errors, good, members, extent)
        outputs = np.full((len(batch), self.card.network.n_outputs), np.nan)
        spread = np.full_like(outputs, np.nan)
        warnings: list[str | None] = [None] * len(batch)
        distance = np.full(len(batch), np.nan)
        if members is not None:
            outputs[good] = members.mean(axis=0)
            if len(members) > 1:
                spread[good] = members.std(axis=0)
        if extent is not None:
            for row, warning in zip(good, extent.warnings, strict=True):
                warnings[row] = warning
            if extent.distance is not None:
                distance[good] = extent.distance
        values = outputs[:, 0]
        if self._classes:
            values = np.full(len(batch), np.nan)
            values[good] = outputs[good].argmax(axis=1)
        return Predictions(
            values=values,
            unit=self.card.unit,
            errors=errors,
            warnings=warnings,
            distance=distance,
            property=self.card.property,
            model=self.card.name,
            names=[entry.name for entry in batch],
            formulas=[entry.formula for entry in batch],
            n_atoms=np.array([entry.n_atoms for entry in batch], dtype=np.int64),
            spread=np.full(len(batch), np.nan) if self._classes else spread[:, 0],
            further={
                name: FurtherProperty(outputs[:, column], get_property(name).unit, spread[:, column])
                for column, name in enumerate(self.card.further_properties, start=1)
            },
            classes=self._classes,
            probabilities=outputs if self._classes else None,
        )

    def unknown_elements(self, numbers: Iterable[int]) -> list[str]:
        """Return the symbols of those elements, given by atomic numbers, that the model never saw in training."""
        return sorted(chemical_symbols[number] for number in set(numbers) - self._elements)

    def _error(self, entry: Entry) -> str | None:
        """Return why there can be no prediction for an entry, or None."""
        if entry.error is not None:
            # only a path that was looked for in vain does not exist: an object may bear a formula as its name
            if entry.error.startswith("does not exist") and is_formula(entry.name):
                return f"is a formula, and the model {self.card.name} needs the structure; give a file or an object"
            return entry.error
        if entry.elements <= self._elements:
            return None
        unknown = ", ".join(self.unknown_elements(entry.elements))
        return f"the model {self.card.name} never saw {unknown} in training; use a model that has"


def _without_infinite(
    card: ModelCard,
    errors: list[str | None],
    good: Sequence[int],
    members: NDArray[np.float64] | None,
    extent: Extent | None,
) -> tuple[list[str | None], Sequence[int], NDArray[np.float64] | None, Extent | None]:
    """Make errors of the rows for which a network, a diverged one for example, gives no finite numbers."""
    if members is None or np.isfinite(members).all():
        return errors, good, members, extent
    finite = np.asarray(np.isfinite(members).all(axis=(0, 2)))
    errors = list(errors)
    for row in np.array(good)[~finite].tolist():
        errors[row] = f"the network of {card.name} gives no finite number for it; train it again, or take another model"
    if extent is not None:
        warnings = [warning for warning, keep in zip(extent.warnings, finite.tolist(), strict=True) if keep]
        extent = Extent(warnings, None if extent.distance is None else extent.distance[finite])
    return errors, np.array(good)[finite].tolist(), members[:, finite], extent


def descriptor_of(card: ModelCard) -> Descriptor:
    """Return the descriptor of a model.

    Raises:
        ArtefactError: if this package has another version of it.
    """
    descriptor = get_descriptor(card.descriptor.name)
    if descriptor.version != card.descriptor.version or list(descriptor.labels) != card.descriptor.labels:
        raise ArtefactError(
            f"the model {card.name} was trained on version {card.descriptor.version} of the descriptor "
            f"{card.descriptor.name}, this package has version {descriptor.version}; get a matching version of either"
        )
    return descriptor
