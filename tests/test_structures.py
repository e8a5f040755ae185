"""Reading, conversion and checks of structures."""

from __future__ import annotations

import bz2
import copy
import gzip
import io
import json
import lzma
import os
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.geometry import minkowski_reduce
from ase.io.jsonio import encode

from ase_matprop.errors import MatPropError, StructureError, UnknownNameError
from ase_matprop.structures import StructureEntry, as_atoms, check_atoms, iter_structures, read_structures
from ase_matprop.structures.checks import MINIMUM_DISTANCE, close_pairs

EXAMPLES = Path(__file__).parents[1] / "examples" / "structures"

POSCAR = """rock salt
4.2112
1.0 0.0 0.0
0.0 1.0 0.0
0.0 0.0 1.0
Mg O
4 4
Direct
0.0 0.0 0.0
0.0 0.5 0.5
0.5 0.0 0.5
0.5 0.5 0.0
0.5 0.5 0.5
0.5 0.0 0.0
0.0 0.5 0.0
0.0 0.0 0.5
"""

CIF = """data_{name}
_chemical_formula_sum '{formula}'
_symmetry_space_group_name_H-M '{group}'
_cell_length_a {a}
_cell_length_b {a}
_cell_length_c {a}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{sites}
"""


def cif(sites: str, *, formula: str = "?", group: str = "P 1", a: float = 4.0, name: str = "x") -> str:
    return CIF.format(sites=sites, formula=formula, group=group, a=a, name=name)


def rock_salt() -> Atoms:
    return bulk("MgO", "rocksalt", a=4.2112, cubic=True)


def reasons(inputs: object) -> list[str | None]:
    return [entry.error for entry in read_structures(inputs, on_error="collect")]


def refused(obj: object, *words: str) -> str:
    """The message for an object that must be refused; it is one line that names the object and has all words."""
    with pytest.raises(StructureError) as caught:
        as_atoms(obj, name="the input")
    message = str(caught.value)
    assert message.startswith("the input: ")
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


# ---- ASE


def test_atoms_come_back_new_and_plain():
    atoms = rock_salt()
    atoms.calc = EMT()
    atoms.set_constraint(FixAtoms([0]))
    atoms.set_initial_magnetic_moments(np.ones(8))
    atoms.set_velocities(np.ones((8, 3)))
    atoms.info = {"name": "periclase", "energy": 1.0, "more": [1, 2]}
    before = copy.deepcopy(atoms)
    result = as_atoms(atoms)
    assert type(result) is Atoms
    assert result == before
    assert result.info == {"name": "periclase"}
    assert result.calc is None
    assert not result.constraints
    assert set(result.arrays) == {"numbers", "positions"}
    assert result.positions.dtype == np.float64
    result.positions += 1.0
    result.numbers[:] = 1
    result.cell[:] = 0.0
    result.info["name"] = "changed"
    assert atoms == before
    assert atoms.info == before.info
    assert isinstance(atoms.calc, EMT)
    assert len(atoms.constraints) == 1


def test_positions_outside_the_cell_are_kept():
    atoms = rock_salt()
    atoms.positions += 100.0
    assert np.array_equal(as_atoms(atoms).positions, atoms.positions)


def test_subclass_and_name():
    class Crystal(Atoms):
        pass

    result = as_atoms(Crystal("Fe", cell=[2.8, 2.8, 2.8], pbc=True), name="iron")
    assert type(result) is Atoms
    assert result.info == {"name": "iron"}
    assert as_atoms(Atoms("Fe", cell=[2.8] * 3, pbc=True, info={"material_id": "mp-13"})).info == {"name": "mp-13"}
    assert as_atoms(Atoms("Fe", cell=[2.8] * 3, pbc=True)).info == {}


def test_database_row(tmp_path):
    database = ase.db.connect(tmp_path / "x.db")
    database.write(rock_salt(), name="periclase")
    result = as_atoms(database.get(id=1))
    assert result == rock_salt()
    assert result.info == {"name": "periclase"}


def test_dictionary_of_atoms():
    assert as_atoms(rock_salt().todict()) == rock_salt()


# ---- pymatgen


def test_pymatgen_structure_is_converted_and_not_changed():
    core = pytest.importorskip("pymatgen.core")
    lattice = core.Lattice.from_parameters(4, 5, 6, 80, 95, 110)
    coordinates = [[0, 0, 0], [0.5, 0.5, 0.4], [1.7, 0.2, -0.3]]
    structure = core.Structure(lattice, ["Li", "Fe", "O"], coordinates, site_properties={"magmom": [0, 5, 0]})
    before = structure.copy()
    result = as_atoms(structure)
    assert result.get_chemical_symbols() == ["Li", "Fe", "O"]
    assert np.allclose(result.cell.array, lattice.matrix, atol=1e-12)
    assert np.allclose(result.positions, structure.cart_coords, atol=1e-12)
    assert result.pbc.all()
    result.positions += 1.0
    result.cell[:] = 0.0
    assert structure == before


def test_oxidation_states_spins_and_isotopes_are_elements():
    core = pytest.importorskip("pymatgen.core")
    structure = core.Structure(np.eye(3) * 4.0, ["Fe", "O", "D"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0]])
    assert as_atoms(structure).get_chemical_symbols() == ["Fe", "O", "H"]
    structure.add_oxidation_state_by_site([2, -2, 0])
    assert as_atoms(structure).get_chemical_symbols() == ["Fe", "O", "H"]
    structure.add_spin_by_site([5, 0, 0])
    assert as_atoms(structure).get_chemical_symbols() == ["Fe", "O", "H"]
    assert as_atoms(structure.as_dict()).get_chemical_symbols() == ["Fe", "O", "H"]


