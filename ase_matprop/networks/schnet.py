"""SchNet and PaiNN: networks on neighbour graphs, which need no descriptor and have forces.

SchNet: K. T. Schütt et al., J. Chem. Phys. 148, 241722 (2018), doi:10.1063/1.5019779.  PaiNN: K. Schütt, O. Unke and
M. Gastegger, Proc. Mach. Learn. Res. 139, 9377 (2021), arXiv:2102.03150.  Both are SchNetPack's modules.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from ase_matprop.descriptors.neighbors import Graphs
from ase_matprop.networks import filter_table
from ase_matprop.networks import schnetpack_adapter as adapter

GraphTensors = dict[str, Tensor]


class AtomisticNetwork(nn.Module):
    """A representation of each atom, and output layers that give its contribution.

    What is predicted for a structure is the mean of the contributions of its atoms.

    Args:
        n_inputs: number of atomic numbers that have an embedding; always 100, as SchNetPack has it.
        n_outputs: number of predicted values.
        n_atom_basis: width of the representation of an atom.
        n_interactions: number of interaction blocks.
        n_filters: width of the filters, the same by default; SchNet only.
        n_rbf: number of Gaussians on which a distance is expanded.
        cutoff: distance in Angstrom beyond which atoms do not interact.
        n_output_layers: number of layers that make a contribution from a representation.
    """

    #: which of SchNetPack's representations
    representation_kind: ClassVar[str]

    def __init__(
        self,
        n_inputs: int = adapter.MAX_Z,
        n_outputs: int = 1,
        *,
        n_atom_basis: int = 128,
        n_interactions: int = 6,
        n_filters: int | None = None,
        n_rbf: int = 60,
        cutoff: float = 6.0,
        n_output_layers: int = 2,
    ) -> None:
        super().__init__()
        if n_inputs != adapter.MAX_Z:
            raise ValueError(f"a network on neighbour graphs has {adapter.MAX_Z} inputs. Got {n_inputs}.")
        if n_filters is not None and self.representation_kind != "schnet":
            raise ValueError("only SchNet has n_filters")
        for name, value in (
            ("n_atom_basis", n_atom_basis),
            ("n_interactions", n_interactions),
            ("n_filters", 1 if n_filters is None else n_filters),
            ("n_rbf", n_rbf - 1),
            ("cutoff", cutoff),
            ("n_output_layers", n_output_layers),
        ):
            if value <= 0:
                raise ValueError(f"{name} is too small. Got {value + (name == 'n_rbf')}.")
        if not math.isfinite(cutoff):
            raise ValueError(f"the cutoff must be finite. Got {cutoff}.")
        self.cutoff = float(cutoff)
        self.representation = adapter.build_representation(
            self.representation_kind,
            n_atom_basis=n_atom_basis,
            n_interactions=n_interactions,
            n_rbf=n_rbf,
            cutoff=cutoff,
            n_filters=n_filters,
        )
        self.output = adapter.build_output(n_atom_basis, n_output_layers, n_outputs)

    @property
    def n_layers(self) -> int:
        """Number of interaction blocks, as :meth:`represent` counts them."""
        return len(self._blocks)

    @property
    def _blocks(self) -> nn.ModuleList:
        """The modules whose outputs are the representations after each block."""
        return cast(nn.ModuleList, self.representation.interactions)

    def forward(self, inputs: GraphTensors) -> Tensor:
        """Return the mean contribution of each structure's atoms, shape (n, n_outputs)."""
        return self.read_out(self.hidden(inputs), inputs)

    def hidden(self, inputs: GraphTensors) -> Tensor:
        """Return the final representation of each atom, shape (N, n_atom_basis)."""
        return self._represent_atoms(inputs)

    def read_out(self, hidden: Tensor, inputs: GraphTensors) -> Tensor:
        """Return what :meth:`forward` returns, from what :meth:`hidden` returned."""
        return mean_over_atoms(self.contributions(hidden), inputs)

    def pooled(self, hidden: Tensor, inputs: GraphTensors) -> Tensor:
        """Return the mean representation of each structure's atoms, from what :meth:`hidden` returned."""
        return mean_over_atoms(hidden, inputs)

    def contributions(self, hidden: Tensor) -> Tensor:
        """Return the contribution of each atom, shape (N, n_outputs), from what :meth:`hidden` returned."""
        output: dict[str, Tensor] = self.output({adapter.SCALARS: hidden})
        return output[adapter.CONTRIBUTIONS]

    def represent(self, inputs: GraphTensors, layer: int = -1) -> Tensor:
        """Return the mean representation of each structure's atoms after a block, shape (n, n_atom_basis).

        Raises:
            IndexError: if there is no such block.
        """
        found: list[Tensor] = []
        hook = self._blocks[range(self.n_layers)[layer]].register_forward_hook(
            lambda module, arguments, result: found.append(self._after_block(arguments, result))
        )
        try:
            self._represent_atoms(inputs)
        finally:
            hook.remove()
        return mean_over_atoms(found[0], inputs)

    def _after_block(self, arguments: tuple[Any, ...], result: Any) -> Tensor:
        raise NotImplementedError

    def _represent_atoms(self, inputs: GraphTensors) -> Tensor:
        output: dict[str, Tensor] = self.representation(
            {
                adapter.NUMBERS: inputs["numbers"],
                adapter.CENTERS: inputs["centers"],
                adapter.NEIGHBORS: inputs["neighbors"],
                adapter.VECTORS: inputs["vectors"],
            }
        )
        return output[adapter.SCALARS]


