"""Several featurizers on the same structures: one tessellation each, and never that of another structure."""

from __future__ import annotations

import multiprocessing
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ase.build import bulk
from matminer.featurizers.base import MultipleFeaturizer as MatminerMultipleFeaturizer
from matminer.featurizers.structure import DensityFeatures
from pymatgen.core import Structure
from sklearn.base import clone

from ase_matprop import load_model
from ase_matprop.descriptors import ward2017
from ase_matprop.errors import ColumnError, FeaturizerError, StructureError
from ase_matprop.featurizers import (
    ElementFractions,
    MagpieComposition,
    MultipleFeaturizer,
    NetworkFeaturizer,
    Ward2017,
    cache,
    clear_cache,
    multiple,
)
from ase_matprop.models import sharing
from tests.conftest import untrained_model
from tests.featurizers.crystals import CSCL, DISORDERED, FEO, NACL


@pytest.fixture(scope="module")
def ward_models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three models on the 271 features, alone and with others."""
    folder = tmp_path_factory.mktemp("models")
    descriptors = ("ward2017", "ward2017+fractions", "fractions+ward2017")
    return [untrained_model(folder / f"ward-{n}", descriptor=name) for n, name in enumerate(descriptors)]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of structures of each call of the descriptor; the cache is empty to begin with."""
    clear_cache()
    monkeypatch.setattr(sharing, "_loaded", OrderedDict())  # loaded models keep the function that they were loaded with
    calls: list[int] = []
    compute = ward2017.compute

    def counting(structures):
        calls.append(len(structures))
        return compute(structures)

    monkeypatch.setattr(ward2017, "compute", counting)
    return calls


