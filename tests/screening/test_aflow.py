import re

import numpy as np
import pytest
import spglib

from ase_matprop.errors import UnknownNameError
from ase_matprop.screening.spaces.aflow import aflow_prototypes, get_aflow_prototype
from ase_matprop.structures import check_atoms

#: what pymatgen's file has in place of the space group of the label
DIFFERENT_GROUPS = {"AB3_tI16_140_b_ah": 123, "AB_oP8_33_a_a": 62, "A2B_oC12_38_de_ab": 63}


@pytest.fixture(scope="module")
def library():
    return aflow_prototypes()


def test_all_are_there_and_sound(library):
    assert len(library) == 288
    assert aflow_prototypes() is library
    for name, prototype in library.items():
        for conventional in (False, True):
            check_atoms(prototype.atoms(conventional=conventional), name)
        assert get_aflow_prototype(name) is prototype
        assert list(prototype.multiplicities) == [sublattice.name for sublattice in prototype.sublattices]


def test_composition_and_pearson_symbol_are_those_of_the_label(library):
    for name, prototype in library.items():
        if name.startswith("sigma"):
            assert len(prototype.sublattices) == 5
            continue
        wanted = {letter: int(number or 1) for letter, number in re.findall(r"([A-Z])(\d*)", name.split("_")[0])}
        counts = prototype.multiplicities
        divisor = np.gcd.reduce(list(counts.values()))
        assert {letter: count // divisor for letter, count in counts.items()} == wanted, name
        if name != "AB3_tI16_140_b_ah":
            of_cell = int(prototype.pearson[2:])
            centring = {"P": 1, "C": 2, "I": 2, "F": 4, "R": 1}[prototype.pearson[1]]
            assert len(prototype) * centring == of_cell
            # of rhombohedral crystals the hexagonal cell is three times the primitive one
            assert len(prototype.atoms(conventional=True)) == of_cell * (3 if prototype.pearson[1] == "R" else 1)


def test_space_group_is_that_of_the_label(library):
    different = {}
    for name, prototype in library.items():
        atoms = prototype.atoms()
        species = atoms.arrays["sublattice"] + 1
        found = spglib.get_symmetry_dataset(
            (atoms.cell.array, atoms.get_scaled_positions(), species), symprec=1e-2
        ).number
        assert prototype.space_group == int(name.split("_")[2])
        if found != prototype.space_group:
            different[name] = found
    assert different == DIFFERENT_GROUPS


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("AB_cF8_225_a_b", "AB_cF8_225_a_b"),
        ("B1", "AB_cF8_225_a_b"),
        ("rock salt", "AB_cF8_225_a_b"),
        ("Spinel", "A2BC4_cF56_227_d_a_e"),
        ("half-heusler", "ABC_cF12_216_b_c_a"),
        ("L1_0", "AB_tP2_123_a_d"),
        ("L2_1", "AB2C_cF16_225_a_c_b"),
        ("zincblende", "AB_cF8_216_c_a"),
        ("A_hR2_166_c:As", "A_hR2_166_c:As"),
        ("A3'", "A_hP4_194_ac"),
        ("L'2", "A2B_tI6_139_d_a"),
    ],
)
def test_is_found_by_label_mineral_and_strukturbericht(name, label):
    assert get_aflow_prototype(name).name == label


def test_species_are_in_alphabetical_order_of_the_elements():
    rutile = get_aflow_prototype("Rutile")
    assert [(entry.name, entry.element, entry.wyckoff) for entry in rutile.sublattices] == [
        ("A", "O", "f"),
        ("B", "Ti", "a"),
    ]
    assert rutile.decorate({"A": "F", "B": "Mg"}, volume=10.0).get_chemical_formula() == "F4Mg2"


def test_unknown_and_ambiguous_names_are_explained():
    with pytest.raises(UnknownNameError, match="A_hR2_166_c:O2, A_hR2_166_c:C, A_hR2_166_c:As"):
        get_aflow_prototype("A_hR2_166_c")
    with pytest.raises(UnknownNameError, match="'Heusler'"):
        get_aflow_prototype("Heuslr")
    for name in ("C22", "alpha", "", "None"):
        with pytest.raises(UnknownNameError, match="unknown AFLOW prototype"):
            get_aflow_prototype(name)


def test_names_of_one_are_not_aliases_of_another(library):
    keys = [re.sub(r"[ _-]", "", key.casefold()) for entry in library.values() for key in (entry.name, *entry.aliases)]
    assert len(keys) == len(set(keys))