class SchNet(AtomisticNetwork):
    """SchNet; the arguments are those of :class:`AtomisticNetwork`."""

    representation_kind = "schnet"
    _tables: list[Tensor] | None = None

    def _after_block(self, arguments: tuple[Any, ...], result: Any) -> Tensor:
        return cast(Tensor, arguments[0] + result)

    def represent(self, inputs: GraphTensors, layer: int = -1) -> Tensor:
        if "vectors" in inputs:
            return super().represent(inputs, layer)
        number = range(self.n_layers)[layer]
        return mean_over_atoms(next(islice(self._tabulated(inputs), number, None)), inputs)

    def tabulate(self, n_intervals: int) -> list[Tensor]:
        """Return the filters of each block at the ends of equal intervals, shape (n_intervals + 1, n_filters) each."""
        schnet = cast(Any, self.representation)
        distances = filter_table.grid(self.cutoff, n_intervals, schnet.embedding.weight.device)
        expanded, weights = schnet.radial_basis(distances), schnet.cutoff_fn(distances)[:, None]
        return [(block.filter_network(expanded) * weights).float() for block in schnet.interactions]

    def keep_tables(self) -> None:
        """Make fine tables for predictions; the weights must not change afterwards."""
        with torch.inference_mode():
            fine = filter_table.FINE_PER_GAUSSIAN * cast(Any, self.representation).radial_basis.n_rbf
            self._tables = self.tabulate(max(filter_table.FINE_INTERVALS, fine))

    def _represent_atoms(self, inputs: GraphTensors) -> Tensor:
        if "vectors" in inputs:
            return super()._represent_atoms(inputs)
        *_, features = self._tabulated(inputs)
        return features

    def _tabulated(self, inputs: GraphTensors) -> Iterator[Tensor]:
        """Yield the representation of each atom after each block, with filters from tables."""
        schnet = cast(Any, self.representation)
        tables = self._tables
        if tables is None:
            tables = self.tabulate(max(filter_table.INTERVALS, filter_table.PER_GAUSSIAN * schnet.radial_basis.n_rbf))
        placed = filter_table.place(inputs["distances"], self.cutoff, len(tables[0]) - 1)
        pairs = filter_table.Pairs(inputs["first_pairs"], inputs["neighbors"], *placed)
        features: Tensor = schnet.embedding(inputs["numbers"])
        for block, table in zip(schnet.interactions, tables, strict=True):
            features = features + block.f2out(filter_table.convolve(block.in2f(features).float(), table, pairs))
            yield features


