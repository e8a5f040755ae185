"""The featurizers of networks: predictions, activations, and one class per family."""

from __future__ import annotations

from pathlib import Path

import bibtexparser
import numpy as np
import pandas as pd
import pytest
from ase.build import bulk

from ase_matprop import calculators, load_model
from ase_matprop.errors import (
    CompositionError,
    FeaturizerError,
    MatPropError,
    StructureError,
    UnknownElementError,
    UnknownNameError,
)
from ase_matprop.featurizers import (
    ElemNetFeaturizer,
    IRNetFeaturizer,
    NetworkFeaturizer,
    SchNetFeaturizer,
    SIPFENNFeaturizer,
)
from ase_matprop.featurizers.citations import bibtex
from ase_matprop.models import list_models, sharing
from ase_matprop.models.registry import read_card
from tests.conftest import untrained_model
from tests.featurizers.crystals import DISORDERED, NACL, WATER


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


def test_output_and_layer(small_model: Path) -> None:
    """Either alone is enough; the last hidden layer is the representation that is meant without a number."""
    last = NetworkFeaturizer(small_model, layer=-1).featurize("NaCl")
    for same in ({"output": "representation"}, {"output": "representation", "layer": 2}, {"layer": 2}):
        assert NetworkFeaturizer(small_model, **same).featurize("NaCl") == last
    assert NetworkFeaturizer(small_model, "representation", 0).featurize("NaCl") != last
    assert NetworkFeaturizer(small_model, output="prediction").featurize("NaCl") == NetworkFeaturizer(
        small_model
    ).featurize("NaCl")
    with pytest.raises(FeaturizerError, match="a prediction has no layer. Got layer=-1"):
        NetworkFeaturizer(small_model, output="prediction", layer=-1).featurize("NaCl")
    with pytest.raises(UnknownNameError, match="Did you mean 'representation'"):
        NetworkFeaturizer(small_model, output="representations").feature_labels()


def test_representation_of_graphs(schnet_model: Path) -> None:
    featurizer = SchNetFeaturizer(schnet_model, output="representation")
    table = np.array(featurizer.featurize_many([NACL, bulk("Fe")], pbar=False))
    expected, _ = load_model(schnet_model).represent([NACL, bulk("Fe")])
    np.testing.assert_allclose(table, expected, atol=1e-6)
    assert table.shape == (2, 16) and featurizer.feature_labels()[-1] == "one-schnet layer 1 unit 15"


FAMILIES = {
    SIPFENNFeaturizer: calculators.SIPFENN,
    IRNetFeaturizer: calculators.IRNet,
    ElemNetFeaturizer: calculators.ElemNet,
    SchNetFeaturizer: calculators.SchNet,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: type[NetworkFeaturizer], small_model: Path, schnet_model: Path) -> None:
    """Each has the default model of its calculator, and takes no model of another family."""
    calculator = FAMILIES[family]
    assert family().model == calculator.default_model and family().get_params().keys() == {
        "model", "output", "layer", "device",
    }  # fmt: skip
    assert read_card(family().model).network.name in calculator.networks
    featurizer = family(small_model if family is not IRNetFeaturizer else schnet_model)
    with pytest.raises(MatPropError, match=rf"{family.__name__} takes .*; use NetworkFeaturizer\("):
        featurizer.featurize_many([NACL], ignore_errors=True)
    assert family(schnet_model if family is SchNetFeaturizer else calculator.default_model).precheck(NACL)


@pytest.mark.parametrize("model", list_models())
def test_citations_of_shipped_models_are_papers(model: str) -> None:
    """All that the cards cite is in the table of papers, and what is written for it is BibTeX."""
    entries = NetworkFeaturizer(model).citations()
    parsed = bibtexparser.loads("\n".join(entries)).entries
    assert len(parsed) == len(entries) > 0
    for text, entry in zip(read_card(model).citation, parsed, strict=True):
        assert entry["ENTRYTYPE"] == "article" and text.endswith(f"doi:{entry['doi']}")
        assert f"({entry['year']})" in text and f" {entry['volume']}, {entry['pages']} " in text
        assert text.split(" et al.")[0].split()[-1].replace("ü", '{\\"u}') in entry["author"].split(" and ")[0]


