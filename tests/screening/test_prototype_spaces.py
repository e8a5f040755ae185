import itertools
import math
import pickle
import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.data import atomic_numbers
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from ase_matprop.errors import MatPropError, UnknownElementError, UnknownNameError
from ase_matprop.screening.spaces.aflow import get_aflow_prototype
from ase_matprop.screening.spaces.decorations import Decorations, Template, find_equivalences
from ase_matprop.screening.spaces.prototypes import PROTOTYPE_GROUPS, PrototypeSpace, select_prototypes
from ase_matprop.screening.spaces.volumes import Geometry, VolumeModel
from ase_matprop.structures import as_atoms
from ase_matprop.structures.prototypes import get_prototype

EXACT = {"ltol": 0.01, "stol": 0.01, "angle_tol": 0.5, "scale": True}


def entries(space):
    return [entry for shard in range(space.n_shards) for entry in space.entries(shard)]


def species_of(prototype):
    """Index of the species of each site, and the number of species."""
    elements = list(dict.fromkeys(sublattice.element for sublattice in prototype.sublattices))
    of_sublattice = np.array([elements.index(sublattice.element) for sublattice in prototype.sublattices])
    return of_sublattice[prototype.atoms().arrays["sublattice"]], len(elements)


# ---------------------------------------------------------------------------------------------------- equivalences


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("B1", 2),
        ("B2", 2),
        ("B3", 2),
        ("B4", 2),
        ("B32", 2),
        ("L1_0", 2),
        ("L1_1", 2),
        ("L1_2", 1),
        ("B8_1", 1),
        ("B20", 1),
        ("L2_1", 2),
        ("C1_b", 2),
        ("inverse Heusler", 2),
        ("perovskite", 1),
        ("orthorhombic perovskite", 1),
        ("chalcopyrite", 1),
        ("spinel", 1),
        ("double perovskite", 1),
    ],
)
def test_equivalent_species_are_those_that_structure_matcher_finds(name, count):
    prototype = get_prototype(name)
    atoms = prototype.atoms()
    species, size = species_of(prototype)
    found = find_equivalences(atoms, species)
    stand_ins = ["Fe", "O", "Na", "Cl"][:size]
    matcher = StructureMatcher(**EXACT)

    def structure(order):
        return Structure(atoms.cell.array, [stand_ins[order[index]] for index in species], atoms.get_scaled_positions())

    identity = tuple(range(size))
    wanted = [order for order in itertools.permutations(identity) if matcher.fit(structure(identity), structure(order))]
    assert found == wanted
    assert len(found) == count


def brute_force(allowed, equivalences):
    seen, count = set(), 0
    for row in itertools.product(*allowed):
        if len(set(row)) < len(row) or row in seen:
            continue
        count += 1
        seen |= {tuple(row[site] for site in permutation) for permutation in equivalences}
    return count


@pytest.mark.parametrize(
    ("allowed", "equivalences"),
    [
        ([[1, 2, 3]], [(0,)]),
        ([[1, 2, 3, 4]] * 2, [(0, 1), (1, 0)]),
        ([[1, 2], [1, 2, 3]], [(0, 1), (1, 0)]),
        ([[1, 2], [3, 4]], [(0, 1), (1, 0)]),
        ([[1, 2, 3], [2, 3, 4], [8, 3]], [(0, 1, 2), (1, 0, 2)]),
        ([[1, 2, 3, 4, 5]] * 3, list(itertools.permutations(range(3)))),
        ([[1, 2, 3], [3, 4, 5], [5, 1, 6]], list(itertools.permutations(range(3)))),
        ([[1, 2, 3, 4, 5]] * 4, [(0, 1, 2, 3), (1, 0, 3, 2)]),
        ([[1, 2, 3, 4, 5], [1, 2], [3, 4, 5], [2, 9]], [(0, 1, 2, 3), (1, 2, 3, 0), (2, 3, 0, 1), (3, 0, 1, 2)]),
        ([[1, 2], [1, 2], [1, 2]], [(0, 1, 2)]),
    ],
)
def test_decorations_are_counted_and_numbered_without_repeats(allowed, equivalences):
    decorations = Decorations(allowed, equivalences)
    rows = [tuple(row) for row in decorations.numbers(0, decorations.count).tolist()]
    assert decorations.count == len(rows) == brute_force(allowed, equivalences)
    orbits = {min(tuple(row[site] for site in permutation) for permutation in equivalences) for row in rows}
    assert len(orbits) == len(rows)
    for row in rows:
        assert len(set(row)) == len(row)
        assert all(number in entry for number, entry in zip(row, allowed, strict=True))
    for start in range(decorations.count):
        assert tuple(decorations.numbers(start, start + 1)[0]) == rows[start]