def test_pymatgen_relatives():
    core = pytest.importorskip("pymatgen.core")
    surface = pytest.importorskip("pymatgen.core.surface")
    entries = pytest.importorskip("pymatgen.entries.computed_entries")
    analyzer = pytest.importorskip("pymatgen.symmetry.analyzer")

    structure = core.Structure(np.eye(3) * 2.887, ["Ni", "Al"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    slab = surface.Slab(
        core.Lattice.tetragonal(2.887, 20.0),
        ["Ni", "Al"],
        [[0, 0, 0], [0.5, 0.5, 0.1]],
        (0, 0, 1),
        structure,
        0.0,
        np.eye(3),
    )

    class Mine(core.Structure):
        pass

    relatives = [
        core.IStructure.from_sites(structure),
        Mine.from_sites(structure),
        analyzer.SpacegroupAnalyzer(structure).get_symmetrized_structure(),
        entries.ComputedStructureEntry(structure, -1.0),
        slab,
    ]
    for relative in relatives:
        for obj in (relative, relative.as_dict()):
            assert as_atoms(obj).get_chemical_symbols() == ["Ni", "Al"], type(relative)
    assert len(read_structures(relatives)) == len(relatives)
    assert len(read_structures(structure)) == 1  # and not one for each site


def test_mson_dictionary_without_pymatgen():
    data = json.loads((EXAMPLES / "SrTiO3.json").read_text())
    result = as_atoms(data)
    assert result.get_chemical_formula() == "O3SrTi"
    # a/2, the Ti-O bond of a cubic perovskite
    assert result.get_distance(1, 2, mic=True) == pytest.approx(3.905 / 2)
    del data["lattice"]["matrix"]
    data["lattice"] |= {"a": 3.905, "b": 3.905, "c": 3.905, "alpha": 90, "beta": 90, "gamma": 90}
    for site in data["sites"]:
        site["xyz"] = [3.905 * x for x in site.pop("abc")]
        site["species"][0]["element"] += "2+"
    assert np.allclose(as_atoms(data).get_all_distances(mic=True), result.get_all_distances(mic=True))


def test_import_loads_no_pymatgen():
    code = "import sys, ase_matprop.structures; sys.exit('pymatgen' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[1]).returncode == 0


# ---- what is refused


def with_position(value: float) -> Atoms:
    atoms = rock_salt()
    atoms.positions[3, 1] = value
    return atoms


def with_cell(cell: object) -> Atoms:
    return Atoms("MgO", positions=[[0, 0, 0], [0, 0, 2.1]], cell=cell, pbc=True)


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        (Atoms(), ["no atoms"]),
        (Atoms(cell=[3, 3, 3], pbc=True), ["no atoms"]),
        (with_position(np.nan), ["NaN", "atom 3", "(from 0)"]),
        (with_position(np.inf), ["infinite", "atom 3"]),
        (with_cell([4, 4, np.nan]), ["NaN", "cell"]),
        (with_cell([0, 0, 0]), ["no cell", "vacuum"]),
        (with_cell([4, 4, 0]), ["no lattice vector c", "zero volume", "vacuum"]),
        (with_cell([[4, 0, 0], [0, 4, 0], [4, 4, 0]]), ["zero volume", "one plane"]),
        (with_cell([[4, 0, 0], [0, 4, 0], [4, 4, 1e-9]]), ["zero volume"]),
        (molecule("H2O"), ["no cell", "vacuum", "atoms.pbc = True"]),
        (molecule("H2O", vacuum=5.0), ["not periodic along a, b, c", "atoms.pbc = True"]),
        (fcc111("Al", (1, 1, 3), vacuum=8.0), ["not periodic along c", "vacuum"]),
        (Atoms("XFe", positions=[[0, 0, 0], [2, 2, 2]], cell=[4, 4, 4], pbc=True), ["atom 0", "placeholder"]),
        (Atoms(numbers=[26, 119], positions=[[0, 0, 0], [2, 2, 2]], cell=[4, 4, 4], pbc=True), ["atom 1", "119"]),
        (Atoms(numbers=[26, -1], positions=[[0, 0, 0], [2, 2, 2]], cell=[4, 4, 4], pbc=True), ["atom 1", "-1"]),
    ],
)
def test_refused_atoms(atoms, words):
    message = refused(atoms, *words)
    with pytest.raises(StructureError) as caught:
        check_atoms(atoms, "the input")
    assert str(caught.value) == message


def test_errors_are_of_both_families():
    with pytest.raises(MatPropError):
        as_atoms(Atoms())
    with pytest.raises(ValueError, match="structure: has no atoms"):
        as_atoms(Atoms())
    with pytest.raises(StructureError, match=r"^water: has no cell"):
        as_atoms(Atoms("H", info={"name": "water"}))


def test_refused_overlap_names_both_atoms():
    atoms = Atoms("Fe2O2", positions=[[0, 0, 0], [2, 0, 0], [0, 2, 0], [2.12, 0, 0]], cell=[4, 4, 4], pbc=True)
    refused(atoms, "atoms 1 (Fe) and 3 (O)", "0.12 Angstrom apart", "counted from 0", "duplicate")
    atoms.positions[0] = atoms.positions[1]
    refused(atoms, "0.00 Angstrom apart", "the closest of 3 such pairs")
    atoms = with_cell([4, 4, 4])
    atoms.positions[1] = [0, 0, MINIMUM_DISTANCE + 1e-6]
    assert len(as_atoms(atoms)) == 2


def test_refused_overlap_across_the_boundary_of_a_skewed_cell():
    cell = np.array([[3.0, 0, 0], [31.4, 3.1, 0], [-17.9, 22.6, 3.3]])
    atoms = Atoms("FeO", positions=[[0.05, 0.05, 0.05], [0, 0, 0]], cell=cell, pbc=True)
    atoms.positions[1] = atoms.positions[0] - [0.1, 0.0, 0.1] + np.array([3, -2, 5]) @ cell
    # distance from the vector that was put in: sqrt(0.02) = 0.14
    refused(atoms, "atoms 0 (Fe) and 1 (O)", "0.14 Angstrom")


def test_refused_own_image():
    refused(Atoms("Fe", cell=[4, 4, 0.2], pbc=True), "atom 0 (Fe)", "0.20 Angstrom", "own periodic image")
    # long vectors whose difference is short: (5, 0, 0.25) - (5, 0, 0)
    refused(Atoms("Fe", cell=[[5, 0, 0], [5, 0, 0.25], [0, 4, 0]], pbc=True), "own periodic image", "0.25 Angstrom")


def test_thin_and_skewed_cells_are_accepted():
    assert len(as_atoms(Atoms("Fe", cell=[4, 4, 0.4], pbc=True))) == 1
    # a valid 3 Angstrom cubic crystal in a cell only 0.03 Angstrom thick along a: vectors (3,0,0), (300,3,0), (0,0,3)
    assert len(as_atoms(Atoms("Po", cell=[[3, 0, 0], [300, 3, 0], [0, 0, 3]], pbc=True))) == 1
    left_handed = Atoms("Po", cell=[[0, 3, 0], [3, 0, 0], [0, 0, 3]], pbc=True)
    assert len(as_atoms(left_handed)) == 1


