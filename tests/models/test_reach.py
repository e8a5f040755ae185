"""What a model saw in training: element pairs, environments, and the distance to the training set."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.data import chemical_symbols
from ase.neighborlist import neighbor_list

from ase_matprop import MatProp, SchNet, load_model
from ase_matprop.descriptors.neighbors import Graphs, neighbor_graphs
from ase_matprop.errors import MatPropError, UnknownNameError
from ase_matprop.models import artefact
from ase_matprop.models.atomistic import AtomisticPredictor
from ase_matprop.models.reach import ElementPairs, Environments, Reach, TrainingDistance
from tests.conftest import SMALL_ATOMISTIC, known_environments


def graphs_of(*structures: Atoms) -> Graphs:
    return neighbor_graphs(structures, SMALL_ATOMISTIC["cutoff"])


def warnings_of(reach: Reach, *structures: Atoms) -> list[str | None]:
    return reach.warnings([set(atoms.numbers.tolist()) for atoms in structures], graphs_of(*structures))


@pytest.fixture(scope="module")
def reach() -> Reach:
    return Reach.of(graphs_of(*known_environments()))


@pytest.fixture(scope="module")
def seen(reach: Reach) -> Environments:
    assert reach.environments is not None
    return reach.environments


def test_reach_has_no_word_against_what_was_seen(reach: Reach) -> None:
    structures = known_environments()
    assert warnings_of(reach, *structures) == [None] * len(structures)
    assert warnings_of(reach, *(atoms * (1, 2, 1) for atoms in structures)) == [None] * len(structures)


def test_environments_against_ase(seen: Environments) -> None:
    found = [neighbor_list("ijd", atoms, SMALL_ATOMISTIC["cutoff"]) for atoms in known_environments()]
    shortest: dict[tuple[int, int], float] = {}
    counts: dict[int, list[int]] = {}
    for (i, j, d), atoms in zip(found, known_environments(), strict=True):
        for a, b, distance in zip(atoms.numbers[i].tolist(), atoms.numbers[j].tolist(), d, strict=True):
            shortest[a, b] = min(distance, shortest.get((a, b), np.inf))
        for number, count in zip(atoms.numbers.tolist(), np.bincount(i, minlength=len(atoms)), strict=True):
            counts.setdefault(number, []).append(count)
    assert np.isfinite(seen.shortest).sum() == len(shortest)
    for pair, distance in shortest.items():
        assert seen.shortest[pair] == pytest.approx(distance, abs=1e-6)
    assert (seen.most > 0).sum() == len(counts)
    for number, values in counts.items():
        assert (seen.fewest[number], seen.most[number]) == (min(values), max(values))


def test_elements_that_never_met(reach: Reach) -> None:
    mixed = bulk("NaCl", "rocksalt", 5.64, cubic=True)
    mixed.numbers[0] = 8
    sound = bulk("NaCl", "rocksalt", 5.64)
    first, second = warnings_of(reach, mixed, sound)
    assert first is not None
    assert first.startswith("O and Na never occurred together in training; O and Cl never occurred together in")
    assert "never met" not in first
    assert second is None
    # in one compound, but too far apart to interact
    assert reach.pairs is not None
    both = replace(reach, pairs=reach.pairs.joined(ElementPairs.of(np.ones((1, 18), dtype=bool))))
    first, second = warnings_of(both, mixed, sound)
    assert first is not None and "never occurred" not in first
    assert first.startswith("O and Na never met within 4.5 Angstrom in training; O and Cl never met within 4.5")
    assert second is None


def test_shorter_than_ever(reach: Reach, seen: Environments) -> None:
    atoms = bulk("MgO", "rocksalt", 4.21, cubic=True)
    atoms.positions[1] = atoms.positions[0] + (0.9, 0.0, 0.0)
    (warning,) = warnings_of(reach, atoms)
    limit = seen.shortest[8, 12]
    assert f"O and Mg are 0.90 Angstrom apart, in training never less than {limit:.2f}" in warning
    assert warning.count("O and Mg are") == 1  # from both ends, but once


@pytest.mark.parametrize(("factor", "word"), [(1.6, "fewer"), (0.7, "more")])
def test_number_of_neighbors(reach: Reach, factor: float, word: str) -> None:
    atoms = bulk("Fe")
    atoms.set_cell(factor * atoms.cell, scale_atoms=True)
    (warning,) = warnings_of(reach, atoms)
    assert f"Fe has {word} neighbours than ever in training" in warning


def test_reach_of_two_trainings(reach: Reach) -> None:
    mixed = bulk("NaCl", "rocksalt", 5.0, cubic=True)
    mixed.numbers[0] = 8
    other = Reach.of(graphs_of(mixed))
    assert warnings_of(other, bulk("Fe"))[0] is not None
    for joined in (reach.joined(other), other.joined(reach)):
        assert warnings_of(joined, mixed, bulk("Fe"), *known_environments()) == [None] * 20


def test_reach_on_disk(reach: Reach) -> None:
    arrays = reach.to_arrays()
    assert all(np.isfinite(array).all() for array in arrays.values())
    again = Reach.from_arrays(arrays)
    for name in ("shortest", "fewest", "most"):
        np.testing.assert_array_equal(getattr(again.environments, name), getattr(reach.environments, name))
    np.testing.assert_array_equal(again.pairs.counts, reach.pairs.counts)
    assert again.distance is None
    assert Reach.from_arrays({}) is None


# element pairs


def test_pairs_are_counted() -> None:
    """Against counting in Python."""
    generator = np.random.default_rng(0)
    compounds = [set(generator.choice(np.arange(1, 30), size=3).tolist()) for _ in range(50)]
    occurrences = np.zeros((50, 30), dtype=bool)
    for row, elements in enumerate(compounds):
        occurrences[row, list(elements)] = True
    pairs = ElementPairs.of(occurrences)
    np.testing.assert_array_equal(pairs.counts, pairs.counts.T)
    for a, b in combinations(range(1, 30), 2):
        assert pairs.counts[a, b] == sum({a, b} <= elements for elements in compounds)
    assert pairs.count("O") == sum(8 in elements for elements in compounds)
    assert pairs.count("O", "Na") == pairs.count("Na", "O") == sum({8, 11} <= elements for elements in compounds)
    assert pairs.unseen_of_each(compounds) == [[]] * 50
    new = [set(range(k, k + 6)) for k in range(1, 20)]
    assert pairs.unseen_of_each(new) == [pairs.unseen(elements) for elements in new]
    assert any(pairs.unseen_of_each(new))
    np.testing.assert_array_equal(ElementPairs.from_arrays(pairs.to_arrays()).counts, pairs.counts)


def test_many_pairs_do_not_overflow() -> None:
    pairs = ElementPairs.of(np.ones((70_000, 3), dtype=bool))
    assert pairs.count("H", "He") == 65535
    assert pairs.joined(pairs).count("H", "He") == 65535
    np.testing.assert_array_equal(ElementPairs.from_arrays(pairs.to_arrays()).counts, pairs.counts)


# the distance to the training set


def activations(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Rows that lie on a curved sheet of two dimensions in 24."""
    generator = np.random.default_rng(seed)
    x = generator.normal(shift, 1.0, size=(n, 2))
    directions = np.random.default_rng(99).normal(size=(3, 24))
    return np.column_stack([x, (x**2).sum(axis=1)]) @ directions