@pytest.mark.parametrize("name", ["B2", "L1_0", "B1", "L2_1", "C1_b", "L1_2", "chalcopyrite", "perovskite"])
def test_no_two_candidates_are_the_same_crystal_and_none_is_missing(name):
    elements = ["Fe", "Al", "O", "Na"]
    space = PrototypeSpace(name, elements=elements)
    matcher, adaptor = StructureMatcher(**EXACT), AseAtomsAdaptor()
    found = [adaptor.get_structure(entry.atoms) for entry in entries(space)]
    assert len(found) == space.n_candidates
    groups = matcher.group_structures(found)
    assert len(groups) == len(found)
    atoms = get_prototype(name).atoms()
    species, size = species_of(get_prototype(name))
    for symbols in itertools.permutations(elements, size):
        wanted = Structure(atoms.cell.array, [symbols[index] for index in species], atoms.get_scaled_positions())
        assert sum(matcher.fit(wanted, structure) for structure in found) == 1


# ---------------------------------------------------------------------------------------------------------- space


def test_counts_are_those_of_the_closed_form():
    elements = ["Li", "Na", "K", "Mg", "Ca", "Fe", "O", "S", "Cl", "F"]
    n = len(elements)
    counts = {
        "FCC": n,
        "B2": math.comb(n, 2),
        "L1_2": n * (n - 1),
        "L2_1": n * (n - 1) * (n - 2) // 2,
        "perovskite": math.perm(n, 3),
        "inverse Heusler": math.perm(n, 3) // 2,
    }
    for name, count in counts.items():
        assert PrototypeSpace(name, elements=elements).n_candidates == count
    space = PrototypeSpace(list(counts), elements=elements, shard_size=100)
    assert space.n_candidates == sum(counts.values())
    assert sum(space.shard_size(shard) for shard in range(space.n_shards)) == space.n_candidates
    names = [entry.name for entry in entries(space)]
    assert len(set(names)) == len(names) == space.n_candidates
    assert space.elements == {atomic_numbers[symbol] for symbol in elements}