def test_close_pairs_agrees_with_a_search_over_all_images():
    generator = np.random.default_rng(7)
    shifts = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    found = []
    for trial in range(60):
        # half of the cells are too thin for the nearest image to be found by rounding
        cell = generator.normal(size=(3, 3)) + np.diag([1.5, 1.5, 0.6 if trial % 2 else 4.0])
        reduced, _ = minkowski_reduce(cell)
        if np.linalg.norm(reduced, axis=1).min() < 0.3:
            continue
        count = int(generator.integers(1, 50))
        positions = generator.random((count, 3)) @ cell
        first, second, distances = close_pairs(positions, cell, 0.3)
        # the reference: all images within four of the reduced cells
        difference = (positions[:, None] - positions[None]) @ np.linalg.inv(reduced)
        difference -= np.rint(difference)
        lengths = np.linalg.norm((difference[:, :, None] + shifts) @ reduced, axis=-1)
        lengths[lengths < 1e-9] = np.inf  # an atom and itself
        lengths = lengths.min(axis=-1)
        expected = {(i, j) for i, j in zip(*np.nonzero(lengths < 0.3), strict=True) if i <= j}
        assert {(min(i, j), max(i, j)) for i, j in zip(first, second, strict=True)} == expected
        if expected:
            assert distances.min() == pytest.approx(lengths.min(), abs=1e-9)
        found.append(len(expected))
    assert len(found) > 40
    assert 0 in found
    assert max(found) > 20


def test_refused_disorder_in_atoms_from_a_cif(tmp_path):
    text = cif("Fe1 Fe 0 0 0 0.5\nNi1 Ni 0 0 0 0.5", formula="Fe0.5 Ni0.5")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        atoms = ase.io.read(io.BytesIO(text.encode()), format="cif")
    refused(atoms, "disordered", "Fe0.5", "OrderDisorderedStructureTransformation", "atoms.info['occupancy']")
    with pytest.raises(StructureError, match="disordered"):
        check_atoms(atoms)
    del atoms.info["occupancy"]
    assert len(as_atoms(atoms)) == 1


def test_refused_pymatgen():
    core = pytest.importorskip("pymatgen.core")
    cell = np.eye(3) * 4.0
    mixed = core.Structure(cell, [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]])
    vacant = core.Structure(cell, [{"Fe": 0.9}], [[0, 0, 0]])
    valences = core.Structure(cell, [{"Fe2+": 0.5, "Fe3+": 0.5}], [[0, 0, 0]])
    dummy = core.Structure(cell, [core.DummySpecies("X"), "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    dummy_word = core.Structure(cell, [core.DummySpecies("Qq", 2)], [[0, 0, 0]])
    for obj, words in [
        (mixed, ["disordered", "Fe0.5 Ni0.5", "OrderDisorderedStructureTransformation"]),
        (vacant, ["disordered", "Fe0.9"]),
        (dummy, ["dummy species", "'X'"]),
        (dummy_word, ["dummy species", "'Qq'"]),
        (core.Molecule(["O", "H"], [[0, 0, 0], [0, 0, 1]]), ["Molecule", "vacuum"]),
        (core.Structure(core.Lattice(cell, pbc=(True, True, False)), ["Fe"], [[0, 0, 0]]), ["not periodic along c"]),
        (core.Structure(cell, [], []), ["no atoms"]),
    ]:
        refused(obj, *words)
        refused(obj.as_dict(), *words)
    # one element with two valences is one atom for every model here, and is accepted
    assert as_atoms(valences).get_chemical_symbols() == ["Fe"]
    assert as_atoms(valences.as_dict()).get_chemical_symbols() == ["Fe"]


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        (None, ["is None", "give ASE Atoms"]),
        (7, ["int"]),
        ([rock_salt()], ["list", "read_structures"]),
        ({}, ["dictionary", "as_dict"]),
        ({"sites": [], "@class": "Molecule"}, ["Molecule"]),
        ({"sites": [{}], "lattice": {"matrix": np.eye(3)}}, ["not a complete structure dictionary"]),
        ({"sites": 1, "lattice": 2}, ["not a complete structure dictionary"]),
        ({"numbers": [1], "positions": [[0, 0]]}, ["not a complete structure dictionary"]),
    ],
)
def test_refused_objects(obj, words):
    refused(obj, *words)


# ---- lists of objects


def test_list_of_objects():
    good, named = rock_salt(), rock_salt()
    named.info["name"] = "periclase"
    entries = read_structures((x for x in [good, named, Atoms("H"), 3]), on_error="collect")
    assert all(isinstance(entry, StructureEntry) for entry in entries)
    assert [entry.name for entry in entries] == ["structure 0 (Mg4O4)", "periclase", "structure 2", "structure 3"]
    assert [entry.atoms is None for entry in entries] == [entry.error is not None for entry in entries]
    assert [entry.error is None for entry in entries] == [True, True, False, False]
    assert entries[0].atoms == good
    assert entries[0].atoms is not good
    assert entries[0].atoms.info == {"name": "structure 0 (Mg4O4)"}
    assert good.info == {}
    with pytest.raises(StructureError, match=r"^structure 1: has no cell"):
        read_structures([good, Atoms("H")])
    assert read_structures([]) == []
    assert len(read_structures(good)) == 1


def test_an_object_that_fails_costs_its_own_row():
    class Broken(Atoms):
        @property
        def positions(self):
            raise RuntimeError("no\npositions")

    entries = read_structures([rock_salt(), Broken("H"), rock_salt()], on_error="collect")
    assert [entry.error is None for entry in entries] == [True, False, True]
    assert entries[1].error == "cannot be converted (RuntimeError: no positions); check this object"


def test_lazy():
    def endless():
        while True:
            yield rock_salt()

    entries = iter_structures(endless())
    assert [next(entries).name for _ in range(3)][-1] == "structure 2 (Mg4O4)"


def test_wrong_inputs():
    with pytest.raises(StructureError, match="int, not a structure"):
        read_structures(5)
    with pytest.raises(UnknownNameError, match="Did you mean 'raise'"):
        read_structures([], on_error="rise")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"structure": [rock_salt()]})
    with pytest.raises(StructureError, match=r"df\['structure'\]"):
        read_structures(frame)
    assert len(read_structures(frame["structure"])) == 1


# ---- files


def write(path: Path, content: str | bytes = POSCAR) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def same_crystal(first: Atoms, second: Atoms) -> bool:
    """Whether two cells hold the same atoms in the same order, up to lattice vectors."""
    difference = first.get_scaled_positions() - second.get_scaled_positions()
    return (
        np.array_equal(first.numbers, second.numbers)
        and np.allclose(first.cell.array, second.cell.array, atol=1e-5)
        and np.allclose(difference, np.rint(difference), atol=1e-5)
    )


FORMATS = [
    ("POSCAR", "vasp"),
    ("CONTCAR", "vasp"),
    ("POSCAR_1", "vasp"),
    ("POSCAR.mp-1265", "vasp"),
    ("relaxed_POSCAR", "vasp"),
    ("poscar.txt", "vasp"),
    ("x.poscar", "vasp"),
    ("x.vasp", "vasp"),
    ("x.cif", "cif"),
    ("x.CIF", "cif"),
    ("x.xyz", "extxyz"),
    ("x.extxyz", "extxyz"),
    ("x.traj", "traj"),
    ("x.json", "json"),
    ("x.db", "db"),
    ("x.cfg", "cfg"),
    ("x.res", "res"),
    ("x.xsf", "xsf"),
    ("x.gen", "gen"),
]


