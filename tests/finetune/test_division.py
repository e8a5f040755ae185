"""Dividing the rows: whole groups, and fitted references that know nothing of the rows that are held out."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from ase_matprop import load_model
from ase_matprop.errors import FinetuneError
from ase_matprop.finetune import finetune, fitted_references, learning_curve
from ase_matprop.finetune.data import LabData, read_data
from ase_matprop.finetune.division import divide, divisions, part_of, sha256_of
from ase_matprop.finetune.prepared import Prepared, prepare
from ase_matprop.models.card import ModelCard
from ase_matprop.training.splits import Split


@pytest.fixture
def fitted(metal_schnet: Path, calculated: list[Atoms]) -> Prepared:
    """Rows whose references are still to be fitted."""
    return prepare(read_data(calculated, references="fitted"), load_model(metal_schnet))


def test_groups_are_never_divided(metal_schnet: Path, labelled: list[Atoms]) -> None:
    prepared = prepare(read_data(labelled), load_model(metal_schnet))
    assert prepared.grouping == "reduced formula"
    for parts in (
        divisions(prepared, test=0.2, validation=0.1, folds=None, seed=3),
        divisions(prepared, test=0.2, validation=0.1, folds=4, seed=3),
    ):
        for part in parts:
            groups = [set(prepared.groups[rows]) for rows in (part.train, part.validation, part.test)]
            assert all(groups) and not groups[0] & groups[1] and not groups[2] & (groups[0] | groups[1])
            assert len(part.train) + len(part.validation) + len(part.test) == 30
    assert sorted(np.concatenate([part.test for part in parts])) == list(range(30))


@pytest.mark.parametrize("n_groups", [3, 4, 5, 6, 7])
def test_few_groups_are_divided_one_by_one(metal_schnet: Path, labelled: list[Atoms], n_groups: int) -> None:
    names = [f"structure {row}" for row in range(3 * n_groups)]
    items = [labelled[0].copy() for _ in names]
    for row, atoms in enumerate(items):
        atoms.set_cell(atoms.cell * (1.0 + 0.03 * (row // 3)), scale_atoms=True)
    data = LabData(names, items, np.arange(3.0 * n_groups), "formation_energy_per_atom")
    prepared = prepare(data, load_model(metal_schnet))
    prepared.groups[:] = np.repeat(np.arange(n_groups), 3)
    part = divide(prepared, test=0.2, validation=0.1, seed=0)
    assert len(set(prepared.groups[part.validation])) == 1
    assert len(set(prepared.groups[part.test])) == int(np.ceil(0.2 * n_groups))


# ---- fitted references


def test_references_are_fitted_to_the_rows_for_training(fitted: Prepared, calculated: list[Atoms]) -> None:
    split = divide(fitted, test=0.2, validation=0.1, seed=0)
    part = part_of(fitted, split)
    energies = np.array([atoms.get_potential_energy() for atoms in calculated])
    expected = fitted_references([calculated[row] for row in split.train], energies[split.train])
    assert part.rows.references.energies == pytest.approx(expected.energies)
    for row in (*split.train, *split.test):
        target = expected.relative_energy_per_atom(calculated[row], energies[row])
        assert part.rows.targets[row] == pytest.approx(target)


def test_held_out_energies_do_not_change_what_is_learnt(
    metal_schnet: Path, calculated: list[Atoms], fitted: Prepared
) -> None:
    """Invariant: other energies of the rows for validation and test leave the training targets as they are."""
    split = divide(fitted, test=0.2, validation=0.1, seed=0)
    changed = [atoms.copy() for atoms in calculated]
    for row, (atoms, original) in enumerate(zip(changed, calculated, strict=True)):
        energy = original.get_potential_energy() + (0.0 if row in split.train else 1.0 * row)
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
    other = prepare(read_data(changed, references="fitted"), load_model(metal_schnet))
    one, two = (part_of(prepared, split).rows.targets for prepared in (fitted, other))
    np.testing.assert_array_equal(one[split.train], two[split.train])
    assert np.abs(one[split.test] - two[split.test]).max() > 1.0


def test_undetermined_rows_are_left_out(metal_schnet: Path, calculated: list[Atoms]) -> None:
    strange = bulk("Pd", cubic=True)
    strange.symbols[:2] = "Al"
    frames = [atoms for atoms in calculated if "Pd" not in atoms.symbols]
    strange.calc = SinglePointCalculator(strange, energy=-7.0)
    prepared = prepare(read_data([*frames, strange], references="fitted"), load_model(metal_schnet))
    last = len(frames)
    rows = np.arange(last)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = part_of(prepared, Split(rows[:-6], rows[-6:-3], np.append(rows[-3:], last), rows[:0]))
        assert part.split.test.tolist() == rows[-3:].tolist()
        assert "do not determine" in part.rows.rejected[f"structure {last}"]
        with pytest.raises(FinetuneError, match="no row for test is of elements whose reference energies"):
            part_of(prepared, Split(rows[:-6], rows[-6:], np.array([last]), rows[:0]))
    # what is not determined element by element may be as a whole: (Cu + Au) / 2 by another CuAu
    pair = [bulk("Cu", cubic=True) for _ in range(6)]
    for number, atoms in enumerate(pair):
        atoms.symbols = "Cu2Au2"
        atoms.calc = SinglePointCalculator(atoms, energy=-4.0 - number)
    prepared = prepare(read_data(pair, references="fitted"), load_model(metal_schnet))
    with pytest.warns(UserWarning, match="left open"):
        part = part_of(prepared, Split(np.arange(4), np.array([4]), np.array([5]), rows[:0]))
    assert part.split.test.tolist() == [5] and part.rows.targets[5] == pytest.approx((-9.0 + 5.5) / 4)


def test_card_and_report_have_the_references_of_the_model(
    metal_schnet: Path, calculated: list[Atoms], tmp_path: Path
) -> None:
    options = {"references": "fitted", "force": True, "epochs": 1, "from_scratch": False}
    result = finetune(metal_schnet, calculated, output=tmp_path / "out", **options)
    card = ModelCard.read(tmp_path / "out")
    stored = card.recipe["finetune"]["references"]
    assert stored["kind"] == "fitted" and stored["n_fitted"] == card.training_set.rows["train"] < 30
    assert any(f"least-squares fit to {stored['n_fitted']} total energies" in note for note in card.notes)
    assert any("reference energies were fitted to" in caution for caution in result.cautions)  # 7 of about 21 rows
    folds = finetune(metal_schnet, calculated, output=tmp_path / "folds", folds=3, **options)
    assert folds.predictions["reference"].notna().all()


def test_learning_curve_fits_to_the_rows_of_each_training(
    metal_schnet: Path, calculated: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ase_matprop.finetune.curves as module

    seen = []
    original = module.adapt

    def adapt(source, prepared, train, *arguments, **options):
        seen.append((prepared.references.n_fitted, len(train)))
        return original(source, prepared, train, *arguments, **options)

    monkeypatch.setattr(module, "adapt", adapt)
    curve = learning_curve(
        metal_schnet, calculated, tmp_path / "curve", references="fitted", sizes=[16, 24], rounds=[1], repeats=1
    )
    assert len(seen) == 2 and all(n_fitted == n_train for n_fitted, n_train in seen)
    assert "source" not in set(curve.runs["scheme"]) and (curve.runs["test_rows"] > 0).all()


# ---- what a division began with


def test_hashes_tell_divisions_apart(metal_schnet: Path, labelled: list[Atoms], fitted: Prepared) -> None:
    prepared = prepare(read_data(labelled), load_model(metal_schnet))
    split, other = (divide(prepared, test=0.2, validation=0.1, seed=seed) for seed in (0, 1))
    assert sha256_of(prepared, [split]) == sha256_of(prepared, [split])
    assert sha256_of(prepared, [split])["splits"] != sha256_of(prepared, [other])["splits"]
    moved = [atoms.copy() for atoms in labelled]
    moved[3].positions[0, 0] += 1e-6
    renamed = [atoms.copy() for atoms in labelled]
    renamed[3].info["name"] = "another"
    hashes = {prepared.table.source_sha256, fitted.table.source_sha256}
    for data in (moved, renamed, labelled[:-1]):
        hashes.add(prepare(read_data(data), load_model(metal_schnet)).table.source_sha256)
    assert len(hashes) == 5
