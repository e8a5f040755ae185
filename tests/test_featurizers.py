"""The matminer featurizers: matminer's contract for all of them, and what each one computes."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase.build import bulk
from matminer.featurizers.base import BaseFeaturizer, MultipleFeaturizer
from pymatgen.core import Composition, Lattice, Molecule, Structure
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ase_matprop import load_model
from ase_matprop.compositions import as_amounts
from ase_matprop.descriptors import composition, fractions, ward2017
from ase_matprop.errors import (
    CompositionError,
    DescriptorError,
    MatPropError,
    StructureError,
    UnknownElementError,
    UnknownNameError,
)
from ase_matprop.featurizers import ElementFractions, MagpieComposition, NetworkFeaturizer, Ward2017

NACL = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
FEO = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.33), ["Fe", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CSCL = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
DISORDERED = Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Ni": 0.5}], [[0, 0, 0]])
FLEROVIUM = Structure(Lattice.cubic(4.0), ["Fl", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])  # no table has it

Maker = Callable[[], BaseFeaturizer]


@pytest.fixture(
    params=[
        "Ward2017",
        "MagpieComposition",
        "ElementFractions",
        "prediction",
        "layer of structures",
        "layer",
        "classes",
    ]
)
def make(
    request: pytest.FixtureRequest,
    small_model: Path,
    structure_model: Path,
    two_property_model: Path,
    classifier_model: Path,
) -> Maker:
    """What makes a featurizer of each kind."""
    makers: dict[str, Maker] = {
        "Ward2017": Ward2017,
        "MagpieComposition": MagpieComposition,
        "ElementFractions": ElementFractions,
        "prediction": lambda: NetworkFeaturizer(two_property_model),
        "layer of structures": lambda: NetworkFeaturizer(str(structure_model), layer=0),
        "layer": lambda: NetworkFeaturizer(small_model, layer=-1),
        "classes": lambda: NetworkFeaturizer(classifier_model),
    }
    return makers[request.param]


# what holds for all of them


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
    columns = make().featurize_dataframe(frame, "input", pbar=False, multiindex=True).columns
    assert columns[2] == (type(featurizer).__name__, featurizer.feature_labels()[0])


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


def test_precheck_and_citations(make: Maker) -> None:
    featurizer = make()
    assert featurizer.precheck(NACL) is True
    assert featurizer.precheck(FLEROVIUM) is featurizer.precheck(None) is False
    frame = pd.DataFrame({"s": [NACL, FLEROVIUM]})
    assert featurizer.precheck_dataframe(frame, "s", return_frac=True) == 0.5
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


def test_inside_multiple_featurizer(make: Maker) -> None:
    combined = MultipleFeaturizer([make()], iterate_over_entries=False)
    frame = combined.featurize_dataframe(pd.DataFrame({"input": [NACL, FEO]}), "input", pbar=False)
    assert frame.shape == (2, 1 + len(make().feature_labels()))


def test_processes() -> None:
    for featurizer in (Ward2017(), MagpieComposition()):
        featurizer.set_n_jobs(2)
        np.testing.assert_allclose(
            featurizer.featurize_many([NACL, CSCL] * 3, pbar=False)[-1], type(featurizer)().featurize(CSCL), atol=1e-9
        )


# descriptors


def test_ward2017() -> None:
    values = Ward2017().featurize(NACL)
    assert len(values) == 271
    expected, _ = ward2017.compute([bulk("NaCl", "rocksalt", 5.64)])
    np.testing.assert_allclose(values, expected[0], atol=2e-4)
    assert Ward2017().feature_labels() == ward2017.feature_labels()
    assert all("@article" in citation and "doi" in citation for citation in Ward2017().citations())
    with pytest.raises(StructureError, match="disorder"):
        Ward2017().featurize(DISORDERED)
    assert not Ward2017().precheck(DISORDERED)


FORMULAS = ["NaCl", "Fe2O3", "Ag0.48Mg0.52"]


@pytest.mark.parametrize(
    ("featurizer", "module", "n_features"),
    [(MagpieComposition(), composition, 145), (ElementFractions(), fractions, 86)],
)
def test_features_of_compositions(featurizer: BaseFeaturizer, module, n_features: int) -> None:
    expected, _ = module.compute_amounts([as_amounts(formula) for formula in FORMULAS])
    assert featurizer.feature_labels() == module.feature_labels() and expected.shape == (3, n_features)
    for column in (FORMULAS, [Composition(formula) for formula in FORMULAS]):
        frame = pd.DataFrame({"composition": column})
        result = featurizer.featurize_dataframe(frame, "composition", pbar=False)
        np.testing.assert_allclose(result[featurizer.feature_labels()], expected, rtol=1e-9, atol=1e-12)
    assert all("@article" in citation and "doi" in citation for citation in featurizer.citations())
    with pytest.raises(CompositionError, match="row 1: 'Xx2' is no formula: Xx is no element"):
        featurizer.featurize_many(["NaCl", "Xx2"])
    with pytest.raises(DescriptorError, match="row 0"):
        featurizer.featurize_many(["FlO"])


@pytest.mark.parametrize("featurizer", [MagpieComposition(), ElementFractions()])
def test_multiples_of_a_formula_and_whatever_has_a_composition(featurizer: BaseFeaturizer) -> None:
    """The number of formula units does not matter, nor what the composition comes from."""
    same = ["Fe2O3", "Fe4O6", "O3Fe2", "Fe0.4O0.6", {"O": 6, "Fe": 4}, Composition("Fe2O3")]
    table = np.array(featurizer.featurize_many(same, pbar=False))
    np.testing.assert_allclose(table, table[[0] * len(same)], rtol=1e-9, atol=1e-12)
    salt = featurizer.featurize("NaCl")
    for obj in (NACL, bulk("NaCl", "rocksalt", 5.64), Molecule(["Na", "Cl"], [[0, 0, 0], [0, 0, 2.4]])):
        np.testing.assert_allclose(featurizer.featurize(obj), salt, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(featurizer.featurize(DISORDERED), featurizer.featurize("CuNi"), rtol=1e-9, atol=1e-12)


def test_element_fractions_add_up() -> None:
    table = pd.DataFrame(
        ElementFractions().featurize_many(FORMULAS, pbar=False), columns=ElementFractions().feature_labels()
    )
    np.testing.assert_allclose(table.sum(axis=1), 1.0)
    assert table["fraction of O"].tolist() == pytest.approx([0.0, 0.6, 0.0])


def test_sodium_nitride_is_no_gap(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("formula\nNaN\nNaCl\n")
    whole = pd.read_csv(tmp_path / "t.csv", keep_default_na=False)
    fractions_of = ElementFractions().featurize_dataframe(whole, "formula", pbar=False)
    assert fractions_of["fraction of N"].tolist() == [0.5, 0.0]
    gap = pd.read_csv(tmp_path / "t.csv")
    with pytest.raises(CompositionError, match="row 0: is nan, a gap in a table.*keep_default_na"):
        ElementFractions().featurize_dataframe(gap, "formula", pbar=False)


# networks


def test_predictions_as_features(two_property_model: Path, classifier_model: Path, structure_model: Path) -> None:
    featurizer = NetworkFeaturizer(two_property_model)
    assert featurizer.feature_labels() == [
        "formation_energy_per_atom (two-properties) [eV/atom]",
        "band_gap (two-properties) [eV]",
    ]
    predictions = load_model(two_property_model).predict(["NaCl", "Fe2O3"])
    expected = np.column_stack([predictions.values, predictions["band_gap"].values])
    np.testing.assert_allclose(featurizer.featurize_many(["NaCl", "Fe2O3"]), expected, atol=1e-6)

    featurizer = NetworkFeaturizer(classifier_model)
    assert featurizer.feature_labels() == ["probability of metal (classifier)", "probability of non-metal (classifier)"]
    table = np.array(featurizer.featurize_many(["NaCl", "Fe2O3"]))
    np.testing.assert_allclose(table.sum(axis=1), 1.0)
    np.testing.assert_allclose(table, load_model(classifier_model).predict(["NaCl", "Fe2O3"]).probabilities, atol=1e-6)

    featurizer = NetworkFeaturizer(structure_model)
    values = load_model(structure_model).predict([NACL]).values
    assert featurizer.featurize(NACL) == pytest.approx(values.tolist())
    with pytest.raises(StructureError, match="needs the structure"):
        featurizer.featurize("NaCl")


def test_activations_as_features(small_model: Path, structure_model: Path) -> None:
    """The small model has two members with hidden layers of 16, 16 and 8 units."""
    for layer, number, width in ((0, 0, 16), (-1, 2, 8), (-3, 0, 16)):
        featurizer = NetworkFeaturizer(small_model, layer=layer)
        assert featurizer.feature_labels() == [
            f"small member {member} layer {number} unit {unit}" for member in range(2) for unit in range(width)
        ]
        expected, _ = load_model(small_model).represent(["NaCl", "Fe2O3"], layer=layer)
        np.testing.assert_allclose(featurizer.featurize_many(["NaCl", "Fe2O3"]), expected, atol=1e-6)
    assert NetworkFeaturizer(structure_model, layer=1).feature_labels()[-1] == "structural layer 1 unit 15"


def test_errors_of_networks(small_model: Path) -> None:
    featurizer = NetworkFeaturizer(small_model)
    for wrong, error in (("Xx2", CompositionError), ("CuO", UnknownElementError), (None, CompositionError)):
        with pytest.raises(error, match="row 1"):
            featurizer.featurize_many(["NaCl", wrong])
    with pytest.raises(MatPropError, match="hidden layers 0 to 2. Got 3"):
        NetworkFeaturizer(small_model, layer=3).feature_labels()
    nothing = NetworkFeaturizer("irnet17")  # the constructor stores what it gets
    assert nothing.get_params() == {"model": "irnet17", "layer": None, "device": "cpu"}
    with pytest.raises(UnknownNameError, match="Did you mean"):
        nothing.featurize("NaCl")


def test_the_model_is_loaded_once_and_again_when_it_changes(
    small_model: Path, two_property_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def load(model, **kwargs):
        loaded.append(model)
        return load_model(model, **kwargs)

    monkeypatch.setattr("ase_matprop.featurizers.network.load_model", load)
    featurizer = NetworkFeaturizer(small_model)
    assert loaded == []
    for _ in range(2):
        featurizer.featurize_dataframe(pd.DataFrame({"formula": ["NaCl"]}), "formula", pbar=False)
    assert loaded == [small_model]
    featurizer.set_params(model=two_property_model)
    assert len(featurizer.featurize("NaCl")) == 2 and loaded == [small_model, two_property_model]
