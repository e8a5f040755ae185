"""Descriptors by name: composition inputs, combinations, batches and processes."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule

from ase_matprop.compositions import as_amounts
from ase_matprop.descriptors.registry import amounts_of, get_descriptor
from ase_matprop.errors import DescriptorError, UnknownNameError

NACL = bulk("NaCl", "rocksalt", 5.64)
#: name -> number of features; composition alone, and with the structure
OF_COMPOSITIONS = {"composition": 145, "fractions": 86, "composition+fractions": 231}
OF_STRUCTURES = {"ward2017": 271, "structure": 126, "ward2017+fractions": 357, "structure + composition": 271}


@pytest.mark.parametrize(("name", "n_features"), (OF_COMPOSITIONS | OF_STRUCTURES).items())
def test_structures(name: str, n_features: int) -> None:
    descriptor = get_descriptor(name)
    assert descriptor.needs_structure == (name in OF_STRUCTURES)
    assert descriptor.name == name.replace(" ", "") and len(descriptor.labels) == n_features
    features, errors = descriptor.compute([NACL, bulk("Fe")])
    assert features.shape == (2, n_features) and np.isfinite(features).all() and errors == [None, None]
    features, errors = descriptor.compute([])
    assert features.shape == (0, n_features) and errors == []


@pytest.mark.parametrize("name", OF_COMPOSITIONS)
def test_compositions(name: str) -> None:
    """Formulas, structures and molecules of one composition have the same features, in batches of both."""
    descriptor = get_descriptor(name)
    batch = [NACL, as_amounts("NaCl"), as_amounts("Cl3Na3"), {11: 0.5, 17: 0.5}, molecule("NaCl"), NACL * (3, 1, 1)]
    features, errors = descriptor.compute(batch)
    assert errors == [None] * len(batch)
    np.testing.assert_allclose(features, features[[0] * len(batch)], rtol=1e-12, atol=1e-15)


def test_combination_is_its_parts_side_by_side() -> None:
    batch = [as_amounts("Fe2O3"), as_amounts("NaN"), as_amounts("CsPbI3")]
    parts = [get_descriptor(name) for name in ("fractions", "composition")]
    both = get_descriptor("fractions+composition")
    assert both.labels == parts[0].labels + parts[1].labels
    np.testing.assert_array_equal(both.compute(batch)[0], np.hstack([part.compute(batch)[0] for part in parts]))


def test_a_failure_of_one_part_is_one_of_the_row() -> None:
    """Helium has Magpie's features, and no place in the element fractions."""
    features, errors = get_descriptor("composition+fractions").compute([as_amounts("HeO"), as_amounts("NaCl")])
    assert np.isnan(features[0]).all() and np.isfinite(features[1]).all()
    assert "do not cover He" in errors[0] and errors[1] is None
    _, errors = get_descriptor("composition+fractions").compute([as_amounts("FlO")])
    assert "114" in errors[0]  # the first reason
    for name in OF_COMPOSITIONS:
        features, errors = get_descriptor(name).compute([{}, as_amounts("NaCl")])
        assert np.isnan(features[0]).all() and errors[0] and errors[1] is None


@pytest.mark.parametrize("name", OF_COMPOSITIONS)
def test_only_sound_rows_are_looked_at(name: str) -> None:
    descriptor = get_descriptor(name)
    features, errors = descriptor.compute_sound(
        [None, as_amounts("NaCl"), as_amounts("FlO")], ["is no formula", None, None]
    )
    assert errors[0] == "is no formula" and errors[1] is None and errors[2]
    assert np.isnan(features[[0, 2]]).all()
    np.testing.assert_array_equal(features[1], descriptor.compute([as_amounts("NaCl")])[0][0])


def test_processes() -> None:
    batch = [as_amounts(f"Fe{i}O{j}") for i in range(1, 4) for j in range(1, 4)] + [as_amounts("FlO")]
    descriptor = get_descriptor("composition+fractions")
    alone, together = descriptor.compute(batch), descriptor.compute(batch, n_jobs=2)
    np.testing.assert_array_equal(alone[0], together[0])
    assert alone[1] == together[1]
    for wrong in (0, -2, 1.5):
        with pytest.raises(DescriptorError, match="processes must be positive"):
            descriptor.compute(batch, n_jobs=wrong)


def test_amounts_of() -> None:
    amounts = as_amounts("Fe2O3")
    assert amounts_of([NACL * (2, 1, 1), amounts]) == [{11: 2, 17: 2}, amounts]
    assert amounts_of([NACL, amounts])[1] is amounts


@pytest.mark.parametrize("name", ["magpie", "fractions+magpie", ""])
def test_unknown_names(name: str) -> None:
    with pytest.raises(UnknownNameError, match="Known: composition, fractions, ks2022, neighbors, structure, ward2017"):
        get_descriptor(name)
