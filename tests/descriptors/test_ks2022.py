"""KS2022 of ordered and dilute structures: against pySIPFENN, against stored values, and invariants."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell

from ase_matprop.descriptors import ks2022, ward2017
from ase_matprop.descriptors.ks2022.ordered import equivalent_sites
from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.errors import DescriptorError, MatPropError, StructureError, UnknownElementError
from ase_matprop.structures import as_atoms
from ase_matprop.structures.prototypes import get_prototype
from tests.conftest import crystals_for_comparison, prototype_crystals
from tests.descriptors.pysipfenn_reference import load

LABELS = ks2022.feature_labels()


def reference_module(name: str):
    try:
        return load(name)
    except ImportError as error:
        pytest.skip(str(error))


def to_pymatgen(atoms: Atoms):
    from pymatgen.io.ase import AseAtomsAdaptor

    return AseAtomsAdaptor.get_structure(atoms)


def compute(*structures: Atoms, symmetry: bool = False) -> np.ndarray:
    features, errors = ks2022.compute([as_atoms(atoms) for atoms in structures], symmetry=symmetry)
    assert errors == [None] * len(structures)
    return features


def assert_agree(ours: np.ndarray, reference: np.ndarray, tolerance: float) -> None:
    """Deviations relative to the feature plus one: what is zero by symmetry is 1e-7 of a property's size here."""
    deviation = np.abs(ours - reference) / (np.abs(reference) + 1.0)
    wrong = {LABELS[i]: (ours[i], reference[i]) for i in np.flatnonzero(~(deviation < tolerance))}
    assert not wrong


