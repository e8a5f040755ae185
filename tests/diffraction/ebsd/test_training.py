from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.artefact import load
from ase_matprop.diffraction.ebsd.card import EbsdCard
from ase_matprop.diffraction.ebsd.master_pattern import MasterPattern
from ase_matprop.diffraction.ebsd.predictor import EbsdPredictor
from ase_matprop.diffraction.ebsd.recipe import EbsdRecipe
from ase_matprop.diffraction.ebsd.run import calibrate, run_recipe
from ase_matprop.diffraction.ebsd.training import HELD_OUT_SEEDS, held_out, train
from ase_matprop.errors import ArtefactError, RecipeError
from ase_matprop.training.trainer import HISTORY, LAST_CHECKPOINT

RECIPES = Path(__file__).parents[3] / "recipes" / "ebsd"


def small_recipe(**changes: Any) -> EbsdRecipe:
    content: dict[str, Any] = {
        "name": "toy",
        "description": "For tests.",
        "seeds": [0, 1],
        "network": {
            "name": "omnet-compact",
            "settings": {"convolutions": [[8], [16], [16]], "dense": [64], "branch": [32]},
        },
        "training": {
            "steps": 8,
            "batch_size": 16,
            "learning_rate": 5e-3,
            "validation_patterns": 20,
            "test_patterns": 30,
        },
        "detector": {"shape": [24, 24]},
        "preparation": {"sigma": 0.0, "pool": 2},
        "disturbances": {"noise": [0.0, 0.1], "background": [0.0, 0.0]},
        "citation": ["nobody"],
    }
    return EbsdRecipe.model_validate(content | changes)


def states_equal(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


class Stop(Exception):
    pass


def test_training_goes_on_where_it_was_stopped(toy: MasterPattern, tmp_path: Path) -> None:
    recipe = small_recipe()
    whole = train(recipe, seed=0, folder=tmp_path / "a", master_pattern=toy, checkpoint_every=4)

    def stop(done: int, total: int) -> None:
        if done == 6:
            raise Stop

    with pytest.raises(Stop):
        train(recipe, seed=0, folder=tmp_path / "b", master_pattern=toy, checkpoint_every=4, progress=stop)
    again = train(recipe, seed=0, folder=tmp_path / "b", master_pattern=toy, checkpoint_every=4)
    assert states_equal(whole, again)
    histories = [(tmp_path / name / HISTORY).read_text().splitlines() for name in "ab"]
    assert [row.split(",")[0] for row in histories[1]] == ["epoch", "0", "1"]
    assert [row.split(",")[2:5] for row in histories[0]] == [row.split(",")[2:5] for row in histories[1]]
    other = train(recipe, seed=1, folder=tmp_path / "c", master_pattern=toy, checkpoint_every=4)
    assert not states_equal(whole, other)


def test_seeds_of_held_out_patterns_are_refused(toy: MasterPattern, tmp_path: Path) -> None:
    """The first batch of such a seed would be the patterns that are measured on."""
    for seed in (HELD_OUT_SEEDS["validation"], HELD_OUT_SEEDS["test"] + 1):
        with pytest.raises(RecipeError, match="held-out patterns"):
            train(small_recipe(), seed=seed, folder=tmp_path, master_pattern=toy)


def test_a_folder_holds_one_run(toy: MasterPattern, tmp_path: Path) -> None:
    train(small_recipe(), seed=0, folder=tmp_path, master_pattern=toy)
    with pytest.raises(RecipeError, match="another recipe or seed"):
        train(small_recipe(), seed=1, folder=tmp_path, master_pattern=toy)
    assert (tmp_path / LAST_CHECKPOINT).is_file()


def test_training_from_a_model(model: Path, toy: MasterPattern, tmp_path: Path) -> None:
    start = load(model)
    one_small_step = {"steps": 1, "batch_size": 16, "learning_rate": 1e-7, "validation_patterns": 5, "test_patterns": 5}
    recipe = small_recipe(training=one_small_step)
    found = train(recipe, seed=0, folder=tmp_path / "a", master_pattern=toy, start_from=start.members[0])
    pairs = list(zip(found.network.parameters(), start.members[0].network.parameters(), strict=True))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)
    with pytest.raises(RecipeError, match="another recipe or seed"):  # nor another start
        train(recipe, seed=0, folder=tmp_path / "a", master_pattern=toy)
    wider = recipe.model_copy(
        update={"network": recipe.network.model_copy(update={"settings": {"convolutions": [[9], [16]]}})}
    )
    with pytest.raises(RecipeError, match="another kind"):
        train(wider, seed=0, folder=tmp_path / "b", master_pattern=toy, start_from=start.members[0])
    card = run_recipe(recipe, tmp_path / "c", master_pattern=toy, start_from=start)
    assert card.notes[-1] == "Training began with toy."


