"""Models on neighbour graphs: predictions for many structures, and energy, forces and stress of one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.descriptors.neighbors import Graphs, neighbor_graphs
from ase_matprop.descriptors.registry import check_n_jobs
from ase_matprop.errors import MatPropError
from ase_matprop.models import artefact
from ase_matprop.models.predictions import Predictions
from ase_matprop.models.predictor import Entry, Predictor
from ase_matprop.networks.ensemble import Ensemble
from ase_matprop.networks.schnet import (
    AtomisticNetwork,
    GraphTensors,
    SchNet,
    add_vectors,
    pair_distances,
    pair_vectors,
)
from ase_matprop.networks.schnetpack_adapter import MAX_Z

_PAIRS_AT_ONCE = 200_000  # that are evaluated together: bounds the memory


@dataclass(frozen=True, eq=False)
class AtomisticResult:
    """What a network on neighbour graphs says of one structure with N atoms.

    Attributes:
        value: the property as the card has it, in its unit: per atom or per cell.
        energies: contributions of the atoms in eV, shape (N,); their sum is the energy of the cell.
        forces: in eV/Angstrom, shape (N, 3).
        stress: in eV/Angstrom^3 and ASE's sign, order xx, yy, zz, yz, xz, xy, shape (6,).
        members: what each ensemble member predicts, shape (n_members, n_outputs).
        hidden: mean representations of the atoms, the members side by side, shape (n_members * n_atom_basis,).
        graphs: the neighbour graph.
    """

    value: float
    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    members: NDArray[np.float64]
    hidden: NDArray[np.float64]
    graphs: Graphs


class AtomisticPredictor(Predictor):
    """A loaded SchNet or PaiNN; everything else as for :class:`~ase_matprop.models.Predictor`."""

    def __init__(self, loaded: artefact.Artefact, device: str = "cpu", compare_with: Sequence[Predictor] = ()) -> None:
        super().__init__(loaded, device, compare_with)
        self._tabulated = all(isinstance(member, SchNet) for member in self._network.members)
        if self._tabulated:
            self._network = copy.deepcopy(self._network)  # the tables are of these weights
            for member in self._network.members:
                cast(SchNet, member).keep_tables()

    @property
    def cutoff(self) -> float:
        """Distance in Angstrom beyond which atoms do not interact."""
        return cast(AtomisticNetwork, self._network.members[0]).cutoff

    def predict_graphs(self, graphs: Graphs) -> NDArray[np.float64]:
        """Return what each ensemble member predicts, shape (n_members, n, n_outputs)."""
        outputs = self._of_graphs(self._network.member_outputs, graphs, self._tabulated)
        return self._values_of_graphs(outputs, graphs)

    def _values_of_graphs(self, outputs: NDArray[np.float64], graphs: Graphs) -> NDArray[np.float64]:
        """Return the properties that outputs of the networks stand for, shape (n_members, n, n_outputs)."""
        values = self._target.inverse(outputs) + self._target.of_elements(_fractions(graphs))
        return np.maximum(values, self._minima)

    def represent_graphs(self, graphs: Graphs, *, layer: int = -1) -> NDArray[np.float64]:
        """Return the mean representation of the atoms after an interaction block, shape (n, n_members * n_atom_basis).

        Raises:
            MatPropError: if the network has no such block.
        """
        self._check_layer(layer)
        members = self._of_graphs(
            lambda inputs: self._network.member_activations(inputs, int(layer)), graphs, self._tabulated
        )
        return np.concatenate(list(members), axis=1)

    def calculate(self, atoms: Atoms) -> AtomisticResult:
        """Return energy, forces and stress of a structure in one evaluation, in float64.

        Finite displacements, as for phonons, and molecular dynamics need smoother energies than float32 has.

        Args:
            atoms: a structure that passed :func:`ase_matprop.structures.as_atoms`.

        Raises:
            MatPropError: if the property of the model is no energy.
        """
        card = self.card
        if not card.material_property.is_energy:
            raise MatPropError(f"the model {card.name} predicts {card.property}, which has no forces")
        graphs = neighbor_graphs([atoms], self.cutoff)
        inputs = self._to_device(pair_vectors(graphs))
        inputs["positions"].requires_grad_(True)
        strain = torch.zeros((1, 3, 3), dtype=torch.float64, device=self.device, requires_grad=True)
        inputs = add_vectors(inputs, strain, torch.float64)
        networks = [cast(AtomisticNetwork, member) for member in self._in_float64.members]
        representations = [network.hidden(inputs) for network in networks]
        contributions = torch.stack(
            [network.contributions(hidden) for network, hidden in zip(networks, representations, strict=True)]
        )
        weight = self._energy_per_value(len(atoms)) / len(atoms) * float(self._target.scale[0])
        energies = contributions.mean(dim=0)[:, 0] * weight
        forces, stress = (np.zeros((len(atoms), 3)), np.zeros((3, 3)))
        if len(graphs.neighbors):  # an atom without neighbours has an energy and nothing else
            of_positions, of_strain = torch.autograd.grad(energies.sum(), [inputs["positions"], strain])
            forces = -of_positions.cpu().numpy()
            stress = of_strain[0].cpu().numpy() / atoms.get_volume()
        of_elements = weight / float(self._target.scale[0]) * self._element_energies(atoms)
        of_atoms = energies.detach().cpu().numpy() + of_elements
        members = self._values_of_graphs(contributions.detach().mean(dim=1).cpu().numpy()[:, None, :], graphs)[:, 0]
        return AtomisticResult(
            value=float(of_atoms.sum() / self._energy_per_value(len(atoms))),
            energies=of_atoms,
            forces=forces,
            stress=stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
            members=members,
            hidden=torch.cat([hidden.detach().mean(dim=0) for hidden in representations]).cpu().numpy(),
            graphs=graphs,
        )

    def calculate_entry(self, entry: Entry) -> tuple[Predictions, AtomisticResult | None]:
        """Return the predictions for an entry and, of the same evaluation, its forces; None if it cannot be used."""
        error = self._error(entry)
        if error is not None:
            return self._collect([entry], [error]), None
        result = self.calculate(cast(Atoms, entry.item))
        extent = self._extent([entry], [0], result.hidden[None, :], result.graphs)
        predictions = self._collect([entry], [None], [0], result.members[:, None, :], extent)
        return self._compared([entry], predictions, 1), result

    @cached_property
    def _in_float64(self) -> Ensemble:
        return copy.deepcopy(self._network).double()

    def _energy_per_value(self, n_atoms: int) -> float:
        """Energy of the cell in eV for each unit of the property."""
        return float(n_atoms) if self.card.per_atom else 1.0

    def _element_energies(self, atoms: Atoms) -> NDArray[np.float64]:
        assert self._target.element_offsets is not None  # artefact.load has made sure
        return np.asarray(self._target.offset[0] + self._target.element_offsets[atoms.numbers, 0])

    def _inputs(self, batch: Sequence[Entry], n_jobs: int) -> tuple[list[int], Any, list[str | None]]:
        check_n_jobs(n_jobs)  # but not needed: the neighbours are found at once
        errors = [self._error(entry) for entry in batch]
        good = [row for row, error in enumerate(errors) if error is None]
        return good, neighbor_graphs([cast(Atoms, batch[row].item) for row in good], self.cutoff), errors

    def _members_and_hidden(self, inputs: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        evaluated = self._of_graphs(self._network.members_and_hidden, inputs, self._tabulated)
        return self._apart(evaluated, lambda outputs: self._values_of_graphs(outputs, inputs))

    def representation_width(self, layer: int = -1) -> int:
        self._check_layer(layer)
        return int(self.card.network.settings["n_atom_basis"]) * len(self._network.members)

    def _represent(self, inputs: Any, layer: int) -> NDArray[np.float64]:
        return self.represent_graphs(inputs, layer=layer)

    def _of_graphs(
        self, function: Callable[[GraphTensors], torch.Tensor], graphs: Graphs, tabulated: bool = False
    ) -> NDArray[np.float64]:
        """Evaluate a function with outputs of shape (n_members, n, width), part by part."""
        parts = []
        with torch.inference_mode():
            for part in _parts(graphs):
                inputs = self._to_device(pair_distances(part) if tabulated else pair_vectors(part))
                outputs = function(inputs if tabulated else add_vectors(inputs))
                parts.append(outputs.cpu().double().numpy())
        return np.concatenate(parts, axis=1)

    def _to_device(self, inputs: GraphTensors) -> GraphTensors:
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}


def _parts(graphs: Graphs) -> Iterator[Graphs]:
    """Cut graphs into consecutive parts with a bounded number of pairs, at least one graph each."""
    ends = np.cumsum(graphs.n_pairs)
    start = 0
    while start < len(graphs):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _PAIRS_AT_ONCE, side="right")))
        yield graphs[start:stop]
        start = stop


def _fractions(graphs: Graphs) -> NDArray[np.float64]:
    """Return the share of each atomic number among the atoms, shape (n, MAX_Z)."""
    counts = np.zeros((len(graphs), MAX_Z))
    np.add.at(counts, (graphs.structure_of_atom, graphs.numbers.astype(np.int64)), 1.0)
    return counts / graphs.n_atoms[:, None]