def test_distance_grows_away_from_the_training_rows() -> None:
    training, validation = activations(400, 0), activations(200, 1)
    fitted = TrainingDistance.fit(training, validation)
    assert fitted is not None
    assert fitted.of(training) == pytest.approx(0.0, abs=0.02)  # float16
    assert (fitted.of(validation) > 1.0).mean() == pytest.approx(0.1, abs=0.01)
    means = [fitted.of(activations(200, 2, shift)).mean() for shift in (0.0, 1.0, 2.0, 4.0)]
    assert means == sorted(means) and means[-1] > 10 * means[0]
    # no row depends on those beside it
    np.testing.assert_allclose(fitted.of(validation[:1]), fitted.of(validation)[:1], rtol=1e-6)
    # a rotation or a shift of the representation changes nothing
    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(24, 24)))
    turned = TrainingDistance.fit(training @ rotation + 5.0, validation @ rotation + 5.0)
    assert turned is not None
    np.testing.assert_allclose(turned.of(validation @ rotation + 5.0), fitted.of(validation), rtol=0.02, atol=0.01)


def test_many_training_rows_become_clusters() -> None:
    training, validation = activations(6000, 0), activations(300, 1)
    fitted, again = (TrainingDistance.fit(training, validation) for _ in range(2))
    assert fitted is not None and again is not None
    assert len(fitted.centers) == 4096
    np.testing.assert_array_equal(fitted.centers, again.centers)
    every = TrainingDistance(fitted.mean, fitted.components, ((training - fitted.mean) @ fitted.components), 1.0)
    far = activations(50, 4, 3.0)
    exact = every.of(far)  # of which clusters keep the order and the size, not each value
    assert np.corrcoef(fitted.of(far), exact)[0, 1] > 0.95
    assert fitted.of(far).mean() * fitted.unit == pytest.approx(exact.mean(), rel=0.1)