def test_a_large_space_is_counted_at_once_and_any_shard_can_be_made():
    elements = list(range(3, 84))
    elements = [number for number in elements if number not in (10, 18, 36, 54)]
    space = PrototypeSpace("all", elements=elements, volume="radii")
    assert space.n_candidates > 3_000_000
    last = list(space.entries(space.n_shards - 1))
    assert len(last) == space.shard_size(space.n_shards - 1)
    assert next(space.entries(space.n_shards // 2)).atoms is not None


def test_shards_do_not_depend_on_their_size_or_on_one_another():
    arguments = {"prototypes": ["perovskite", "B1", "L2_1"], "elements": ["Li", "Fe", "O", "Al", "Sr"]}
    whole = entries(PrototypeSpace(**arguments))
    pieces = PrototypeSpace(**arguments, shard_size=7)
    again = [list(pieces.entries(shard)) for shard in reversed(range(pieces.n_shards))]
    assert [entry.name for part in reversed(again) for entry in part] == [entry.name for entry in whole]
    for first, second in zip(whole, (entry for part in reversed(again) for entry in part), strict=True):
        np.testing.assert_array_equal(first.atoms.positions, second.atoms.positions)
    assert [len(part) for part in reversed(again)] == [pieces.shard_size(shard) for shard in range(pieces.n_shards)]
    copy = pickle.loads(pickle.dumps(pieces))
    assert [entry.name for entry in copy.entries(3)] == [entry.name for entry in pieces.entries(3)]
    with pytest.raises(MatPropError, match="no shard 99"):
        list(pieces.entries(99))


def test_structures_are_the_prototype_with_other_elements():
    prototype = get_prototype("spinel")
    space = PrototypeSpace("spinel", sites={"A": ["Zn"], "Al": ["Fe", "Cr"], "C": "O"})
    found = entries(space)
    assert [entry.name for entry in found] == ["spinel A=Zn B=Cr C=O", "spinel A=Zn B=Fe C=O"]
    for entry in found:
        plain = as_atoms(entry.atoms)
        assert plain.info["name"] == entry.name
        assert entry.atoms.pbc.all()
        decorated = prototype.decorate(
            dict(zip("ABC", ["Zn", entry.name.split("B=")[1][:2], "O"], strict=True)),
            volume=entry.atoms.get_volume() / len(entry.atoms),
        )
        np.testing.assert_allclose(entry.atoms.positions, decorated.positions, atol=1e-9)
        np.testing.assert_allclose(entry.atoms.cell, decorated.cell, atol=1e-9)
        assert (entry.atoms.numbers == decorated.numbers).all()
    # the lattice parameter of ZnFe2O4 is 8.44 Angstrom, and that of ZnCr2O4 8.33
    assert np.cbrt(4 * found[1].atoms.get_volume()) == pytest.approx(8.44, rel=0.06)


def test_sublattices_with_one_element_in_the_representative_are_decorated_together():
    space = PrototypeSpace("GdFeO3", sites={"A": ["La"], "B": ["Mn"], "C": ["O"], "D": ["O"]})
    (entry,) = entries(space)
    assert entry.atoms.get_chemical_formula(mode="metal") == "La4Mn4O12"
    with pytest.raises(MatPropError, match="C and D of prototype orthorhombic perovskite are one species"):
        PrototypeSpace("GdFeO3", sites={"A": ["La"], "B": ["Mn"], "C": ["O"], "D": ["S"]})


def test_lattice_of_the_distorted_perovskite():
    import spglib

    atoms = get_prototype("orthorhombic perovskite").atoms()
    assert spglib.get_symmetry_dataset((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)).number == 62
    iron = [index for index, symbol in enumerate(atoms.symbols) if symbol == "Fe"]
    oxygen = [index for index, symbol in enumerate(atoms.symbols) if symbol == "O"]
    for index in iron:
        bonds = np.sort(atoms.get_distances(index, oxygen, mic=True))
        # Marezio et al. (1970): 2.00 to 2.03 Angstrom in the octahedron
        assert bonds[0] > 1.99
        assert bonds[5] < 2.04
        assert bonds[6] > 3.0


def test_prototypes_of_one_shape_are_used_once():
    elements = ["Li", "O", "Ca", "F"]
    both = PrototypeSpace(["fluorite", "antifluorite", "AB2_cF12_225_a_c"], elements=elements)
    assert both.prototypes == ["C1"]
    assert both.merged == {"antifluorite": "C1", "AB2_cF12_225_a_c": "C1"}
    assert both.n_candidates == 12
    assert PrototypeSpace(["CsCl", "AB_cP2_221_b_a"], elements=elements).prototypes == ["B2"]
    assert PrototypeSpace(["In", "FCC"], elements=elements).prototypes == ["In", "FCC"]


def test_groups():
    assert len(select_prototypes("aflow")) == 288
    assert {entry.name for entry in select_prototypes("heuslers")} == {"L2_1", "C1_b", "inverse Heusler"}
    assert len(select_prototypes("all")) == sum(
        len(select_prototypes(arity)) for arity in ("unary", "binary", "ternary", "quaternary")
    )
    for group in PROTOTYPE_GROUPS:
        assert select_prototypes(group)
    assert select_prototypes(["B2", "CsCl", get_prototype("B2")]) == [get_prototype("B2")]
    assert select_prototypes("AB_oP8_62_c_c:GeS") == [get_aflow_prototype("AB_oP8_62_c_c:GeS")]
    for name in (
        "B2",
        "L1_0",
        "L1_2",
        "rocksalt",
        "rock salt",
        "cubic perovskite",
        "orthorhombic perovskite",
        "GdFeO3",
        "spinel",
        "full Heusler",
        "half Heusler",
        "inverse Heusler",
    ):
        assert len(select_prototypes(name)) == 1


def test_every_aflow_prototype_can_be_decorated():
    space = PrototypeSpace("aflow", elements=["Fe", "Al", "O", "Na", "Cl"], shard_size=1000)
    names = set()
    for entry in entries(space):
        assert entry.error is None
        names.add(entry.name.split()[0])
    assert len(names) + len(space.merged) == 288


def test_charge_balance():
    sites = {"A": ["Na", "Ca", "La"], "B": ["Ti", "Nb", "Al"], "C": ["O"]}
    space = PrototypeSpace("perovskite", sites=sites, charge_balanced={"states": "common"})
    found = {entry.formula for entry in entries(space)}
    assert {"CaTiO3", "AlLaO3", "LaAlO3"} & found
    assert "AlNaO3" not in found
    assert "NaAlO3" not in found
    assert space.n_candidates == 9 > len(found)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"prototypes": "B2"}, MatPropError, "needs elements"),
        ({"prototypes": "B22", "elements": ["Fe", "Al"]}, UnknownNameError, "B2"),
        ({"prototypes": [], "elements": ["Fe"]}, MatPropError, "empty"),
        ({"prototypes": 3, "elements": ["Fe"]}, MatPropError, "names such as 'B2'"),
        ({"prototypes": [3], "elements": ["Fe"]}, MatPropError, "by its name"),
        ({"prototypes": "B2", "elements": ["Fe"]}, MatPropError, "no candidate"),
        ({"prototypes": "B2", "elements": ["Fe", "Xx"]}, UnknownElementError, "'Xx'"),
        ({"prototypes": "B2", "elements": "FeAl"}, MatPropError, "list of symbols"),
        ({"prototypes": "B2", "sites": {"A": ["Fe"]}}, MatPropError, "sublattice B of prototype B2 has no elements"),
        ({"prototypes": "B2", "sites": ["Fe"]}, MatPropError, "must map sublattices"),
        (
            {"prototypes": "perovskite", "sites": {"A": ["Sr"], "X": ["O"]}, "elements": ["Ti"]},
            MatPropError,
            r"perovskite has no sublattice 'X'; it has A \(Sr\), B \(Ti\), C \(O\)",
        ),
        ({"prototypes": "B2", "elements": ["Fe", "Xe"]}, MatPropError, "knows nothing of Xe"),
        ({"prototypes": "B2", "elements": ["Fe", "Al"], "volume": "dsl"}, UnknownNameError, "Did you mean 'dls'"),
        ({"prototypes": "B2", "elements": ["Fe", "Al"], "volume": {"Fe": 11.0}}, MatPropError, "nothing of Al"),
        ({"prototypes": "B2", "elements": ["Fe", "Al"], "volume": {"Fe": -1.0}}, MatPropError, "positive number"),
        ({"prototypes": "B2", "elements": ["Fe", "Al"], "volume_factor": 0.0}, MatPropError, "volume_factor"),
        ({"prototypes": "B2", "elements": ["Fe", "Al"], "shard_size": 0}, MatPropError, "shard_size"),
    ],
)
def test_bad_input_is_explained(arguments, error, message):
    with pytest.raises(error, match=message):
        PrototypeSpace(**arguments)


