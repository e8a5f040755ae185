"""Models on neighbour graphs: predictions in batches, energies of the atoms, what was never seen in training."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from safetensors.torch import load_file, save_file

from ase_matprop import load_model
from ase_matprop.descriptors.neighbors import neighbor_graphs
from ase_matprop.errors import ArtefactError, DescriptorError, MatPropError
from ase_matprop.featurizers import NetworkFeaturizer
from ase_matprop.models import artefact
from ase_matprop.models.atomistic import AtomisticPredictor
from ase_matprop.models.exchange import export_model
from ase_matprop.networks.schnet import add_vectors, pair_vectors
from tests.conftest import SMALL_ATOMISTIC, rattled, untrained_model


@pytest.fixture
def predictor(atomistic_model: Path) -> AtomisticPredictor:
    loaded = load_model(atomistic_model)
    assert isinstance(loaded, AtomisticPredictor)
    return loaded


def crystals() -> list[Atoms]:
    """Cells of one to 54 atoms, some of them smaller than the cutoff."""
    return [
        bulk("Fe"),
        bulk("NaCl", "rocksalt", 5.64),
        rattled(bulk("MgO", "rocksalt", 4.21, cubic=True), 1),
        rattled(bulk("Fe") * (3, 3, 3), 2),
        rattled(bulk("NaCl", "rocksalt", 5.64) * (3, 3, 3), 3),
    ]


def test_one_row_per_structure(predictor: AtomisticPredictor) -> None:
    """A bad structure costs its own row and no other; batch of one equals batch of many to 1e-5 eV/atom."""
    structures = crystals()
    before = copy.deepcopy(structures)
    inputs = [structures[0], bulk("Cu"), *structures[1:], Atoms("Fe", cell=[0, 0, 0]), "nowhere.cif"]
    result = predictor.predict(inputs)
    assert structures == before
    assert result.errors[1].startswith(f"the model {predictor.card.name} never saw Cu in training")
    assert [error is None for error in result.errors] == [True, False, True, True, True, True, False, False]
    assert np.isnan(result.values[[1, 6, 7]]).all() and np.isfinite(result.spread[[0, 2, 3, 4, 5]]).all()
    alone = [predictor.predict([atoms]).values[0] for atoms in structures]
    np.testing.assert_allclose(result.values[[0, 2, 3, 4, 5]], alone, atol=1e-5)
    for batch_size in (1, 2):
        again = predictor.predict(inputs, batch_size=batch_size)
        np.testing.assert_allclose(again.values, result.values, atol=1e-5)
        assert (again.errors, again.warnings) == (result.errors, result.warnings)
    assert len(predictor.predict([])) == 0 and len(predictor.predict([bulk("Cu")])) == 1


def test_parts_of_a_batch(predictor: AtomisticPredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pairs are evaluated together, the result is the same."""
    structures = [*crystals(), Atoms("Fe", cell=[9, 9, 9], pbc=True)]
    whole = predictor.predict(structures).values
    for n_pairs in (1, 100, 2000):
        monkeypatch.setattr("ase_matprop.models.atomistic._PAIRS_AT_ONCE", n_pairs)
        np.testing.assert_allclose(predictor.predict(structures).values, whole, atol=1e-5)


def test_value_from_its_parts(predictor: AtomisticPredictor, atomistic_model: Path) -> None:
    """Offset, scale and element offsets of the file around the mean of the members."""
    tensors = load_file(atomistic_model / "weights.safetensors")
    atoms = crystals()[2]
    graphs = neighbor_graphs([atoms], predictor.cutoff)
    members = predictor.predict_graphs(graphs)
    assert members.shape == (2, 1, 1)
    network = artefact.load(atomistic_model).network
    with torch.inference_mode():
        raw = network.member_outputs(add_vectors(pair_vectors(graphs))).double().numpy()
    offsets = tensors["target.element_offsets"].numpy()
    assert offsets.shape == (100, 1) and tensors["target.element_offsets"].dtype == torch.float64
    expected = float(tensors["target.offset"]) + float(tensors["target.scale"]) * raw + offsets[atoms.numbers, 0].mean()
    np.testing.assert_allclose(members, expected, rtol=1e-6)
    result = predictor.predict([atoms])
    assert result.values[0] == pytest.approx(members.mean()) and result.spread[0] == pytest.approx(members.std())


