"""Fine-tuning from data to a model folder: what is trained, what is measured, what is saved, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.optimize import BFGS

import ase_matprop.finetune.run as module
from ase_matprop import MatProp, load_model
from ase_matprop.errors import FinetuneError, MatPropError, UnknownNameError
from ase_matprop.finetune import finetune
from ase_matprop.finetune.adapt import adapt
from ase_matprop.finetune.data import read_data
from ase_matprop.finetune.division import divide
from ase_matprop.finetune.evaluation import CHEMICAL_ACCURACY, SCRATCH, SHIFTED, SOURCE, TUNED, Errors
from ase_matprop.finetune.prepared import prepare
from ase_matprop.finetune.schemes import get_scheme
from ase_matprop.finetune.starting import load_source, training_settings
from ase_matprop.models import artefact
from ase_matprop.models.card import ModelCard
from ase_matprop.models.reach import ElementPairs, Reach
from tests.conftest import untrained_model
from tests.finetune.alloys import METALS, alloys

KEY = "formation_energy_per_atom"
FEW = {"epochs": 2, "from_scratch": False}


def oxides(n: int = 24) -> pd.DataFrame:
    """Formulas with an invented formation energy."""
    rows = [(f"{metal}{m}O{o}", -o / (m + o)) for metal in ("Fe", "Mg", "Na") for m in range(1, 5) for o in (1, 3, 5)]
    return pd.DataFrame(rows[:n], columns=["formula", KEY])


def weights(folder: Path, member: int = 0) -> dict[str, torch.Tensor]:
    return {
        name: tensor.clone() for name, tensor in load_source(folder)[1].network.members[member].state_dict().items()
    }


def identical(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in first if torch.equal(first[name], second[name])}


@pytest.mark.parametrize("scheme", ["TL1", "TL2", "TL3"])
def test_schemes_freeze_what_they_say(metal_schnet: Path, labelled: list[Atoms], tmp_path: Path, scheme: str) -> None:
    result = finetune(
        metal_schnet, labelled, scheme, tmp_path / "out", learning_rate=3e-3, epochs=3, from_scratch=False
    )
    before, after = weights(metal_schnet), weights(tmp_path / "out")
    same = identical(before, after)
    trainable = {name for name, _ in load_source(metal_schnet)[1].network.members[0].named_parameters()}
    embedding = {name for name in trainable if name.startswith("representation.embedding")}
    output = {name for name in trainable if name.startswith("output")}
    assert embedding and output
    frozen = {"TL1": set(), "TL2": embedding, "TL3": trainable - output}[scheme]
    assert frozen <= same
    # padding and elements that are not there have no gradient, but every other tensor moves
    assert (trainable - frozen) & same == set()
    assert result.card.recipe["finetune"]["scheme"] == scheme


@pytest.mark.parametrize(("network", "rate"), [("irnet", 1e-2), ("elemnet", 1e-4)])
@pytest.mark.parametrize("scheme", ["all", "last_layers"])
def test_networks_on_vectors(tmp_path: Path, network: str, rate: float, scheme: str) -> None:
    source = untrained_model(tmp_path / "source", network=network, settings={} if network == "elemnet" else None)
    finetune(source, oxides(), scheme, tmp_path / "out", learning_rate=rate, epochs=3, from_scratch=False, force=True)
    for member in range(2):
        before, after = weights(source, member), weights(tmp_path / "out", member)
        output = {name for name in before if name.startswith("output")}
        same = identical(before, after)
        assert not output & same
        assert scheme == "all" or set(before) - output <= same  # with the statistics of normalisations
        assert all(torch.equal(before[name], after[name]) for name in before if "running" in name)
    card = ModelCard.read(tmp_path / "out")
    assert card.network.n_members == 2 and card.recipe["finetune"]["scheme"] == {"all": "TL1"}.get(scheme, "TL3")
    assert np.isfinite(load_model(tmp_path / "out").predict(["FeO"]).values).all()


def test_reach_of_the_result(tmp_path: Path) -> None:
    """Pairs of elements that the source or the rows have; the distance is to the rows."""
    source = untrained_model(tmp_path / "source")
    stored = artefact.load(source)
    seen = np.zeros((1, 20), dtype=bool)
    seen[0, [11, 17]] = True
    artefact.save(source, stored.card, stored.network, stored.scaler, stored.target, Reach(ElementPairs.of(seen)))
    finetune(source, oxides(), "all", tmp_path / "out", epochs=2, from_scratch=False, force=True)
    found = artefact.load(tmp_path / "out").reach
    assert found is not None and found.pairs is not None and found.distance is not None
    assert found.pairs.count("Na", "Cl") == 1 and found.pairs.count("Fe", "O") > 0
    assert found.pairs.unseen({11, 17}) == [] and found.pairs.unseen({17, 26}) == [(17, 26)]
    assert np.isfinite(load_model(tmp_path / "out").predict(["FeO"]).distance).all()


def test_schemes_by_name(small_model: Path, metal_schnet: Path, tmp_path: Path) -> None:
    assert get_scheme("tl2").name == "TL2" and get_scheme("all").name == "TL1"
    with pytest.raises(UnknownNameError, match="unknown fine-tuning scheme 'TL4'"):
        finetune(metal_schnet, alloys(6, label=KEY), "TL4", tmp_path / "out")
    with pytest.raises(FinetuneError, match="freezes the embedding.*use TL1"):
        finetune(small_model, oxides(), "TL2", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_result_is_a_model(metal_schnet: Path, labelled: list[Atoms], tmp_path: Path) -> None:
    output = tmp_path / "my_alloys"
    result = finetune(metal_schnet, labelled, "TL2", output, epochs=3)
    assert result.improved and result.saved and list(result.errors) == [SOURCE, SHIFTED, TUNED, SCRATCH]
    card = load_model(output).card
    assert card.name == "my_alloys" and card.property == KEY and card.unit == "eV/atom"
    assert card.description == "metals, fine-tuned on a list of structures"
    assert card.recipe["finetune"] == {"source": "metals", "scheme": "TL2", "references": None}
    assert set(card.elements) == set(METALS)
    assert sum(card.training_set.rows.values()) == 30
    assert any("metals" in note for note in card.notes)
    atoms = labelled[0].copy()
    atoms.calc = MatProp(output)
    BFGS(atoms, logfile=None).run(steps=2)
    assert np.isfinite(atoms.get_potential_energy())
    # the errors are those of the model that was saved
    table = result.predictions
    rows = {f"structure {index}": atoms for index, atoms in enumerate(labelled)}
    held = [rows[name] for name in table["name"]]
    np.testing.assert_allclose(load_model(output).predict(held).values, table[TUNED], atol=1e-5)
    np.testing.assert_allclose(load_model(metal_schnet).predict(held).values, table[SOURCE], atol=1e-5)
    assert result.errors[TUNED].mae == pytest.approx(np.abs(table[TUNED] - table["reference"]).mean())
    assert card.errors["test"].mae == pytest.approx(result.errors[TUNED].mae)
    assert pd.read_csv(output / "predictions.csv")["name"].tolist() == table["name"].tolist()
    assert {path.name for path in output.iterdir()} >= {"report.html", "report.json", "split.json", "runs.db"}


def test_other_property_than_the_source(metal_schnet: Path, calculated: list[Atoms], tmp_path: Path) -> None:
    result = finetune(metal_schnet, calculated, output=tmp_path / "out", references="fitted", force=True, **FEW)
    assert list(result.errors) == [SHIFTED, TUNED]  # the source predicts something else
    card = ModelCard.read(tmp_path / "out")
    assert card.property == "energy_above_fitted_references_per_atom"
    assert card.recipe["finetune"]["references"]["kind"] == "fitted"
    assert any("not formation energies" in note for note in card.notes)
    atoms = calculated[0].copy()
    atoms.calc = MatProp(tmp_path / "out")
    assert np.isfinite(atoms.get_potential_energy())


def test_frames_of_one_composition_are_divided_by_run(metal_schnet: Path) -> None:
    frames = alloys(18, elements=("Cu", "Au"), label=KEY)
    for index, frame in enumerate(frames):
        frame.symbols = "Cu3Au"
        frame.set_cell(3.4 * 1.07 ** (index // 3) * np.eye(3), scale_atoms=True)
        frame.info["run"] = f"run {index // 3}"
    prepared = prepare(read_data(frames), load_model(metal_schnet))
    assert prepared.grouping.startswith("run") and len(np.unique(prepared.groups)) == 6
    part = divide(prepared, test=0.2, validation=0.2, seed=0)
    assert {index // 3 for index in part.test}.isdisjoint(index // 3 for index in (*part.train, *part.validation))


def perfect(model: Path) -> list[Atoms]:
    """Rows that the model predicts without error, so that nothing can be better."""
    structures = [atoms.copy() for atoms in alloys(20, label=KEY)]
    for atoms, value in zip(structures, load_model(model).predict(structures).values, strict=True):
        atoms.info = {KEY: float(value)}
    return structures


def test_not_better_is_not_saved(metal_schnet: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, output = perfect(metal_schnet), tmp_path / "worse"
    with caplog.at_level("WARNING", "ase_matprop.finetune.run"):
        result = finetune(metal_schnet, data, output=output, **FEW)
    assert not result.improved and not result.saved
    assert "not better than metals" in caplog.text and "force=True" in caplog.text
    assert not (output / "card.json").exists()
    with pytest.raises(MatPropError):
        load_model(output)
    page = (output / "report.html").read_text()
    body = page[page.index("<body>") :]
    assert body.index("is NOT better than metals") < body.index("<h1>") and "it was not saved" in body
    forced = finetune(metal_schnet, data, output=output, force=True, resume=True, **FEW)
    assert not forced.improved and forced.saved and "only because that was forced" in forced.verdict
    assert load_model(output).card.name == "worse"
    # no epoch was better than the start, which was kept with every bit
    before, after = weights(metal_schnet), weights(output)
    assert identical(before, after) == set(before)
    assert any("no epoch was better than the start" in note for note in forced.card.notes)


def test_start_is_kept_where_no_epoch_is_better(metal_schnet: Path, tmp_path: Path) -> None:
    predictor, source = load_source(metal_schnet)
    prepared = prepare(read_data(perfect(metal_schnet)), predictor)
    part = divide(prepared, test=0.2, validation=0.2, seed=0)
    settings = training_settings(source.card, epochs=2, learning_rate=1e-2)
    adapted = adapt(source, prepared, part.train, part.validation, get_scheme("TL1"), settings, seed=0, folder=tmp_path)
    assert adapted.kept_start and adapted.artefact is source
    assert adapted.validation_mae == adapted.start_mae < 1e-5


class _Stop(Exception):
    """An interruption."""


def test_resume_gives_the_same(metal_schnet: Path, labelled: list[Atoms], tmp_path: Path, monkeypatch) -> None:
    options = {"epochs": 4, "learning_rate": 1e-3, "scheme": "TL1"}
    whole = finetune(metal_schnet, labelled, output=tmp_path / "a" / "out", **options)
    from ase_matprop.training.loop import Trainee

    def stop(self: Trainee) -> None:
        if self.current_epoch == 2:
            raise _Stop

    output = tmp_path / "b" / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Trainee, "on_validation_epoch_start", stop)
        with pytest.raises(_Stop):
            finetune(metal_schnet, labelled, output=output, **options)
    history = pd.read_csv(output / "work" / "fine-tuned_0" / "member_0" / "history.csv")
    assert len(history) == 2 and not (output / "card.json").exists()
    resumed = finetune(metal_schnet, labelled, output=output, resume=True, **options)
    pd.testing.assert_frame_equal(whole.predictions, resumed.predictions)
    assert weights(tmp_path / "a" / "out").keys() == identical(weights(tmp_path / "a" / "out"), weights(output))


def test_output_in_use(metal_schnet: Path, labelled: list[Atoms], tmp_path: Path) -> None:
    output = tmp_path / "out"
    finetune(metal_schnet, labelled, output=output, force=True, **FEW)
    with pytest.raises(FinetuneError, match="is not empty; choose another name"):
        finetune(metal_schnet, labelled, output=output, **FEW)
    with pytest.raises(FinetuneError, match="holds something else"):
        finetune(metal_schnet, labelled[:-1], output=output, resume=True, **FEW)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("text")
    with pytest.raises(FinetuneError, match="holds something else"):
        finetune(metal_schnet, labelled, output=mine, resume=True, **FEW)
    (tmp_path / "file").write_text("text")
    with pytest.raises(FinetuneError, match="is a file; give the name of a folder"):
        finetune(metal_schnet, labelled, output=tmp_path / "file", **FEW)
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]


def test_folds(small_model: Path, tmp_path: Path) -> None:
    result = finetune(small_model, oxides(), output=tmp_path / "out", folds=3, force=True, **FEW)
    assert result.errors[TUNED].n == 24 and sorted(result.predictions["name"]) == sorted(
        f"row {row}" for row in range(24)
    )
    card = result.card
    assert card.training_set.rows["train"] + card.training_set.rows["validation"] == 24
    assert "3-fold" in card.training_set.split["method"] and card.training_set.split["folds"] == 3
    assert "in the first part of the cross-validation" in (tmp_path / "out" / "report.html").read_text()
    assert len(json.loads((tmp_path / "out" / "split.json").read_text())) == 3
    with pytest.raises(FinetuneError, match="folds .--folds. must be between 2 and"):
        finetune(small_model, oxides(), output=tmp_path / "more", folds=300, **FEW)


def test_nothing_of_the_user_is_changed(synthetic, metal_schnet: Path, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "runs"
    synthetic.write_runs(folder, elements=("Cu", "Au"), n_random=5)

    def state() -> dict[Path, tuple[bytes, int]]:
        return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(folder.rglob("*")) if p.is_file()}

    before = state()
    elsewhere = tmp_path / "cwd"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    result = finetune(metal_schnet, folder, output=tmp_path / "out", force=True, **FEW)
    assert before == state() and list(elsewhere.iterdir()) == []
    assert result.card.recipe["finetune"]["references"]["kind"] == "runs"
    assert result.card.property == KEY


def test_element_unknown_to_the_source(metal_schnet: Path, labelled: list[Atoms], tmp_path: Path) -> None:
    stranger = bulk("NaCl", "rocksalt", 5.64)
    stranger.info[KEY] = -2.0
    result = finetune(metal_schnet, [*labelled, stranger], output=tmp_path / "out", force=True, **FEW)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["rejected"] == {"structure 30": "the model metals never saw Cl, Na"}
    assert sum(result.card.training_set.rows.values()) == 30
    with pytest.raises(FinetuneError, match=r"0 rows can be used, at least 5.*8 were left out.*never saw Cl, Na"):
        finetune(metal_schnet, [stranger] * 8, output=tmp_path / "none", **FEW)
    assert not (tmp_path / "none").exists()


def test_one_run(synthetic, relaxed, metal_schnet: Path, tmp_path: Path) -> None:
    synthetic.write_vasprun(tmp_path / "runs" / "vasprun.xml", relaxed["CuAu"])
    with pytest.raises(FinetuneError, match="1 rows? can be used, at least 5 are needed"):
        finetune(metal_schnet, tmp_path / "runs", output=tmp_path / "out", references="none", **FEW)
    assert not (tmp_path / "out").exists()


def test_no_reference(synthetic, relaxed, metal_schnet: Path, tmp_path: Path) -> None:
    synthetic.write_vasprun(tmp_path / "runs" / "vasprun.xml", relaxed["CuAu"])
    with pytest.raises(MatPropError, match="no reference energy of Au, Cu. Three remedies"):
        finetune(metal_schnet, tmp_path / "runs", output=tmp_path / "out", **FEW)


def test_impossible_settings(metal_schnet: Path, labelled: list[Atoms], tmp_path: Path) -> None:
    for options, words in (
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"epochs": 0}, "max_epochs"),
        ({"test": 0.0}, "the share test"),
        ({"test": 0.8, "validation": 0.5}, "cannot be divided"),
        ({"l2": -1.0}, "weight_decay"),
    ):
        with pytest.raises(FinetuneError, match=words):
            finetune(metal_schnet, labelled, output=tmp_path / words, **options)
    with pytest.raises(UnknownNameError, match="schnet"):
        finetune("schnett-mp", labelled, output=tmp_path / "out")


def test_models_of_more_than_one_number(two_property_model: Path, classifier_model: Path, tmp_path: Path) -> None:
    for model in (two_property_model, classifier_model):
        with pytest.raises(FinetuneError, match="several properties or a class"):
            finetune(model, oxides(), output=tmp_path / "out")


def test_forces_need_a_network_with_forces(structure_model: Path, calculated: list[Atoms], tmp_path: Path) -> None:
    metals = untrained_model(tmp_path / "source", descriptor="fractions", elements=METALS)
    with pytest.raises(FinetuneError, match="has no forces; fine-tune a SchNet"):
        finetune(metals, calculated, output=tmp_path / "out", references="none", forces=True)


def test_forces_are_learnt(metal_schnet: Path, tmp_path: Path) -> None:
    frames = alloys(40, elements=("Cu", "Au"))
    result = finetune(
        metal_schnet,
        frames,
        output=tmp_path / "out",
        references="none",
        forces=True,
        learning_rate=5e-3,
        epochs=25,
        batch_size=8,
        from_scratch=False,
    )
    before, after = result.errors[SHIFTED], result.errors[TUNED]
    assert after.forces_mae < 0.8 * before.forces_mae
    assert result.improved and "of the forces" in result.verdict
    # what was measured is what the calculator gives
    table = result.predictions.iloc[0]
    atoms = frames[int(table["name"].removeprefix("structure "))].copy()
    atoms.calc = MatProp(tmp_path / "out")
    assert atoms.get_potential_energy() == pytest.approx(4 * table[TUNED], abs=1e-4)
    assert atoms.get_forces().shape == (4, 3)


def test_shift_alone_takes_out_constants_of_elements(metal_schnet: Path, labelled: list[Atoms], tmp_path: Path) -> None:
    """Rows that differ from the source by a constant per element only: the shift finds it, and training cannot help."""
    data = perfect(metal_schnet)
    constants = dict(zip(METALS, np.linspace(-0.5, 0.5, len(METALS)), strict=True))
    for atoms in data:
        atoms.info[KEY] += float(np.mean([constants[symbol] for symbol in atoms.symbols]))
    result = finetune(metal_schnet, data, output=tmp_path / "out", **FEW)
    assert result.errors[SHIFTED].mae < 0.3 * result.errors[SOURCE].mae
    assert result.improved


def test_chemical_accuracy() -> None:
    reference = np.zeros(4)
    predicted = np.array([0.0, 0.01, -0.04, 0.1])
    errors = Errors.of(predicted, reference, np.array([4.0, 4.0, 4.0, 4.0]))
    assert pytest.approx(0.0433641, abs=1e-7) == CHEMICAL_ACCURACY  # 1 kcal/mol = 4184 J/mol / (96485.33 C/mol)
    assert errors.within_chemical_accuracy_per_atom == 0.75 and errors.within_chemical_accuracy_per_cell == 0.5
    assert errors.mae == pytest.approx(0.0375) and errors.largest == 0.1 and errors.median == pytest.approx(0.025)
    assert Errors.of(predicted, reference).within_chemical_accuracy_per_atom is None


def test_the_names_are_functions() -> None:
    """Also after the modules that they come from were imported; and nothing heavy is, before they are asked for."""
    code = (
        "import sys, types, pkgutil, ase_matprop.finetune as package\n"
        "assert not {module.name for module in pkgutil.iter_modules(package.__path__)} & set(package.__all__)\n"
        "assert 'torch' not in sys.modules\n"
        "import ase_matprop.finetune.run, ase_matprop.finetune.curves\n"
        "from ase_matprop.finetune import finetune, learning_curve\n"
        "assert isinstance(finetune, types.FunctionType) and isinstance(learning_curve, types.FunctionType)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert module.finetune is finetune
