"""Reference energies: own runs, tables, fits."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from ase_matprop.errors import CalculationError, IncompatibleRunsError, ReferenceEnergyError
from ase_matprop.finetune import (
    References,
    fitted_references,
    read_vasp,
    references_from_runs,
    references_from_table,
)
from ase_matprop.properties import get_property

# ---- own runs


@pytest.mark.data
def test_references_of_the_data(data_dir: Path) -> None:
    """Elements: energies per atom of the project's own CSV file (doped); compounds: the README of the data."""
    runs = read_vasp(data_dir / "vasp" / "la_zr_o_hse06")
    references = references_from_runs(runs)
    expected = {"La": -5.00458616, "O": -7.006602065, "Zr": -9.84367624}
    assert references.energies == pytest.approx(expected, abs=1e-8)
    assert "Zr_EaH_0.0/" in references.sources["Zr"]  # the lower of two polymorphs
    zirconia = min((run for run in runs if run.formula == "ZrO2"), key=lambda run: run.energy_per_atom)
    assert references.formation_energy_per_atom(zirconia.atoms, zirconia.energy) == pytest.approx(-3.658, abs=5e-4)
    assert "HSE06, ENCUT 620 eV" in references.description


def test_runs_agree_with_the_table_of_the_folder(project: Path) -> None:
    runs = read_vasp(project)
    references = references_from_runs(runs)
    assert references.kind == "runs" and references.property == "formation_energy_per_atom"
    values = [references.formation_energy_per_atom(run.atoms, run.energy) for run in runs]
    np.testing.assert_allclose(values, runs.formation_energies_per_atom(), atol=1e-12)
    assert sorted(references.energies) == ["Au", "Cu"]
    np.testing.assert_allclose(
        [values[i] for i, run in enumerate(runs) if len(run.elements) == 1], 0.0, atol=1e-12
    )  # an element in its reference state has none


def test_lowest_polymorph_counts(synthetic, project: Path) -> None:
    high = bulk("Cu", "bcc", a=2.9)
    synthetic.write_vasprun(project / "0_bcc" / "vasprun.xml", [synthetic.snapshot(high)])
    references = references_from_runs(read_vasp(project))
    assert references.sources["Cu"].endswith("elements/Cu/vasprun.xml")


def test_missing_element_names_three_remedies(synthetic, relaxed, tmp_path: Path) -> None:
    synthetic.write_vasprun(tmp_path / "a" / "vasprun.xml", relaxed["CuAu"][-1:])
    runs = read_vasp(tmp_path)
    assert runs.missing_elements() == ["Au", "Cu"]
    assert np.isnan(runs.formation_energies_per_atom()).all()
    with pytest.raises(ReferenceEnergyError) as caught:
        references_from_runs(runs)
    for words in (
        "no reference energy of Au, Cu",
        "calculate the elements",
        "--references table.csv",
        "--references fitted",
    ):
        assert words in str(caught.value)


def test_runs_that_are_no_references(synthetic, relaxed, project: Path) -> None:
    """Other settings, molecular dynamics and rejected runs are references of nothing."""
    low = relaxed["Cu"][-1].copy()
    low.calc = SinglePointCalculator(low, **(relaxed["Cu"][-1].calc.results | {"energy": -100.0}))
    synthetic.write_vasprun(project / "md" / "vasprun.xml", [low], synthetic.Settings(ibrion=0, nsw=10))
    before = references_from_runs(read_vasp(project)).energies
    assert before["Cu"] > -1.0
    synthetic.write_vasprun(project / "other" / "vasprun.xml", [low], synthetic.Settings(encut=520.0))
    with pytest.raises(IncompatibleRunsError):
        references_from_runs(read_vasp(project, check=False))
    mixed = references_from_runs(read_vasp(project, allow_mixed=True), allow_mixed=True)
    assert mixed.energies == before


def test_no_usable_run(synthetic, relaxed, tmp_path: Path) -> None:
    synthetic.write_vasprun(tmp_path / "vasprun.xml", relaxed["Cu"][-1:], synthetic.Settings(icharg=11))
    with pytest.raises(CalculationError, match="0 of 1 VASP runs can be used"):
        references_from_runs(read_vasp(tmp_path))


# ---- tables


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "element,energy_per_atom\nNo,-1.5\nN,-8.3\nY,-6.4\nNa,-1.3\n"),
        ("a.json", '{"No": -1.5, "N": -8.3, "Y": -6.4, "Na": -1.3}'),
        ("a.yaml", "No: -1.5\nN: -8.3\nY: -6.4\nNa: -1.3\n"),  # words that YAML 1.1 takes for truth values
    ],
)
def test_table_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    references = references_from_table(tmp_path / name)
    assert references.energies == {"No": -1.5, "N": -8.3, "Y": -6.4, "Na": -1.3}
    assert references.kind == "table" and name in references.description
    assert references_from_table(str(tmp_path / name), elements=["N"]).energies == references.energies


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "symbol,value\nFe,-8\n", "must have the columns 'element' and 'energy_per_atom'"),
        ("a.csv", "element,energy\nFe,-8\nFe,-9\n", "has Fe twice"),
        ("a.csv", "element,energy\nFe,\n", "give a number in eV/atom"),
        ("a.csv", "element,energy\nFe2,-8\n", "'Fe2', which is no element"),
        ("a.json", "[1, 2]", "must have entries 'element: energy'"),
        ("a.json", "{", "cannot be read"),
        ("a.yaml", "Fe: [", "is no YAML"),
        ("a.json", "{}", "is empty"),
        ("a.txt", "Fe -8", "must end in .csv, .json or .yaml"),
    ],
)
def test_wrong_tables(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ReferenceEnergyError) as caught:
        references_from_table(tmp_path / name)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_table_that_is_not_there_or_lacks_an_element(tmp_path: Path) -> None:
    with pytest.raises(ReferenceEnergyError, match="check the path"):
        references_from_table(tmp_path / "a.csv")
    with pytest.raises(ReferenceEnergyError, match="has no reference energy of O; add it"):
        references_from_table({"Fe": -8.3}, elements=["Fe", "O"])