def test_citations_of_other_models_are_notes() -> None:
    (entry,) = bibtexparser.loads(bibtex("A. Nobody, {braces} & 50 % more, doi:10.1000/xyz.1")).entries
    assert entry["ENTRYTYPE"] == "misc" and entry["doi"] == "10.1000/xyz.1" and "Nobody, braces" in entry["note"]
    (entry,) = bibtexparser.loads(bibtex("???")).entries
    assert entry == {"ENTRYTYPE": "misc", "ID": "reference", "note": "???"}


def test_errors_of_structure_models(structure_model: Path) -> None:
    for wrong, words in (("NaCl", "needs the structure"), (WATER, "no cell"), (DISORDERED, "disordered")):
        with pytest.raises(StructureError, match=f"row 1: .*{words}"):
            NetworkFeaturizer(structure_model).featurize_many([NACL, wrong], pbar=False)


def test_errors_of_networks(small_model: Path) -> None:
    featurizer = NetworkFeaturizer(small_model)
    for wrong, error in (("Xx2", CompositionError), ("CuO", UnknownElementError), (None, CompositionError)):
        with pytest.raises(error, match="row 1"):
            featurizer.featurize_many(["NaCl", wrong])
    with pytest.raises(MatPropError, match="hidden layers 0 to 2. Got 3"):
        NetworkFeaturizer(small_model, layer=3).feature_labels()
    nothing = NetworkFeaturizer("irnet17")  # the constructor stores what it gets
    assert nothing.get_params() == {"model": "irnet17", "output": None, "layer": None, "device": "cpu"}
    with pytest.raises(UnknownNameError, match="Did you mean"):
        nothing.featurize("NaCl")


def test_the_model_is_loaded_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load(folder: Path, **kwargs: str):
        loaded.append(folder.name)
        return load_model(folder, **kwargs)

    monkeypatch.setattr(sharing, "load_model", load)
    monkeypatch.setattr(sharing, "_loaded", type(sharing._loaded)())
    one, two = (untrained_model(tmp_path / name) for name in ("one", "two"))
    featurizer, other = NetworkFeaturizer(one), NetworkFeaturizer(one, layer=0)
    assert loaded == []
    for _ in range(2):
        featurizer.featurize_dataframe(pd.DataFrame({"formula": ["NaCl"]}), "formula", pbar=False)
    assert len(other.featurize("NaCl")) == 32 and loaded == ["one"]
    featurizer.set_params(model=two).featurize("NaCl")
    assert loaded == ["one", "two"]
    untrained_model(one, n_members=1)  # another one in the same place
    assert len(NetworkFeaturizer(one, layer=0).featurize("NaCl")) == 16 and loaded == ["one", "two", "one"]
    other.set_params(layer=0)
    assert len(other.featurize("NaCl")) == 16 and len(other.feature_labels()) == 16 and len(loaded) == 3
    for number in range(sharing.MODELS_KEPT):
        sharing.shared_model(untrained_model(tmp_path / f"further {number}"))
    assert len(sharing._loaded) == sharing.MODELS_KEPT
    NetworkFeaturizer(two).featurize("NaCl")
    assert loaded[-1] == "two"


@pytest.mark.parametrize("multiindex", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.filterwarnings("ignore:Multiindexing enabled")
def test_columns_of_the_user_keep_their_names(small_model: Path, multiindex: bool, inplace: bool) -> None:
    """The reasons of the same model in a MultipleFeaturizer are a column of another name."""
    frame = pd.DataFrame({"formula": ["NaCl"], "NetworkFeaturizer(small) Exceptions": ["mine"]})
    result = NetworkFeaturizer(small_model).featurize_dataframe(
        frame, "formula", True, True, inplace=inplace, multiindex=multiindex, pbar=False
    )
    names = [column[-1] if multiindex else column for column in (frame if inplace else result).columns]
    assert (result is None) == inplace
    assert [name for name in names if "Exceptions" in name] == [
        "NetworkFeaturizer(small) Exceptions", "NetworkFeaturizer Exceptions",
    ]  # fmt: skip
