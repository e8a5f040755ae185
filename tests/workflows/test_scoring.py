"""sort_criteria in pymatgen's own code path, and scoring functions in general."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from monty.json import MontyDecoder, MontyEncoder
from pymatgen.core import Structure
from pymatgen.transformations import advanced_transformations
from pymatgen.transformations.advanced_transformations import EnumerateStructureTransformation

import ase_matprop
from ase_matprop import MatPropError, load_model
from ase_matprop.descriptors.registry import Descriptor
from ase_matprop.errors import StructureError, UnknownElementError, UnknownNameError
from ase_matprop.workflows import ScoringFunction, orderings, scoring_function, sort_criteria
from tests.conftest import untrained_model


@pytest.fixture
def enumlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for the external program enum.x; everything else of the transformation is pymatgen's own."""

    class Adaptor:
        def __init__(self, structure: Structure, **settings: object) -> None:
            self.structure = structure
            self.structures: list[Structure] = []

        def run(self) -> None:
            self.structures = list(orderings(self.structure * (2, 1, 1)))

    monkeypatch.setattr(advanced_transformations, "EnumlibAdaptor", Adaptor)


@pytest.mark.usefixtures("enumlib")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_enumeration_is_ranked_by_the_model(disordered: Structure, alloy_model: Path, n_jobs: int) -> None:
    before = disordered.as_dict()
    transformation = EnumerateStructureTransformation(sort_criteria=sort_criteria(alloy_model), n_jobs=n_jobs)
    found = transformation.apply_transformation(disordered, return_ranked_list=100)
    assert len(found) == 8 and disordered.as_dict() == before
    # the energies are those of the cells, as a batch gives them, and they rise
    expected = load_model(alloy_model).predict([row["structure"] for row in found]).values
    np.testing.assert_allclose([row["energy"] / row["num_sites"] for row in found], expected, atol=1e-5)
    assert np.all(np.diff(expected) > -1e-5) and np.ptp(expected) > 1e-3
    # the single result is the best one
    best = transformation.apply_transformation(disordered)
    assert load_model(alloy_model).predict(best).values[0] == pytest.approx(expected.min(), abs=1e-5)


@pytest.mark.usefixtures("enumlib")
def test_highest_first_reverses_the_order(disordered: Structure, alloy_model: Path) -> None:
    def values(highest_first: bool) -> list[float]:
        criteria = sort_criteria(alloy_model, highest_first=highest_first)
        transformation = EnumerateStructureTransformation(sort_criteria=criteria, n_jobs=1)
        return [row["energy"] for row in transformation.apply_transformation(disordered, return_ranked_list=100)]

    np.testing.assert_allclose(values(True), -np.array(values(False))[::-1], atol=1e-4)


def test_transformation_with_criteria_is_written_to_json(alloy_model: Path) -> None:
    transformation = EnumerateStructureTransformation(sort_criteria=sort_criteria(alloy_model), n_jobs=1)
    text = json.dumps(transformation.as_dict(), cls=MontyEncoder)
    assert MontyDecoder().decode(text).sort_criteria == transformation.sort_criteria


def test_pickle_has_no_weights_and_gives_the_same(
    alloy_model: Path, ni_al_cells: list[Atoms], reads: list[Path]
) -> None:
    criteria = sort_criteria(alloy_model)
    assert not reads  # not before they are needed
    values = [criteria(atoms)[1] for atoms in ni_al_cells]
    copy = pickle.loads(pickle.dumps(criteria))
    assert copy == criteria and len(pickle.dumps(criteria)) < 1000
    assert [copy(atoms)[1] for atoms in ni_al_cells] == values
    assert len(reads) == 1  # the copy takes the model that this process has


