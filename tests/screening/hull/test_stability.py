"""Tables of stability."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Composition

from ase_matprop.errors import MatPropError, UnknownNameError
from ase_matprop.screening.hull.facets import ReferenceHull
from ase_matprop.screening.hull.references import read_references
from ase_matprop.screening.hull.stability import stability_table
from tests.screening.hull.examples import drawn_block, drawn_references, references_of

REFERENCES = references_of({"Li": 0, "Fe": 0, "O2": 0, "Fe2O3": -1.7, "Li2O": -2.0})


@pytest.mark.parametrize("method", ["facets", "pymatgen"])
def test_table(method: str) -> None:
    formulas = ["Fe4O6", "LiFeO2", "no formula", Composition("Li3Fe"), "FeO", "NaCl", "O2", "LiO"]
    energies = [-1.7, -2.1, 0.0, 0.1, np.nan, -2.0, 0.2, -1.0]
    table = stability_table(formulas, energies, REFERENCES, method=method, below_hull=0.2)
    assert list(table.columns) == [
        "formula", "formation_energy_per_atom", "e_above_hull", "decomposition", "stable", "below_hull", "error"
    ]  # fmt: skip
    assert table["formula"].tolist() == ["Fe4O6", "LiFeO2", "no formula", "Li3Fe", "FeO", "NaCl", "O2", "LiO"]
    expected = [0.0, -2.1 + (0.625 * 1.7 + 0.375 * 2.0), np.nan, 0.1, np.nan, np.nan, 0.2, -1.0 + 0.75 * 2.0]
    np.testing.assert_allclose(table["e_above_hull"], expected, atol=1e-9)
    assert table["stable"].tolist() == [True, True, False, False, False, False, False, False]
    assert table["below_hull"].tolist() == [False, True, False, False, False, False, False, False]
    assert table["decomposition"].tolist() == [
        "Fe2O3", "0.625 Fe2O3 + 0.375 Li2O", None, "0.75 Li + 0.25 Fe", None, None, "O", "0.75 Li2O + 0.25 O"
    ]  # fmt: skip
    errors = table["error"].tolist()
    assert "is no formula" in errors[2] and "energy is nan" in errors[4] and "elements Na, Cl" in errors[5]
    assert [error is None for error in errors] == [True, True, False, True, False, False, True, True]


@pytest.mark.parametrize("d", [2, 3, 4])
def test_both_methods_agree(d: int) -> None:
    references = drawn_references(40, d, seed=d)
    block = drawn_block(40, d, np.random.default_rng(d))
    energies = np.random.default_rng(d).normal(-1.0, 0.5, 40)
    one, two = (stability_table(block.formulas(), energies, references, method=m) for m in ("facets", "pymatgen"))
    np.testing.assert_allclose(one["e_above_hull"], two["e_above_hull"], atol=1e-6)
    assert one["decomposition"].tolist() == two["decomposition"].tolist() and "error" not in one


@pytest.mark.data
def test_references_are_on_or_above_their_hull(data_dir: Path) -> None:
    references = read_references(data_dir / "hull" / "li_fe_o_mp.csv")
    hull = ReferenceHull(references)
    table = stability_table(references.formulas(), references.energies, hull)
    stable = table[table["stable"]]
    assert table["e_above_hull"].min() > -1e-9 and len(stable) >= 11
    peer = stability_table(references.formulas(), references.energies, hull, method="pymatgen")
    np.testing.assert_allclose(table["e_above_hull"], peer["e_above_hull"], atol=1e-6)


def test_one_formula_and_none() -> None:
    assert stability_table("Li2O", [-2.0], REFERENCES)["stable"].tolist() == [True]
    assert len(stability_table([], [], REFERENCES)) == 0


def test_errors() -> None:
    with pytest.raises(MatPropError, match="2 formulas and energies of shape"):
        stability_table(["Li", "O2"], [0.0], REFERENCES)
    with pytest.raises(UnknownNameError, match="Did you mean 'facets'"):
        stability_table(["Li"], [0.0], REFERENCES, method="facet")  # type: ignore[arg-type]
    with pytest.raises(MatPropError, match="below_hull must be a distance"):
        stability_table(["Li"], [0.0], REFERENCES, below_hull=-0.2)
