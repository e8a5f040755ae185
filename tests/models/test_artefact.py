"""Model folders: what is saved is loaded again, and what was altered is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ase_matprop.errors import ArtefactError, UnknownNameError
from ase_matprop.models import artefact, load_model
from ase_matprop.models.card import ModelCard
from ase_matprop.models.registry import find_model, list_models


@pytest.fixture
def model(small_model: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(small_model, tmp_path / "model"))


def edit_card(folder: Path, **changes: object) -> None:
    path = folder / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_round_trip(small_model: Path, tmp_path: Path) -> None:
    first = artefact.load(small_model)
    again = tmp_path / "again"
    artefact.save(again, first.card, first.network, first.scaler, first.target)
    second = artefact.load(again)
    assert second.card == first.card
    features = torch.randn(4, first.card.network.n_inputs)
    torch.testing.assert_close(second.network(features), first.network(features), rtol=0, atol=0)
    np.testing.assert_array_equal(second.scaler.mean, first.scaler.mean)
    assert not second.network.training


def test_half_precision_changes_predictions_little(small_model: Path, tmp_path: Path) -> None:
    first = artefact.load(small_model)
    card = first.card.model_copy(update={"weights": first.card.weights.model_copy(update={"dtype": "float16"})})
    artefact.save(tmp_path / "half", card, first.network, first.scaler, first.target)
    second = artefact.load(tmp_path / "half")
    features = torch.rand(4, first.card.network.n_inputs)
    torch.testing.assert_close(second.network(features), first.network(features), rtol=0, atol=2e-3)
    assert (tmp_path / "half" / "weights.safetensors").stat().st_size < (
        small_model / "weights.safetensors"
    ).stat().st_size


@pytest.mark.parametrize("position", [10, -1])
def test_altered_weights_are_refused(model: Path, position: int) -> None:
    path = model / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ArtefactError, match="corrupted or altered.*SHA-256"):
        load_model(model)


def test_truncated_or_missing_weights(model: Path) -> None:
    path = model / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtefactError, match="corrupted"):
        load_model(model)
    path.unlink()
    with pytest.raises(ArtefactError, match="cannot be read"):
        load_model(model)


def test_a_pickle_is_never_unpickled(model: Path) -> None:
    """A torch pickle with a matching hash is still refused: only safetensors are read."""
    path = model / "weights.safetensors"
    torch.save({"network.x": torch.zeros(1)}, path)
    card = json.loads((model / "card.json").read_text())
    edit_card(model, weights=card["weights"] | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    with pytest.raises(ArtefactError, match="no safetensors file"):
        load_model(model)


def test_weights_outside_of_the_folder_are_refused(model: Path) -> None:
    card = json.loads((model / "card.json").read_text())
    edit_card(model, weights=card["weights"] | {"file": "../weights.safetensors"})
    with pytest.raises(ArtefactError, match="outside of the model folder"):
        load_model(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "blue"}, "colour: unknown key"),
        ({"property": "formation_energy"}, "formation_energy"),
        ({"format_version": 99, "a_field_of_the_future": 1}, "format version 99.*upgrade"),
        ({"elements": "Fe"}, "elements"),
    ],
)
def test_bad_cards_are_refused(model: Path, changes: dict[str, object], message: str) -> None:
    edit_card(model, **changes)
    with pytest.raises(ArtefactError, match=message):
        load_model(model)


def test_network_that_does_not_fit_its_weights(model: Path) -> None:
    card = json.loads((model / "card.json").read_text())
    edit_card(model, network=card["network"] | {"settings": {"stacks": [[16, 3], [8, 1]]}})
    with pytest.raises(ArtefactError, match="do not fit the network"):
        load_model(model)


def test_descriptor_of_another_version(model: Path) -> None:
    card = json.loads((model / "card.json").read_text())
    edit_card(model, descriptor=card["descriptor"] | {"version": 99})
    with pytest.raises(ArtefactError, match="version 99 of the descriptor"):
        load_model(model)


def test_loading_leaves_the_random_state(model: Path) -> None:
    state = torch.get_rng_state()
    load_model(model)
    assert torch.equal(torch.get_rng_state(), state)


def test_names_and_paths(tmp_path: Path, model: Path) -> None:
    assert find_model(str(model)) == model
    with pytest.raises(UnknownNameError, match="Did you mean 'irnet17-mp'"):
        load_model("irnet-mp")
    with pytest.raises(ArtefactError, match="no card.json; did you mean .*model"):
        load_model(tmp_path)
    with pytest.raises(ArtefactError, match="does not exist"):
        load_model(tmp_path / "nothing")


@pytest.mark.parametrize("name", list_models())
def test_shipped_models_are_sound(name: str) -> None:
    folder = list_models()[name]
    card = ModelCard.read(folder)
    loaded = artefact.load(folder)
    assert card.name == name
    measured = card.classification or card.errors
    assert {"train", "validation", "test"} <= set(measured)
    assert measured["test"].n == card.training_set.rows["test"] > 0
    assert card.training_set.split["seed"] is not None
    assert card.training_set.licence and card.citation and card.recipe
    assert sum(p.numel() for p in loaded.network.parameters()) == card.network.n_parameters
    assert (folder / card.weights.file).stat().st_size < 25_000_000
    assert {path.name for path in folder.iterdir()} == {"card.json", card.weights.file}


def test_a_model_of_another_kind_says_which_command_it_is_for(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(json.dumps({"kind": "ebsd", "format_version": 1}))
    with pytest.raises(ArtefactError, match=r"another kind of model \(ebsd\); it is for matprop ebsd predict"):
        load_model(tmp_path)