def test_global_random_numbers_are_left_alone(toy: MasterPattern, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(small_recipe(), seed=0, folder=tmp_path, master_pattern=toy)
    assert torch.equal(torch.rand(3), expected)


def test_held_out_patterns_are_others(toy: MasterPattern) -> None:
    recipe = small_recipe()
    validation, test = held_out(recipe, "validation", toy), held_out(recipe, "test", toy)
    assert len(validation.patterns) == 20
    assert len(test.patterns) == 30
    assert convert.disorientations(validation.quaternions[:20], test.quaternions[:20]).min() > 0.1
    assert torch.equal(test.patterns, held_out(recipe, "test", toy).patterns)
    noisier = small_recipe(test_disturbances={"noise": [3.0, 3.0]})
    assert not torch.equal(test.patterns, held_out(noisier, "test", toy).patterns)
    assert np.array_equal(test.quaternions, held_out(noisier, "test", toy).quaternions)
    assert torch.equal(validation.patterns, held_out(noisier, "validation", toy).patterns)


@pytest.mark.parametrize(
    ("output", "loss"),
    [("invariants", "mae"), ("quaternion", "mde"), ("quaternion", "mae+mde"), ("euler", "mae"), ("euler", "mse+mde")],
)
def test_all_outputs_and_losses_train(toy: MasterPattern, tmp_path: Path, output: str, loss: str) -> None:
    base = small_recipe()
    recipe = base.model_copy(
        update={
            "network": base.network.model_copy(update={"output": output}),
            "training": base.training.model_copy(update={"loss": loss, "steps": 3}),
        }
    )
    estimator = train(recipe, seed=0, folder=tmp_path, master_pattern=toy)
    assert all(torch.isfinite(p).all() for p in estimator.parameters())


@pytest.mark.slow
def test_training_learns(toy: MasterPattern, tmp_path: Path) -> None:
    recipe = small_recipe(seeds=[0], training={"steps": 300, "batch_size": 64, "learning_rate": 5e-3})
    card = run_recipe(recipe, tmp_path, master_pattern=toy)
    assert card.errors["test"].median < 8.0  # chance is 42


@pytest.fixture(scope="module")
def model(toy: MasterPattern, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run")
    run_recipe(small_recipe(), output, master_pattern=toy)
    return output / "toy"


def test_published_preparation(toy: MasterPattern, tmp_path: Path) -> None:
    """Counts divided by 255, as the thesis has it."""
    recipe = small_recipe(preparation={"sigma": 0.0, "pool": 1, "scale": "full_range"}, seeds=[0])
    run_recipe(recipe, tmp_path, master_pattern=toy)
    loaded = load(tmp_path / "toy")
    assert loaded.preparation(torch.full((1, 24, 24), 255.0)).unique().tolist() == [1.0]
    predictor = EbsdPredictor(loaded)
    patterns = held_out(recipe, "test", toy).patterns.numpy()[:4]
    eight = predictor.predict(patterns.astype(np.uint8))
    sixteen = predictor.predict(patterns.astype(np.uint16) * 257)
    assert np.allclose(eight.quaternions, sixteen.quaternions, atol=1e-4)
    with pytest.raises(ValueError, match="needs sigma = 0"):
        small_recipe(preparation={"sigma": 4.0, "scale": "full_range"})


def test_model_folder(model: Path) -> None:
    loaded = load(model)
    card = EbsdCard.read(model)
    assert len(loaded.members) == card.network.n_members == 2
    assert set(card.errors) == {"validation", "test"}
    assert set(card.errors_by_seed) == {"0", "1"}
    assert card.errors["test"].n == 30
    assert card.training_patterns == 128
    assert "degrees mean" in card.headline()
    assert sorted(path.name for path in model.iterdir()) == ["card.json", "weights.safetensors"]
    assert len(card.training_seconds) == 2


def test_damaged_model_folders(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no model folder"):
        load(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    data = bytearray((broken / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (broken / "weights.safetensors").write_bytes(bytes(data))
    with pytest.raises(ArtefactError, match="SHA-256"):
        load(broken)
    (broken / "weights.safetensors").unlink()
    with pytest.raises(ArtefactError, match="cannot be read"):
        load(broken)
    text = (model / "card.json").read_text()
    for old, new, message in (
        ('"kind": "ebsd"', '"kind": "other"', "another kind of model"),
        ('"format_version": 1', '"format_version": 99', "upgrade"),
        ('"n_members": 2', '"n_members": 3', "do not fit"),
        ('"spread_unit"', '"spraed_unit"', "unknown key"),
    ):
        assert old in text
        (broken / "card.json").write_text(text.replace(old, new, 1))
        shutil.copy(model / "weights.safetensors", broken)
        with pytest.raises(ArtefactError, match=message):
            load(broken)
    (broken / "card.json").write_text("{")
    with pytest.raises(ArtefactError, match="no valid JSON"):
        load(broken)


def test_calibration() -> None:
    random = np.random.default_rng(0)
    quality = random.uniform(0.0, 1.0, 1000)
    degrees = np.where(quality > 0.8, 40.0, 1.0)
    confidence = calibrate(degrees, quality, np.zeros(1000))
    assert confidence.residual_unit == 0.0
    assert confidence.spread_unit == pytest.approx(0.72, abs=0.02)
    distance = confidence.distances(quality, np.zeros(1000))
    within = distance <= confidence.limit
    assert within.mean() == pytest.approx(confidence.share_within_limit)
    assert (degrees[within] > 5.0).mean() <= 0.01
    assert 0.75 < confidence.share_within_limit < 0.85
    hopeless = calibrate(np.full(100, 30.0), random.uniform(size=100), random.uniform(size=100))
    assert hopeless.limit == 0.0
    silent = calibrate(np.full(100, 1.0), np.zeros(100), np.zeros(100))
    assert silent.limit == 0.0
    assert np.isnan(silent.distances(np.zeros(3), np.zeros(3))).all()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_of_the_repository(path: Path) -> None:
    recipe = EbsdRecipe.read(path)
    assert recipe.name == path.stem
    assert len(recipe.seeds) == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('loss = "mse"', 'loss = "mde"', "'invariants' is trained with"),
        ("steps = ", "stepz = ", "training.stepz: unknown key"),
        ('"omnet-early-pool"', '"omnet-earlypool"', "Did you mean 'omnet-early-pool'"),
        ("seeds = [0, 1, 2]", "seeds = [0, 0]", "twice"),
        ("seeds = [0, 1, 2]", "seeds = [", "no valid TOML"),
    ],
)
def test_bad_recipes(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (RECIPES / "omnet-nickel.toml").read_text()
    assert old in text
    path = tmp_path / "bad.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(RecipeError, match=message):
        EbsdRecipe.read(path)
    with pytest.raises(RecipeError, match="cannot be read"):
        EbsdRecipe.read(tmp_path / "missing.toml")
