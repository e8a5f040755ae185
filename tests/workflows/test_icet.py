"""Enumerations and SQS cells of icet through the ranking, where icet is installed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk
from pymatgen.core import Lattice, Structure
from pymatgen.transformations.advanced_transformations import SQSTransformation

from ase_matprop import load_model
from ase_matprop.workflows import rank, rank_orderings

pytest.importorskip("icet", reason="icet is an optional package")

from icet.tools import enumerate_structures


def scaled(lattice: str, largest: int) -> Iterator[Atoms]:
    """Orderings of Ni and Al at the volumes of examples/enumeration."""
    for atoms in enumerate_structures(bulk("Ni", lattice, 3.0), range(1, largest + 1), ["Ni", "Al"]):
        x = (atoms.symbols == "Al").mean()
        volume = len(atoms) * ((1 - x) * 10.94 + x * 16.61) * (1 - 0.5 * x * (1 - x))
        atoms.set_cell(atoms.cell * (volume / atoms.get_volume()) ** (1 / 3), scale_atoms=True)
        yield atoms


def test_every_ordering_is_seen() -> None:
    """2, 6, 19 and 28 of 2 to 5 atoms: G. L. W. Hart, R. W. Forcade, Phys. Rev. B 77, 224115 (2008), table IV."""
    found = rank(scaled("fcc", 5), "irnet17-mp", keep=3)
    assert (found.n_seen, found.n_failed) == (2 + 2 + 6 + 19 + 28, 0)


@pytest.mark.parametrize("model", ["irnet17-mp", "schnet-mp"])
def test_known_ground_states(model: str) -> None:
    """B2 NiAl and L1_2 Ni3Al, as measured and in every DFT database, are the best orderings of their lattices.

    L1_2 has an equal to irnet17-mp, D0_22: the shells of neighbours that its features know are the same.
    """
    for lattice, content, n_atoms, n_equal in (("bcc", 0.5, 2, 1), ("fcc", 0.25, 4, 2 if model == "irnet17-mp" else 1)):
        found = rank((atoms for atoms in scaled(lattice, 4) if (atoms.symbols == "Al").mean() == content), model)
        best = [
            atoms for atoms, value in zip(found.structures, found.values, strict=True) if value - found.values[0] < 1e-4
        ]
        cells = [(atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers) for atoms in best]
        assert ("Pm-3m", n_atoms) in [(spglib.get_symmetry_dataset(cell).international, len(cell[2])) for cell in cells]
        assert len(best) == n_equal


def test_ranked_list_of_sqs_cells() -> None:
    disordered = Structure(Lattice.cubic(2.887), [{"Ni": 0.5, "Al": 0.5}] * 2, [[0, 0, 0], [0.5, 0.5, 0.5]])
    transformation = SQSTransformation(
        2, {2: 2}, instances=2, best_only=False, remove_duplicate_structures=False, sqs_method="icet-enumeration"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = transformation.apply_transformation(disordered, return_ranked_list=2)
    rows = rank_orderings(given, "irnet17-mp")
    values = load_model("irnet17-mp").predict([row["structure"] for row in given]).values
    np.testing.assert_allclose([row["formation_energy_per_atom"] for row in rows], np.sort(values), atol=1e-5)
    objective = {id(row["structure"]): row["objective_function"] for row in given}
    assert all(objective[id(row["structure"])] == row["objective_function"] for row in rows)
