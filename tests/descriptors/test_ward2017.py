"""Ward-2017 features: against matminer, against analytic values, and invariants."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell

from ase_matprop.descriptors import ward2017
from ase_matprop.descriptors.elements import MAGPIE_PROPERTIES
from ase_matprop.structures import as_atoms
from tests.conftest import crystals_for_comparison, prototype_crystals, rattled, shuffled_elements

LABELS = ward2017.feature_labels()
_STATISTIC = {
    "minimum": "minimum",
    "maximum": "maximum",
    "range": "range",
    "mean": "mean",
    "avg_dev": "mean absolute deviation",
    "mode": "mode",
}


def compute(*structures: Atoms) -> np.ndarray:
    features, errors = ward2017.compute([as_atoms(atoms) for atoms in structures])
    assert errors == [None] * len(structures)
    return features


def feature(atoms: Atoms, label: str) -> float:
    return float(compute(atoms)[0, LABELS.index(label)])


def off_the_faces(atoms: Atoms) -> Atoms:
    """The same crystal with no atom on a face of the cell, where pymatgen's VoronoiNN drops or doubles faces."""
    copy = atoms.copy()
    copy.positions += (0.011, 0.017, 0.013)
    copy.wrap()
    return copy


def matminer_features(atoms: Atoms) -> dict[str, float]:
    """What the presets ``ward-prb-2017`` and ``magpie`` of matminer define, under our labels."""
    from matminer.featurizers import composition as mc
    from matminer.featurizers import structure as ms
    from matminer.featurizers.structure.sites import SiteStatsFingerprint
    from pymatgen.io.ase import AseAtomsAdaptor

    structure = AseAtomsAdaptor.get_structure(atoms)
    result: dict[str, float] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        coordination = SiteStatsFingerprint.from_preset("CoordinationNumber_ward-prb-2017")
        for label, value in zip(coordination.feature_labels(), coordination.featurize(structure), strict=True):
            result[f"{_STATISTIC[label.split()[0]]} Effective Coordination Number"] = value
        heterogeneity = ms.StructuralHeterogeneity()
        values = heterogeneity.featurize(structure)
        for statistic, value in zip(("mean absolute deviation", "maximum", "minimum"), values[:3], strict=True):
            result[f"{statistic} Mean Bond Length"] = value
        for statistic, value in zip(heterogeneity.stats, values[3:8], strict=True):
            result[f"{_STATISTIC[statistic]} Bond Length Variation"] = value
        result["mean absolute deviation Cell Volume"] = values[8]
        for shell, value in enumerate(ms.ChemicalOrdering().featurize(structure), start=1):
            result[f"Mean WC Magnitude shell {shell}"] = value
        result["Packing Efficiency"] = ms.MaximumPackingEfficiency().featurize(structure)[0]
        differences = SiteStatsFingerprint.from_preset("LocalPropertyDifference_ward-prb-2017")
        for label, value in zip(differences.feature_labels(), differences.featurize(structure), strict=True):
            statistic, name = label.split(" local difference in ")
            result[f"{_STATISTIC[statistic]} neighbor difference in {MAGPIE_PROPERTIES[name]}"] = value
        magpie = mc.ElementProperty.from_preset("magpie")
        for label, value in zip(magpie.feature_labels(), magpie.featurize(structure.composition), strict=True):
            _, statistic, name = label.split()
            result[f"{_STATISTIC[statistic]} {MAGPIE_PROPERTIES[name]}"] = value
        norms = mc.Stoichiometry(p_list=(0, 2, 3, 5, 7, 10)).featurize(structure.composition)
        result |= dict(zip(LABELS[126:132], norms, strict=True))
        result |= dict(
            zip(LABELS[264:268], mc.ValenceOrbital(props=["frac"]).featurize(structure.composition), strict=True)
        )
    return {label: result[label] for label in LABELS if label in result}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if len(atoms) > 100 else name
        for name, atoms in crystals_for_comparison().items()
    ],
)
def test_agrees_with_matminer(name: str) -> None:
    atoms = crystals_for_comparison()[name]
    reference = matminer_features(off_the_faces(atoms))
    assert len(reference) == 268  # all but the ionic features, which have their own test
    ours = dict(zip(LABELS, compute(atoms)[0], strict=True))
    # absolute: freud works in single precision, so that what is zero by symmetry is 1e-7 of the property's size here
    size = {label: abs(ours.get(f"maximum {label.split(' in ')[-1]}", 1.0)) for label in reference}
    wrong = {
        label: (ours[label], value)
        for label, value in reference.items()
        if abs(ours[label] - value) > 1e-4 * abs(value) + 1e-6 * max(1.0, size[label])
    }
    assert not wrong