@pytest.mark.parametrize("ending", ["", ".gz", ".xz", ".bz2"])
@pytest.mark.parametrize(("name", "form"), FORMATS)
def test_formats(tmp_path, name, form, ending):
    plain = tmp_path / "plain" / name
    plain.parent.mkdir()
    atoms = bulk("MgO", "wurtzite", a=3.28, c=5.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ase.io.write(plain, atoms, format=form)
    path = tmp_path / (name + ending)
    packed = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}[ending](plain.read_bytes())
    path.write_bytes(packed)
    before = sorted(tmp_path.iterdir())
    result = as_atoms(path)
    assert result.info == {"name": str(path)}
    reference = atoms.copy()
    if form in ("cif", "res"):  # which keep the lengths and angles of the cell, not its orientation
        reference.set_cell(reference.cell.cellpar(), scale_atoms=True)
    if form == "vasp":
        reference = reference[np.argsort(reference.numbers != 12, kind="stable")]
        result = result[np.argsort(result.numbers != 12, kind="stable")]
    assert same_crystal(result, reference)
    assert path.read_bytes() == packed
    assert sorted(tmp_path.iterdir()) == before
    assert [entry.name for entry in read_structures(tmp_path / (name + ending), on_error="collect")] == [str(path)]


def test_examples():
    structures = read_structures(EXAMPLES)
    formulas = [atoms.get_chemical_formula("metal", empirical=True) for atoms in structures]
    assert formulas == ["GaAs", "CsCl", "AlNi", "Fe2O3", "NaCl", "MgO", "SrTiO3", "TiO2"]
    shortest = [np.unique(np.round(a.get_all_distances(mic=True), 3))[1] for a in structures]
    # from the lattice parameters in examples/structures/README.md: a sqrt(3)/4, a sqrt(3)/2 (twice), Fe (0 0 z) to
    # O (2/3-x 1/3 5/12) in hexagonal axes, a/2 (three times), and the equatorial Ti-O bonds of rutile
    u, v = 2 / 3 - 0.3059, 1 / 3
    hematite = np.sqrt(5.038**2 * (u**2 + v**2 - u * v) + (5 / 12 - 0.3553) ** 2 * 13.772**2)
    rutile = np.sqrt(2 * (0.5 - 0.3053) ** 2 * 4.5937**2 + 2.9581**2 / 4)
    expected = [5.6533 * 3**0.5 / 4, 4.123 * 3**0.5 / 2, 2.887 * 3**0.5 / 2, hematite, 2.8203, 2.1056, 1.9525, rutile]
    assert shortest == pytest.approx(expected, abs=6e-4)


def test_several_frames(tmp_path):
    frames = [bulk("Cu", a=a) for a in (3.5, 3.6, 3.7)]
    ase.io.write(tmp_path / "x.traj", frames)
    ase.io.write(tmp_path / "x.xyz", frames, format="extxyz")
    ase.io.write(tmp_path / "XDATCAR", frames, format="vasp-xdatcar")
    for frame in frames:
        ase.db.connect(tmp_path / "x.db").write(frame)
        ase.db.connect(tmp_path / "y.json").write(frame)
    write(tmp_path / "x.cif", "".join(cif("Cu Cu 0 0 0 1", a=a, name=f"c{a}") for a in (3.5, 3.6, 3.7)))
    for name in ("x.traj", "x.xyz", "x.db", "y.json", "x.cif", "XDATCAR"):
        entries = read_structures(tmp_path / name, on_error="collect")
        assert [entry.name for entry in entries] == [f"{tmp_path / name}#{index}" for index in range(3)]
        if name != "x.cif":
            assert all(same_crystal(e.atoms, f) for e, f in zip(entries, frames, strict=True)), name
        with pytest.raises(StructureError, match=r"several structures; .*read_structures"):
            as_atoms(tmp_path / name)


def test_a_bad_frame_costs_itself_only(tmp_path):
    frames = [bulk("Cu", a=a) for a in (3.5, 3.6, 3.7)]
    frames[1].positions[0] = np.nan
    ase.io.write(tmp_path / "x.xyz", frames, format="extxyz")
    text = (tmp_path / "x.xyz").read_text()
    assert [bool(reason) for reason in reasons(tmp_path / "x.xyz")] == [False, True, False]
    write(tmp_path / "y.xyz", text.replace("nan", "*****", 1))
    assert [bool(reason) for reason in reasons(tmp_path / "y.xyz")] == [False, True, False]
    write(tmp_path / "z.xyz", "\n".join(text.splitlines()[:-1]).replace("nan", "0.0"))
    found = reasons(tmp_path / "z.xyz")
    assert found[:2] == [None, None]
    assert "ends after 0 of 1 atoms" in found[2]
    blocks = [cif("Cu Cu 0 0 0 1"), cif("Cu Cu 0 0 0 0.5"), "data_notes\n_journal_year 2001\n", cif("Cu Cu 0 0 0 1")]
    write(tmp_path / "x.cif", "".join(blocks))
    assert [bool(reason) for reason in reasons(tmp_path / "x.cif")] == [False, True, False]
    frames[1].positions[0] = 0.0
    for frame in [*frames, molecule("H2")]:
        ase.db.connect(tmp_path / "x.db").write(frame)
    assert [bool(reason) for reason in reasons(tmp_path / "x.db")] == [False, False, False, True]


def test_generator_can_be_left_early(tmp_path):
    ase.io.write(tmp_path / "x.traj", [bulk("Cu")] * 3)
    packed = write(tmp_path / "x.traj.gz", gzip.compress((tmp_path / "x.traj").read_bytes()))
    entries = iter_structures([packed, rock_salt()])
    assert next(entries).error is None
    entries.close()


def test_results_can_be_written_to_the_database_that_is_being_read(tmp_path):
    database = ase.db.connect(tmp_path / "x.db")
    for a in (3.5, 3.6, 3.7):
        database.write(bulk("Cu", a=a))
    for number, entry in enumerate(iter_structures(tmp_path / "x.db"), start=1):
        database.update(number, formation=entry.atoms.get_volume())
    assert database.count("formation>0") == 3