def test_energies_forces_and_stress(predictor: AtomisticPredictor) -> None:
    for atoms in crystals():
        before = atoms.copy()
        result = predictor.calculate(atoms)
        assert atoms == before
        n = len(atoms)
        assert result.energies.shape == (n,) and result.forces.shape == (n, 3) and result.stress.shape == (6,)
        assert {a.dtype for a in (result.energies, result.forces, result.stress)} == {np.dtype(np.float64)}
        assert result.energies.sum() == pytest.approx(n * result.value, abs=1e-9)
        assert result.value == pytest.approx(predictor.predict([atoms]).values[0], abs=1e-5)
        np.testing.assert_allclose(result.forces.sum(axis=0), 0.0, atol=1e-9)


def test_one_evaluation_gives_the_same_again(predictor: AtomisticPredictor) -> None:
    """Evaluation in float64 leaves the network as it was."""
    atoms = crystals()[2]
    before = predictor.predict([atoms]).values[0]
    first, second = predictor.calculate(atoms), predictor.calculate(atoms)
    np.testing.assert_array_equal(first.forces, second.forces)
    assert predictor.predict([atoms]).values[0] == before
    assert next(predictor._network.parameters()).dtype == torch.float32
    assert all(parameter.grad is None for parameter in predictor._network.parameters())


def test_an_atom_without_neighbors(predictor: AtomisticPredictor) -> None:
    atoms = Atoms("Fe", cell=[9, 9, 9], pbc=True)
    result = predictor.calculate(atoms)
    assert np.isfinite(result.value) and result.energies.sum() == pytest.approx(result.value)
    assert not result.forces.any() and not result.stress.any()
    (warning,) = predictor.predict([atoms]).warnings
    assert warning is not None and "Fe has fewer neighbours than ever in training" in warning


@pytest.mark.parametrize("network", ["schnet", "painn"])
def test_properties_that_are_no_energies(network: str, tmp_path: Path) -> None:
    gap = load_model(untrained_model(tmp_path / "gap", network=network, properties=("band_gap",)))
    result = gap.predict(crystals())
    assert result.unit == "eV" and (result.values >= 0.0).all()
    with pytest.raises(MatPropError, match="predicts band_gap, which has no forces"):
        gap.calculate(crystals()[0])


def test_several_properties(tmp_path: Path) -> None:
    folder = untrained_model(
        tmp_path / "both", network="schnet", properties=("formation_energy_per_atom", "band_gap"), n_members=1
    )
    predictor = load_model(folder)
    result = predictor.predict(crystals())
    assert (result["band_gap"].values >= 0.0).all() and len(set(result.values)) == len(result)
    assert predictor.calculate(crystals()[1]).value == pytest.approx(result.values[1], abs=1e-5)


def test_precision_of_the_file(tmp_path: Path) -> None:
    """In float16 only weights are rounded: the centres of the Gaussians and the cutoff are no weights."""
    settings = {"n_rbf": 50, "cutoff": 5.2, "n_atom_basis": 16}
    exact, rounded = (
        untrained_model(tmp_path / name, network="schnet", settings=settings, precision=name)
        for name in ("float32", "float16")
    )
    tensors = [load_file(folder / "weights.safetensors") for folder in (exact, rounded)]
    for name, tensor in tensors[1].items():
        if "radial_basis" in name or "cutoff" in name or not name.startswith("network."):
            assert torch.equal(tensor, tensors[0][name]) and tensor.dtype == tensors[0][name].dtype
        else:
            assert tensor.dtype == torch.float16
    values = [load_model(folder).predict(crystals()).values for folder in (exact, rounded)]
    assert np.abs(values[0] - values[1]).max() < 5e-3 * values[0].std()