class PaiNN(AtomisticNetwork):
    """PaiNN; the arguments are those of :class:`AtomisticNetwork`, but for ``n_filters``."""

    representation_kind = "painn"

    @property
    def _blocks(self) -> nn.ModuleList:
        return cast(nn.ModuleList, self.representation.mixing)

    def _after_block(self, arguments: tuple[Any, ...], result: Any) -> Tensor:
        return cast(Tensor, result[0].squeeze(1))


def mean_over_atoms(values: Tensor, inputs: GraphTensors) -> Tensor:
    """Return the mean of ``values``, shape (N, ...), over the atoms of each structure, shape (n, ...)."""
    return sum_over_atoms(values, inputs) / inputs["n_atoms"].to(values.dtype).reshape(-1, *[1] * (values.ndim - 1))


def sum_over_atoms(values: Tensor, inputs: GraphTensors) -> Tensor:
    """Return the sum of ``values``, shape (N, ...), over the atoms of each structure, shape (n, ...)."""
    total = values.new_zeros((len(inputs["n_atoms"]), *values.shape[1:]))
    return total.index_add(0, inputs["structures"], values)


def pair_distances(graphs: Graphs) -> GraphTensors:
    """Return what SchNet needs for energies: pairs sorted by atom, and their distances."""
    first_atoms = torch.from_numpy(graphs.n_atoms).cumsum(0) - torch.from_numpy(graphs.n_atoms)
    tensors = _atoms(graphs)
    counts = torch.from_numpy(graphs.n_neighbors)
    first_pairs = torch.zeros(len(counts) + 1, dtype=torch.int32)
    first_pairs[1:] = counts.cumsum(0)
    first_atom = torch.repeat_interleave(first_atoms, torch.from_numpy(graphs.n_pairs)).int()
    return tensors | {
        "first_pairs": first_pairs,
        "neighbors": torch.from_numpy(graphs.neighbors) + first_atom,
        "distances": torch.from_numpy(graphs.distances),
    }


def pair_vectors(graphs: Graphs) -> GraphTensors:
    """Return positions, cells and pairs, from which :func:`add_vectors` makes what every network takes."""
    first_atoms = torch.from_numpy(graphs.n_atoms).cumsum(0) - torch.from_numpy(graphs.n_atoms)
    first_atom = torch.repeat_interleave(first_atoms, torch.from_numpy(graphs.n_pairs))
    return _atoms(graphs) | {
        "centers": torch.from_numpy(graphs.centers),
        "neighbors": torch.from_numpy(graphs.neighbors).long() + first_atom,
        "positions": torch.from_numpy(graphs.positions),
        "cells": torch.from_numpy(graphs.cells),
        "shifts": torch.from_numpy(graphs.shifts).double(),
    }


def add_vectors(inputs: GraphTensors, strain: Tensor | None = None, dtype: torch.dtype = torch.float32) -> GraphTensors:
    """Complete the tensors of :func:`pair_vectors` with the vector from each centre to its neighbour, shape (E, 3).

    Vectors are computed in float64, then rounded to ``dtype``.

    Args:
        inputs: tensors of :func:`pair_vectors`.
        strain: deformation of each structure, shape (n, 3, 3); its symmetric part is applied.
        dtype: that of the network's weights.
    """
    centers, neighbors, positions = inputs["centers"], inputs["neighbors"], inputs["positions"]
    structures = inputs["structures"][centers]
    vectors = positions[neighbors] - positions[centers]
    vectors = vectors + torch.einsum("ea,eab->eb", inputs["shifts"], inputs["cells"][structures])
    if strain is not None:
        symmetric = 0.5 * (strain + strain.transpose(1, 2))
        vectors = vectors + torch.einsum("ea,eab->eb", vectors, symmetric[structures])
    return inputs | {"vectors": vectors.to(dtype)}


def _atoms(graphs: Graphs) -> GraphTensors:
    return {
        "numbers": torch.from_numpy(graphs.numbers).long(),
        "n_atoms": torch.from_numpy(graphs.n_atoms),
        "structures": torch.from_numpy(graphs.structure_of_atom),
    }