#: pySIPFENN 0.18.0, KS2022.generate_descriptor with pymatgen 2026 on crystals_for_comparison(), 7 digits of float32
GOLDEN = {
    "rutile": {
        "mean Effective Coordination Number": 9.823207,
        "maximum Effective Coordination Number": 11.73463,
        "mean absolute deviation Mean Bond Length": 0.1006668,
        "mean Bond Length Variation": 0.1171756,
        "mean absolute deviation Cell Volume": 0.1793238,
        "Packing Efficiency": 0.371757,
        "mean neighbor difference in Atomic Number": 8.475866,
        "mean absolute deviation neighbor difference in Atomic Number": 3.682756,
        "minimum neighbor difference in Atomic Number": 5.713799,
        "mean neighbor difference in Ground State Magnetic Moment": 1.364211e-05,
        "2-norm of Element Fractions": 0.745356,
        "mean over modes of Atomic Number": 8.0,
        "Fraction of Valence Electrons in s orbitals": 0.375,
        "maximum Ionic Character (Pauling)": 0.5944455,
        "mean Ionic Character (Pauling) over ordered pairs": 0.264198,
    },
    "CoCrFeMnNi, rattled and sheared": {
        "mean Effective Coordination Number": 6.545138,
        "mean absolute deviation Mean Bond Length": 0.002687972,
        "mean Bond Length Variation": 0.06128693,
        "mean absolute deviation Cell Volume": 0.004687801,
        "Packing Efficiency": 0.4117844,
        "mean neighbor difference in Electronegativity": 0.1522642,
        "mean neighbor difference in Ground State Magnetic Moment": 0.8581764,
        "Number of Components": 5.0,
        "mean Atomic Number": 26.375,
        "mean over modes of Atomic Number": 28.0,
        "range Electronegativity": 0.36,
        "mean Ionic Character (Pauling) over ordered pairs": 0.01130287,
    },
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values(name: str) -> None:
    (features,) = compute(crystals_for_comparison()[name])
    ours = {label: features[LABELS.index(label)] for label in GOLDEN[name]}
    assert ours == pytest.approx(GOLDEN[name], rel=2e-6, abs=1e-6)


@pytest.mark.peer
@pytest.mark.slow
def test_agrees_with_pysipfenn() -> None:
    reference = reference_module("KS2022")
    crystals = {name: atoms for name, atoms in crystals_for_comparison().items() if len(atoms) < 60}
    assert len(crystals) >= 40
    for name, atoms in crystals.items():
        expected = reference.generate_descriptor(to_pymatgen(atoms))
        # freud is in single precision, which shows where four cells of wurtzite meet
        assert_agree(compute(atoms)[0], expected, 1e-4 if "ZnO" in name else 3e-6)
        assert_agree(compute(atoms, symmetry=True)[0], expected, 1e-4 if "ZnO" in name else 3e-6)


@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.parametrize("symbol", ["Pm", "Eu", "Tb", "Yb", "Rn", "Fr", "Lr", "U"])
def test_elements_with_their_own_rules_agree_with_pysipfenn(symbol: str) -> None:
    reference = reference_module("KS2022")
    atoms = bulk("NaCl", "rocksalt", 6.0)
    atoms.set_chemical_symbols([symbol, "O"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = reference.generate_descriptor(to_pymatgen(atoms))
    assert_agree(compute(atoms)[0], expected, 3e-6)


@pytest.mark.peer
@pytest.mark.slow
def test_labels_of_pysipfenn() -> None:
    reference = reference_module("KS2022")
    from pathlib import Path

    text = Path(reference.__file__).with_name("labels_KS2022.csv").read_text()
    assert ks2022.pysipfenn_labels() == text.split()


def test_labels() -> None:
    assert len(LABELS) == len(set(LABELS)) == ks2022.N_FEATURES == 256
    assert len(set(ks2022.pysipfenn_labels())) == 256
    assert LABELS[12] == "Packing Efficiency" and LABELS[118] == "Number of Components"
    assert ks2022.feature_labels() is not ks2022.feature_labels()
    descriptor = get_descriptor("ks2022")
    assert (descriptor.version, descriptor.labels) == (1, tuple(LABELS))


def test_features_in_common_with_ward2017() -> None:
    crystals = [prototype_crystals()[name] for name in ("rutile", "spinel", "GaAs")]
    both = [label for label in LABELS if label in ward2017.feature_labels()]
    assert len(both) == 256 - 21 - 2
    ward, _ = ward2017.compute(crystals)
    columns = [ward2017.feature_labels().index(label) for label in both]
    own = [LABELS.index(label) for label in both]
    np.testing.assert_allclose(compute(*crystals)[:, own], ward[:, columns], rtol=1e-12)


CASES = ("rutile", "spinel", "MgO slab", "CoCrFeMnNi, rattled and sheared")


@pytest.mark.parametrize(
    "operation",
    [
        lambda atoms: atoms * (2, 1, 2),
        lambda atoms: atoms[np.random.default_rng(0).permutation(len(atoms))],
        lambda atoms: make_supercell(atoms, [[1, 3, 0], [0, 1, -2], [0, 0, 1]]),
    ],
    ids=["supercell", "permutation", "skewed cell"],
)
@pytest.mark.parametrize("name", CASES)
def test_invariants(name: str, operation) -> None:
    atoms = crystals_for_comparison()[name]
    before, after = compute(atoms, operation(atoms))
    np.testing.assert_allclose(after, before, rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize("name", CASES)
def test_translation_and_rotation(name: str) -> None:
    atoms = crystals_for_comparison()[name]
    moved = atoms.copy()
    moved.positions += (1.234, -7.7, 100.1)
    moved.rotate(37.0, (1, 2, -1), rotate_cell=True)
    before, after = compute(atoms, moved)
    np.testing.assert_allclose(after, before, rtol=2e-5, atol=2e-4)


def test_symmetry_reduction_changes_nothing() -> None:
    crystals = [atoms for atoms in crystals_for_comparison().values() if len(atoms) < 60]
    np.testing.assert_allclose(compute(*crystals), compute(*crystals, symmetry=True), rtol=1e-5, atol=2e-4)


def test_equivalent_sites() -> None:
    _, count = np.unique(equivalent_sites(prototype_crystals()["rutile"]), return_counts=True)
    assert sorted(count.tolist()) == [2, 4]
    np.testing.assert_array_equal(equivalent_sites(Atoms("H2", positions=[[0] * 3] * 2, cell=[0, 0, 0])), [0, 1])


def test_batch_equals_one_by_one_and_input_is_left_alone() -> None:
    crystals = list(prototype_crystals().values())
    copies = [atoms.copy() for atoms in crystals]
    alone = np.vstack([compute(atoms) for atoms in crystals])
    np.testing.assert_allclose(compute(*crystals), alone, rtol=1e-12)
    assert all(before == after for before, after in zip(copies, crystals, strict=True))


def test_bad_elements_cost_their_own_row(caplog: pytest.LogCaptureFixture) -> None:
    from ase_matprop.descriptors.ks2022 import features

    features._check_element.cache_clear()
    structures = [bulk("Cu"), bulk("Og", "fcc", 7.0), bulk("Ar", "fcc", 5.3), bulk("Fr", "bcc", 6.0)]
    values, errors = ks2022.compute(structures)
    assert errors[0] is None and errors[3] is None
    assert "118" in errors[1] and "electronegativity" in errors[2]
    assert np.isnan(values[1:3]).all() and np.isfinite(values[[0, 3]]).all()
    assert "MeltingT of Fr" in caplog.text
    assert ks2022.compute([])[0].shape == (0, 256)


# dilute

DILUTE = {
    "Cr in fcc Ni": (bulk("Ni", cubic=True) * 2, "Cr"),
    "Al in hcp Ti": (bulk("Ti") * (3, 3, 2), "Al"),
    "C in diamond Si": (bulk("Si") * (3, 3, 3), "C"),
    "Ni in four atoms of Cu": (bulk("Cu", cubic=True), "Ni"),  # next to its own images
}


def dilute(name: str, site: int = 0) -> Atoms:
    host, symbol = DILUTE[name]
    atoms = host.copy()
    atoms.symbols[site] = symbol
    return atoms


@pytest.mark.parametrize("name", DILUTE)
def test_dilute_equals_full(name: str) -> None:
    atoms = dilute(name)
    (full,) = compute(atoms)
    for host in (None, DILUTE[name][0]):
        (features,), errors = ks2022.compute_dilute([as_atoms(atoms)], host)
        assert errors == [None]
        np.testing.assert_allclose(features, full, rtol=1e-10, atol=1e-10)


def test_dilute_in_a_compound_equals_full() -> None:
    host = get_prototype("sigma").atoms() * (1, 1, 2)
    atoms = [host.copy() for _ in range(3)]
    for each, site, symbol in zip(atoms, (3, 3, 40), ("Mo", "Ni", "Mo"), strict=True):
        each.symbols[site] = symbol
    features, errors = ks2022.compute_dilute([as_atoms(each) for each in atoms], host)
    assert errors == [None] * 3
    np.testing.assert_allclose(features, compute(*atoms), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "repeat"), [("FCC", (4, 4, 4)), ("HCP", (3, 3, 3)), ("sigma", (2, 2, 2))])
def test_dilute_limit_equals_full_supercell(name: str, repeat: tuple[int, int, int]) -> None:
    host = get_prototype(name).atoms()
    supercells = []
    for symbol in ("Al", "Pd"):
        supercells.append(host.repeat(repeat))
        supercells[-1].symbols[len(host) - 1] = symbol
    features = ks2022.dilute_limit(host, ["Al", "Pd"], n_atoms=len(supercells[0]), site=len(host) - 1)
    np.testing.assert_allclose(features, compute(*supercells), rtol=2e-5, atol=2e-4)


@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.parametrize("name", DILUTE)
def test_dilute_agrees_with_pysipfenn(name: str) -> None:
    atoms = dilute(name)
    expected = reference_module("KS2022_dilute").generate_descriptor(to_pymatgen(atoms))
    assert_agree(ks2022.compute_dilute([as_atoms(atoms)])[0][0], expected, 3e-6)


@pytest.mark.parametrize(
    ("atoms", "host", "message"),
    [
        (bulk("Cu") * 2, None, "not one foreign atom"),
        (bulk("NiAl", "cesiumchloride", 2.9), None, "not one foreign atom"),
        (bulk("NaCl", "rocksalt", 5.64) * 2, None, "not one foreign atom"),
        (dilute("Cr in fcc Ni"), bulk("Ni", cubic=True), "number of atoms"),
        (dilute("Cr in fcc Ni"), dilute("Cr in fcc Ni"), "differs in 0"),
        (dilute("Cr in fcc Ni"), dilute("Cr in fcc Ni", 5), "differs in 2"),
        (dilute("Cr in fcc Ni"), DILUTE["Cr in fcc Ni"][0][::-1], "other positions"),
    ],
)
def test_what_is_not_dilute(atoms: Atoms, host: Atoms | None, message: str) -> None:
    sound = dilute("Cr in fcc Ni")
    features, (error, other) = ks2022.compute_dilute([atoms, sound], [host, None])
    assert message in error and other is None
    assert np.isnan(features[0]).all() and np.isfinite(features[1]).all()


def test_bad_arguments_of_the_dilute_limit() -> None:
    host = bulk("Ti")
    with pytest.raises(DescriptorError, match="sites 0 to 1"):
        ks2022.dilute_limit(host, ["Al"], n_atoms=16, site=2)
    with pytest.raises(DescriptorError, match="multiple of the host's 2"):
        ks2022.dilute_limit(host, ["Al"], n_atoms=15)
    with pytest.raises(DescriptorError, match="raise n_atoms"):
        ks2022.dilute_limit(host, ["Al"], n_atoms=8)
    with pytest.raises(UnknownElementError, match="'Xx'"):
        ks2022.dilute_limit(host, ["Xx"], n_atoms=64)
    with pytest.raises(UnknownElementError, match="Ar"):
        ks2022.dilute_limit(host, ["Ar"], n_atoms=64)
    with pytest.raises(DescriptorError, match="one for each of 1"):
        ks2022.compute_dilute([host], [host, host])
    for wrong, kind, words in (
        ("Cr", DescriptorError, "must be a list of element symbols. Got 'Cr'; put a single one into a list"),
        ("CN", DescriptorError, "Got 'CN'"),  # neither C and N, nor anything else
        ([], DescriptorError, "elements is empty; name at least one"),
        (None, DescriptorError, "elements must be a list .* None was given"),
        (24, DescriptorError, "Got int"),
        ([["Cr"]], UnknownElementError, r"\['Cr'\] is not an element symbol"),
    ):
        with pytest.raises(kind, match=words):
            ks2022.dilute_limit(host, wrong, n_atoms=64)
    for wrong in ("64", 64.5, None):
        with pytest.raises(DescriptorError, match="n_atoms must be a whole number"):
            ks2022.dilute_limit(host, ["Al"], n_atoms=wrong)
    with pytest.raises(DescriptorError, match="site must be a whole number. Got '0'"):
        ks2022.dilute_limit(host, ["Al"], n_atoms=64, site="0")
    with pytest.raises(StructureError, match="host: None was given; give ASE Atoms"):
        ks2022.dilute_limit(None, ["Al"], n_atoms=64)


# what is not Atoms


def test_structures_of_pymatgen_are_taken() -> None:
    host, atoms = DILUTE["Cr in fcc Ni"][0], dilute("Cr in fcc Ni")
    structure, parent = to_pymatgen(atoms), to_pymatgen(host)
    (expected,) = compute(atoms)
    results = [
        ks2022.compute([structure])[0][0],
        ks2022.compute([atoms, structure])[0][1],
        ks2022.pooled_features([structure]),
        *(ks2022.compute_dilute([structure], hosts)[0][0] for hosts in (None, parent, [parent], [None])),
    ]
    np.testing.assert_allclose(results, [expected] * len(results), rtol=1e-9, atol=1e-9)
    cell = bulk("Ni")
    np.testing.assert_allclose(
        ks2022.dilute_limit(to_pymatgen(cell), ["Cr"], n_atoms=64),
        ks2022.dilute_limit(cell, ["Cr"], n_atoms=64),
        rtol=1e-9,
        atol=1e-9,
    )


@pytest.mark.parametrize("function", [ks2022.compute, ks2022.compute_dilute, ks2022.pooled_features])
def test_what_is_no_list_of_structures(function) -> None:
    for wrong, words in (
        ([bulk("Cu"), None], "(structure|cell) 1: None was given; give ASE Atoms, a pymatgen Structure"),
        ([7], "(structure|cell) 0: is a.? int, not a structure"),
        (["no such file.cif"], "does not exist"),
        (bulk("Cu"), "must be a list of structures. Got Atoms; put a single one into a list"),
        (to_pymatgen(bulk("Cu")), "Got Structure; put a single one into a list"),
        ("POSCAR", "Got 'POSCAR'; put"),
        (None, "must be a list of structures. None was given"),
        (3, "Got int"),
    ):
        with pytest.raises(MatPropError, match=words):
            function(wrong)


def test_what_is_no_host() -> None:
    for hosts, words in (
        ([7], "host 0: is a.? int"),
        (7, "one for each of 1. Got int"),
        ("no such file.cif", "host: does not exist"),
    ):
        with pytest.raises(MatPropError, match=words):
            ks2022.compute_dilute([dilute("Cr in fcc Ni")], hosts)