VASPRUN = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
<structure name="primitive_cell"><crystal><varray name="basis"><v>1 0 0</v><v>0 1 0</v><v>0 0 1</v></varray></crystal>
<varray name="positions"><v>0 0 0</v></varray></structure>
<atominfo><atoms>2</atoms><array name="atoms"><set><rc><c>r </c><c>1</c></rc><rc><c>O </c><c>2</c></rc></set></array>
</atominfo>
{steps}</modeling>
"""
STEP = """<calculation><scstep><energy><i name="e_fr_energy">-1</i></energy></scstep>
<structure><crystal><varray name="basis"><v>{a} 0 0</v><v>0 {a} 0</v><v>0 0 {a}</v></varray></crystal>
<varray name="positions"><v>0 0 0</v><v>0.5 0.5 0.5</v></varray></structure></calculation>
"""


def test_vasprun_gives_the_last_ionic_step(tmp_path):
    text = VASPRUN.format(steps="".join(STEP.format(a=a) for a in (4.2, 4.4, 4.6)))
    path = write(tmp_path / "vasprun.xml.gz", gzip.compress(text.encode()))
    (atoms,) = read_structures(path)
    assert atoms.get_chemical_symbols() == ["Zr", "O"]
    assert atoms.cell.cellpar()[0] == pytest.approx(4.6)
    assert atoms.positions[1] == pytest.approx([2.3, 2.3, 2.3])
    assert "interrupted" in reasons(write(tmp_path / "vasprun.xml", text[: len(text) - 300]))[0]
    assert "no structure of a VASP run" in reasons(write(tmp_path / "vasprun_2.xml", "<modeling/>"))[0]


def test_poscar_variants(tmp_path):
    reference = as_atoms(write(tmp_path / "POSCAR"))
    lines = POSCAR.splitlines()
    flags = [*lines[:7], "Selective dynamics", lines[7], *[f"{line} T F T" for line in lines[8:]]]
    cartesian = [*lines[:7], "Cartesian", *lines[8:]]
    volume = [lines[0], f"{-(4.2112**3):.8f}", *lines[2:]]
    velocities = [*lines, "", *["1 2 3"] * 3]
    labels = [*lines[:5], "Mg_pv O/a1b2c3d4", "4 4 ! numbers", *lines[7:]]
    symbols = [*lines[:7], lines[7], *[f"{line} Xx" for line in lines[8:]]]
    old = ["Mg O", *lines[1:5], *lines[6:]]
    for variant in (flags, cartesian, volume, velocities, labels, symbols, old):
        for newline in ("\n", "\r\n"):
            atoms = as_atoms(write(tmp_path / "POSCAR_x", newline.join(variant)))
            assert same_crystal(atoms, reference), variant
    assert not as_atoms(write(tmp_path / "POSCAR_x", "\n".join(flags))).constraints
    latin = write(tmp_path / "POSCAR_latin", POSCAR.replace("rock salt", "5 \xc5ngstr\xf6m").encode("latin-1"))
    assert same_crystal(as_atoms(latin), reference)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda text: text.replace("Mg O\n", ""), "VASP 4 format); add one"),
        (lambda text: text.replace("rock salt", "TiO2 rich").replace("Mg O\n", ""), "no line with element symbols"),
        (lambda text: text.replace("Mg O\n", "Mg Qx\n"), "'Qx' in its line of element symbols"),
        (lambda text: text.replace("4 4\n", "4\n"), "2 element symbols but 1 numbers"),
        (lambda text: text[:-24], "ends after 6 of 8 atoms"),
        (lambda text: text[:30], "ends after"),
        (lambda text: text.replace("0.0 0.0 0.5", "0.0 0.0 zero"), "cannot be read"),
        (lambda text: text.replace("0.0 0.0 0.5", "0.0 0.0 0.0"), "Angstrom apart"),
        (lambda text: text.replace("0.0 0.0 1.0\n", "0.0 1.0 0.0\n"), "zero volume"),
        (lambda text: text.replace("0.0 0.0 0.5", "0.0 0.0 nan"), "NaN"),
        (lambda text: "", "empty file"),
        (lambda text: " \n\n", "empty file"),
        (lambda text: "\0\1\2" * 50, "binary data"),
        (lambda text: "<html>404 not found</html>\n" * 12, "which is no element"),
    ],
)
def test_bad_poscar(tmp_path, change, word):
    path = write(tmp_path / "POSCAR_bad", change(POSCAR))
    (entry,) = read_structures(path, on_error="collect")
    assert entry.name == str(path)
    assert word in entry.error
    assert "\n" not in entry.error
    with pytest.raises(StructureError, match="POSCAR_bad: "):
        read_structures([path])
    with pytest.raises(StructureError, match="POSCAR_bad: "):
        as_atoms(str(path))


# ---- CIF


def read_cif(tmp_path: Path, text: str) -> StructureEntry:
    (entry,) = read_structures(write(tmp_path / "x.cif", text), on_error="collect")
    return entry


def test_cif_symbols(tmp_path):
    upper = cif("NA1 NA1+ 0 0 0 1\nCL1 CL1- 0.5 0.5 0.5 1", formula="Na1 Cl1")
    assert read_cif(tmp_path, upper).atoms.get_chemical_symbols() == ["Na", "Cl"]
    deuterium = cif("D1 D 0 0 0 1\nPd1 Pd 0.5 0.5 0.5 1", formula="D1 Pd1")
    assert read_cif(tmp_path, deuterium).atoms.get_chemical_symbols() == ["H", "Pd"]
    labels = cif("CA1 0 0 0 1\nO1 0.5 0.5 0.5 1", formula="Ca1 O1").replace("_atom_site_type_symbol\n", "")
    assert read_cif(tmp_path, labels).atoms.get_chemical_symbols() == ["Ca", "O"]
    assert "'CA1', which is not clearly one" in read_cif(tmp_path, labels.replace("Ca1 O1", "?")).error
    for symbol in ("OH", "Wat", "Q1"):
        text = cif(f"a {symbol} 0 0 0 1")
        assert f"{symbol!r}, which is not clearly one chemical element" in read_cif(tmp_path, text).error


def test_cif_numbers_with_uncertainties_comments_and_a_byte_order_mark(tmp_path):
    text = cif("Po1 Po 0.0000(3) 0 0 1.", formula="Po", a="3.345(2)", group="P m -3 m")
    text = "\ufeff# from a journal, \xc5ngstr\xf6m\n" + text.replace("\n", "\r\n")
    # the cell length that was written
    assert read_cif(tmp_path, text).atoms.cell.cellpar() == pytest.approx([3.345, 3.345, 3.345, 90, 90, 90])


def test_cif_coordinates_rounded_to_three_digits(tmp_path):
    # hexagonal close packed Mg (P6_3/mmc, 2c at 1/3 2/3 1/4) written with three digits
    text = cif("Mg1 Mg 0.333 0.667 0.25 1", formula="Mg", group="P 63/m m c", a=3.209)
    text = text.replace("_cell_length_c 3.209", "_cell_length_c 5.211").replace("gamma 90", "gamma 120")
    atoms = read_cif(tmp_path, text).atoms
    assert len(atoms) == 2
    # the nearest neighbours of the hcp metal, sqrt(a^2/3 + c^2/4), within the rounding
    assert atoms.get_distance(0, 1, mic=True) == pytest.approx(np.sqrt(3.209**2 / 3 + 5.211**2 / 4), abs=0.005)


@pytest.mark.parametrize("group", ["P 63/m m c", "P63/mmc", "P6_3/mmc", "P 6_3/m m c", "?", None])
def test_cif_space_group_symbols(tmp_path, group):
    # the two atoms of hexagonal close packing, listed both or made by symmetry
    sites = "Mg1 Mg 0.33333 0.66667 0.25 1"
    if group in ("?", None):
        sites += "\nMg2 Mg 0.66667 0.33333 0.75 1"
    text = cif(sites, formula="Mg", group=group or "", a=3.209).replace("_cell_length_c 3.209", "_cell_length_c 5.211")
    text = text.replace("gamma 90", "gamma 120")
    if group is None:
        text = text.replace("_symmetry_space_group_name_H-M ''\n", "")
    assert len(read_cif(tmp_path, text).atoms) == 2


def test_cif_operations_count_more_than_the_symbol(tmp_path):
    operations = "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'x+1/2,y+1/2,z+1/2'\nloop_\n_atom_site_label"
    for group in ("I m -3 m", "nonsense", "?"):
        text = cif("Fe1 Fe 0 0 0 1", formula="Fe", group=group, a=2.866).replace("loop_\n_atom_site_label", operations)
        assert len(read_cif(tmp_path, text).atoms) == 2
    for group in ("nonsense", "P 21/x"):
        reason = read_cif(tmp_path, cif("Fe1 Fe 0 0 0 1", group=group, formula="Fe")).error
        assert f"unknown space group {group!r}" in reason


def test_cif_with_magnetic_operations_only_is_not_taken_without_symmetry(tmp_path):
    operations = "loop_\n_space_group_symop_magn_operation.xyz\nx,y,z,+1\n-x,-y,-z,+1\nloop_\n_atom_site_label"
    text = cif("Fe1 Fe 0.1 0 0 1").replace("loop_\n_atom_site_label", operations)
    entry = read_cif(tmp_path, text.replace("_symmetry_space_group_name_H-M 'P 1'\n", ""))
    assert "magnetic symmetry operations" in entry.error


def test_cif_symbol_of_another_setting_counts_more_than_the_number(tmp_path):
    # P 21/n and P 21/c are the same group, number 14; the glide plane takes x y z to x+1/2 1/2-y z+1/2 and to
    # x 1/2-y z+1/2 (International Tables A), so the sites differ
    text = cif("Se1 Se 0.1 0.15 0.2 1", formula="Se", group="{}", a=8.0).replace("beta 90", "beta 93")
    text = text.replace("_cell_length_a", "_symmetry_Int_Tables_number 14\n_cell_length_a")
    sites = {}
    for group in ("P 21/c", "P 1 21/n 1"):
        entry = read_cif(tmp_path, text.format(group))
        if entry.atoms is None:  # without pymatgen
            assert "unknown space group 'P 1 21/n 1'" in entry.error
            pytest.skip("needs pymatgen")
        sites[group] = np.round(entry.atoms.get_scaled_positions() % 1.0, 4).tolist()
    assert [0.6, 0.35, 0.7] in sites["P 1 21/n 1"]
    assert [0.1, 0.35, 0.7] in sites["P 21/c"]


@pytest.mark.parametrize("group", ["F m -3 m", "Fm-3m", "F m 3 m", "F m -3 m :1"])
def test_cif_cubic_symbols(tmp_path, group):
    sites = "Na Na 0 0 0 1\nCl Cl 0.5 0.5 0.5 1"
    assert len(read_cif(tmp_path, cif(sites, formula="Na Cl", group=group, a=5.64)).atoms) == 8


def test_cif_second_origin(tmp_path):
    # silicon in Fd-3m: 8a is at 1/8 1/8 1/8 for the second choice of the origin
    text = cif("Si1 Si 0.125 0.125 0.125 1", formula="Si", group="F d -3 m :2", a=5.431)
    text = text.replace("_cell_length_a", "_symmetry_Int_Tables_number 227\n_cell_length_a")
    entry = read_cif(tmp_path, text)
    assert len(entry.atoms) == 8
    # a sqrt(3)/4
    assert entry.atoms.get_all_distances(mic=True)[0, 1:].min() == pytest.approx(5.431 * 3**0.5 / 4, abs=1e-3)


@pytest.mark.parametrize("tag", ["", "_symmetry_cell_setting trigonal", "_space_group_crystal_system rhombohedral"])
@pytest.mark.parametrize("suffix", ["", " :H", " H", ":R", " R"])
def test_cif_rhombohedral_without_operations(tmp_path, tag, suffix):
    # bismuth, R-3m: hexagonal cell with 6c (0 0 z), a = 4.546, c = 11.862, z = 0.2339 (Wyckoff 1963, rounded), and the
    # same crystal in its rhombohedral cell, where 2c is (z z z)
    a, c, z = 4.546, 11.862, 0.2339
    length = np.sqrt(a**2 / 3 + c**2 / 9)
    angle = np.degrees(np.arccos(1 - a**2 / (2 * length**2)))
    if "R" in suffix:
        text = cif(f"Bi1 Bi {z} {z} {z} 1", group=f"R -3 m{suffix}", a=length).replace(" 90", f" {angle}")
    else:
        text = cif(f"Bi1 Bi 0 0 {z} 1", group=f"R -3 m{suffix}", a=a)
        text = text.replace(f"_cell_length_c {a}", f"_cell_length_c {c}").replace("gamma 90", "gamma 120")
    atoms = read_cif(tmp_path, text.replace("_cell_length_a", f"{tag}\n_cell_length_a")).atoms
    assert len(atoms) == (2 if "R" in suffix else 6)
    # the bond within a layer of bismuth, from the same parameters
    short = np.sqrt(a**2 / 3 + ((2 * z - 1 / 3) * c) ** 2)
    pairs = (atoms * (2, 2, 2)).get_all_distances(mic=True)
    assert np.unique(np.round(pairs, 3))[1] == pytest.approx(short, abs=2e-3)


def test_bad_cif(tmp_path):
    good = cif("Cs1 Cs 0 0 0 1\nCl1 Cl 0.5 0.5 0.5 1", formula="Cs1 Cl1")
    assert len(read_cif(tmp_path, good).atoms) == 2
    remedy = "OrderDisorderedStructureTransformation"
    for text, words in [
        (good.replace("0.5 0.5 0.5 1", "0.5 0.5 0.5 0.9"), ["disordered", "Cl0.9", "at Cl1", remedy]),
        (good.replace("0.5 0.5 0.5 1", "0 0 0 1").replace("Cs1 Cl1", "?"), ["disordered", remedy]),
        (good.replace("Cl1 Cl 0.5 0.5 0.5 1\n", ""), ["formula", "'Cs1 Cl1'"]),
        (good.replace("0.5 0.5 0.5 1", "0.5 0.5"), ["no CIF data block that can be read"]),
        (good.replace("0.5 0.5 0.5 1", "? ? ? 1"), ["no CIF data block that can be read"]),
        (good.replace("_cell_length_a 4.0\n", ""), ["no complete unit cell", "_cell_length_a"]),
        (good.replace("gamma 90", "gamma 120").replace("P 1", "P m -3 m"), ["space group that does not fit"]),
        (good.replace("0.5 0.5 0.5 1", "0.05 0 0 1"), ["0.20 Angstrom apart"]),
        ("just some text", ["no CIF data block with atom sites"]),
        ("data_x\n_cell_length_a 4\n", ["no CIF data block with atom sites"]),
        ("", ["empty file"]),
    ]:
        reason = read_cif(tmp_path, text).error
        assert reason is not None, text
        assert "\n" not in reason
        for word in words:
            assert word in reason


def test_cif_from_pymatgen_with_oxidation_states(tmp_path):
    core = pytest.importorskip("pymatgen.core")
    writer = pytest.importorskip("pymatgen.io.cif")
    structure = core.Structure(np.eye(3) * 4.2, ["Fe", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    structure.add_oxidation_state_by_site([2, -2])
    writer.CifWriter(structure, symprec=0.01).write_file(str(tmp_path / "a.cif"))
    assert as_atoms(tmp_path / "a.cif").get_chemical_symbols() == ["Fe", "O"]


def test_parsers_are_silent(tmp_path, capfd):
    write(tmp_path / "a.cif", cif("Fe1 Fe 0 0 0 0.5\nNi1 Ni 0 0 0 0.5"))
    write(tmp_path / "b.cif", cif("Fe1 Fe 0 0 0 x(y)\nNi1 Ni 0 0"))
    write(tmp_path / "POSCAR", "x" * 100)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(reasons([tmp_path, EXAMPLES])) == 11
    assert not caught
    output = capfd.readouterr()
    assert output.out == output.err == ""


# ---- JSON and databases


def test_json_of_pymatgen(tmp_path):
    core = pytest.importorskip("pymatgen.core")
    structure = core.Structure(np.eye(3) * 2.887, ["Ni", "Al"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    one = structure.as_dict()
    disordered = core.Structure(np.eye(3) * 2.887, [{"Ni": 0.5, "Al": 0.5}], [[0, 0, 0]]).as_dict()
    for data, count in [
        (one, 1),
        ([one, one], 2),
        ({"mp-1487": one, "other": one}, 2),
        ([{"material_id": "mp-1487", "structure": one, "band_gap": 0.0}], 1),
        ({"columns": ["structure", "y"], "index": [0, 1], "data": [[one, 0.5], [one, 1.0]]}, 2),
    ]:
        structures = read_structures(write(tmp_path / "x.json", json.dumps(data)))
        assert [atoms.get_chemical_symbols() for atoms in structures] == [["Ni", "Al"]] * count
    found = reasons(
        write(tmp_path / "x.json", json.dumps([one, None, disordered, core.Molecule(["H"], [[0, 0, 0]]).as_dict()]))
    )
    assert found[0] is None
    assert "entry 1 (from 0)" in found[1]
    assert "disordered" in found[2]
    assert "Molecule" in found[3]


def test_json_of_ase_atoms(tmp_path):
    assert read_structures(write(tmp_path / "x.json", encode(rock_salt()))) == [rock_salt()]
    assert read_structures(write(tmp_path / "x.json", encode([rock_salt(), rock_salt()]))) == [rock_salt()] * 2


def test_bad_json_and_databases(tmp_path):
    assert "no valid JSON" in reasons(write(tmp_path / "a.json", '{"lattice": '))[0]
    assert "without any structure" in reasons(write(tmp_path / "a.json", '{"energy": 1.0}'))[0]
    assert "without any structure" in reasons(write(tmp_path / "a.json", "[]"))[0]
    assert "no ASE database" in reasons(write(tmp_path / "a.db", "garbage " * 100))[0]
    assert "empty file" in reasons(write(tmp_path / "a.db", ""))[0]
    assert (tmp_path / "a.db").stat().st_size == 0
    connection = sqlite3.connect(tmp_path / "b.db")
    connection.execute("CREATE TABLE mine (x)")
    connection.commit()
    connection.close()
    before = (tmp_path / "b.db").read_bytes()
    assert "SQLite file, but no ASE database" in reasons(tmp_path / "b.db")[0]
    assert (tmp_path / "b.db").read_bytes() == before


# ---- paths, patterns, folders


def test_damaged_and_unknown_files(tmp_path):
    packed = gzip.compress(POSCAR.encode() * 50)
    assert "decompressed" in reasons(write(tmp_path / "POSCAR_1.gz", packed[:-40]))[0]
    assert "decompressed" in reasons(write(tmp_path / "POSCAR_2.gz", POSCAR))[0]
    assert (
        "decompressed"
        in reasons(write(tmp_path / "x.xyz.xz", lzma.compress(os.urandom(9000).hex().encode())[:5000]))[0]
    )
    assert "decompressed" in reasons(write(tmp_path / "x.traj.bz2", b"BZh9 no"))[0]
    assert "empty" in reasons(write(tmp_path / "x.traj.gz", gzip.compress(b"")))[0]
    assert "empty" in reasons(write(tmp_path / "x.cif.gz", gzip.compress(b"")))[0]
    assert "cannot be read" in reasons(write(tmp_path / "x.traj", b"\x80\x00garbage" * 30))[0]
    assert "number of atoms" in reasons(write(tmp_path / "x.xyz", "not a number\n"))[0]
    for name in ("notes.md", "x.unknown", "table.csv", "INCAR", "x.pkl"):
        assert "is not a structure file" in reasons(write(tmp_path / name, "NSW = 5\nISIF = 3\n"))[0], name
    assert "is not a structure file" in reasons(write(tmp_path / "x.pkl", b"\x80\x04\x95."))[0]


def test_missing_paths(tmp_path):
    write(tmp_path / "POSCAR_iron")
    assert reasons(tmp_path / "POSCAR_irn") == [f"does not exist; did you mean {str(tmp_path / 'POSCAR_iron')!r}?"]
    assert reasons(tmp_path / "zzz") == ["does not exist; check the path"]
    assert "nor does its folder" in reasons(tmp_path / "no" / "POSCAR")[0]
    assert "text of a file" in reasons(POSCAR)[0]
    assert "text of a file" in reasons(POSCAR * 50)[0]
    assert "text of a file" in reasons(cif("Fe1 Fe 0 0 0 1 # [1]*\n" * 500))[0]
    assert "does not exist" in reasons("x" * 5000)[0]
    assert "does not exist" in reasons("~nobody-of-this-name/POSCAR")[0]
    assert "empty path" in reasons("")[0]
    with pytest.raises(StructureError, match="is a str, not a structure"):
        as_atoms("")
    with pytest.raises(StructureError, match="did you mean"):
        as_atoms(tmp_path / "POSCAR_irn")
    (tmp_path / "POSCAR_link").symlink_to(tmp_path / "gone")
    assert "cannot be opened" in reasons(tmp_path / "POSCAR_link")[0]


def test_folder(tmp_path):
    good = [
        "POSCAR_2",
        "POSCAR_10",
        "a b/\u00fcber \u03b1.cif",
        "a b/run 2/vasprun.xml",
        "a b/run 10/CONTCAR.gz",
        "with@sign*[1].xyz",
    ]
    for name in good:
        if name.endswith("cif"):
            write(tmp_path / name, cif("Po Po 0 0 0 1"))
        elif name.endswith("xml"):
            write(tmp_path / name, VASPRUN.format(steps=STEP.format(a=4.2)))
        elif name.endswith("xyz"):
            ase.io.write(io_buffer := io.StringIO(), rock_salt(), format="extxyz")
            write(tmp_path / name, io_buffer.getvalue())
        else:
            write(tmp_path / name, gzip.compress(POSCAR.encode()) if name.endswith("gz") else POSCAR)
    bad = ["POSCAR_3", "broken.cif", "broken.xyz", "a b/vasprun.xml", "empty.traj"]
    for name in bad:
        write(tmp_path / name, "" if name == "empty.traj" else "broken\n")
    skipped = ["INCAR", "KPOINTS", "POTCAR", "POTCAR.gz", "OUTCAR", "OSZICAR", "README.md", "README_POSCAR.txt"]
    skipped += [
        "notes.txt",
        "table.csv",
        "run.log",
        ".hidden.cif",
        ".git/POSCAR",
        "Thumbs.db",
        "POSCAR.py",
        "POSCAR.png",
    ]
    skipped += ["setup.cfg", "custodian.json.gz", "x.xml"]
    for name in skipped:
        write(tmp_path / name, gzip.compress(b"{}") if name.endswith("gz") else "[x]\ny = 1\n")
    (tmp_path / "a b" / "circle").symlink_to(tmp_path)
    entries = read_structures(str(tmp_path), on_error="collect")
    found = [str(Path(entry.name).relative_to(tmp_path)) for entry in entries]
    assert [name for name, entry in zip(found, entries, strict=True) if entry.error] == [
        "POSCAR_3", "a b/vasprun.xml", "broken.cif", "broken.xyz", "empty.traj",
    ]  # fmt: skip
    assert [name for name, entry in zip(found, entries, strict=True) if entry.atoms] == [
        "POSCAR_2", "POSCAR_10", "a b/run 2/vasprun.xml", "a b/run 10/CONTCAR.gz", "a b/\u00fcber \u03b1.cif",
        "with@sign*[1].xyz",
    ]  # fmt: skip
    assert all("\n" not in entry.error for entry in entries if entry.error)
    with pytest.raises(StructureError, match="POSCAR_3"):
        read_structures(tmp_path)
    with pytest.raises(StructureError, match=r"is a folder; read it with read_structures"):
        as_atoms(tmp_path)
    # the existing file is meant, not the pattern that its name would be
    assert reasons(tmp_path / "with@sign*[1].xyz") == [None]


def test_folder_without_structures(tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "notes" / "README.md", "x")
    write(tmp_path / "notes" / "settings.json", "{}")
    for name in ("empty", "notes"):
        (entry,) = read_structures(tmp_path / name, on_error="collect")
        assert "folder without structure files" in entry.error
        assert entry.name == str(tmp_path / name)
        with pytest.raises(StructureError, match="folder without structure files"):
            read_structures(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every folder")
def test_folder_without_permission(tmp_path):
    write(tmp_path / "a" / "POSCAR").parent.chmod(0)
    write(tmp_path / "b" / "POSCAR")
    found = reasons(tmp_path)
    (tmp_path / "a").chmod(0o700)
    assert "cannot be opened" in found[0]
    assert found[1] is None


def test_patterns(tmp_path, monkeypatch):
    for number in (10, 9, 1):
        write(tmp_path / f"run_{number}" / "POSCAR")
        write(tmp_path / f"run_{number}" / "README.md", "x")
        write(tmp_path / f"run_{number}" / "INCAR", "x")
    runs = [f"run_{number}/POSCAR" for number in (1, 9, 10)]
    monkeypatch.chdir(tmp_path)
    for pattern in ("run_*/POSCAR", "run_*/*", "run_*", "**/POSCAR", "**", "run_[0-9]*/POSCA?"):
        assert [entry.name for entry in read_structures(pattern, on_error="collect")] == runs, pattern
    assert len(read_structures(str(tmp_path / "run_*" / "POSCAR"))) == 3
    assert len(read_structures(["run_1", "run_9/POSCAR", rock_salt(), Path("run_10")])) == 4
    for pattern in ("*.cif", "run_*/README*", "no/*"):
        with pytest.raises(StructureError, match="pattern that matches no structure file"):
            read_structures(pattern)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(read_structures("~/run_1/POSCAR")) == 1


def test_poscar_by_its_content(tmp_path: Path) -> None:
    """A file that is named by the user is read as a POSCAR if it is one, whatever it is called."""
    ase.io.write(tmp_path / "POSCAR", bulk("MgO", "rocksalt", 4.21), format="vasp")
    path = (tmp_path / "POSCAR").rename(tmp_path / "mp-1265_MgO")
    assert as_atoms(path).get_chemical_formula() == "MgO"
    (tmp_path / "notes").write_text("a\nb\nc\nd\ne\n")
    with pytest.raises(StructureError, match="not a structure file"):
        as_atoms(tmp_path / "notes")


def test_files_that_a_folder_does_not_count_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ase.io.write(tmp_path / "POSCAR", bulk("MgO", "rocksalt", 4.21), format="vasp")
    (tmp_path / "GaAs.in").write_text("&control")
    (tmp_path / "INCAR").write_text("ENCUT = 500")
    with caplog.at_level("INFO", logger="ase_matprop"):
        assert len(read_structures(tmp_path)) == 1
    assert "GaAs.in is passed over" in caplog.text and "INCAR" not in caplog.text
