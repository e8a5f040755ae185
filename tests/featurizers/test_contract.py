"""matminer's contract, which holds for all featurizers."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import warnings
from pathlib import Path

import bibtexparser
import joblib
import numpy as np
import pandas as pd
import pytest
from matminer.featurizers.base import BaseFeaturizer, MultipleFeaturizer, StackedFeaturizer
from matminer.featurizers.conversions import (
    ASEAtomstoStructure,
    DictToObject,
    StrToComposition,
    StructureToComposition,
    StructureToOxidStructure,
)
from matminer.featurizers.structure import DensityFeatures
from pymatgen.io.ase import AseAtomsAdaptor
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ase_matprop import featurizers
from ase_matprop.errors import MatPropError
from ase_matprop.featurizers import KS2022, ElementFractions, MagpieComposition, NetworkFeaturizer, Ward2017, base
from tests.featurizers.conftest import Maker
from tests.featurizers.crystals import BROKEN, CSCL, FEO, FLEROVIUM, NACL


def test_a_batch_gives_what_single_entries_give(make: Maker) -> None:
    featurizer = make()
    labels = featurizer.feature_labels()
    assert labels is not featurizer.feature_labels() and len(set(labels)) == len(labels)
    table = featurizer.featurize_many([NACL, FEO, NACL], pbar=False)
    assert [len(row) for row in table] == [len(labels)] * 3
    assert np.isfinite(table).all() and table[0] != table[1]
    np.testing.assert_allclose(table[2], table[0], atol=1e-6)
    for structure, row in zip((NACL, FEO), table, strict=False):
        alone = featurizer.featurize(structure)
        assert isinstance(alone, list) and all(type(value) is float for value in alone)
        np.testing.assert_allclose(alone, row, rtol=1e-5, atol=1e-6)
    assert featurizer.featurize_many([]) == []


def test_dataframe(make: Maker) -> None:
    frame = pd.DataFrame({"input": [NACL, FEO], "target": [1, 2]}, index=["a", "b"])
    featurizer = make()
    result = featurizer.featurize_dataframe(frame, "input", pbar=False)
    assert list(result.index) == ["a", "b"] and list(frame.columns) == ["input", "target"]
    assert list(result.columns) == ["input", "target", *featurizer.feature_labels()]
    np.testing.assert_allclose(result.iloc[1, 2:].astype(float), featurizer.featurize(FEO), rtol=1e-5, atol=1e-6)
    columns = (
        make()
        .featurize_dataframe(frame, "input", pbar=False, multiindex=True, ignore_errors=True, return_errors=True)
        .columns
    )
    name = type(featurizer).__name__
    assert columns[2] == (name, featurizer.feature_labels()[0]) and columns[-1] == (name, f"{name} Exceptions")
    assert list(frame.columns) == ["input", "target"]  # matminer alone would rename them
    nested = make().featurize_dataframe(frame, "input", pbar=False, multiindex=True)[["Input Data"]]
    again = make().featurize_dataframe(nested, ("Input Data", "input"), pbar=False, multiindex=True)
    np.testing.assert_array_equal(again[name].to_numpy(), result[featurizer.feature_labels()].to_numpy())


def test_broken_rows(make: Maker) -> None:
    featurizer = make()
    rows = [NACL, None, FLEROVIUM, FEO]
    frame = pd.DataFrame({"input": pd.Series(rows, dtype=object)})
    result = featurizer.featurize_dataframe(frame, "input", ignore_errors=True, return_errors=True, pbar=False)
    features = result[featurizer.feature_labels()]
    assert features.notna().all(axis=1).tolist() == [True, False, False, True]
    assert features.isna().all(axis=1).tolist() == [False, True, True, False]
    reasons = result[f"{type(featurizer).__name__} Exceptions"]
    assert reasons.notna().tolist() == [False, True, True, False]
    assert "Error: row 1: is" in reasons[1] and "Error: row 2: " in reasons[2] and re.search("Fl|114", reasons[2])
    np.testing.assert_allclose(
        np.array(featurizer.featurize_many(rows, ignore_errors=True)), features.to_numpy(), rtol=1e-6
    )
    with pytest.raises(ValueError, match="row 1.*ignore_errors"):
        featurizer.featurize_many(rows, pbar=False)
    for row in rows[1:3]:
        with pytest.raises(MatPropError, match="cannot be featurized"):
            featurizer.featurize(row)
    with pytest.raises(ValueError, match="ignore_errors"):
        featurizer.featurize_many([NACL], return_errors=True)
    with pytest.raises(TypeError, match="list-like"):
        featurizer.featurize_many(NACL)
    with pytest.raises(TypeError, match="list-like.* None was given"):
        featurizer.featurize_many(None)


def test_precheck_and_citations(make: Maker) -> None:
    featurizer = make()
    assert featurizer.precheck(NACL) is True
    assert featurizer.precheck(FLEROVIUM) is featurizer.precheck(None) is False
    frame = pd.DataFrame({"s": [NACL, FLEROVIUM]})
    assert featurizer.precheck_dataframe(frame, "s", return_frac=True) == 0.5
    frame.index = ["a", "b"]
    checked = featurizer.precheck_dataframe(frame, ["s"], return_frac=False)
    assert checked[f"{type(featurizer).__name__} precheck pass"].to_dict() == {"a": True, "b": False}
    assert frame.shape == (2, 1) and featurizer.precheck_dataframe(frame[:0], "s") == 1.0
    assert featurizer.citations() and featurizer.citations() is not featurizer.citations()
    assert featurizer.implementors()


def test_sklearn_and_pickle(make: Maker) -> None:
    featurizer = clone(make())
    assert featurizer.get_params() == make().get_params()
    table = featurizer.fit_transform([NACL, FEO])
    assert np.asarray(table).shape == (2, len(featurizer.feature_labels()))
    for again in (pickle.loads(pickle.dumps(featurizer)), copy.deepcopy(featurizer), clone(featurizer)):
        np.testing.assert_array_equal(again.transform([NACL, FEO]), table)
    assert len(pickle.dumps(featurizer)) < 2000  # without descriptor tables and weights
    scaled = make_pipeline(make(), StandardScaler()).fit_transform([NACL, FEO])
    assert np.abs(scaled).max() <= 1.0 + 1e-6


def test_column_transformer_and_names(make: Maker) -> None:
    frame = pd.DataFrame({"input": [NACL, FEO], "x": [1.0, 2.0]}, index=["a", "b"])
    labels = make().feature_labels()
    for column in ("input", ["input"]):
        joined = ColumnTransformer([("f", make(), column), ("x", "passthrough", ["x"])]).fit(frame)
        assert joined.transform(frame).shape == (2, len(labels) + 1)
        assert joined.get_feature_names_out().tolist() == [*(f"f__{label}" for label in labels), "x__x"]
    table = make().set_output(transform="pandas").transform(frame["input"])
    assert table.index.tolist() == ["a", "b"] and table.columns.tolist() == labels
    assert make_pipeline(make()).transform([NACL]).shape == (1, len(labels))  # needs no fit


def test_transform_says_which_rows_are_nan(make: Maker) -> None:
    with pytest.warns(UserWarning, match="4 of 5 rows have no features of .*row 1: .*row 3: .*and 1 more"):
        table = make().transform([NACL, None, 3, FLEROVIUM, None])
    assert np.isfinite(table[0]).all() and np.isnan(table[1:]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make().transform([NACL])
    assert make().transform([]).shape == (0, len(make().feature_labels()))


def test_ten_broken_rows(make: Maker) -> None:
    """They cost themselves and no other row, wherever they stand."""
    wrong = [row for row, _ in BROKEN]
    rows: list = [FEO, *wrong[:5], NACL, *wrong[5:], CSCL]
    alone = np.array(make().featurize_many([FEO, NACL], pbar=False))
    for ordered in (rows, rows[::-1]):
        table = make().featurize_many(
            pd.Series(ordered, dtype=object), ignore_errors=True, return_errors=True, pbar=False
        )
        for row, values in zip(ordered, table, strict=True):
            reason = values.pop()
            if row is NACL or row is FEO:
                np.testing.assert_allclose(values, alone[1 if row is NACL else 0], rtol=1e-5, atol=1e-6)
                assert np.isnan(reason)
            elif isinstance(reason, str):
                assert np.isnan(values).all() and reason.partition(": ")[0].endswith("Error")
    featurizer = make()
    if isinstance(featurizer, Ward2017 | KS2022) or getattr(
        getattr(featurizer, "predictor", None), "needs_structure", False
    ):
        for number, (row, words) in enumerate(BROKEN):
            with pytest.raises(MatPropError, match=f"^row {number + 1}: .*({words})"):
                make().featurize_many(pd.Series([NACL] * (number + 1) + [row], dtype=object), pbar=False)


# how matminer itself calls a featurizer


def test_matminers_generic_checks(make: Maker) -> None:
    """What matminer's documentation asks of every featurizer, and its own tests check of its own."""
    featurizer = make()
    parameters = inspect.signature(type(featurizer)).parameters
    assert all(p.default is not p.empty for p in parameters.values())
    assert {name: getattr(featurizer, name) for name in parameters} == featurizer.get_params(deep=False)
    assert "Features:" in inspect.getdoc(type(featurizer)) or type(featurizer).__mro__[1] is NetworkFeaturizer
    assert all(isinstance(label, str) for label in featurizer.feature_labels())
    before = copy.deepcopy(featurizer.get_params())
    structure = NACL.copy()
    first = featurizer.featurize(structure)
    assert featurizer.featurize(structure) == first and structure == NACL
    assert featurizer.get_params() == before and featurizer.fit([NACL]) is featurizer
    assert set(map(type, featurizer.implementors())) == {str}
    entries = bibtexparser.loads("\n".join(featurizer.citations())).entries
    assert len(entries) == len(featurizer.citations()) > 0
    for options in ({"inplace": False}, {"inplace": True}):
        frame = pd.DataFrame({"x": [NACL, FEO]}, index=[6, 6])
        result = featurizer.featurize_dataframe(frame, "x", pbar=False, **options)
        assert (result is None) is options["inplace"] and (frame.shape[1] == 1) is not options["inplace"]
        assert (frame if result is None else result).shape == (2, 1 + len(first))
    fitted = featurizer.fit_featurize_dataframe(pd.DataFrame({"x": [NACL]}), "x", pbar=False)
    np.testing.assert_allclose(fitted.iloc[0, 1:].astype(float), first, rtol=1e-5, atol=1e-6)
    for entries in ((NACL,), [(NACL,)], np.array([[NACL, None]], dtype=object)[:, :1], pd.DataFrame({"x": [NACL]})):
        np.testing.assert_allclose(featurizer.featurize_many(entries, pbar=False), [first], rtol=1e-5, atol=1e-6)
    with pytest.raises(Exception, match="list-like"):
        featurizer.featurize_many(3)


