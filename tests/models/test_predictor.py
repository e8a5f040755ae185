"""Predictor and predict(): one row per input, failures cost their own row, batches do not matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from ase_matprop import load_model, predict
from ase_matprop.errors import MatPropError, UnknownNameError
from ase_matprop.models import Predictor
from tests.conftest import prototype_crystals


@pytest.fixture(scope="module")
def small(small_model: Path) -> Predictor:
    return load_model(small_model)


@pytest.fixture(scope="module")
def default() -> Predictor:
    return load_model()


NACL = bulk("NaCl", "rocksalt", 5.64)
MGO = bulk("MgO", "rocksalt", 4.21)


def test_one_row_per_input(small: Predictor) -> None:
    from pymatgen.io.ase import AseAtomsAdaptor

    disordered = AseAtomsAdaptor.get_structure(MGO)
    disordered[0] = {"Mg": 0.5, "Fe": 0.5}
    molecule = Atoms("NaCl", [[0, 0, 0], [0, 0, 2.4]])
    inputs = [NACL, AseAtomsAdaptor.get_structure(MGO), disordered, molecule, bulk("Cu"), "no/such/POSCAR", None]
    result = small.predict(inputs)
    assert len(result) == len(inputs) == len(result.to_frame())
    assert np.isfinite(result.values).tolist() == [True, True] + [False] * 5
    assert [error is None for error in result.errors] == [True, True] + [False] * 5
    assert result.n_failed == 5
    assert "disorder" in result.errors[2]
    assert "periodic" in result.errors[3] or "cell" in result.errors[3]
    assert "never saw Cu" in result.errors[4]
    assert "does not exist" in result.errors[5]
    assert result.unit == "eV/atom"
    assert result.formulas[:2] == ["NaCl", "MgO"]


def test_batches_do_not_matter(small: Predictor) -> None:
    inputs = [NACL, MGO, bulk("Cu"), bulk("Fe"), NACL * (2, 1, 1)]
    whole = small.predict(inputs)
    for batch_size in (1, 2):
        parts = small.predict(inputs, batch_size=batch_size)
        np.testing.assert_allclose(parts.values, whole.values, atol=1e-6)
        assert parts.errors == whole.errors
    assert whole.values[4] == pytest.approx(whole.values[0], abs=1e-6)


def test_single_inputs_and_files(small: Predictor, example_dir: Path) -> None:
    from pymatgen.io.ase import AseAtomsAdaptor

    alone = small.predict([NACL]).values
    assert small.predict(NACL).values == pytest.approx(alone)
    assert small.predict(AseAtomsAdaptor.get_structure(NACL)).values == pytest.approx(alone)
    path = example_dir / "POSCAR_MgO"
    assert small.predict(str(path)).values == pytest.approx(small.predict([path]).values)


def test_kinds_of_inputs(small: Predictor, tmp_path: Path) -> None:
    import pandas as pd
    from ase.db import connect
    from pymatgen.core import Molecule
    from pymatgen.io.ase import AseAtomsAdaptor

    alone = small.predict([NACL]).values[0]
    structure = AseAtomsAdaptor.get_structure(NACL)
    database = connect(tmp_path / "x.db")
    database.write(NACL)
    array = np.empty(2, dtype=object)
    array[:] = [structure, structure]
    for inputs, n in (
        (structure.as_dict(), 1),
        (database.get(1), 1),
        (pd.Series([structure, NACL]), 2),
        (array, 2),
        ((atoms for atoms in [NACL, NACL, NACL]), 3),
    ):
        result = small.predict(inputs)
        assert len(result) == n and result.values == pytest.approx([alone] * n, abs=1e-5)
    molecule = small.predict(Molecule(["Na", "Cl"], [[0, 0, 0], [0, 0, 2.4]]))
    assert len(molecule) == 1 and "no cell" in molecule.errors[0]
    with pytest.raises(MatPropError, match="give its column"):
        small.predict(pd.DataFrame({"structure": [structure]}))


def test_names(small: Predictor, example_dir: Path) -> None:
    labelled = NACL.copy()
    labelled.info["material_id"] = "mp-22862"
    several = example_dir / "CsCl_and_NiAl.extxyz"
    result = small.predict([NACL, labelled, example_dir / "POSCAR_MgO", several])
    assert result.names == ["structure 0 (NaCl)", "mp-22862", str(example_dir / "POSCAR_MgO"), str(several)]
    assert result.errors[3] and "several structures" in result.errors[3]


def test_no_inputs(small: Predictor) -> None:
    result = small.predict([])
    assert len(result) == 0 and result.values.shape == (0,) and len(result.to_frame()) == 0


def test_frame_units_and_spread(small: Predictor) -> None:
    result = small.predict([NACL, bulk("Cu")])
    frame = result.to_frame()
    columns = ["name", "formula", "n_atoms", "formation_energy_per_atom", "unit", "spread", "model", "error"]
    assert list(frame.columns) == columns
    assert frame["error"][0] is None and isinstance(frame["error"][1], str)
    assert np.isnan(frame["formation_energy_per_atom"][1])
    assert result.spread[0] > 0 and np.isnan(result.spread[1])
    unread = small.predict(["no/such/file"]).to_frame()
    assert unread["n_atoms"].isna().all() and unread["formula"][0] is None
    # 1 eV per atom is 96.485 kJ per mole of atoms (CODATA 2018)
    molar = result.to_unit("kJ/mol-atom")
    assert molar.values[0] == pytest.approx(96.48533 * result.values[0], rel=1e-6)
    assert molar.to_unit("eV/atom").values[0] == pytest.approx(result.values[0])
    with pytest.raises(UnknownNameError, match="energy unit"):
        result.to_unit("eV")


def test_inputs_are_not_changed(small: Predictor) -> None:
    atoms = NACL.copy()
    atoms.info["note"] = "mine"
    atoms.positions += 17.0
    before = atoms.copy()
    small.predict([atoms])
    assert atoms == before and atoms.info == before.info


def test_progress_and_bad_arguments(small: Predictor) -> None:
    seen: list[int] = []
    small.predict([NACL] * 5, batch_size=2, progress=seen.append)
    assert seen == [2, 4, 5]
    with pytest.raises(MatPropError, match="batch_size must be a positive integer. Got 0"):
        small.predict([NACL], batch_size=0)
    with pytest.raises(MatPropError, match="device 'gpu9' cannot be used"):
        load_model(device="gpu9")


def test_predict_reads_files(example_dir: Path) -> None:
    result = predict(example_dir)
    assert result.n_failed == 0 and len(result) >= 8
    assert predict(str(example_dir / "*MgO*")).values[0] == pytest.approx(
        result.values[[name.endswith("POSCAR_MgO") for name in result.names].index(True)], abs=1e-5
    )


# Formation energies of the Materials Project (the snapshot of ../shared/data, whose README quotes them), eV/atom
KNOWN = {"MgO": (MGO, -3.062), "NaCl": (NACL, -2.105), "TiO2": (prototype_crystals()["rutile"], -3.475)}


@pytest.mark.parametrize("formula", KNOWN)
def test_default_model_knows_common_crystals(default: Predictor, formula: str) -> None:
    atoms, reference = KNOWN[formula]
    if formula == "TiO2":
        atoms = atoms.copy()
        atoms.symbols[:] = ["Ti"] * 2 + ["O"] * 4
    assert default.predict([atoms]).values[0] == pytest.approx(reference, abs=0.15)


def test_default_model_is_invariant_and_batch_independent(default: Predictor) -> None:
    crystals = list(prototype_crystals().values())
    together = default.predict(crystals)
    alone = np.array([default.predict([atoms]).values[0] for atoms in crystals])
    np.testing.assert_allclose(together.values, alone, atol=1e-5)
    supercells = default.predict([atoms * (2, 1, 1) for atoms in crystals])
    np.testing.assert_allclose(supercells.values, together.values, atol=2e-3)