def test_distance_on_disk() -> None:
    fitted = TrainingDistance.fit(activations(50, 0), activations(20, 1))
    assert fitted is not None
    again = TrainingDistance.from_arrays(fitted.to_arrays())
    np.testing.assert_array_equal(again.of(activations(20, 1)), fitted.of(activations(20, 1)))
    broken = fitted.to_arrays() | {"distance_mean": np.zeros(3, dtype=np.float32)}
    with pytest.raises(ValueError, match="components"):
        TrainingDistance.from_arrays(broken)


@pytest.mark.parametrize(
    ("training", "validation"),
    [
        pytest.param(activations(5, 0), activations(5, 1), id="few rows"),
        pytest.param(activations(50, 0), activations(0, 1), id="nothing to compare with"),
        pytest.param(np.ones((50, 4)), np.ones((5, 4)), id="all the same"),
    ],
)
def test_no_distance_without_rows_that_differ(training: np.ndarray, validation: np.ndarray) -> None:
    assert TrainingDistance.fit(training, validation) is None


# in predictions


@pytest.fixture
def with_distance(small_model: Path, tmp_path: Path) -> Path:
    """The small model, with a distance to a training set that has Na with Cl and Mg with O."""
    loaded = artefact.load(small_model)
    predictor = load_model(small_model)
    amounts = [{11: k, 17: 20 - k} for k in range(1, 20)] + [{12: k, 8: 20 - k} for k in range(1, 20)]
    hidden, _ = predictor.represent([{chemical_symbols[z]: n for z, n in entry.items()} for entry in amounts])
    occurrences = np.zeros((2, 20), dtype=bool)
    occurrences[0, [11, 17]] = occurrences[1, [12, 8]] = True
    reach = Reach(ElementPairs.of(occurrences), None, TrainingDistance.fit(hidden[::2], hidden[1::2]))
    folder = tmp_path / "with-distance"
    card = loaded.card.model_copy(update={"name": "with-distance"})
    artefact.save(folder, card, loaded.network, loaded.scaler, loaded.target, reach)
    return folder


def test_distance_and_warnings_of_predictions(with_distance: Path, small_model: Path) -> None:
    result = load_model(with_distance).predict(["NaCl", "Xx", "MgO", "Fe", "NaO"], batch_size=2)
    assert np.isfinite(result.distance).tolist() == [True, False, True, True, True]
    assert result.distance[3] > 2.0 > result.distance[0]
    assert result.warnings == [None, None, None, None, "O and Na never occurred together in training"]
    frame = result.to_frame()
    np.testing.assert_array_equal(frame["distance"], result.distance)
    assert frame["warning"].tolist() == result.warnings
    alone = load_model(with_distance).predict("Fe")
    assert alone.distance[0] == pytest.approx(result.distance[3], rel=1e-5)
    # what is added to a prediction does not change it
    without = load_model(small_model).predict(["NaCl", "Xx", "MgO", "Fe", "NaO"])
    np.testing.assert_allclose(result.values, without.values)
    assert np.isnan(load_model(small_model).predict("NaCl").distance).all()


def test_distance_of_the_calculator(with_distance: Path) -> None:
    atoms = bulk("Fe")
    atoms.calc = MatProp(with_distance)
    atoms.get_potential_energy()
    assert atoms.calc.predictions.distance == pytest.approx(load_model(with_distance).predict(atoms).distance)


def test_distance_on_graphs(atomistic_model: Path, tmp_path: Path) -> None:
    """From one evaluation in batches, in float64 with forces, and from the representation: the same."""
    loaded = artefact.load(atomistic_model)
    predictor = load_model(atomistic_model)
    assert isinstance(predictor, AtomisticPredictor)
    structures = known_environments()
    hidden, _ = predictor.represent(structures)
    assert loaded.reach is not None
    reach = replace(loaded.reach, distance=TrainingDistance.fit(hidden[:12], hidden[12:]))
    folder = tmp_path / "with-distance"
    artefact.save(folder, loaded.card, loaded.network, loaded.scaler, loaded.target, reach)
    again = load_model(folder)
    assert reach.distance is not None
    expected = reach.distance.of(hidden)
    np.testing.assert_allclose(again.predict(structures).distance, expected, rtol=1e-3, atol=1e-3)
    atoms = structures[-1]
    atoms.calc = SchNet(folder)
    atoms.get_forces()
    assert atoms.calc.predictions.distance[0] == pytest.approx(expected[-1], rel=1e-3, abs=1e-3)