def test_description_tells_spaces_apart():
    base = {"prototypes": "B2", "elements": ["Fe", "Al"]}
    variants = [
        base,
        {**base, "prototypes": "B1"},
        {**base, "elements": ["Fe", "Ni"]},
        {**base, "volume": "radii"},
        {**base, "volume_factor": 1.1},
        {**base, "shard_size": 5},
        {**base, "charge_balanced": True},
    ]
    described = [PrototypeSpace(**arguments).describe() for arguments in variants]
    assert all(first != second for first, second in itertools.combinations(described, 2))
    assert PrototypeSpace(**base).describe() == described[0]


# -------------------------------------------------------------------------------------------------------- volumes


@pytest.mark.parametrize("name", ["B1", "B2", "L1_2", "perovskite", "spinel", "C14", "L2_1", "olivine", "FCC"])
def test_data_mined_scaling_is_that_of_pymatgen(name):
    from pymatgen.analysis.structure_prediction.volume_predictor import DLSVolumePredictor

    predictor = DLSVolumePredictor(min_scaling=None, max_scaling=None)
    symbols = ["Sr", "Ti", "O", "Fe"]
    atoms = get_prototype(name).atoms()
    species, size = species_of(get_prototype(name))
    for chosen in itertools.islice(itertools.permutations(symbols, size), 6):
        numbers = np.array([[atomic_numbers[symbol] for symbol in chosen]])
        structure = Structure(atoms.cell.array, numbers[0][species].tolist(), atoms.get_scaled_positions())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = predictor.predict(structure)
        assert VolumeModel("dls")(Geometry.of(atoms, species), numbers)[0] == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    ("prototype", "sites", "volume"),
    [  # cells of the Materials Project (GGA), Angstrom^3: MgO, NaCl, NiAl, Ni3Al, SrTiO3, Cu2MnAl
        ("B1", {"A": "Mg", "B": "O"}, 19.2),
        ("B1", {"A": "Na", "B": "Cl"}, 46.1),
        ("B2", {"A": "Ni", "B": "Al"}, 24.2),
        ("L1_2", {"A": "Al", "B": "Ni"}, 45.4),
        ("perovskite", {"A": "Sr", "B": "Ti", "C": "O"}, 61.5),
        ("L2_1", {"A": "Al", "B": "Mn", "C": "Cu"}, 52.2),
    ],
)
def test_volumes_of_known_compounds(prototype, sites, volume):
    (entry,) = entries(PrototypeSpace(prototype, sites=sites))
    assert entry.atoms.get_volume() == pytest.approx(volume, rel=0.15)


