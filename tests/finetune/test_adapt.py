"""One training: where it starts, what random weights are compared with, what its folder belongs to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from ase_matprop import load_model
from ase_matprop.errors import FinetuneError
from ase_matprop.finetune.adapt import _from_scratch, adapt, moved, predict_rows, starting_point
from ase_matprop.finetune.data import read_data
from ase_matprop.finetune.division import divide
from ase_matprop.finetune.prepared import Prepared, prepare
from ase_matprop.finetune.schemes import get_scheme
from ase_matprop.finetune.starting import load_source, training_settings
from ase_matprop.models import artefact
from tests.conftest import untrained_model
from tests.finetune.alloys import METALS


@pytest.fixture
def prepared(metal_schnet: Path, labelled: list[Atoms]) -> Prepared:
    return prepare(read_data(labelled), load_model(metal_schnet))


def with_residuals(
    prepared: Prepared, model: Path, residuals: np.ndarray, groups: np.ndarray | None = None
) -> Prepared:
    """The rows with targets that differ from the predictions of a model by given numbers."""
    targets = predict_rows(load_source(model)[1], prepared) + residuals
    table = dataclasses.replace(prepared.table, targets=targets[:, None])
    return dataclasses.replace(prepared, table=table, groups=prepared.groups if groups is None else groups)


# ---- the start


def test_start_is_moved_where_that_helps(prepared: Prepared, metal_schnet: Path) -> None:
    source = load_source(metal_schnet)[1]
    rows = np.arange(len(prepared))
    constant = with_residuals(prepared, metal_schnet, np.full(len(rows), 0.7))
    start = starting_point(source, constant, rows[:24], rows[24:])
    predicted = predict_rows(start, constant)
    np.testing.assert_allclose(predicted, constant.targets, atol=0.05)
    np.testing.assert_array_equal(predicted, predict_rows(moved(source, constant, rows[:24]), constant))
    right = with_residuals(prepared, metal_schnet, np.zeros(len(rows)))
    assert starting_point(source, right, rows[:24], rows[24:]) is source


@pytest.mark.parametrize("n_groups", [1, 2, 3, 7])
def test_start_is_asked_of_whole_groups(metal_schnet: Path, n_groups: int) -> None:
    """Crystals of one element each, off by a constant: those of an element say nothing of another element.

    With groups left out, moving the offsets helps none of them; with single rows left out, which is the way for fewer
    than three groups, it seems to.
    """
    crystals = [bulk(metal) for metal in METALS for _ in range(4)]
    for number, atoms in enumerate(crystals):
        atoms.set_cell(atoms.cell * (1.0 + 0.01 * (number % 4)), scale_atoms=True)
        atoms.info["formation_energy_per_atom"] = 0.0
    prepared = prepare(read_data(crystals), load_model(metal_schnet))
    source = load_source(metal_schnet)[1]
    elements = np.repeat(np.arange(7), 4)
    constants = np.array([0.5, -0.4, 0.3, -0.6, 0.7, -0.5, 0.4])
    shared = with_residuals(prepared, metal_schnet, constants[elements], np.minimum(elements, n_groups - 1))
    rows = np.arange(28)
    start = starting_point(source, shared, rows[rows % 4 > 0], rows[rows % 4 == 0])
    assert (start is source) == (n_groups >= 3)


def test_other_properties_start_at_the_level_of_the_rows(prepared: Prepared, metal_schnet: Path) -> None:
    source = load_source(metal_schnet)[1]
    rows = np.arange(len(prepared))
    assert starting_point(source, prepared, rows[:24], rows[24:], same_property=False) is not source
    assert starting_point(source, prepared, rows[:3], rows[3:4]) is not source  # too few to ask


# ---- random weights


@pytest.mark.parametrize("scaling", ["none", "maximum", "standardize"])
def test_from_scratch_is_the_same_network_with_the_same_features(tmp_path: Path, scaling: str) -> None:
    untrained_model(tmp_path / "source", n_members=2)
    loaded = artefact.load(tmp_path / "source")
    card = loaded.card.model_copy(update={"recipe": {"descriptor": {"name": "fractions", "scaling": scaling}}})
    source = dataclasses.replace(loaded, card=card)
    frame = [{"formula": f"Fe{n}O{m}", "formation_energy_per_atom": -0.1 * m} for n in (1, 2, 3) for m in (1, 2, 4)]
    prepared = prepare(read_data(pd.DataFrame(frame), needs_structure=False), load_model(tmp_path / "source"))
    features = prepared.table.features
    scratch = _from_scratch(source, prepared, np.arange(9), seed=3)
    members = [member.state_dict() for member in scratch.network.members]
    assert len(members) == 2 and not all(torch.equal(members[0][name], members[1][name]) for name in members[0])
    expected = artefact.Scaler.fit(features, card.descriptor.clip, scaling=scaling)
    np.testing.assert_array_equal(scratch.scaler.transform(features), expected.transform(features))


# ---- the folder


def test_folder_belongs_to_its_rows_and_settings(prepared: Prepared, metal_schnet: Path, tmp_path: Path) -> None:
    source = load_source(metal_schnet)[1]
    split = divide(prepared, test=0.2, validation=0.2, seed=0)
    settings = training_settings(source.card, epochs=1)
    options = {"seed": 0, "folder": tmp_path / "work"}
    arguments = (source, prepared, split.train, split.validation, get_scheme("TL1"), settings)
    first = adapt(*arguments, **options)
    np.testing.assert_array_equal(adapt(*arguments, **options).predicted, first.predicted)
    shifted = dataclasses.replace(prepared.table, targets=prepared.table.targets + 0.1)
    others = {
        "rows": (source, prepared, split.train[:-1], *arguments[3:]),
        "targets": (source, dataclasses.replace(prepared, table=shifted), *arguments[2:]),
        "scheme": (*arguments[:4], get_scheme("TL3"), settings),
        "settings": (*arguments[:5], training_settings(source.card, epochs=2)),
    }
    for name, other in others.items():
        with pytest.raises(FinetuneError, match="holds a training of other rows, or with other settings"):
            adapt(*other, **options)
        adapt(*other, seed=0, folder=tmp_path / name)
    with pytest.raises(FinetuneError, match="holds a training of other rows"):
        adapt(*arguments, seed=1, folder=tmp_path / "work")
    # one of an earlier version does not say what it belongs to
    (tmp_path / "work" / "began_with.json").unlink()
    with pytest.raises(FinetuneError, match="holds a training of other rows"):
        adapt(*arguments, **options)
