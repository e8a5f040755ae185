"""Prototypes: the shipped library against symmetry and Pearson symbols, decoration, and files of users."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import spglib
from ase.io import read
from ase.neighborlist import neighbor_list

from ase_matprop.descriptors.elements import ground_state_volumes
from ase_matprop.descriptors.voronoi import tessellate
from ase_matprop.errors import StructureError, UnknownNameError
from ase_matprop.structures.prototypes import Prototype, get_prototype, list_prototypes, load_prototypes


def symmetry(prototype: Prototype, conventional: bool):
    """The space group of the sublattices, whatever their elements are."""
    atoms = prototype.atoms(conventional=conventional)
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.arrays["sublattice"] + 1)
    return spglib.get_symmetry_dataset(cell, symprec=1e-4), len(spglib.find_primitive(cell, symprec=1e-4)[2])


@pytest.mark.parametrize("name", list_prototypes())
def test_shipped_prototype_is_what_it_says(name: str) -> None:
    prototype = get_prototype(name)
    primitive, conventional = prototype.atoms(), prototype.atoms(conventional=True)
    for is_conventional in (False, True):
        dataset, n_primitive = symmetry(prototype, is_conventional)
        assert dataset.number == prototype.space_group
        assert n_primitive == len(primitive) == len(prototype)
        # each sublattice is one orbit
        atoms = prototype.atoms(conventional=is_conventional)
        assert len({*zip(dataset.equivalent_atoms, atoms.arrays["sublattice"], strict=True)}) == len(
            prototype.sublattices
        )
    # Pearson: crystal system, centring, number of sites; for rhombohedral lattices that of the primitive cell
    letters, number = re.fullmatch(r"([a-z][A-Z])(\d+)", prototype.pearson).groups()
    assert int(number) == len(primitive if letters == "hR" else conventional)
    volume = primitive.get_volume() / len(primitive)
    assert volume == pytest.approx(conventional.get_volume() / len(conventional))
    assert 7.5 < volume < 40 and neighbor_list("d", primitive, 4.0).min() > 1.5
    stoichiometry = {symbol: int(n or 1) for symbol, n in re.findall(r"([A-Z][a-z]?)(\d*)", prototype.representative)}
    if name != "sigma":  # which is disordered: the elements stand for the majority
        formula = {k: primitive.symbols.formula.count()[k] for k in stoichiometry}
        assert len({formula[symbol] / n for symbol, n in stoichiometry.items()}) == 1
        assert set(formula) == set(primitive.symbols)
    assert sum(prototype.multiplicities.values()) == len(prototype)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("A15", {"A": 12, "B": 14}),
        ("sigma", {"A": 12, "B": 15, "C": 14, "D": 12, "E": 14}),
        ("C14", {"A": 16, "B": 12, "C": 12}),
        ("C15", {"A": 16, "B": 12}),
        ("C36", {"A": 16, "B": 16, "C": 12, "D": 12, "E": 12}),
        ("mu phase", {"A": 12, "B": 15, "C": 16, "D": 14, "E": 12}),
    ],
)
def test_coordination_numbers_of_frank_kasper_phases(name: str, expected: dict[str, int]) -> None:
    """Faces of the Voronoi cells, without slivers; Frank and Kasper, Acta Cryst. 12, 483 (1959)."""
    prototype = get_prototype(name)
    tessellation, _ = tessellate([prototype.atoms()])
    large = tessellation.area > 0.02 * tessellation.area.max()
    count = np.bincount(tessellation.site[large], minlength=len(prototype))
    assert {s: {*count[np.array(prototype.site_sublattices) == s]} for s in expected} == {
        s: {n} for s, n in expected.items()
    }


def test_issue_names_are_there() -> None:
    names = "FCC BCC HCP diamond B1 B2 L1_2 A15 sigma D8_b C14 C15 C36 perovskite fluorite spinel rutile"
    names += " DHCP Diamond Sn_A5 SC As_A7 U_A20 Ga_A11"  # those of pySIPFENN
    assert all(get_prototype(name) for name in names.split())
    assert get_prototype("l12") is get_prototype("L1_2") is get_prototype("Cu3Au")
    assert list_prototypes() is not list_prototypes() and len(list_prototypes()) == len(set(list_prototypes())) >= 60
    with pytest.raises(UnknownNameError, match="Did you mean 'perovskite'"):
        get_prototype("perovskit")


def test_no_name_or_alias_has_two_meanings() -> None:
    keys = [
        re.sub("[ _-]", "", n.casefold()) for p in map(get_prototype, list_prototypes()) for n in (p.name, *p.aliases)
    ]
    assert len(keys) == len(set(keys))


def test_copies_are_independent() -> None:
    prototype = get_prototype("B2")
    prototype.atoms().positions += 1
    np.testing.assert_array_equal(prototype.atoms().positions[0], [0, 0, 0])


def test_structure_of_pymatgen() -> None:
    structure = get_prototype("rutile").structure()
    assert structure.composition.reduced_formula == "TiO2"
    assert structure.site_properties["sublattice"] == ["A"] * 2 + ["B"] * 4


def test_decorate() -> None:
    sigma = get_prototype("sigma")
    atoms = sigma.decorate({"A": "Fe", "4f": "Ni", "C": "Cr", "D": "Fe", "8j": "Ni"})
    assert atoms.symbols.formula.count() == {"Fe": 10, "Ni": 12, "Cr": 8}
    assert atoms.get_volume() == pytest.approx(sigma.atoms().get_volume())
    assert sigma.decorate({}, volume=11.0).get_volume() == pytest.approx(330.0)
    mixed = sigma.decorate({"A": "Fe", "B": "Ni", "C": "Ni", "D": "Ni", "E": "Ni"}, volume={"Fe": 11.5, "Ni": 10.5})
    assert mixed.get_volume() == pytest.approx(2 * 11.5 + 28 * 10.5)
    np.testing.assert_allclose(mixed.get_scaled_positions(), sigma.atoms().get_scaled_positions(), atol=1e-12)
    fcc = get_prototype("FCC").decorate({"A": "Al"}, conventional=True)
    assert len(fcc) == 4 and set(fcc.symbols) == {"Al"}
    assert ground_state_volumes()["Fe"] == pytest.approx(10.73)


@pytest.mark.parametrize(
    ("elements", "volume", "message"),
    [
        ({"F": "Fe"}, None, "no sublattice 'F'; it has A \\(2a\\)"),
        ({"8i": "Fe"}, None, "several sublattices"),
        ({"A": "Fe", "2a": "Ni"}, None, "same sublattice"),
        ({"A": "Iron"}, None, "'Iron', for sublattice A"),
        ({"A": "Mo"}, {"Fe": 11.0, "Cr": 12.0}, "no volume is given for Mo"),
        ({}, -1.0, "must be positive"),
        ("Fe", None, r"sigma: elements must map sublattices to element symbols, for example {'A': 'Fe'}.*Got 'Fe'"),
        (None, None, "elements must map .* None was given"),
        ({"A": ["Fe"]}, None, r"\['Fe'\], for sublattice A, is not an element symbol"),
        ({}, "big", "volume per atom must be positive, a number in .*Got 'big'"),
        ({}, [11.0, 12.0], r"a number in .*Got \[11.0, 12.0\]"),
        ({}, {"Fe": "big", "Cr": 12.0}, "volume per atom of Fe must be positive, a number in .*Got 'big'"),
        ({}, {"Fe": 11.0, "Cr": None}, "volume per atom of Cr .*None was given"),
        ({}, {"Fe": 11.0, "Cr": -2.0}, "volume per atom of Cr must be positive"),
    ],
)
def test_wrong_decoration(elements, volume, message) -> None:
    with pytest.raises(StructureError, match=message):
        get_prototype("sigma").decorate(elements, volume=volume)


PYSIPFENN = """\
- name: NiceHCP
  origin: https://example.org/hcp
  POSCAR: |
    Mg
    1.0
      3.20900   0.00000   0.00000
     -1.60450   2.77907   0.00000
      0.00000   0.00000   5.21100
    Mg
    2
    Direct
      0.33333   0.66667   0.25000
      0.66667   0.33333   0.75000
