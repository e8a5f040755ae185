"""KS2022 of random solid solutions: against pySIPFENN, against closed forms, and invariants."""

from __future__ import annotations

import contextlib
import io
from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from ase_matprop.descriptors import ks2022, sites
from ase_matprop.descriptors.ks2022 import random_solutions
from ase_matprop.descriptors.ks2022.random_solutions import feature_scale
from ase_matprop.descriptors.voronoi import tessellate
from ase_matprop.errors import CompositionError, DescriptorError, StructureError, UnknownNameError
from ase_matprop.structures import as_atoms
from ase_matprop.structures.prototypes import get_prototype
from tests.conftest import shuffled_elements
from tests.descriptors.test_ks2022 import LABELS, assert_agree, reference_module, to_pymatgen


def test_record() -> None:
    solution = ks2022.random_solution("Fe50 Ni30 Cr20", "FCC", seed=3)
    frame = solution.to_frame()
    assert solution.converged and solution.prototype == "FCC" and solution.atoms_per_cell == 64
    assert solution.features.shape == (256,) and np.isfinite(solution.features).all()
    assert list(frame.index) == list(range(1, solution.n_cells + 1)) and frame["atoms"].iloc[-1] == solution.n_atoms
    assert frame["largest change"].iloc[:4].isna().all() and frame["largest change"].iloc[-1] <= solution.tolerance
    assert (frame["largest change"].iloc[4:-1] > solution.tolerance).all() and set(frame["of feature"][4:]) <= {*LABELS}
    assert solution.target == pytest.approx({"Cr": 0.2, "Fe": 0.5, "Ni": 0.3})
    assert sum(solution.realised.values()) == pytest.approx(1.0)
    deviation = np.mean([abs(solution.realised[symbol] - x) for symbol, x in solution.target.items()])
    assert deviation == pytest.approx(frame["composition deviation"].iloc[-1]) and deviation < 0.01
    assert solution.history.shape == solution.changes.shape == (solution.n_cells, 256)
    np.testing.assert_array_equal(solution.history[-1], solution.features)


def test_deterministic_by_seed_and_order_of_elements_does_not_count() -> None:
    first = ks2022.random_solution("Fe50 Ni30 Cr20", "FCC", seed=7)
    np.testing.assert_array_equal(first.features, ks2022.random_solution("Cr2Ni3Fe5", "FCC", seed=7).features)
    from pymatgen.core import Composition

    np.testing.assert_array_equal(
        first.features, ks2022.random_solution(Composition("Cr0.2Ni0.3Fe0.5"), "A1", seed=7).features
    )
    assert not np.array_equal(first.features, ks2022.random_solution("Fe50 Ni30 Cr20", "FCC", seed=8).features)


def test_mean_difference_to_neighbours_has_a_closed_form() -> None:
    """In a random binary the mean over sites of sum_j w_j |q_i - q_j| is 2 x (1 - x) |q_A - q_B|."""
    for name in ("FCC", "HCP", "sigma"):
        solution = ks2022.random_solution("Fe3Ni", name, tolerance=5e-4, window=8)
        mean = solution.features[LABELS.index("mean neighbor difference in Atomic Number")]
        assert mean == pytest.approx(2 * 0.75 * 0.25 * 2, abs=0.02)


