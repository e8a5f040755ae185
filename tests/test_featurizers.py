"""The matminer featurizer: matminer's contract, and batches with broken rows."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from ase.build import bulk
from matminer.featurizers.base import MultipleFeaturizer
from pymatgen.core import Lattice, Structure
from sklearn.base import clone

from ase_matprop.descriptors import ward2017
from ase_matprop.errors import StructureError
from ase_matprop.featurizers import Ward2017

NACL = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CSCL = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
DISORDERED = Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Ni": 0.5}], [[0, 0, 0]])


def test_one_structure() -> None:
    featurizer = Ward2017()
    values = featurizer.featurize(NACL)
    assert isinstance(values, list) and len(values) == len(featurizer.feature_labels()) == 271
    expected, _ = ward2017.compute([bulk("NaCl", "rocksalt", 5.64)])
    np.testing.assert_allclose(values, expected[0], atol=2e-4)
    assert featurizer.feature_labels() is not featurizer.feature_labels()


def test_dataframe() -> None:
    frame = pd.DataFrame({"structure": [NACL, CSCL], "target": [1, 2]}, index=["a", "b"])
    result = Ward2017().featurize_dataframe(frame, "structure", pbar=False)
    assert list(result.index) == ["a", "b"] and result.shape == (2, 273)
    assert list(frame.columns) == ["structure", "target"]
    np.testing.assert_allclose(result.iloc[1, 2:].astype(float), Ward2017().featurize(CSCL), atol=1e-9)
    columns = Ward2017().featurize_dataframe(frame, "structure", pbar=False, multiindex=True).columns
    assert columns[2] == ("Ward2017", "mean Effective Coordination Number")


def test_broken_rows() -> None:
    frame = pd.DataFrame({"structure": [NACL, DISORDERED, None, CSCL]})
    result = Ward2017().featurize_dataframe(frame, "structure", ignore_errors=True, return_errors=True, pbar=False)
    assert result["Packing Efficiency"].notna().tolist() == [True, False, False, True]
    reasons = result["Ward2017 Exceptions"]
    assert reasons.notna().tolist() == [False, True, True, False]
    assert "row 1" in reasons[1] and "disorder" in reasons[1]
    with pytest.raises(StructureError, match="row 1.*ignore_errors"):
        Ward2017().featurize_dataframe(frame, "structure", pbar=False)
    with pytest.raises(ValueError, match="ignore_errors"):
        Ward2017().featurize_many([NACL], return_errors=True)
    with pytest.raises(TypeError, match="list-like"):
        Ward2017().featurize_many(NACL)


def test_sklearn_and_pickle() -> None:
    featurizer = clone(Ward2017())
    assert featurizer.get_params() == {}
    table = featurizer.fit_transform([NACL, CSCL])
    assert np.asarray(table).shape == (2, 271)
    again = pickle.loads(pickle.dumps(featurizer))
    np.testing.assert_array_equal(again.transform([NACL, CSCL]), table)


def test_inside_multiple_featurizer() -> None:
    combined = MultipleFeaturizer([Ward2017()], iterate_over_entries=False)
    frame = combined.featurize_dataframe(pd.DataFrame({"structure": [NACL, CSCL]}), "structure", pbar=False)
    assert frame.shape == (2, 272)


def test_precheck_and_citations() -> None:
    featurizer = Ward2017()
    assert featurizer.precheck(NACL) and not featurizer.precheck(DISORDERED)
    assert featurizer.precheck_dataframe(pd.DataFrame({"s": [NACL, DISORDERED]}), "s", return_frac=True) == 0.5
    assert all("@article" in citation and "doi" in citation for citation in featurizer.citations())
    assert featurizer.implementors()


def test_processes() -> None:
    featurizer = Ward2017()
    featurizer.set_n_jobs(2)
    np.testing.assert_allclose(
        featurizer.featurize_many([NACL, CSCL] * 3, pbar=False)[-1], Ward2017().featurize(CSCL), atol=1e-9
    )