def test_comparison_covers_what_it_should() -> None:
    crystals = crystals_for_comparison()
    assert len(crystals) >= 40
    assert {len(atoms) for atoms in crystals.values()} >= {1, 2, 200}
    assert {len(set(atoms.numbers)) for atoms in crystals.values()} == {1, 2, 3, 4, 5, 6}


def test_labels_follow_table_1_of_the_sipfenn_paper() -> None:
    assert len(LABELS) == len(set(LABELS)) == 271
    # numbers of Table 1, counted from 1
    assert LABELS[0] == "mean Effective Coordination Number"
    assert LABELS[4] == "mean absolute deviation Mean Bond Length"
    assert LABELS[11] == "mean absolute deviation Cell Volume"
    assert LABELS[12:15] == [f"Mean WC Magnitude shell {shell}" for shell in (1, 2, 3)]
    assert LABELS[15] == "Packing Efficiency"
    assert LABELS[16:21] == [f"{s} neighbor difference in Atomic Number" for s in ward2017.DIFFERENCE_STATISTICS]
    assert LABELS[121:126] == [f"{s} neighbor difference in Space Group Number" for s in ward2017.DIFFERENCE_STATISTICS]
    assert LABELS[126] == "Number of Components"
    assert LABELS[132:138] == [
        f"{s} Atomic Number" for s in ("mean", "range", "mean absolute deviation", "maximum", "minimum", "mode")
    ]
    assert LABELS[263] == "mode Space Group Number"
    assert LABELS[264:268] == [f"Fraction of Valence Electrons in {o} orbitals" for o in "spdf"]
    assert LABELS[268:] == ["Can Form Ionic Compound", "maximum Ionic Character", "mean Ionic Character"]
    assert ward2017.feature_labels() is not ward2017.feature_labels()


@pytest.mark.parametrize(
    ("atoms", "coordination", "packing"),
    [
        # closed forms: packing fractions of touching spheres; the truncated octahedron of bcc has 6 squares of area
        # a^2/8 and 8 hexagons of area 3 sqrt(3) a^2/16
        (bulk("Cu"), 12.0, np.pi / np.sqrt(18)),
        (bulk("Po", "sc", 3.34), 6.0, np.pi / 6),
        (bulk("Fe"), (6 / 8 + 8 * 3**1.5 / 16) ** 2 / (6 / 64 + 8 * 27 / 256), np.pi * np.sqrt(3) / 8),
    ],
    ids=["fcc", "sc", "bcc"],
)
def test_closed_forms_of_simple_lattices(atoms: Atoms, coordination: float, packing: float) -> None:
    assert feature(atoms, "mean Effective Coordination Number") == pytest.approx(coordination, rel=1e-5)
    assert feature(atoms, "Packing Efficiency") == pytest.approx(packing, rel=1e-6)


def test_rocksalt_is_fully_ordered() -> None:
    """Every walk of one or three steps ends on the other element, every one of two on the own: |1 - 0|, |1 - 2|."""
    nacl = bulk("NaCl", "rocksalt", 5.64)
    for shell in (1, 2, 3):
        assert feature(nacl, f"Mean WC Magnitude shell {shell}") == pytest.approx(1.0, abs=1e-4)
    # 17 - 11: every neighbour is of the other element
    assert feature(nacl, "mean neighbor difference in Atomic Number") == pytest.approx(6.0, rel=1e-5)