def test_volumes_by_radii_make_the_shortest_bond_their_sum():
    from pymatgen.core import Element

    (entry,) = entries(PrototypeSpace("B1", sites={"A": "Na", "B": "Cl"}, volume="radii"))
    wanted = float(Element("Na").atomic_radius) + float(Element("Cl").atomic_radius)
    assert entry.atoms.get_distance(0, 1, mic=True) == pytest.approx(wanted)
    (larger,) = entries(PrototypeSpace("B1", sites={"A": "Na", "B": "Cl"}, volume="radii", volume_factor=1.331))
    assert larger.atoms.get_distance(0, 1, mic=True) == pytest.approx(1.1 * wanted)


def test_volumes_of_a_mapping_are_means_over_sites():
    (entry,) = entries(PrototypeSpace("L1_2", sites={"A": "Al", "B": "Ni"}, volume={"Al": 16.5, "Ni": 11.0}))
    assert entry.atoms.get_volume() == pytest.approx(16.5 + 3 * 11.0)
    (entry,) = entries(PrototypeSpace("B2", sites={"A": "Al", "B": "Ni"}, volume={"Al": 1e-3, "Ni": 1e-3}))
    assert entry.atoms is None
    assert "leaves no room" in entry.error


def test_distances_between_species():
    prototype = get_prototype("perovskite")
    geometry = Geometry.of(prototype.atoms(), species_of(prototype)[0])
    edge = 3.905
    assert geometry.counts.tolist() == [1, 1, 3]
    assert geometry.volume == pytest.approx(edge**3)
    wanted = edge * np.array([[1, 3**0.5 / 2, 0.5**0.5], [3**0.5 / 2, 1, 0.5], [0.5**0.5, 0.5, 0.5**0.5]])
    np.testing.assert_allclose(geometry.distances, wanted)


def test_shortest_bonds_are_reasonable():
    space = PrototypeSpace("all", elements=["Li", "Fe", "O", "Al", "Cs"])
    for entry in entries(space):
        atoms = entry.atoms
        distances = atoms.get_all_distances(mic=True)[~np.eye(len(atoms), dtype=bool)] if len(atoms) > 1 else [2.0]
        assert np.min(distances) > 0.9, entry.name


def test_a_template_does_not_change_what_it_is_made_of():
    atoms = Atoms("CsCl", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[4.1] * 3, pbc=True)
    before = atoms.copy()
    species = np.array([0, 1])
    template = Template.of(atoms, species)
    (entry,) = template.entries(["a"], np.array([[26, 13]]), np.array([24.0]))
    entry.atoms.positions += 1.0
    assert atoms == before
    assert template.positions[0].tolist() == [0, 0, 0]
    assert species.tolist() == [0, 1]


def test_prototypes_of_a_group_that_do_not_fit_are_passed_over() -> None:
    space = PrototypeSpace("all", sites={"A": ["Ca", "Ba"], "B": ["Ti"], "C": ["O"]})
    assert {"perovskite", "orthorhombic perovskite"} <= set(space.prototypes) and "B2" not in space.prototypes
    assert space.elements == {8, 20, 22, 56}
    with pytest.raises(MatPropError, match="prototype B2 has no sublattice 'C'"):
        PrototypeSpace(["perovskite", "B2"], sites={"A": ["Ca"], "B": ["Ti"], "C": ["O"]})
    with pytest.raises(MatPropError, match="has no sublattice 'Q'"):
        PrototypeSpace("perovskites", sites={"Q": ["Ca"]})


@pytest.mark.parametrize("charge_balanced", [False, True])
def test_structures_are_picked_by_their_place(charge_balanced, monkeypatch):
    monkeypatch.setattr("ase_matprop.screening.spaces.prototypes._AT_ONCE", 7)
    elements = ["Li", "Mg", "Al", "Ti", "Fe", "O", "F"]
    space = PrototypeSpace(["B1", "B2", "perovskite"], elements, shard_size=40, charge_balanced=charge_balanced)
    for shard in range(space.n_shards):
        expected = list(space.entries(shard))
        assert space.pick(shard, []) == {}
        for rows in ([0], range(len(expected)), range(1, len(expected), 5), [len(expected) // 2, 3, 3, 10_000]):
            found = space.pick(shard, rows)
            assert set(found) == {row for row in rows if row < len(expected)}
            for row, entry in found.items():
                assert entry.name == expected[row].name
                assert (entry.atoms.numbers == expected[row].atoms.numbers).all()
                np.testing.assert_allclose(entry.atoms.positions, expected[row].atoms.positions, rtol=0, atol=1e-12)
                np.testing.assert_allclose(entry.atoms.cell.array, expected[row].atoms.cell.array, rtol=0, atol=1e-12)
    with pytest.raises(MatPropError, match="no shard"):
        space.pick(space.n_shards, [0])
