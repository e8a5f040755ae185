"""ASE calculators: one for every model, and one class per family of networks."""

from __future__ import annotations

import logging
import math
import numbers
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import atomic_numbers
from numpy.typing import NDArray

from ase_matprop.errors import MatPropError, StructureError, UnknownElementError
from ase_matprop.models import DEFAULT_MODEL, Predictions, Predictor, families, load_model
from ase_matprop.models.atomistic import AtomisticPredictor, AtomisticResult
from ase_matprop.models.card import ModelCard
from ase_matprop.models.comparison import check_comparable_models
from ase_matprop.models.families import Family
from ase_matprop.models.loading import Names, names_of
from ase_matprop.models.predictor import Progress
from ase_matprop.models.registry import read_card
from ase_matprop.networks import ATOMISTIC_NETWORKS

logger = logging.getLogger(__name__)

_NUMBER = re.compile(r"\d+\.\d+")  # a distance, which changes from step to step
_OF_ATOMS = ("energies", "forces", "stress")


class MatProp(Calculator):
    """ASE calculator around a model of this package.

    ``energy`` is the predicted energy per atom (for the default model the formation energy) times the number of atoms,
    in eV per cell; ``free_energy`` equals ``energy``.  A network on neighbour graphs (SchNet) has ``forces``,
    ``stress`` and ``energies`` of the atoms besides; one on descriptors has not, and asking for them raises ASE's
    ``PropertyNotImplementedError``.  Of a model of several properties the first one is the energy, if it is one;
    a model whose first property is no energy declares no ASE property: call :meth:`calculate` and read
    :attr:`predictions`.

    A model that needs nothing but the composition takes any atoms, also without a cell; others need a crystal.

    Args:
        model: name of a shipped model, or path of a model folder; :attr:`default_model` if not given.
        device: torch device on which the network is evaluated.
        reference_energies: energy per atom of each element's reference state in eV.  If given, the energy of the
            elements in the cell is added, so that ``energy`` is a total energy on the scale of the references.
        compare_with: other models of the same property, whose disagreement with this one is then in
            :attr:`predictions`.

    Attributes:
        predictions: everything of the last calculation that has no place in ASE's results (unit, value per atom,
            ensemble spread, distance to the training set, warnings, disagreement of models), as
            :class:`~ase_matprop.models.Predictions` with one row; None before the first one.

    Raises:
        UnknownNameError: if there is no such model.
        ArtefactError: if the model folder has no valid card; altered weights are found when they are first needed.
        MatPropError: if a reference energy is not a finite number.
    """

    name = "matprop"
    ignored_changes: ClassVar[set[str]] = {"initial_magmoms", "initial_charges"}

    #: model that is taken if none is given
    default_model: ClassVar[str] = DEFAULT_MODEL
    #: family whose models the class accepts, and its networks; None for all
    family: ClassVar[Family | None] = None
    networks: ClassVar[frozenset[str] | None] = None

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        device: str = "cpu",
        reference_energies: Mapping[str, float] | None = None,
        compare_with: Names = (),
        **kwargs: Any,
    ) -> None:
        self.predictions: Predictions | None = None
        self._predictor: Predictor | None = None
        self._warned: set[str] = set()
        parameters = {
            "model": self.default_model if model is None else model,
            "device": device,
            "reference_energies": reference_energies,
            "compare_with": compare_with,
        }
        super().__init__(**parameters, **kwargs)

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Change parameters; nothing is changed if one of them is wrong."""
        unknown = sorted(set(kwargs) - {"model", "device", "reference_energies", "compare_with"})
        if unknown:
            raise TypeError(f"{type(self).__name__} has no parameter {unknown[0]!r}")
        if kwargs.get("reference_energies") is not None:
            kwargs["reference_energies"] = _check_references(kwargs["reference_energies"])
        if "model" in kwargs:
            kwargs["model"] = os.fspath(kwargs["model"])
        if "compare_with" in kwargs:
            kwargs["compare_with"] = [os.fspath(other) for other in names_of(kwargs["compare_with"])]
        wanted = {**self.parameters, **kwargs}
        if {"model", "reference_energies", "compare_with"} & kwargs.keys():
            card = read_card(wanted["model"])
            check_comparable_models(card, [read_card(other) for other in wanted["compare_with"]])
            if self.family is not None:
                self.family.check(card, type(self).__name__, "MatProp")
            if wanted["reference_energies"] is not None and not card.material_property.is_energy:
                raise MatPropError(f"the model {card.name} predicts no energy; reference_energies mean nothing to it")
            self.implemented_properties = _implemented(card)
        changed: dict[str, Any] = super().set(**kwargs)
        if changed:
            self.reset()
        if {"model", "device", "compare_with"} & changed.keys():
            self._predictor = None
        return changed

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.parameters['model']!r})"

    def reset(self) -> None:
        """Forget the last calculation."""
        super().reset()
        self.predictions = None

    @property
    def predictor(self) -> Predictor:
        """The loaded model; it is loaded at the first use, and again after the calculator was pickled or copied."""
        if self._predictor is None:
            self._predictor = load_model(
                self.parameters["model"],
                device=self.parameters["device"],
                compare_with=self.parameters["compare_with"],
            )
        return self._predictor

    def predict(
        self,
        inputs: Any,
        *,
        batch_size: int | None = None,
        n_jobs: int = 1,
        progress: Progress | None = None,
    ) -> Predictions:
        """Predict for many inputs at once, formulas included where the model does not need the structure.

        As :meth:`ase_matprop.models.Predictor.predict`: one row per input, values as the model gives them (per atom,
        without reference energies).  The calculator's results stay as they are.
        """
        return self.predictor.predict(inputs, batch_size=batch_size, n_jobs=n_jobs, progress=progress)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Predict for ``atoms`` and fill all results in one evaluation.

        Raises:
            StructureError: if the structure cannot be used.
            UnknownElementError: if it has an element that the model never saw, or that has no reference energy.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        self.results, self.predictions = {}, None  # whatever fails below, nothing of another structure stays
        predictor = self.predictor
        (entry,) = predictor.entries([self.atoms])
        found: AtomisticResult | None = None
        if isinstance(predictor, AtomisticPredictor) and predictor.card.material_property.is_energy:
            predictions, found = predictor.calculate_entry(entry)
        else:
            predictions = predictor.predict_entries([entry])
        (error,) = predictions.errors
        if error is not None:
            unknown = predictor.unknown_elements(self.atoms.numbers)
            raise (UnknownElementError if unknown else StructureError)(error)
        card = predictor.card
        if not card.material_property.is_energy:
            self.predictions = predictions
            return
        references = self._reference_energies(self.atoms)
        value = float(predictions.values[0]) if found is None else found.value
        energy = (value * len(self.atoms) if card.per_atom else value) + math.fsum(references)
        results: dict[str, Any] = {"energy": energy, "free_energy": energy}
        if found is not None:
            results |= {"energies": found.energies + references, "forces": found.forces, "stress": found.stress}
        self.results, self.predictions = results, predictions
        warning = f"{card.name}, {predictions.formulas[0]}: {predictions.warnings[0]}"
        kind = _NUMBER.sub("", warning)
        if predictions.warnings[0] is not None and kind not in self._warned:
            self._warned.add(kind)  # once, and not in each step of a relaxation
            logger.warning("%s", warning)

    def _reference_energies(self, atoms: Atoms) -> NDArray[np.float64]:
        """Return the reference energy of each atom in eV, shape (N,)."""
        references = self.parameters["reference_energies"]
        if references is None:
            return np.zeros(len(atoms))
        symbols = atoms.get_chemical_symbols()
        missing = sorted(set(symbols) - set(references))
        if missing:
            raise UnknownElementError(
                f"reference_energies has no entry for {', '.join(missing)}; add the energy per atom in eV"
            )
        return np.array([references[symbol] for symbol in symbols], dtype=np.float64)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_predictor": None}


class SchNet(MatProp):
    """Calculator for SchNet and PaiNN, which give ``forces``, ``stress`` and ``energies`` of the atoms besides.

    Everything else as for :class:`MatProp`.  How far forces and stress can be trusted depends on what the network was
    trained on: its card says whether that was forces, or energies of relaxed structures only.

    K. T. Schütt et al., J. Chem. Phys. 148, 241722 (2018), doi:10.1063/1.5019779.
    """

    name = "schnet"
    family = families.SCHNET
    default_model = family.default_model
    networks = family.networks


class IRNet(MatProp):
    """Calculator for IRNet, SRNet and plain networks on feature vectors; everything else as for :class:`MatProp`.

    D. Jha et al., Sci. Rep. 11, 4244 (2021), doi:10.1038/s41598-021-83193-1.
    """

    name = "irnet"
    family = families.IRNET
    default_model = family.default_model
    networks = family.networks


class SIPFENN(MatProp):
    """Calculator for the networks NN9, NN20 and NN24 of SIPFENN; everything else as for :class:`MatProp`.

    A. M. Krajewski et al., Comput. Mater. Sci. 208, 111254 (2022), doi:10.1016/j.commatsci.2022.111254.
    """

    name = "sipfenn"
    family = families.SIPFENN
    default_model = family.default_model
    networks = family.networks


class ElemNet(MatProp):
    """Calculator for ElemNet, which sees nothing but the element fractions; everything else as for :class:`MatProp`.

    All polymorphs have the same energy per atom.  Formulas need no atoms:
    ``ElemNet().predict(["NaCl", Composition("Fe2O3"), atoms])``.

    D. Jha et al., Sci. Rep. 8, 17593 (2018), doi:10.1038/s41598-018-35934-y.
    """

    name = "elemnet"
    family = families.ELEMNET
    default_model = family.default_model
    networks = family.networks


def _implemented(card: ModelCard) -> list[str]:
    """Return the ASE properties that a model has."""
    if not card.material_property.is_energy:
        return []
    return ["energy", "free_energy", *(_OF_ATOMS if card.network.name in ATOMISTIC_NETWORKS else ())]


def _check_references(references: Mapping[str, float]) -> dict[str, float]:
    checked = {}
    for symbol, energy in references.items():
        number = isinstance(energy, numbers.Real) and not isinstance(energy, bool)
        if symbol not in atomic_numbers or not number or not math.isfinite(energy):
            raise MatPropError(
                f"reference_energies must map element symbols to energies per atom in eV. Got {symbol!r}: {energy!r}."
            )
        checked[symbol] = float(energy)
    return checked
