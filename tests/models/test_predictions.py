"""Predictions: rows, units, tables, one property of several, classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase.build import bulk

import ase_matprop
from ase_matprop import load_model
from ase_matprop.errors import UnknownNameError
from ase_matprop.models import Predictions
from ase_matprop.models.predictions import FurtherProperty

INPUTS = ["NaCl", "Xx2", bulk("Fe") * (2, 1, 1)]


@pytest.fixture(scope="module")
def single(small_model: Path) -> Predictions:
    return load_model(small_model).predict(INPUTS)


@pytest.fixture(scope="module")
def several(two_property_model: Path) -> Predictions:
    return load_model(two_property_model).predict(INPUTS)


@pytest.fixture(scope="module")
def classes(classifier_model: Path) -> Predictions:
    return load_model(classifier_model).predict(INPUTS)


def test_the_class_can_be_imported_for_annotations() -> None:
    assert ase_matprop.Predictions is Predictions


def test_frame(single: Predictions) -> None:
    frame = single.to_frame()
    columns = ["name", "formula", "n_atoms", "formation_energy_per_atom", "unit", "spread"]
    assert list(frame.columns) == [*columns, "distance", "warning", "model", "error"]
    assert frame["name"].tolist() == ["NaCl", "Xx2", "structure 2 (Fe2)"]
    assert frame["formula"].tolist() == ["NaCl", None, "Fe2"]
    assert frame["n_atoms"].isna().tolist() == [True, True, False] and frame["n_atoms"][2] == 2
    assert frame["error"][0] is None and "no element" in frame["error"][1]
    assert frame["formation_energy_per_atom"].isna().tolist() == [False, True, False]
    assert single.spread[0] > 0 and np.isnan(single.spread[1])
    assert single.n_failed == 1 and len(single) == 3


def test_units(single: Predictions) -> None:
    # 1 eV per atom is 96.485 kJ per mole of atoms (CODATA 2018)
    molar = single.to_unit("kJ/mol-atom")
    assert molar.values[0] == pytest.approx(96.48533 * single.values[0], rel=1e-6)
    assert molar.spread[0] == pytest.approx(96.48533 * single.spread[0], rel=1e-6)
    np.testing.assert_allclose(molar.to_unit("eV/atom").values, single.values, rtol=1e-12)
    assert molar.unit == "kJ/mol-atom" and (molar.to_frame()["unit"] == "kJ/mol-atom").all()
    with pytest.raises(UnknownNameError, match="energy unit"):
        single.to_unit("eV")


def test_one_property_of_several(several: Predictions) -> None:
    assert several.property == "formation_energy_per_atom" and set(several.further) == {"band_gap"}
    gap = several["band_gap"]
    assert gap.property == "band_gap" and gap.unit == "eV" and gap.further == {}
    assert gap.names == several.names and gap.errors == several.errors
    np.testing.assert_array_equal(gap.values, several.further["band_gap"].values)
    assert list(gap.to_frame().columns)[3:6] == ["band_gap", "unit", "spread"]
    first = several["formation_energy_per_atom"]
    np.testing.assert_array_equal(first.values, several.values)
    assert first.further == {}
    for wrong in ("band_gaps", "density"):
        with pytest.raises(UnknownNameError, match="Known: band_gap, formation_energy_per_atom"):
            several[wrong]


def test_frame_of_several_properties(several: Predictions) -> None:
    frame = several.to_frame()
    assert list(frame.columns) == [
        *("name", "formula", "n_atoms", "formation_energy_per_atom", "unit", "spread"),
        *("band_gap", "band_gap unit", "band_gap spread", "distance", "warning", "model", "error"),
    ]
    assert (frame["band_gap unit"] == "eV").all() and frame["band_gap"].isna().tolist() == [False, True, False]
    molar = several.to_unit("kJ/mol-atom")  # which a band gap has not
    pd.testing.assert_series_equal(molar.to_frame()["band_gap"], frame["band_gap"])


def test_frame_of_classes(classes: Predictions) -> None:
    frame = classes.to_frame()
    assert list(frame.columns) == [
        *("name", "formula", "n_atoms", "metallicity", "probability of metal", "probability of non-metal"),
        *("distance", "warning", "model", "error"),
    ]
    assert frame["metallicity"].tolist() == classes.labels and frame["metallicity"][1] is None
    assert set(frame["metallicity"].dropna()) <= {"metal", "non-metal"}
    np.testing.assert_array_equal(frame["probability of non-metal"], classes.probabilities[:, 1])
    with pytest.raises(UnknownNameError, match="cannot be converted"):
        classes.to_unit("eV/atom")


def test_numbers_have_no_labels(single: Predictions) -> None:
    assert single.labels == [None, None, None]


def test_parts_are_joined_in_their_order(several: Predictions, classes: Predictions) -> None:
    twice = Predictions.concatenate([several, several])
    assert len(twice) == 6 and twice.names == several.names * 2 and twice.n_failed == 2
    np.testing.assert_array_equal(twice["band_gap"].values, np.tile(several["band_gap"].values, 2))
    np.testing.assert_array_equal(twice["band_gap"].spread, np.tile(several["band_gap"].spread, 2))
    twice = Predictions.concatenate([classes, classes])
    np.testing.assert_array_equal(twice.probabilities, np.tile(classes.probabilities, (2, 1)))
    assert twice.labels == classes.labels * 2
    assert isinstance(several.further["band_gap"], FurtherProperty)


@pytest.mark.parametrize("fixture", ["small_model", "two_property_model", "classifier_model"])
def test_no_inputs(fixture: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(fixture)
    empty, some = load_model(model).predict([]), load_model(model).predict(["NaCl"])
    assert len(empty) == 0 and empty.values.shape == (0,) and len(empty.to_frame()) == 0
    assert list(empty.to_frame().columns) == list(some.to_frame().columns)
    joined = Predictions.concatenate([empty, some])
    np.testing.assert_array_equal(joined.values, some.values)