def test_shipped_and_relative_models_are_found_from_elsewhere(
    alloy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scoring_function("irnet17-mp").model == "irnet17-mp"
    monkeypatch.chdir(alloy_model.parent)
    score = scoring_function(alloy_model.name)
    monkeypatch.chdir(tmp_path)
    assert np.isfinite(pickle.loads(pickle.dumps(score))(bulk("NiAl", "cesiumchloride", 2.9)))


def test_scores_are_predictions_and_inputs_stay(alloy_model: Path, ni_al_cells: list[Atoms]) -> None:
    copies = [atoms.copy() for atoms in ni_al_cells]
    score = scoring_function(alloy_model)
    expected = load_model(alloy_model).predict(ni_al_cells).values
    np.testing.assert_allclose([score(atoms) for atoms in ni_al_cells], expected, atol=1e-5)
    assert sorted(range(12), key=lambda n: score(ni_al_cells[n])) == np.argsort(expected).tolist()
    assert ni_al_cells == copies


def test_public_name() -> None:
    assert ase_matprop.sort_criteria is sort_criteria
    assert "sort_criteria" not in ase_matprop.__all__


def test_elements_never_seen_raise_whatever_on_error_says(tmp_path: Path) -> None:
    model = untrained_model(tmp_path / "m", descriptor="ward2017", elements=("Ni", "Al"))
    with pytest.raises(UnknownElementError, match=r"UNi: the model m never saw U"):
        scoring_function(model)(bulk("UNi", "cesiumchloride", 3.0))


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        (None, "is None, not a structure"),
        ("NiAl", "is a formula, and the model alloy needs the structure"),
        (Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]), "has no cell"),
    ],
)
def test_what_is_no_structure_raises(structure: object, message: str, alloy_model: Path) -> None:
    with pytest.raises(StructureError, match=message):
        scoring_function(alloy_model)(structure)


def test_disordered_structure_raises(disordered: Structure, alloy_model: Path) -> None:
    with pytest.raises(StructureError, match="disordered site"):
        sort_criteria(alloy_model)(disordered)


def test_sound_structure_without_a_value_is_last_or_raises(
    alloy_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A descriptor that fails is imitated; no sound structure is known for which one does."""

    def failing(self: Descriptor, structures: list, errors: list, *, n_jobs: int = 1) -> tuple:
        return np.full((len(errors), len(self.labels)), np.nan), ["the tessellation fails" for _ in errors]

    monkeypatch.setattr(Descriptor, "compute_sound", failing)
    atoms = bulk("NiAl", "cesiumchloride", 2.9)
    with caplog.at_level(logging.WARNING):
        for highest_first in (False, True):
            assert scoring_function(alloy_model, highest_first=highest_first)(atoms) == np.inf
    assert "AlNi is ranked last: the tessellation fails" in caplog.text
    with pytest.raises(StructureError, match="the tessellation fails"):
        scoring_function(alloy_model, on_error="raise")(atoms)


def bad_settings() -> Iterator[tuple[dict[str, object], type[Exception], str]]:
    yield {"model": "irnet17mp"}, UnknownNameError, "Did you mean 'irnet17-mp'"
    yield {"model": "elemnet-mp"}, MatPropError, "nothing but the composition.*such as irnet17-mp"
    yield {"model": "irnet17-mp", "property": "band_gap"}, UnknownNameError, "unknown predicted property"
    yield {"model": "irnet17-mp", "on_error": "skip"}, UnknownNameError, "Known: last, raise"
    yield {"model": "irnet17-mp", "threads": 0}, MatPropError, "threads must be a positive integer"


@pytest.mark.parametrize(("settings", "kind", "message"), list(bad_settings()))
def test_bad_settings(settings: dict, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        sort_criteria(**settings)


def test_loaded_model_is_refused(alloy_model: Path) -> None:
    with pytest.raises(MatPropError, match="give the name or the folder"):
        scoring_function(load_model(alloy_model))


def test_properties_other_than_energies(tmp_path: Path) -> None:
    gap = untrained_model(tmp_path / "gap", descriptor="structure", properties=("band_gap",))
    with pytest.raises(MatPropError, match="predicts no energy but band_gap.*give property='band_gap'"):
        scoring_function(gap)
    assert isinstance(scoring_function(gap, property="band_gap"), ScoringFunction)
    metal = untrained_model(tmp_path / "metal", descriptor="structure", properties=("metallicity",))
    with pytest.raises(MatPropError, match=r"a class \(metal, non-metal\), by which nothing can be ranked"):
        scoring_function(metal, property="metallicity")