SYMMETRY_CASES = {
    "rutile": prototype_crystals()["rutile"],
    "spinel": prototype_crystals()["spinel"],
    "slab": prototype_crystals()["MgO slab"],
    "alloy, distorted": rattled(shuffled_elements(bulk("Cu", cubic=True) * (2, 1, 1), "CoCrFeMnNi", 1), 5),
}


def _rotated(atoms: Atoms) -> Atoms:
    copy = atoms.copy()
    copy.rotate(37.0, (1, 2, -1), rotate_cell=True)
    return copy


def _translated(atoms: Atoms) -> Atoms:
    copy = atoms.copy()
    copy.positions += (1.234, -7.7, 100.1)
    return copy


def _mirrored(atoms: Atoms) -> Atoms:
    copy = atoms.copy()
    copy.set_cell(copy.cell * [1, 1, -1], scale_atoms=True)
    return copy


@pytest.mark.parametrize(
    "operation",
    [
        _rotated,
        _translated,
        _mirrored,
        lambda atoms: atoms[np.random.default_rng(0).permutation(len(atoms))],
        lambda atoms: make_supercell(atoms, [[1, 3, 0], [0, 1, -2], [0, 0, 1]]),
        lambda atoms: make_supercell(atoms, [[0, 1, 0], [1, 0, 0], [0, 0, 1]]),
        lambda atoms: atoms * (2, 1, 2),
        lambda atoms: make_supercell(atoms, [[1, 1, 0], [-1, 1, 0], [0, 0, 1]]),
    ],
    ids=[
        "rotation",
        "translation",
        "mirror",
        "permutation",
        "skewed cell",
        "left-handed",
        "supercell",
        "turned supercell",
    ],
)
@pytest.mark.parametrize("case", SYMMETRY_CASES)
def test_invariants(case: str, operation) -> None:
    atoms = SYMMETRY_CASES[case]
    before, after = compute(atoms, operation(atoms))
    np.testing.assert_allclose(after, before, rtol=2e-5, atol=2e-4)


def test_scale_invariance() -> None:
    """None of the 271 features has a length in it."""
    atoms = SYMMETRY_CASES["alloy, distorted"]
    larger = atoms.copy()
    larger.set_cell(larger.cell * 1.3, scale_atoms=True)
    np.testing.assert_allclose(*compute(atoms, larger), rtol=2e-5, atol=2e-4)


def test_batch_equals_one_by_one_and_input_is_left_alone() -> None:
    crystals = list(prototype_crystals().values())
    copies = [atoms.copy() for atoms in crystals]
    together = compute(*crystals)
    alone = np.vstack([compute(atoms) for atoms in crystals])
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    assert all(before == after for before, after in zip(copies, crystals, strict=True))


def test_element_without_data_costs_its_own_row() -> None:
    features, errors = ward2017.compute([bulk("Cu"), bulk("Og", "fcc", 7.0), bulk("Fe")])
    assert errors[0] is None and errors[2] is None
    assert "118" in errors[1]
    assert np.isnan(features[1]).all() and np.isfinite(features[[0, 2]]).all()


def test_empty_batch() -> None:
    features, errors = ward2017.compute([])
    assert features.shape == (0, 271) and errors == []


def test_imputed_element_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    from ase_matprop.descriptors import elements

    elements._log_imputation.cache_clear()
    features = compute(bulk("Ar", "fcc", 5.26))
    assert "Electronegativity, oxidation states for Ar" in caplog.text
    table = elements.load_element_table()
    measured = table.column("Electronegativity")[1:][
        ~table.imputed[1:, list(MAGPIE_PROPERTIES).index("Electronegativity")]
    ]
    assert features[0, LABELS.index("mean Electronegativity")] == pytest.approx(measured.mean())


@pytest.mark.data
@pytest.mark.slow
def test_every_structure_of_the_materials_project_set_has_features(data_dir) -> None:
    from ase_matprop.training.readers import read_extxyz

    structures = read_extxyz(data_dir / "mp" / "mp_formation_energy.extxyz.xz")
    assert len(structures) == 33064
    features, errors = ward2017.compute(structures)
    assert [error for error in errors if error is not None] == []
    assert np.isfinite(features).all()
