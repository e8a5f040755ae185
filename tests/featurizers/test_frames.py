"""DataFrames that cannot be featurized: the error says so before anything is computed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ase_matprop.errors import ColumnError, FeaturizerError, FeaturizerInputError, MatPropError, StructureError
from ase_matprop.featurizers import Ward2017
from tests.featurizers.conftest import Maker
from tests.featurizers.crystals import FEO, NACL


def test_missing_column(make: Maker) -> None:
    frame = pd.DataFrame({"structure": [NACL], "band gap": [1.0]})
    for call in (make().featurize_dataframe, make().precheck_dataframe):
        for name in ("structures", ["structures"]):
            with pytest.raises(KeyError) as caught:
                call(frame, name)
            assert isinstance(caught.value, MatPropError)
            assert str(caught.value) == (
                "the DataFrame has no column 'structures'. Did you mean 'structure'? Columns: structure, band gap."
            )
        with pytest.raises(ColumnError, match="one column .*Got .'structure', 'band gap'"):
            call(frame, ["structure", "band gap"])
        with pytest.raises(FeaturizerInputError, match="takes a DataFrame .*Got list"):
            call([NACL], "structure")
        with pytest.raises(FeaturizerInputError, match="takes a DataFrame .*None was given"):
            call(None, "structure")
        with pytest.raises(ColumnError, match="has 2 columns 'structure'"):
            call(pd.DataFrame([[NACL, FEO]], columns=["structure", "structure"]), "structure")
    with pytest.raises(ColumnError, match=r"Columns: 0, 1, .*\(20 in all\)"):
        make().featurize_dataframe(pd.DataFrame(np.zeros((1, 20))), "structure")


def test_columns_that_are_there_already(make: Maker) -> None:
    frame = make().featurize_dataframe(pd.DataFrame({"s": [NACL]}), "s", pbar=False)
    with pytest.raises(ValueError, match=f"exists in input dataframe.*{type(make()).__name__}"):
        make().featurize_dataframe(frame, "s", pbar=False)
    name = f"{type(make()).__name__} Exceptions"
    frame = pd.DataFrame({"s": [NACL], name: ["?"]})
    with pytest.raises(FeaturizerError, match=f"'{name}' exists"):
        make().featurize_dataframe(frame, "s", ignore_errors=True, return_errors=True, pbar=False)
    assert make().featurize_dataframe(frame, "s", pbar=False).shape == (1, 2 + len(make().feature_labels()))


def test_other_names_of_columns(make: Maker) -> None:
    expected = make().featurize_many([NACL], pbar=False)
    for name in (0, np.int64(3)):
        frame = pd.DataFrame({name: [NACL]})
        result = make().featurize_dataframe(frame, name, pbar=False)
        np.testing.assert_allclose(result[make().feature_labels()].astype(float), expected, rtol=1e-5, atol=1e-6)


def test_wrong_types_and_options() -> None:
    frame = pd.DataFrame({"energy": [1.0, 2.0], "s": [NACL, FEO]})
    with pytest.raises(StructureError, match="row 0: is a float64, not a structure.*ignore_errors=True"):
        Ward2017().featurize_dataframe(frame, "energy", pbar=False)
    with pytest.raises(ValueError, match="return_errors needs ignore_errors=True"):
        Ward2017().featurize_dataframe(frame, "s", return_errors=True, pbar=False)
    with pytest.raises(ValueError, match="multiindex"):
        nested = frame.copy()
        nested.columns = pd.MultiIndex.from_product([["a"], nested.columns])
        Ward2017().featurize_dataframe(nested, ("a", "s"), pbar=False)
    empty = Ward2017().featurize_dataframe(frame[:0], "s", pbar=False)
    assert empty.shape == (0, 2 + 271)
    assert frame.shape == (2, 2)


def test_inplace_and_nested() -> None:
    frame = pd.DataFrame({"s": [NACL, FEO]})
    with pytest.warns(UserWarning, match="Multiindexing enabled with inplace"):
        assert Ward2017().featurize_dataframe(frame, "s", inplace=True, multiindex=True, pbar=False) is None
    assert frame["Ward2017"].shape == (2, 271) and frame["Input Data"].shape == (2, 1)