def test_wrapper_of_single_rows(make: Maker) -> None:
    featurizer = make()
    assert featurizer.featurize_wrapper((NACL,)) == featurizer.featurize(NACL)
    assert np.isnan(featurizer.featurize_wrapper((None,), ignore_errors=True)).all()
    *values, reason = featurizer.featurize_wrapper((None,), ignore_errors=True, return_errors=True)
    assert len(values) == len(featurizer.feature_labels()) and re.match(r"\w+Error: is ", reason)
    with pytest.raises(MatPropError, match="set ignore_errors=True"):
        featurizer.featurize_wrapper((None,))


def test_an_interruption_is_no_broken_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Ward2017, "compute", interrupt)
    combined = MultipleFeaturizer([Ward2017()])
    combined.set_n_jobs(1)
    with pytest.raises(KeyboardInterrupt):
        combined.featurize_many([NACL], ignore_errors=True, pbar=False)


@pytest.mark.parametrize("iterate", [True, False])
def test_inside_multiple_featurizer(make: Maker, iterate: bool) -> None:
    combined = MultipleFeaturizer([make(), DensityFeatures()], iterate_over_entries=iterate)
    combined.set_n_jobs(1)
    frame = pd.DataFrame({"input": pd.Series([NACL, None, FEO], dtype=object)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = combined.featurize_dataframe(frame, "input", pbar=False, ignore_errors=True, return_errors=True)
    n_own = len(make().feature_labels())
    assert result.shape == (3, 1 + n_own + 1 + 3 + 1) and result["density"].notna().tolist() == [True, False, True]
    assert re.fullmatch(rf"{type(make()).__name__}(\(.*\))? Exceptions", result.columns[1 + n_own])
    np.testing.assert_allclose(
        result.iloc[[0, 2], 1 : 1 + n_own].astype(float), make().featurize_many([NACL, FEO], pbar=False), rtol=1e-5,
        atol=1e-6,
    )  # fmt: skip


def test_stacked_featurizer(make: Maker) -> None:
    model = LinearRegression().fit(make().transform([NACL, FEO]), [1.0, 2.0])
    values = StackedFeaturizer(make(), model).featurize(FEO)
    assert float(np.ravel(values)[0]) == pytest.approx(2.0, abs=1e-4)


def test_behind_conversions(make: Maker) -> None:
    expected = make().featurize(NACL)
    frame = pd.DataFrame({"structure": [NACL.as_dict()], "atoms": [AseAtomsAdaptor.get_atoms(NACL)]})
    steps = [
        (DictToObject(target_col_id="object"), "structure"),
        (ASEAtomstoStructure(target_col_id="converted"), "atoms"),
        (StructureToOxidStructure(target_col_id="charged"), "object"),
        (StructureToComposition(target_col_id="composition"), "object"),
    ]
    for conversion, column in steps:
        conversion.set_n_jobs(1)
        frame = conversion.featurize_dataframe(frame, column, pbar=False)
    for column in ("structure", "object", "converted", "charged"):
        np.testing.assert_allclose(make().featurize(frame[column][0]), expected, rtol=1e-4, atol=1e-5)
    composition = frame["composition"][0]
    try:
        np.testing.assert_allclose(make().featurize(composition), expected, rtol=1e-5, atol=1e-6)
    except MatPropError as error:
        assert re.search("needs the structure|not a structure|is a Composition|is a dict", str(error))


def test_conversion_of_formulas_in_a_pipeline() -> None:
    conversion = StrToComposition()
    conversion.set_n_jobs(1)
    table = make_pipeline(conversion, ElementFractions()).fit_transform(["NaCl", "Fe2O3"])
    np.testing.assert_array_equal(table, ElementFractions().transform(["NaCl", "Fe2O3"]))


# processes and progress


def test_processes() -> None:
    for featurizer in (Ward2017(), MagpieComposition()):
        featurizer.set_n_jobs(2)
        np.testing.assert_allclose(
            featurizer.featurize_many([NACL, CSCL] * 3, pbar=False)[-1], type(featurizer)().featurize(CSCL), atol=1e-9
        )
        with pytest.raises(MatPropError, match="number of processes"):
            featurizer.set_n_jobs(0)
            featurizer.featurize_many([NACL])


def test_no_more_processes_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(joblib, "cpu_count", lambda: 3)
    monkeypatch.setattr(Ward2017, "compute", lambda self, rows, n_jobs: asked.append(n_jobs) or ([[]], []))
    for n_jobs in (1000, 2, -1, 1):
        featurizer = Ward2017()
        featurizer.set_n_jobs(n_jobs)
        featurizer.transform([]), next(iter(featurizer._blocks([NACL])))
    assert asked == [3, 2, 3, 1]
    monkeypatch.setattr(base.multiprocessing, "current_process", lambda: type("Worker", (), {"daemon": True}))
    assert base.processes(1000) == 1


def test_progress_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, small_model: Path) -> None:
    monkeypatch.setattr(Ward2017, "rows_at_once", 2)
    for featurizer in (Ward2017(), NetworkFeaturizer(small_model)):
        featurizer.featurize_many([NACL] * 5, pbar={"mininterval": 0})
        shown = capsys.readouterr()
        assert shown.out == "" and type(featurizer).__name__ in shown.err and "5/5" in shown.err
        assert ("2/5" in shown.err) is isinstance(featurizer, Ward2017)
        featurizer.featurize_many([NACL] * 5, pbar=False)
        featurizer.transform([NACL])
        assert capsys.readouterr().err == ""


def test_all_public_featurizers_are_matminers() -> None:
    made = [getattr(featurizers, name) for name in featurizers.__all__ if name[0].isupper()]
    assert len(made) >= 9 and all(issubclass(each, BaseFeaturizer) for each in made)