def test_arithmetic() -> None:
    references = references_from_table({"Fe": -8.0, "O": -5.0})
    # Fe2O3 with -40 eV: (-40 + 16 + 15) / 5
    for composition in ("Fe2O3", {"Fe": 2, "O": 3}, Atoms("Fe2O3")):
        assert references.formation_energy_per_atom(composition, -40.0) == pytest.approx(-1.8)
        assert references.total_energy(composition, -1.8) == pytest.approx(-40.0)
    # twice the cell, twice the energy, the same value
    assert references.formation_energy_per_atom("Fe4O6", -80.0) == pytest.approx(-1.8)
    with pytest.raises(ReferenceEnergyError, match="no reference energy of Mg"):
        references.formation_energy_per_atom("MgO", -10.0)


def test_dictionary_and_back() -> None:
    for references in (
        references_from_table({"Fe": -8.0}),
        fitted_references(["Fe", "FeO", "O2"], [-8.0, -15.0, -10.0]),
    ):
        text = json.dumps(references.to_dict())
        assert References.from_dict(json.loads(text)) == references
        get_property(json.loads(text)["property"])
    with pytest.raises(ReferenceEnergyError, match="no dictionary of reference energies"):
        References.from_dict({"kind": "guessed"})


def test_dictionary_is_a_table_too(tmp_path: Path) -> None:
    references = references_from_table({"Fe": -8.0, "O": -5.0})
    (tmp_path / "r.json").write_text(json.dumps(references.to_dict()))
    assert references_from_table(tmp_path / "r.json").energies == references.energies


# ---- fits


def test_fit_finds_what_made_the_energies() -> None:
    made = {"Fe": -8.0, "O": -5.0, "Mg": -1.5}
    compositions = ["FeO", "Fe2O3", "MgO", "MgFe2O4", "Mg2Fe"]
    energies = [sum(made[e] * n for e, n in Atoms(c).symbols.formula.count().items()) for c in compositions]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        references = fitted_references(compositions, energies)
    assert references.energies == pytest.approx(made)
    for composition, energy in zip(compositions, energies, strict=True):
        assert references.relative_energy_per_atom(composition, energy) == pytest.approx(0.0, abs=1e-9)


def test_fit_is_never_called_formation_energy() -> None:
    references = fitted_references(["FeO", "Fe2O3"], [-14.0, -33.0])
    assert references.property == "energy_above_fitted_references_per_atom"
    assert "not a formation energy" in get_property(references.property).convention
    assert "not formation energies" in references.description
    with pytest.raises(ReferenceEnergyError, match="fitted references give no formation energy"):
        references.formation_energy_per_atom("FeO", -14.0)


def test_rank_deficient_fit_warns_and_is_the_smallest() -> None:
    """Mg and O only together: one direction is open, and the solution is that of the pseudoinverse."""
    compositions, energies = ["MgO", "Mg2O2", "Fe"], [-12.0, -24.0, -8.0]
    with pytest.warns(
        UserWarning, match=r"determine 2 of 3 reference energies; left open: 1? ?Mg - 1 O|left open"
    ) as caught:
        references = fitted_references(compositions, energies)
    message = str(caught[0].message)
    assert "Mg" in message and "O" in message and "Fe" not in message.partition("left open:")[2].partition(".")[0]
    assert references.energies == pytest.approx({"Fe": -8.0, "Mg": -6.0, "O": -6.0})
    matrix = np.array([[0, 0.5, 0.5], [0, 0.5, 0.5], [1, 0, 0]])
    expected = np.linalg.pinv(matrix) @ np.array([-6.0, -6.0, -8.0])
    np.testing.assert_allclose([references.energies[e] for e in ("Fe", "Mg", "O")], expected, atol=1e-10)
    assert len(references.undetermined) == 1
    # what was fitted does not depend on the open direction
    assert references.relative_energy_per_atom("MgO", -12.0) == pytest.approx(0.0, abs=1e-9)


def test_fewer_compositions_than_elements() -> None:
    with pytest.warns(UserWarning, match="1 compositions of 3 elements determine 1 of 3"):
        references = fitted_references(["SrTiO3"], [-40.0])
    assert references.reference_energy("SrTiO3") == pytest.approx(-40.0)
    assert len(references.undetermined) == 2


def test_fit_does_not_depend_on_order_or_cell_size() -> None:
    compositions, energies = ["FeO", "Fe2O3", "Fe3O4"], [-14.1, -33.3, -47.9]
    first = fitted_references(compositions, energies).energies
    assert fitted_references(compositions[::-1], energies[::-1]).energies == pytest.approx(first)
    doubled = fitted_references(["Fe2O2", "Fe2O3", "Fe3O4"], [-28.2, -33.3, -47.9]).energies
    assert doubled == pytest.approx(first)


@pytest.mark.parametrize(
    ("compositions", "energies", "words"),
    [([], [], "needs one energy"), (["FeO"], [1.0, 2.0], "needs one energy"), (["FeO"], [np.nan], "is no number")],
)
def test_nothing_to_fit(compositions, energies, words: str) -> None:
    with pytest.raises(ReferenceEnergyError, match=words):
        fitted_references(compositions, energies)