def test_features_of_geometry_and_composition_are_exact() -> None:
    solution = ks2022.random_solution("FeNi", "BCC")
    ordered, _ = ks2022.compute([as_atoms(bulk("FeNi", "cesiumchloride", 2.9))])
    np.testing.assert_allclose(solution.features[:13], ordered[0, :13], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(solution.features[118:], ordered[0, 118:], rtol=1e-12)


def test_one_element_is_its_crystal() -> None:
    solution = ks2022.random_solution("Cu", bulk("Cu"))
    np.testing.assert_allclose(solution.features, ks2022.compute([bulk("Cu")])[0][0], rtol=1e-6, atol=1e-6)


def test_dilute_element_occurs() -> None:
    solution = ks2022.random_solution({"Fe": 0.998, "C": 0.002}, "BCC")
    assert solution.to_frame()["fewest atoms of an element"].iloc[-1] >= 10 and solution.n_atoms >= 4500


def test_pooled_features() -> None:
    parent = bulk("Cu", cubic=True) * (2, 2, 1)
    cells = [as_atoms(shuffled_elements(parent, "FeNiCr", seed)) for seed in range(4)]
    pooled = ks2022.pooled_features(cells)
    np.testing.assert_allclose(ks2022.pooled_features(cells[:1]), ks2022.compute(cells[:1])[0][0], rtol=1e-12)
    np.testing.assert_allclose(ks2022.pooled_features(cells * 3), pooled, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(ks2022.pooled_features(cells[::-1]), pooled, rtol=1e-6, atol=1e-6)
    label = LABELS.index("mean neighbor difference in Electronegativity")
    assert pooled[label] == pytest.approx(ks2022.compute(cells)[0][:, label].mean())
    with pytest.raises(DescriptorError, match="at least one"):
        ks2022.pooled_features([])
    with pytest.raises(DescriptorError, match="cell 1: .*118"):
        ks2022.pooled_features([cells[0], bulk("Og", "fcc", 7.0)])


def test_pooled_cells_are_tessellated_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [as_atoms(shuffled_elements(bulk("Cu", cubic=True) * (2, 1, 1), "FeNi", seed)) for seed in range(7)]
    cells[2].rattle(0.05, seed=2)
    pooled, sizes = ks2022.pooled_features(cells), []

    def counting(chunk):
        sizes.append(len(chunk))
        return tessellate(chunk)

    monkeypatch.setattr(random_solutions, "tessellate", counting)
    monkeypatch.setattr(sites, "_SITES_PER_CHUNK", 24)
    np.testing.assert_allclose(ks2022.pooled_features(cells), pooled, rtol=1e-12)
    assert sizes == [3, 3, 1]


@pytest.mark.parametrize(
    ("composition", "prototype", "options", "error", "message"),
    [
        ("FeNi", "FCX", {}, UnknownNameError, "FCC"),
        ("FeNi", 3, {}, StructureError, "int"),
        ("FeNi", None, {}, StructureError, "prototype: None was given; give ASE Atoms"),
        ("FeNi", "FCC", {"tolerance": "small"}, DescriptorError, "tolerance must be a positive number. Got 'small'"),
        ("Fe-Ni", "FCC", {}, CompositionError, "Fe-Ni"),
        ("FeAr", "FCC", {}, DescriptorError, "Ar"),
        ({"Fe": 1.0, "C": 1e-5}, "FCC", {"max_cells": 100}, CompositionError, "1000.* atoms are needed"),
        ("FeNi", "FCC", {"max_cells": 5}, DescriptorError, "did not converge in 5 cells of 64"),
        ("FeNi", "FCC", {"max_cells": 0}, DescriptorError, "max_cells must be"),
        ("FeNi", "FCC", {"tolerance": 0.0}, DescriptorError, "tolerance must be"),
        ("FeNi", "FCC", {"seed": -1}, DescriptorError, "seed must be"),
    ],
)
def test_bad_input(composition, prototype, options, error, message) -> None:
    with pytest.raises(error, match=message):
        ks2022.random_solution(composition, prototype, **options)


def test_not_converged_may_be_asked_for() -> None:
    solution = ks2022.random_solution("FeNi", "FCC", max_cells=5, require_convergence=False)
    assert not solution.converged and solution.n_cells == 5


class Recorder:
    """Stands in for the module ``random`` in pySIPFENN, and keeps what it drew."""

    def __init__(self, seed: int) -> None:
        import random

        self.random, self.drawn = random.Random(seed), []

    def choices(self, *args, **kwargs):
        self.drawn.append(self.random.choices(*args, **kwargs))
        return self.drawn[-1]


@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.parametrize(("composition", "name"), [("Fe60Ni40", "FCC"), ("Ti80Al20", "HCP")])
def test_agrees_with_pysipfenn(composition: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same cells give the same features, and other cells the same within the noise of both."""
    reference = reference_module("KS2022_randomSolutions")
    recorder = Recorder(1)
    monkeypatch.setattr(reference, "random", recorder)
    from pymatgen.core import Composition

    lattice = get_prototype(name)
    with contextlib.redirect_stdout(io.StringIO()):
        features, meta = reference.generate_descriptor(
            lattice.structure(), Composition(composition), minimumSitesPerExpansion=16,
            featureConvergenceCriterion=0.05, returnMeta=True,
        )  # fmt: skip
    base = lattice.structure()
    for step in range(100):  # pySIPFENN doubles one direction after the other
        if len(base) >= 16:
            break
        base.make_supercell([2 if axis == step % 3 else 1 for axis in range(3)])
    cells = [Atoms(symbols, base.cart_coords, cell=base.lattice.matrix, pbc=True) for symbols in recorder.drawn]
    assert sum(map(len, cells)) == meta["finalAtomsN"]
    assert_agree(ks2022.pooled_features(cells), features, 3e-6)
    assert to_pymatgen(cells[0]).composition  # the cells are crystals

    counted = Counter(symbol for symbols in recorder.drawn for symbol in symbols)
    ours = ks2022.random_solution(dict(counted), name, tolerance=0.001).features
    means = [i for i, label in enumerate(LABELS) if label.startswith(("mean neighbor", "mean absolute deviation n"))]
    deviation = np.abs(ours - features)[means] / feature_scale()[means]
    assert deviation.max() < 0.05