def test_a_row_without_finite_numbers_costs_itself(with_distance: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a network that diverged in training."""
    predictor = load_model(with_distance)
    original = predictor._network.members_and_hidden

    def diverged(inputs):
        result = original(inputs).clone()
        result[0, 1] = float("nan")
        return result

    monkeypatch.setattr(predictor._network, "members_and_hidden", diverged)
    result = predictor.predict(["NaCl", "MgO", "NaO"])
    expected = load_model(with_distance).predict(["NaCl", "MgO", "NaO"])
    assert [error is None for error in result.errors] == [True, False, True]
    assert "no finite number" in result.errors[1] and np.isnan(result.values[1]) and np.isnan(result.distance[1])
    for name in ("values", "distance", "spread"):
        np.testing.assert_allclose(getattr(result, name)[[0, 2]], getattr(expected, name)[[0, 2]])
    assert result.warnings == [None, None, expected.warnings[2]]


# models of one property, compared


def test_disagreement(small_model: Path, with_distance: Path, structure_model: Path) -> None:
    atoms = [bulk("NaCl", "rocksalt", 5.64), bulk("Fe"), bulk("MgO", "rocksalt", 4.21)]
    alone, other = (load_model(name).predict(atoms) for name in (small_model, structure_model))
    assert np.isnan(alone.disagreement).all() and "disagreement" not in alone.to_frame()
    compared = load_model(structure_model, compare_with=[small_model]).predict(atoms, batch_size=2)
    np.testing.assert_allclose(compared.values, other.values, rtol=1e-6)
    known = np.isfinite(other.values)
    assert known.any()
    expected = np.abs(other.values - alone.values)[known] / 2.0  # the standard deviation of two numbers
    np.testing.assert_allclose(compared.disagreement[known], expected, rtol=1e-5)
    assert compared.compared_with == (load_model(small_model).card.name,)
    assert list(compared.to_frame()["disagreement"]) == list(compared.disagreement)
    molar = compared.to_unit("kJ/mol-atom")
    np.testing.assert_allclose(molar.disagreement[known], 96.48533 * compared.disagreement[known], rtol=1e-6)
    # a model with the same weights agrees; the order of the others does not matter
    same = load_model(small_model, compare_with=with_distance).predict(atoms)
    assert same.disagreement == pytest.approx(0.0, abs=1e-7)
    names = [small_model, with_distance]
    one, two = (load_model(structure_model, compare_with=n).predict(atoms).disagreement for n in (names, names[::-1]))
    np.testing.assert_allclose(one, two)


def test_disagreement_where_another_model_fails(small_model: Path, structure_model: Path) -> None:
    """The value stands; there is just nobody to disagree with."""
    atoms = bulk("NaCl", "rocksalt", 5.64)
    predictor = load_model(structure_model, compare_with=[small_model])
    predictor._others[0]._elements = frozenset({1})
    result = predictor.predict(atoms)
    assert np.isfinite(result.values[0]) and np.isnan(result.disagreement[0]) and result.errors == [None]


def test_disagreement_of_the_calculator(small_model: Path, structure_model: Path) -> None:
    atoms = bulk("NaCl", "rocksalt", 5.64)
    atoms.calc = MatProp(structure_model, compare_with=str(small_model))
    atoms.get_potential_energy()
    expected = load_model(structure_model, compare_with=small_model).predict(atoms).disagreement
    assert atoms.calc.predictions.disagreement == pytest.approx(expected) and expected[0] > 0
    assert json.loads(json.dumps(atoms.calc.parameters))["compare_with"] == [str(small_model)]
    atoms.calc.set(compare_with=None)
    atoms.get_potential_energy()
    assert np.isnan(atoms.calc.predictions.disagreement[0])


def test_what_cannot_be_compared(small_model: Path, structure_model: Path, classifier_model: Path) -> None:
    with pytest.raises(MatPropError, match="compare models of one property"):
        load_model(small_model, compare_with=classifier_model)
    with pytest.raises(MatPropError, match="predicts classes"):
        MatProp(classifier_model, compare_with=classifier_model)
    with pytest.raises(MatPropError, match="cannot be compared with itself"):
        load_model(small_model, compare_with=small_model)
    with pytest.raises(MatPropError, match="given twice"):
        MatProp(structure_model, compare_with=[small_model, small_model])
    with pytest.raises(MatPropError, match="the other way round"):
        load_model(small_model, compare_with=[structure_model])
    with pytest.raises(UnknownNameError, match="nn24-mp"):
        load_model(small_model, compare_with="nn24-mq")
