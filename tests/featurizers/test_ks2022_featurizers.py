"""Featurizers of the KS2022 family: matminer's contract."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from ase.build import bulk
from sklearn.base import clone

from ase_matprop.descriptors import ks2022
from ase_matprop.errors import CompositionError, DescriptorError, StructureError, UnknownNameError
from ase_matprop.featurizers.ks2022 import KS2022, KS2022Dilute, KS2022RandomSolution
from ase_matprop.structures import as_atoms
from ase_matprop.structures.prototypes import get_prototype

ALL = [KS2022(), KS2022Dilute(), KS2022Dilute(host=bulk("Ni", cubic=True)), KS2022RandomSolution("BCC", seed=2)]


def dilute(symbol: str):
    atoms = bulk("Ni", cubic=True) * 2
    atoms.symbols[3] = symbol
    return atoms


@pytest.mark.parametrize("featurizer", ALL, ids=lambda featurizer: type(featurizer).__name__)
def test_contract(featurizer) -> None:
    assert featurizer.feature_labels() == ks2022.feature_labels()
    assert featurizer.feature_labels() is not featurizer.feature_labels()
    citations = featurizer.citations()
    assert all(entry.startswith("@article{") for entry in citations) and "krajewski2022" in citations[0]
    assert "10.1016/j.commatsci.2024.113495" in citations[1]
    assert featurizer.implementors()
    copy = clone(featurizer)
    assert copy.get_params().keys() == featurizer.get_params().keys()
    assert pickle.loads(pickle.dumps(featurizer)).get_params().keys() == copy.get_params().keys()
    assert type(featurizer).__name__.startswith("KS2022") and "References" in type(featurizer).__doc__


def test_ks2022() -> None:
    structures = [bulk("NaCl", "rocksalt", 5.64), get_prototype("spinel").structure()]
    table = pd.DataFrame({"structure": structures})
    result = KS2022().featurize_dataframe(table, "structure", pbar=False)
    expected, _ = ks2022.compute([as_atoms(structure) for structure in structures])
    np.testing.assert_array_equal(result[ks2022.feature_labels()].to_numpy(), expected)
    assert KS2022().precheck(structures[0]) and not KS2022().precheck(bulk("Ar", "fcc", 5.3))
    with pytest.raises(DescriptorError, match="electronegativity"):
        KS2022().featurize(bulk("Ar", "fcc", 5.3))


def test_ks2022_dilute() -> None:
    structures = [dilute("Cr"), bulk("NaCl", "rocksalt", 5.64), dilute("Al"), None]
    rows = KS2022Dilute().featurize_many(structures, ignore_errors=True, return_errors=True, pbar=False)
    assert "not one foreign atom" in rows[1][-1] and rows[3][-1].startswith("StructureError")
    expected, _ = ks2022.compute([structures[0], structures[2]])
    np.testing.assert_allclose([rows[0][:-1], rows[2][:-1]], expected, rtol=1e-10, atol=1e-10)
    with pytest.raises(DescriptorError, match="row 1"):
        KS2022Dilute().featurize_many(structures, pbar=False)
    host = get_prototype("L1_2").structure()
    foreign = host.copy()
    foreign.replace(2, "Ni")
    values = KS2022Dilute(host=host).featurize(foreign)
    np.testing.assert_allclose(values, ks2022.compute([as_atoms(foreign)])[0][0], rtol=1e-10, atol=1e-10)
    with pytest.raises(StructureError, match="host"):
        KS2022Dilute(host="nowhere.cif").featurize(foreign)
    assert KS2022Dilute().precheck(dilute("Cr")) and not KS2022Dilute().precheck(None)


def test_ks2022_random_solution() -> None:
    from pymatgen.core import Composition

    featurizer = KS2022RandomSolution("BCC", tolerance=0.01, window=2)
    rows = featurizer.featurize_many(["FeNi", Composition("CrMoW")], pbar=False)
    expected = ks2022.random_solution("CrMoW", "BCC", tolerance=0.01, window=2).features
    np.testing.assert_array_equal(rows[1], expected)
    np.testing.assert_array_equal(featurizer.featurize("FeNi"), rows[0])
    failing = featurizer.featurize_many(
        ["FeNi", "no formula", "FeAr"], ignore_errors=True, return_errors=True, pbar=False
    )
    assert failing[0][:-1] == rows[0] and np.isnan(failing[1][:-1]).all()
    assert failing[1][-1].startswith("CompositionError") and "Ar" in failing[2][-1]
    with pytest.raises(CompositionError, match="no formula"):
        featurizer.featurize("no formula")
    with pytest.raises(UnknownNameError, match="BCC"):
        KS2022RandomSolution("BCX").featurize_many(["FeNi"], ignore_errors=True, pbar=False)
    with pytest.raises(DescriptorError, match="max_cells"):
        KS2022RandomSolution(max_cells=0).featurize_many(["FeNi"], ignore_errors=True, pbar=False)
    with pytest.raises(DescriptorError, match="did not converge in 4 cells"):
        KS2022RandomSolution(max_cells=4).featurize("FeNi")
    assert featurizer.precheck("FeNi") and not featurizer.precheck("FeAr") and not featurizer.precheck("no formula")


def test_random_solutions_in_several_processes() -> None:
    featurizer = KS2022RandomSolution("FCC", tolerance=0.01, window=2)
    one, _ = featurizer.compute(["FeNi", "CuAu", "AlMg"], 1)
    two, _ = featurizer.compute(["FeNi", "CuAu", "AlMg"], 2)
    np.testing.assert_array_equal(one, two)