def test_representations(predictor: AtomisticPredictor) -> None:
    structures = crystals()
    width = 2 * SMALL_ATOMISTIC["n_atom_basis"]
    for layer in (0, 1, -1, -2):
        values, reasons = predictor.represent([*structures, bulk("Cu")], layer=layer)
        assert values.shape == (6, width) == (6, predictor.representation_width(layer))
        assert np.isnan(values[-1]).all() and "never saw Cu" in reasons[-1] and reasons[:-1] == [None] * 5
        np.testing.assert_allclose(predictor.represent(structures[1:2], layer=layer)[0], values[1:2], atol=1e-5)
    doubled = [atoms * (1, 2, 1) for atoms in structures]
    np.testing.assert_allclose(predictor.represent(doubled)[0], predictor.represent(structures)[0], atol=1e-5)
    for wrong in (2, -3, 0.5):
        with pytest.raises(MatPropError, match="has the hidden layers 0 to 1"):
            predictor.represent(structures, layer=wrong)
        with pytest.raises(MatPropError, match="has the hidden layers 0 to 1"):
            predictor.representation_width(wrong)


def test_featurizer(predictor: AtomisticPredictor, atomistic_model: Path) -> None:
    structures = crystals()
    for layer, expected in ((None, predictor.predict(structures).values[:, None]), (-1, None)):
        featurizer = NetworkFeaturizer(atomistic_model, layer=layer)
        rows = np.array(featurizer.featurize_many(structures, pbar=False), dtype=float)
        assert rows.shape == (5, len(featurizer.feature_labels()))
        np.testing.assert_allclose(rows, predictor.represent(structures)[0] if expected is None else expected)


def test_what_a_network_on_graphs_cannot(predictor: AtomisticPredictor, atomistic_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DescriptorError, match="number of processes"):
        predictor.predict(crystals(), n_jobs=0)
    for form in ("onnx", "torchscript"):
        with pytest.raises(ArtefactError, match="cannot be exported: its network takes no feature vector"):
            export_model(atomistic_model, tmp_path / "x", format=form)
    assert predictor.predict(["NaCl"]).errors == [
        f"is a formula, and the model {predictor.card.name} needs the structure; give a file or an object"
    ]


@pytest.mark.parametrize("missing", ["target.element_offsets", "reach.shortest"])
def test_incomplete_weights(missing: str, schnet_model: Path, tmp_path: Path) -> None:
    tensors = load_file(schnet_model / "weights.safetensors")
    card = json.loads((schnet_model / "card.json").read_text())
    assert not any(name.startswith("scaler") for name in tensors)
    folder = tmp_path / "incomplete"
    folder.mkdir()
    save_file({name: t for name, t in tensors.items() if name != missing}, folder / "weights.safetensors")
    card["weights"]["sha256"] = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(ArtefactError, match="do not fit the network of their card"):
        load_model(folder)


def test_warnings_of_predictions(predictor: AtomisticPredictor, tmp_path: Path) -> None:
    """One entry per row, None for those that failed; a column of the table only where there is one."""
    mixed = bulk("NaCl", "rocksalt", 5.64, cubic=True)
    mixed.numbers[0] = 8
    sound = bulk("NaCl", "rocksalt", 5.64)
    result = predictor.predict([sound, bulk("Cu"), mixed], batch_size=2)
    assert [warning is None for warning in result.warnings] == [True, True, False]
    assert "O and Na never occurred together in training" in result.warnings[2] and np.isfinite(result.values[2])
    frame = result.to_frame()
    assert frame["warning"].tolist() == result.warnings
    assert list(frame.columns)[-4:] == ["distance", "warning", "model", "error"]
    assert list(predictor.predict([sound]).to_frame().columns) == list(frame.columns)
    assert result.to_unit("kJ/mol-atom").warnings == result.warnings
    frame.to_csv(tmp_path / "x.csv")
    assert "never occurred together" in (tmp_path / "x.csv").read_text()


def test_a_model_of_vectors_warns_of_nothing(small_model: Path) -> None:
    result = load_model(small_model).predict(["NaCl", "Cu"])
    assert result.warnings == [None, None] and result.to_frame()["warning"].isna().all()