- name: FCC
  origin: mine
  POSCAR: |
    NaCl
    1.0
      0.0 2.82 2.82
      2.82 0.0 2.82
      2.82 2.82 0.0
    Na Cl
    1 1
    Direct
      0.0 0.0 0.0
      0.5 0.5 0.5
"""


def test_library_in_the_format_of_pysipfenn(tmp_path: Path) -> None:
    path = tmp_path / "prototypeLibrary.yaml"
    path.write_text(PYSIPFENN)
    library = load_prototypes(path)
    assert library["nicehcp"].multiplicities == {"A": 2} and library["NiceHCP"].space_group == 194
    assert library["NiceHCP"].source == "https://example.org/hcp"
    # the user's own replaces the shipped one, here and nowhere else
    assert library["FCC"].multiplicities == {"A": 1, "B": 1} and len(get_prototype("FCC")) == 1
    assert "BCC" in library and len(library) == len(list_prototypes()) + 1
    assert list(load_prototypes(path, with_shipped=False)) == ["NiceHCP", "FCC"]
    with pytest.raises(UnknownNameError, match="NiceHCP"):
        library["NiceHPC"]


OWN = """\
- {name: mine, space_group: 221, lattice: {a: 4.0}, sublattices: {A: [1a, Sr, 0, 0, 0], B: [1b, Ti, 1/2, 1/2, 1/2]}}
"""


def test_own_library(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    mine = load_prototypes(str(path))["mine"]
    assert mine.atoms().get_volume() == pytest.approx(64.0) and mine.representative == "SrTi"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("space_group: 221", "space_group: 231", "mine: space_group must be a number from 1 to 230"),
        ("space_group: 221", "space_grup: 221", "unknown key 'space_grup'"),
        ("1/2, 1/2, 1/2", "1/2, 1/2", "sublattice B: must be"),
        ("1/2, 1/2, 1/2", "1/2, 1/2, x", "mine cannot be built"),
        ("1/2, 1/2, 1/2", "1/2, 1/2, 0", "give 3 sites"),
        ("1/2, 1/2, 1/2", "0, 0, 0", "mine"),
        ("Ti", "Tx", "'Tx' is not an element"),
        ("Ti", "No", "quotes around No"),
        ("{a: 4.0}", "{b: 4.0}", "lattice must have a"),
        ("{a: 4.0}", "{a: 0.04}", "Angstrom"),
        ("221", "62", "b is missing"),
        ("name: mine", "nam: mine", "prototype 0"),
        ("- {", "", "must be a list|not YAML"),
        (", space_group: 221", "", "or a POSCAR"),
        ("name: mine", "name: mine, aliases: [1]", "aliases must be"),
    ],
)
def test_wrong_library(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(OWN.replace(old, new))
    with pytest.raises(StructureError, match=message) as info:
        load_prototypes(path)
    assert "wrong.yaml" in str(info.value)


def test_missing_library(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="cannot be read"):
        load_prototypes(tmp_path / "none.yaml")
    with pytest.raises(StructureError, match="must be the path of a YAML file. None was given"):
        load_prototypes(None)
    (tmp_path / "empty.yaml").touch()
    with pytest.raises(StructureError, match="must be a list of prototypes, each with a name. It is empty"):
        load_prototypes(tmp_path / "empty.yaml")


@pytest.mark.data
def test_sigma_has_the_geometry_of_the_243_endmembers(data_dir: Path) -> None:
    import lzma

    with lzma.open(data_dir / "sigma" / "fe_cr_ni_sigma.extxyz.xz", "rt") as file:
        endmembers = read(file, ":", format="extxyz")
    sigma = get_prototype("sigma")
    volumes = ground_state_volumes()
    shifts, ratios = [], []
    for relaxed in endmembers:
        elements = relaxed.info["id"].split("-")[1:]
        built = sigma.decorate(dict(zip("ABCDE", elements, strict=True)), volume=volumes)
        difference = built.get_scaled_positions()[:, None] - relaxed.get_scaled_positions()
        difference -= np.rint(difference)
        distance = np.linalg.norm(difference @ relaxed.cell.array, axis=2)
        nearest = distance.argmin(axis=1)
        assert sorted(nearest) == list(range(30))
        np.testing.assert_array_equal(built.numbers, relaxed.numbers[nearest])
        shifts.append(distance.min(axis=1).max())
        ratios.append(built.get_volume() / relaxed.get_volume())
    assert len({relaxed.info["id"] for relaxed in endmembers}) == 243
    assert max(shifts) < 0.2 and np.mean(shifts) < 0.08  # Angstrom
    assert np.ptp(ratios) < 0.1 and np.mean(ratios) == pytest.approx(0.982, abs=0.005)


@pytest.mark.parametrize(
    ("space_group", "lattice", "message"),
    [
        (221, {"a": 3.9, "b": 5.0}, "b is 5, but space group 221 wants 3.9"),
        (221, {"a": 3.9, "alpha": 80.0}, "alpha is 80, but space group 221 wants 90"),
        (123, {"a": 3.9, "b": 4.0, "c": 5.0}, "b is 4, but space group 123 wants 3.9"),
        (194, {"a": 3.9, "c": 5.0, "gamma": 90.0}, "gamma is 90, but space group 194 wants 120"),
        (62, {"a": 3.9, "b": 4.0, "c": 5.0, "beta": 91.0}, "beta is 91, but space group 62 wants 90"),
        (14, {"a": 3.9, "b": 4.0, "c": 5.0, "beta": 91.0, "gamma": 92.0}, "only one angle free"),
    ],
)
def test_lattice_of_another_crystal_system(
    tmp_path: Path, space_group: int, lattice: dict[str, float], message: str
) -> None:
    path = tmp_path / "own.yaml"
    text = ", ".join(f"{key}: {value}" for key, value in lattice.items())
    path.write_text(
        f"- {{name: q, space_group: {space_group}, lattice: {{{text}}}, sublattices: {{A: [1a, Ti, 0, 0, 0]}}}}\n"
    )
    with pytest.raises(StructureError, match=message):
        load_prototypes(path)


def test_the_cell_of_another_compound_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    b2 = get_prototype("B2")
    with caplog.at_level("WARNING", logger="ase_matprop"):
        b2.decorate({"A": "Ni", "B": "Al"}, volume=ground_state_volumes())
        b2.decorate({})
        assert not caplog.records
        b2.decorate({"A": "Ni", "B": "Al"})
    (record,) = caplog.records
    assert f"AlNi has the cell of {b2.representative}; give volume=" in record.getMessage()