@pytest.mark.parametrize(
    ("combine", "calls"),
    [
        (MatminerMultipleFeaturizer, [1, 1, 1]),
        (lambda parts: MatminerMultipleFeaturizer(parts, iterate_over_entries=False), [3]),
        (MultipleFeaturizer, [2, 1]),
    ],
)
def test_one_tessellation_for_all(
    combine, calls: list[int], computed: list[int], ward_models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ward2017 and three networks: each structure once, and a structure that stands twice once."""
    monkeypatch.setattr(multiple, "_ROWS_AT_ONCE", 2)
    parts = [Ward2017(), *(NetworkFeaturizer(model) for model in ward_models)]
    combined = combine(parts)
    combined.set_n_jobs(1)
    frame = pd.DataFrame({"s": pd.Series([NACL, FEO, None, bulk("MgO", "rocksalt", 4.21), NACL], dtype=object)})
    result = combined.featurize_dataframe(frame, "s", ignore_errors=True, return_errors=True, pbar=False)
    assert computed == calls
    assert len(set(result.columns)) == len(result.columns) == 1 + 271 + 1 + 3 * 2
    names = [f"NetworkFeaturizer({model.name}) Exceptions" for model in ward_models]
    assert [name for name in result.columns if "Exceptions" in name] == ["Ward2017 Exceptions", *names]
    for part in parts:
        clear_cache()
        np.testing.assert_allclose(
            result[part.feature_labels()].iloc[[0, 1, 3]], part.transform(frame["s"].iloc[[0, 1, 3]]), atol=1e-5
        )


def test_a_changed_structure_is_another_one(computed: list[int]) -> None:
    structure: Structure = CSCL.copy()
    first = Ward2017().featurize(structure)
    assert Ward2017().featurize(structure) == first and computed == [1]
    for change in (
        lambda: structure.translate_sites([0], [0.02, 0.0, 0.0]),
        lambda: structure.replace(0, "Rb"),
        lambda: structure.apply_strain([0.1, 0.0, 0.0]),
        lambda: structure.append("F", [0.5, 0.5, 0.0]),
    ):
        change()
        clear = Ward2017().featurize(structure)
        n_calls = len(computed)
        clear_cache()
        assert clear == Ward2017().featurize(structure) != first and len(computed) == n_calls + 1
        first = clear
    Ward2017().featurize(structure)[0] = -1.0
    table = Ward2017().transform([structure])
    table[:] = -1.0  # what is handed out is not what is kept
    assert Ward2017().featurize(structure) == first


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, computed: list[int]) -> None:
    monkeypatch.setattr(cache, "_cache", cache.RowCache(2 * 271 * 8))
    structures = [NACL, FEO, CSCL]
    expected = Ward2017().transform(structures)
    assert len(cache._cache) == 2 and cache._cache.n_bytes == 2 * 271 * 8
    np.testing.assert_array_equal(Ward2017().transform([CSCL, FEO]), expected[[2, 1]])
    assert computed == [3]
    Ward2017().featurize(NACL)
    assert computed == [3, 1]
    clear_cache()
    assert len(cache._cache) == cache._cache.n_bytes == 0


def test_failures_are_not_kept(computed: list[int]) -> None:
    twice = pd.Series([DISORDERED, NACL, bulk("Cn", "fcc", 4.0), bulk("Fl", "fcc", 4.0)], dtype=object)
    for _ in range(2):
        table = Ward2017().featurize_many(twice, ignore_errors=True, return_errors=True, pbar=False)
        assert [isinstance(row[-1], str) for row in table] == [True, False, False, True]


def test_models_of_others_do_not_fill_the_cache(ward_models: list[Path], computed: list[int]) -> None:
    NetworkFeaturizer(ward_models[0]).featurize(NACL)
    for predictor in (load_model(ward_models[0]), sharing.shared_model(ward_models[0])):
        predictor.predict([NACL])
    assert computed == [1, 1, 1]


def test_batches_in_several_processes(ward_models: list[Path], computed: list[int]) -> None:
    featurizer = NetworkFeaturizer(ward_models[1])
    expected = featurizer.transform([NACL, FEO, NACL, FEO])
    clear_cache()
    featurizer.set_n_jobs(2)
    np.testing.assert_allclose(featurizer.transform([NACL, FEO, NACL, FEO]), expected, atol=1e-6)


def test_multiple_featurizer(small_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [Ward2017(), DensityFeatures(), NetworkFeaturizer(small_model)]
    parts[1].set_n_jobs(1)
    combined = MultipleFeaturizer(parts)
    frame = pd.DataFrame({"s": [NACL, None, FEO]}, index=list("abc"))
    result = combined.featurize_dataframe(frame, "s", ignore_errors=True, return_errors=True)
    assert "3/3" in capsys.readouterr().err
    assert result.index.tolist() == list("abc") and result.shape == (3, 1 + 272 + 4 + 2)
    assert "row 1: is" in result.loc["b", "Ward2017 Exceptions"]
    assert combined.precheck_dataframe(frame, "s") == pytest.approx(2 / 3)
    checked = combined.precheck_dataframe(frame, "s", return_frac=False)
    assert checked["MultipleFeaturizer precheck pass"].to_dict() == {"a": True, "b": False, "c": True}
    again = clone(combined)
    with pytest.warns(UserWarning, match="1 of 3 rows have no features"):
        assert again.transform(frame["s"]).shape == (3, 275)
    assert again.get_feature_names_out().shape == (275,)
    np.testing.assert_array_equal(again.featurize(NACL), combined.transform([NACL])[0])
    nested = combined.featurize_dataframe(frame, "s", ignore_errors=True, multiindex=True, pbar=False)
    assert nested["DensityFeatures"].shape == (3, 3) and list(frame.columns) == ["s"]
    with pytest.raises(StructureError, match="row 1: .*None"):
        combined.featurize_many(frame["s"], pbar=False)
    with pytest.raises(ColumnError, match="no column 't'"):
        combined.featurize_dataframe(frame, "t")
    assert combined.transform([]).shape == (0, 275)


def test_rows_that_fail_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by the featurizers themselves, once for all of them, whatever stands in between."""
    monkeypatch.setattr(multiple, "_ROWS_AT_ONCE", 2)
    rows = [NACL, FEO, DISORDERED, None, FEO]
    densities = DensityFeatures()
    densities.set_n_jobs(1)
    parts = [ElementFractions(), MultipleFeaturizer([densities, Ward2017()])]
    names = "ElementFractions or DensityFeatures or Ward2017"
    with pytest.warns(UserWarning, match="rows have no features") as caught:
        table = MultipleFeaturizer(parts).transform(rows)
    (message,) = [str(each.message) for each in caught]
    assert message.startswith(f"2 of 5 rows have no features of {names} and are NaN: row 2: ")
    assert "disordered" in message.lower() and "; row 3: " in message and "None" in message
    n_fractions = len(ElementFractions().feature_labels())
    assert table.shape == (5, n_fractions + 3 + 271)
    assert np.isfinite(table[[0, 1, 4]]).all() and np.isnan(table[3]).all() and np.isnan(table[2, -271:]).all()
    np.testing.assert_array_equal(table[[0, 1, 4], -271:], Ward2017().transform([NACL, FEO, FEO]))
    np.testing.assert_array_equal(table[[0, 1, 4], :n_fractions], ElementFractions().transform([NACL, FEO, FEO]))
    with pytest.warns(UserWarning, match="4 of 5 rows .* of Ward2017 and are NaN: row 0.*; and 1 more"):
        MultipleFeaturizer([Ward2017()]).transform([None, None, None, None, NACL])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MultipleFeaturizer(parts).transform([NACL, FEO])
    reasons = MultipleFeaturizer(parts).featurize_many(rows, ignore_errors=True, return_errors=True, pbar=False)
    assert "row 3: " in reasons[3][-1]  # counted from the first row of the table, within another one too


def test_what_is_no_list_of_featurizers() -> None:
    for wrong, words in (
        ([], "has no featurizers; give a list of featurizers"),
        (None, "None was given; give a list"),
        (Ward2017(), "Got Ward2017; give a list"),
        (
            [Ward2017(), MagpieComposition],
            r"featurizer 1 .* is the class MagpieComposition; give MagpieComposition\(\)",
        ),
        ([None], "featurizer 0 .* None was given"),
        (["Ward2017"], "featurizer 0 .* Got 'Ward2017'"),
    ):
        with pytest.raises(FeaturizerError, match=words):
            MultipleFeaturizer(wrong)
        changed = MultipleFeaturizer([Ward2017()])
        changed.featurizers = wrong
        for use in (
            lambda: changed.transform([NACL]),  # noqa: B023  called at once
            lambda: changed.featurize_many([NACL]),  # noqa: B023
            lambda: changed.featurize_dataframe(pd.DataFrame({"s": [NACL]}), "s"),  # noqa: B023
        ):
            with pytest.raises(FeaturizerError, match=words):
                use()


def test_features_of_one_name(computed: list[int]) -> None:
    """The last 145 of Ward2017 are those of MagpieComposition; pandas would give each of them twice."""
    frame = pd.DataFrame({"s": [NACL]})
    with pytest.raises(FeaturizerError, match=r"several features called 'Number of Components', .*\(145 in all\)"):
        MultipleFeaturizer([Ward2017(), MagpieComposition()]).featurize_dataframe(frame, "s")


def threads() -> tuple[int, int, int]:
    """Number of torch's threads before, while and after a network is evaluated."""
    before = torch.get_num_threads()
    with sharing.evaluation_threads():
        inside = torch.get_num_threads()
    return before, inside, torch.get_num_threads()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork")
def test_forked_processes(small_model: Path) -> None:
    """matminer's default forks a process per core, of a parent with threads: there each takes one thread."""
    network = NetworkFeaturizer(small_model)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = network.transform(["NaCl", "MgO"] * 50)[:2]
        combined = MatminerMultipleFeaturizer([ElementFractions(), network])
        combined.set_n_jobs(2)
        rows = combined.featurize_many(["NaCl", "MgO"] * 10, pbar=False)
        np.testing.assert_allclose([row[-1] for row in rows[-2:]], expected[:, 0], atol=1e-6)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply(threads) == (2, 1, 2)
        assert threads() == (2, 2, 2)
    finally:
        torch.set_num_threads(n_threads)


def test_arguments_of_featurize_dataframe_by_position(small_model: Path) -> None:
    """In the order of matminer's; the table itself stays as it was unless this is asked for."""
    combined = MultipleFeaturizer([MagpieComposition(), NetworkFeaturizer(small_model)])
    frame = pd.DataFrame({"f": ["NaCl", "MgO"]}, index=[7, 9])
    nested = combined.featurize_dataframe(frame, "f", False, False, False, True, False)
    assert list(frame.columns) == ["f"] and nested.columns.nlevels == 2 and nested.index.tolist() == [7, 9]
    assert nested["MagpieComposition"].shape == (2, 145) and nested["Input Data"].shape == (2, 1)
    assert combined.featurize_dataframe(frame, "f", False, False, True, False, False) is None
    assert frame.shape == (2, 1 + 145 + 1)


def test_wrong_calls_of_featurize_dataframe(small_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are found before anything is computed, whichever featurizer of several it is about."""
    combined = MultipleFeaturizer([MagpieComposition(), NetworkFeaturizer(small_model)])
    monkeypatch.setattr(MultipleFeaturizer, "featurize_many", lambda *args, **kwargs: pytest.fail("computed"))
    frame = pd.DataFrame({"f": ["NaCl"]})
    with pytest.raises(FeaturizerError, match="return_errors needs ignore_errors"):
        combined.featurize_dataframe(frame, "f", return_errors=True)
    for name in ("MagpieComposition Exceptions", "NetworkFeaturizer(small) Exceptions", "Number of Components"):
        with pytest.raises(FeaturizerError, match="exists in input dataframe"):
            combined.featurize_dataframe(frame.assign(**{name: 1}), "f", True, True)
    for n_levels, words in ((2, "set multiindex=True"), (3, "3 levels")):
        levels = frame.copy()
        levels.columns = pd.MultiIndex.from_tuples([("f",) * n_levels])
        with pytest.raises(FeaturizerError, match=words):
            combined.featurize_dataframe(levels, ("f",) * n_levels, multiindex=n_levels == 3)
