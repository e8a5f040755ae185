"""Predictor and predict(): one row per input, failures cost their own row, batches do not matter; hidden layers."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.db import connect
from pymatgen.core import Composition, Lattice, Molecule, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from ase_matprop import load_model, predict
from ase_matprop.compositions import as_amounts
from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.errors import ArtefactError, MatPropError
from ase_matprop.models import Predictor, artefact
from tests.conftest import prototype_crystals


@pytest.fixture(scope="module")
def small(small_model: Path) -> Predictor:
    return load_model(small_model)


@pytest.fixture(scope="module")
def structural(structure_model: Path) -> Predictor:
    return load_model(structure_model)


@pytest.fixture(scope="module")
def default() -> Predictor:
    return load_model()


NACL = bulk("NaCl", "rocksalt", 5.64)
MGO = bulk("MgO", "rocksalt", 4.21)


def test_one_row_per_input(structural: Predictor) -> None:
    disordered = AseAtomsAdaptor.get_structure(MGO)
    disordered[0] = {"Mg": 0.5, "Fe": 0.5}
    molecule = Atoms("NaCl", [[0, 0, 0], [0, 0, 2.4]])
    inputs = [NACL, AseAtomsAdaptor.get_structure(MGO), disordered, molecule, bulk("Cu"), "no/such/POSCAR", None]
    result = structural.predict(inputs)
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


def test_a_formula_is_not_enough_for_a_model_of_structures(structural: Predictor, structure_model: Path) -> None:
    named = Atoms("NaCl")
    named.info["name"] = "NaCl"
    result = structural.predict(["NaCl", Composition("NaCl"), named, "POSCAR_of_NaCl"])
    assert structural.needs_structure and result.n_failed == 4
    assert result.errors[0] == "is a formula, and the model structural needs the structure; give a file or an object"
    assert "has no cell" in result.errors[2] and "does not exist; check" in result.errors[3]
    assert "needs the structure" in predict("NaCl", model=structure_model).errors[0]


def test_one_row_per_formula(small: Predictor) -> None:
    molecule = Atoms("NaCl", [[0, 0, 0], [0, 0, 2.4]])
    disordered = Structure(Lattice.cubic(4.2), [{"Mg": 0.5, "Fe": 0.5}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    good = ["NaCl", Composition("NaCl"), {"Na": 1, "Cl": 1}, NACL, molecule, disordered]
    bad = ["", " ", "Xx2", "fe2o3", "Fe2O3)", "(FeO", "Fe-2", "Fe0", "POSCAR", None, float("nan"), 3, [], "CuO", "HeO"]
    result = small.predict([*good, *bad])
    assert not small.needs_structure
    assert np.isfinite(result.values).tolist() == [error is None for error in result.errors]
    assert [error is None for error in result.errors] == [True] * len(good) + [False] * len(bad)
    assert result.values[:5] == pytest.approx([result.values[0]] * 5, abs=1e-6)
    assert result.formulas[:6] == ["NaCl"] * 5 + ["Mg0.5Fe0.5O"]
    assert result.n_atoms[:6].tolist() == [0, 0, 0, 2, 2, 2]
    assert "the model small never saw Cu in training" in result.errors[-2]
    assert all("\n" not in error for error in result.errors if error)


def test_number_of_formula_units_and_order_do_not_matter(small: Predictor) -> None:
    same = ["Fe2O3", "Fe4O6", "O3Fe2", "Fe0.4O0.6", "(Fe2O3)7", "Fe₂O₃", "FeO1.5", Composition("Fe200O300")]
    values = small.predict(same).values
    np.testing.assert_allclose(values, values[0], atol=1e-6)
    assert abs(small.predict("FeO").values[0] - values[0]) > 1e-4


def test_tables_of_formulas(small_model: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,formula\n1,NaCl\n2,CuO\n3,Fe2O3\n")
    result = predict([tmp_path / "t.csv", "MgO"], model=small_model)
    assert result.names == ["NaCl", "CuO", "Fe2O3", "MgO"] and result.n_failed == 1
    expected = load_model(small_model).predict(["NaCl", "Fe2O3", "MgO"]).values
    np.testing.assert_allclose(result.values[[0, 2, 3]], expected, atol=1e-6)


def test_batches_of_formulas(small: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    formulas = [f"Fe{i}O{j}" for i in range(1, 8) for j in range(1, 8)] + ["Xx"]
    whole = small.predict(formulas)
    sizes: list[int] = []
    small.predict(formulas, batch_size=20, progress=sizes.append)
    assert sizes == [20, 40, 50]
    monkeypatch.setattr("ase_matprop.models.predictor.COMPOSITIONS_AT_ONCE", 7)
    np.testing.assert_allclose(small.predict(formulas).values, whole.values, atol=1e-6)
    np.testing.assert_allclose(small.predict(formulas, n_jobs=2).values, whole.values, atol=1e-6)


def test_batches_do_not_matter(small: Predictor) -> None:
    inputs = [NACL, MGO, bulk("Cu"), bulk("Fe"), NACL * (2, 1, 1)]
    whole = small.predict(inputs)
    for batch_size in (1, 2):
        parts = small.predict(inputs, batch_size=batch_size)
        np.testing.assert_allclose(parts.values, whole.values, atol=1e-6)
        assert parts.errors == whole.errors
    assert whole.values[4] == pytest.approx(whole.values[0], abs=1e-6)


def test_single_inputs_and_files(small: Predictor, example_dir: Path) -> None:
    alone = small.predict([NACL]).values
    assert small.predict(NACL).values == pytest.approx(alone)
    assert small.predict(AseAtomsAdaptor.get_structure(NACL)).values == pytest.approx(alone)
    path = example_dir / "POSCAR_MgO"
    assert small.predict(str(path)).values == pytest.approx(small.predict([path]).values)


@pytest.mark.parametrize("kind", ["small", "structural"])
def test_kinds_of_inputs(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    predictor = request.getfixturevalue(kind)
    alone = predictor.predict([NACL]).values[0]
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
        result = predictor.predict(inputs)
        assert len(result) == n and result.values == pytest.approx([alone] * n, abs=1e-5)
    molecule = predictor.predict(Molecule(["Na", "Cl"], [[0, 0, 0], [0, 0, 2.4]]))
    assert len(molecule) == 1
    if predictor.needs_structure:
        assert "no cell" in molecule.errors[0]
    else:
        assert molecule.values == pytest.approx([alone], abs=1e-6)
    with pytest.raises(MatPropError, match="give its column"):
        predictor.predict(pd.DataFrame({"structure": [structure]}))


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
    with pytest.raises(MatPropError, match="batch_size must be a positive integer. Got -1"):
        small.represent([NACL], batch_size=-1)
    with pytest.raises(MatPropError, match="device 'gpu9' cannot be used"):
        load_model(device="gpu9")


# several properties, classes


def test_several_properties(two_property_model: Path) -> None:
    """The outputs of the network, by hand from its artefact, and the limits of the properties."""
    predictor = load_model(two_property_model)
    inputs = ["NaCl", "Xx2", "Fe2O3"]
    result = predictor.predict(inputs)
    features, _ = get_descriptor("fractions").compute([as_amounts("NaCl"), as_amounts("Fe2O3")])
    loaded = artefact.load(two_property_model)
    with torch.inference_mode():
        outputs = loaded.network.member_outputs(torch.from_numpy(loaded.scaler.transform(features))).double().numpy()
    members = -1.5 + 1.2 * outputs
    members[..., 1] = np.maximum(members[..., 1], 0.0)  # there is no negative band gap
    np.testing.assert_allclose(predictor.predict_features(features), members, atol=1e-6)
    gap = result["band_gap"]
    for predictions, column in ((result, 0), (gap, 1)):
        np.testing.assert_allclose(predictions.values[[0, 2]], members[..., column].mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(predictions.spread[[0, 2]], members[..., column].std(axis=0), atol=1e-6)
        assert np.isnan(predictions.values[1]) and np.isnan(predictions.spread[1])
    assert gap.unit == "eV" and gap.property == "band_gap" and gap.errors == result.errors
    parts = predictor.predict(inputs, batch_size=1)
    np.testing.assert_allclose(parts["band_gap"].values, gap.values, atol=1e-6)


def test_classes(classifier_model: Path) -> None:
    predictor = load_model(classifier_model)
    inputs = ["NaCl", "Xx2", "Fe2O3", "MgO"]
    result = predictor.predict(inputs)
    assert result.classes == ("metal", "non-metal") and result.unit == ""
    assert result.probabilities.shape == (4, 2) and np.isnan(result.probabilities[1]).all()
    good = [0, 2, 3]
    np.testing.assert_allclose(result.probabilities[good].sum(axis=1), 1.0)
    assert (result.probabilities[good] > 0).all()
    assert result.values[good].tolist() == result.probabilities[good].argmax(axis=1).tolist()
    assert result.labels == [None if np.isnan(value) else result.classes[int(value)] for value in result.values]
    assert np.isnan(result.values[1]) and result.labels[1] is None and np.isnan(result.spread).all()
    features, _ = get_descriptor("fractions").compute([as_amounts("NaCl")])
    members = predictor.predict_features(features)
    assert members.shape == (2, 1, 2)
    np.testing.assert_allclose(result.probabilities[0], members.mean(axis=0)[0], atol=1e-6)
    parts = predictor.predict(inputs, batch_size=2)
    np.testing.assert_allclose(parts.probabilities, result.probabilities, atol=1e-6)
    assert parts.labels == result.labels


# hidden layers


def test_represent(small: Predictor, small_model: Path) -> None:
    """The small model has two members with hidden layers of 16, 16 and 8 units; its output is linear in the last."""
    inputs = ["NaCl", "Xx2", "Fe4O6", "CuO", "Fe2O3"]
    assert small.n_layers == 3
    for layer, width in ((0, 16), (1, 16), (2, 8), (-1, 8), (-3, 16)):
        activations, reasons = small.represent(inputs, layer=layer)
        assert activations.shape == (5, 2 * width)
        assert [reason is None for reason in reasons] == [True, False, True, False, True]
        assert np.isnan(activations).any(axis=1).tolist() == np.isnan(activations).all(axis=1).tolist()
        assert np.isnan(activations).all(axis=1).tolist() == [False, True, False, True, False]
        np.testing.assert_allclose(activations[2], activations[4], atol=1e-6)
        np.testing.assert_allclose(small.represent(inputs, layer=layer, batch_size=2)[0], activations, atol=1e-6)
    assert reasons == small.predict(inputs).errors
    activations, _ = small.represent(["NaCl", "Fe2O3"])
    loaded = artefact.load(small_model)
    outputs = [
        activations[:, start : start + 8] @ member.output.weight.detach().numpy().T + member.output.bias.item()
        for start, member in zip((0, 8), loaded.network.members, strict=True)
    ]
    values = loaded.target.inverse(np.mean(outputs, axis=0))[:, 0]
    np.testing.assert_allclose(small.predict(["NaCl", "Fe2O3"]).values, values, atol=1e-5)


def test_represent_errors_and_nothing(small: Predictor) -> None:
    for layer in (3, -4, "last", 0.0):
        with pytest.raises(MatPropError, match="hidden layers 0 to 2. Got"):
            small.represent(["NaCl"], layer=layer)
    activations, reasons = small.represent([])
    assert activations.shape == (0, 16) and reasons == []


def test_represent_structures(structural: Predictor) -> None:
    activations, reasons = structural.represent([NACL, "no/such/POSCAR", NACL * (2, 1, 1)], layer=0)
    assert activations.shape == (3, 16) and "does not exist" in reasons[1]
    np.testing.assert_allclose(activations[0], activations[2], atol=1e-3)


# the shipped model


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


@pytest.mark.parametrize("fixture", ["small_model", "structure_model", "schnet_model"])
def test_a_loaded_model_can_be_sent_to_another_process(fixture: str, request: pytest.FixtureRequest) -> None:
    predictor = load_model(request.getfixturevalue(fixture))
    atoms = bulk("NaCl", "rocksalt", 5.64)
    again = pickle.loads(pickle.dumps(predictor))
    np.testing.assert_array_equal(again.predict(atoms).values, predictor.predict(atoms).values)


def test_more_processes_than_there_is_work(structure_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few structures are no work for a second process."""

    def refuse(*arguments, **options):
        raise AssertionError("processes were started")

    monkeypatch.setattr("joblib.Parallel", refuse)
    assert load_model(structure_model).predict([bulk("NaCl", "rocksalt", 5.64)] * 3, n_jobs=64).n_failed == 0


@pytest.mark.parametrize("name", ["./nowhere", "nowhere/model", "~/nowhere"])
def test_a_path_is_no_name(name: str) -> None:
    with pytest.raises(ArtefactError, match="model folder .*nowhere.* does not exist"):
        load_model(name)
