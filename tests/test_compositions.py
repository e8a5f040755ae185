"""Compositions: formulas as pymatgen and ASE read and write them, one entry per input, tables."""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import chemical_symbols
from ase.formula import Formula
from pymatgen.core import Composition, Element, Lattice, Molecule, Structure
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

from ase_matprop.compositions import (
    CompositionEntry,
    as_amounts,
    composition_entries,
    format_formula,
    is_formula,
    iter_compositions,
    parse_formula,
)
from ase_matprop.errors import CompositionError
from ase_matprop.structures import iter_structures

NACL = {11: 1.0, 17: 1.0}


def of_pymatgen(formula: str) -> dict[int, float]:
    amounts: dict[int, float] = {}
    for element, amount in Composition(formula).items():  # D and H are two keys
        amounts[element.Z] = amounts.get(element.Z, 0.0) + amount
    return amounts


def random_formula(rng: np.random.Generator, depth: int = 0) -> str:
    """A formula with brackets in brackets, spaces, and whole and broken amounts."""
    terms = []
    for _ in range(rng.integers(1, 5)):
        if depth < 3 and rng.random() < 0.25:
            opening, closing = rng.choice(["()", "[]", "{}"])
            term = opening + random_formula(rng, depth + 1) + closing
        else:
            term = str(rng.choice(chemical_symbols[1:104]))
        amount = rng.choice(["", "2", "12", "0.5", "1.25", "3.", ".75"])
        terms.append(term + amount + rng.choice(["", "", "", " "]))
    return "".join(terms)


# formulas


READ_BY_PYMATGEN = (
    "Fe2O3 NaN CoO COCO Cs2CO3 Lu(MnGe)6 Ag0.48Mg0.52 [Co(NH3)6]Cl3 Ca10(PO4)6(OH)2 Y3N@C80 D2O T2O HDO Fe.5O1. "
    "Fe1e-3O Fe0O3 (FeO]2 ((Fe))2"
)


@pytest.mark.parametrize("formula", [*READ_BY_PYMATGEN.split(), "Li1 Fe1 P1 O4", "Fe (OH) 3", " NaCl\t"])
def test_formulas_are_read_as_pymatgen_does(formula: str) -> None:
    assert parse_formula(formula) == pytest.approx(of_pymatgen(formula), rel=1e-12)
    assert is_formula(formula)


def test_random_formulas_are_read_as_pymatgen_does() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        formula = random_formula(rng)
        assert parse_formula(formula) == pytest.approx(of_pymatgen(formula), rel=1e-12), formula


def test_formulas_of_the_data_sets(data_dir: Path) -> None:
    table = pd.read_csv(data_dir / "compositions" / "mp_formation_energy_val.csv.gz", keep_default_na=False)
    for formula in table["formula"].sample(1000, random_state=0):
        amounts = parse_formula(formula)
        assert amounts == pytest.approx(of_pymatgen(formula), rel=1e-12), formula
        assert parse_formula(format_formula(amounts)) == pytest.approx(amounts, rel=1e-5)


@pytest.mark.parametrize(
    ("formula", "meant"),
    [
        ("CuSO4·5H2O", "CuSO4(H2O)5"),
        ("CaSO4 • 0.5 H2O", "CaSO4(H2O)0.5"),
        ("3CdSO4⋅8H2O", "(CdSO4)3(H2O)8"),
        ("MgCl2*6H2O*NaCl", "MgCl2(H2O)6NaCl"),
        ("2NaCl", "Na2Cl2"),
        ("Fe₂O₃", "Fe2O3"),
        ("Ca₁₀(PO₄)₆(OH)₂", "Ca10(PO4)6(OH)2"),
        ("Fe1e+1O2e1", "Fe10O20"),
    ],
)
def test_what_pymatgen_does_not_read(formula: str, meant: str) -> None:
    assert parse_formula(formula) == pytest.approx(of_pymatgen(meant))


def test_isotopes_are_hydrogen() -> None:
    assert parse_formula("HDTO2") == {1: 3.0, 8: 2.0}
    assert as_amounts(Composition("D2O")) == as_amounts({"D": 2, "O": 1}) == {1: 2.0, 8: 1.0}


def test_order_of_the_elements_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    terms = ["Li2", "Fe0.5", "P", "O4", "(OH)2"]
    amounts = parse_formula("".join(terms))
    for _ in range(10):
        assert parse_formula("".join(rng.permutation(terms))) == pytest.approx(amounts)


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        ("Xx2", "Xx is no element"),
        ("X2O", "X is no element"),
        ("Uue", "Uue is no element"),
        ("fe2o3", "'fe2o3' does not begin with an element, which has a capital letter"),
        ("Fe2O3 hematite", "'hematite' does not begin"),
        ("Fe2O3)", "closed that was not opened"),
        ("(FeO", "not closed"),
        ("Fe()2", "nothing in it"),
        ("(2H2O)", "the amount 2 stands behind an opening bracket"),
        ("Fe-2", "charges have no place"),
        ("Fe2+", "charges have no place"),
        ("Fe2=O3", "'=O3' cannot be read"),
        ("Fe..2", "'..2' cannot be read"),
        ("٣Fe", "cannot be read"),  # a digit of another script
        ("Fe0", "no element with a positive amount"),
        ("0NaCl", "no element with a positive amount"),
        ("Fe1e999", "too large"),
        ("2", "missing"),
        ("CuSO4·", "missing"),
        ("·5H2O", "missing"),
    ],
)
def test_bad_formulas(formula: str, reason: str) -> None:
    with pytest.raises(CompositionError) as caught:
        parse_formula(formula)
    message = str(caught.value)
    assert reason in message and "Fe2O3" in message and "\n" not in message
    assert not is_formula(formula)


def test_a_long_text_is_not_quoted_whole() -> None:
    with pytest.raises(CompositionError) as caught:
        parse_formula("not a formula\n" * 1000)
    assert len(str(caught.value)) < 250 and "\n" not in str(caught.value)


def test_formulas_of_atoms() -> None:
    rng = np.random.default_rng(2)
    pool = ["H", "C", "O", "F", "S", "He", *chemical_symbols[1:104]]  # many hydrides, carbides and oxides
    for _ in range(300):
        symbols = rng.choice(pool, size=rng.integers(1, 7))
        atoms = Atoms([symbol for symbol in symbols for _ in range(rng.integers(1, 15))])
        formula = format_formula(as_amounts(atoms))
        (entry,) = composition_entries([atoms])
        assert Formula(formula).count() == atoms.symbols.formula.count() and entry.formula == formula


def test_order_of_the_elements() -> None:
    # metals by electronegativity, then the others as IUPAC has them in formulas of binary compounds
    formulas = ("SiO2", "AlNi", "CaSiO3", "NH3", "SiC", "GaAs", "BN", "CO2", "HCl", "SF6", "OF2", "IBr")
    for formula in (*formulas, "LiFeO2", "CaAl2O4", "LaAlO3", "SrNbO3", "NaCl", "BaTiO3"):
        shuffled = dict(reversed(parse_formula(formula).items()))
        assert format_formula(shuffled) == formula


@pytest.mark.parametrize(
    ("amounts", "formula"),
    [
        ({8: 3, 26: 2}, "Fe2O3"),
        ({8: 1.5, 26: 1.0}, "FeO1.5"),
        ({1: 1 / 3, 8: 0.99999999}, "H0.333333O"),
        ({26: 1234567.0}, "Fe1234567"),
        ({26: 1e-7, 8: 1.0}, "Fe1e-07O"),
        ({26: 1e300}, "Fe1e+300"),
    ],
)
def test_broken_amounts(amounts: dict[int, float], formula: str) -> None:
    assert format_formula(amounts) == formula
    assert parse_formula(formula) == pytest.approx(amounts, rel=1e-5)


# objects


@pytest.mark.parametrize(
    ("obj", "amounts", "n_atoms"),
    [
        ("NaCl", NACL, 0),
        (np.str_("NaCl"), NACL, 0),
        (Composition("NaCl"), NACL, 0),
        (Composition({"Fe2+": 1, "Fe3+": 2, "O2-": 4}), {26: 3.0, 8: 4.0}, 0),
        (Composition({"Fe3+": 2, "O2-": 3}).as_dict(), {26: 2.0, 8: 3.0}, 0),
        ({"Na": 1, "Cl": 1.0}, NACL, 0),
        ({11: 1, np.int64(17): np.float32(1)}, NACL, 0),
        ({Element("Na"): 1, "Cl": 1, "O": 0}, NACL, 0),
        (ComputedEntry("NaCl", -6.0), NACL, 0),
        (bulk("NaCl", "rocksalt", 5.64), NACL, 2),
        (molecule("H2O"), {8: 1.0, 1: 2.0}, 3),  # no cell
        (Molecule(["O", "H", "H"], np.eye(3)), {8: 1.0, 1: 2.0}, 3),
        (Structure(Lattice.cubic(3.6), [{"Cu": 0.25, "Ni": 0.5}], [[0, 0, 0]]), {29: 0.25, 28: 0.5}, 1),
        (Structure(Lattice.cubic(2.8), ["Fe"], [[0, 0, 0]]).as_dict(), {26: 1.0}, 1),
        (ComputedStructureEntry(Structure(Lattice.cubic(2.8), ["Fe"], [[0, 0, 0]]), -8.0), {26: 1.0}, 1),
    ],
)
def test_objects(obj: object, amounts: dict[int, float], n_atoms: int) -> None:
    (entry,) = composition_entries([obj])
    assert entry.error is None and entry.amounts == pytest.approx(amounts) and entry.n_atoms == n_atoms
    assert set(entry.elements) == set(amounts) and entry.item is entry.amounts
    assert as_amounts(obj) == entry.amounts
    (alone,) = composition_entries(obj)
    assert alone.amounts == entry.amounts
    (again,) = composition_entries(entry)
    assert again is entry and pickle.loads(pickle.dumps(entry)).amounts == entry.amounts


class Broken(Composition):
    def items(self):
        raise KeyError("items")


@pytest.mark.parametrize(
    ("obj", "reason"),
    [
        (None, "a gap in a table"),
        (float("nan"), "keep_default_na"),
        (3, "of type int, not a composition; give a formula"),
        ([], "of type list"),
        (b"NaCl", "of type bytes"),
        (pd.NA, "of type NAType"),
        (Element("Fe"), "of type Element"),
        ({}, "no element with a positive amount"),
        ({"Fe": 0}, "no element with a positive amount"),
        ({"Fe": -1}, "the amount -1 of Fe; give a positive number"),
        ({"Fe": float("inf")}, "the amount inf of Fe"),
        ({"Fe": "much"}, "the amount 'much' of Fe"),
        ({"Fe": 1, "Xx": 1}, "Xx, which is no element"),
        ({"colour": "red"}, "dictionary without a structure"),
        (Composition("X2O"), "X, which is no element"),
        (Composition({"Fe": -1, "O": 2}, allow_negative=True), "the amount -1 of Fe"),
        (Atoms(), "no element with a positive amount"),
        (Atoms("XO"), "X, which is no element"),
        (Broken("Fe"), "cannot be converted (KeyError"),
        (Path("no/such/POSCAR"), "does not exist"),
        ("POSCAR", "does not exist"),
        ("NaCl.cif", "does not exist"),
        ("formulas.csv", "is a table; read it with ase_matprop.predict"),
    ],
)
def test_a_bad_input_costs_its_own_row(
    obj: object, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entries = list(composition_entries(["NaCl", obj, "Xx2"]))
    assert [entry.error is None for entry in entries] == [True, False, False]
    entry = entries[1]
    assert reason in entry.error and "\n" not in entry.error
    assert entry.amounts is None and entry.formula == "" and entry.n_atoms == 0 and not entry.elements
    with pytest.raises(CompositionError, match="composition 0|POSCAR|cif|csv"):
        as_amounts(obj)


def test_a_disordered_cif_as_atoms_is_not_read_as_its_majority() -> None:
    """ASE keeps the occupancies in ``info`` and the majority element in ``numbers``."""
    atoms = bulk("Cu")
    atoms.info["occupancy"] = {"0": {"Cu": 0.6, "Ni": 0.4}}
    (entry,) = composition_entries([atoms])
    assert "disordered site (Cu0.6 Ni0.4); give its formula" in entry.error


def test_names() -> None:
    labelled = bulk("Cu")
    labelled.info["material_id"] = "mp-30"
    inputs = ["Fe4O6", " ", Composition("Fe4O6"), bulk("Fe"), labelled, None]
    names = [entry.name for entry in composition_entries(inputs)]
    assert names == ["Fe4O6", "composition 1", "composition 2 (Fe4O6)", "structure 3 (Fe)", "mp-30", "composition 5"]


def test_kinds_of_inputs() -> None:
    for inputs in (
        ["NaCl", "MgO"],
        ("NaCl", "MgO"),
        np.array(["NaCl", "MgO"]),
        pd.Series(["NaCl", "MgO"], index=["a", "b"]),
        (formula for formula in ["NaCl", "MgO"]),
        pd.Series([Composition("NaCl"), Composition("MgO")]),
    ):
        assert [entry.formula for entry in composition_entries(inputs)] == ["NaCl", "MgO"]
    assert list(composition_entries([])) == []
    for entries in (composition_entries, iter_compositions):
        with pytest.raises(CompositionError, match="give its column, for example df\\['formula'\\]"):
            list(entries(pd.DataFrame({"formula": ["NaCl"]})))
        for wrong in (3, None):
            with pytest.raises(CompositionError, match="not a composition"):
                list(entries(wrong))


def test_inputs_are_not_changed() -> None:
    mapping = {"Fe": 2, "O": 3, "H": 0}
    (entry,) = composition_entries(mapping)
    assert mapping == {"Fe": 2, "O": 3, "H": 0} and entry.amounts == {26: 2.0, 8: 3.0}


# files


def test_paths_of_structures(example_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = example_dir / "POSCAR_MgO"
    for given in (path, str(path)):
        for entries in (composition_entries, iter_compositions):
            (entry,) = entries(given)
            assert entry.formula == "Mg4O4" and entry.n_atoms == 8 and entry.name == str(path)
    several = example_dir / "CsCl_and_NiAl.extxyz"
    (refused,) = composition_entries([several])
    assert "several structures" in refused.error
    assert [entry.formula for entry in iter_compositions([several, "NaCl"])] == ["CsCl", "AlNi", "NaCl"]
    assert len(list(iter_compositions(example_dir))) >= 8
    (structure,) = iter_structures(path)
    assert [entry.formula for entry in composition_entries([structure])] == ["Mg4O4"]

    # a file without an ending, in the present folder, and one whose name is a formula
    for name in ("POSCAR", "NaCl"):
        (tmp_path / name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert [entry.formula for entry in composition_entries(["POSCAR", "NaCl", Path("NaCl")])] == [
        "Mg4O4",
        "NaCl",
        "Mg4O4",
    ]


TABLE = "id,Formula ,energy\n1,NaCl,-2.1\n2,NaN,0.1\n\n3,,0.0\n4,../POSCAR,0\n5\n6,Fe2O3,-1.6,extra\n"


@pytest.mark.parametrize(
    ("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)]
)
def test_tables(ending: str, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / f"formulas.csv{ending}"
    path.write_bytes(pack(TABLE.encode("utf-8-sig")))
    for given in (path, str(path), [path]):
        entries = list(iter_compositions(given))
        assert [entry.formula for entry in entries] == ["NaCl", "NaN", "", "", "", "Fe2O3"]
        names = ["NaCl", "NaN", f"{path}#2", "../POSCAR", f"{path}#4", "Fe2O3"]
        assert [entry.name for entry in entries] == names
        assert "is empty" in entries[2].error
        assert "is no formula" in entries[3].error  # a cell of a table is never a path


def test_comments_at_the_head_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("# measured\n# at 298 K\nid,formula\n1,NaCl\n#2,MgO\n")
    assert [entry.name for entry in iter_compositions([tmp_path / "a.csv"])] == ["NaCl", "MgO"]


@pytest.mark.parametrize("column", ["formula", "composition", "reduced_formula", "pretty_formula", "Composition"])
def test_columns_of_tables(column: str, tmp_path: Path) -> None:
    pd.DataFrame({"x": [1, 2], column: ["NaCl", "MgO"]}).to_csv(tmp_path / "t.CSV", index=False)
    assert [entry.formula for entry in iter_compositions([tmp_path / "t.CSV", "Fe"])] == ["NaCl", "MgO", "Fe"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"formula,x\n", "has no rows"),
        (b"a;formula\n1;NaCl\n", "has no column formula or .*its columns are a;formula"),
        (b"formula\n\xff\xfe\n", "cannot be read as a table .*utf-8"),
        (b"formula\nNa\0Cl\n", "cannot be read as a table|is no formula"),
    ],
)
def test_bad_tables(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    entries = list(iter_compositions([path, "NaCl"]))
    assert len(entries) == 2 and entries[1].error is None
    with pytest.raises(CompositionError, match=reason):
        raise CompositionError(entries[0].error)
    assert "\n" not in entries[0].error


def test_patterns_of_tables(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.txt"):
        (tmp_path / name).write_text(f"formula\nFe{ord(name[0]) - 96}O\n")
    assert [entry.formula for entry in iter_compositions(str(tmp_path / "*.csv"))] == ["FeO", "Fe2O"]
    (nothing,) = iter_compositions(str(tmp_path / "x*.csv"))
    assert nothing.error == "does not exist; check the path"


def test_missing_and_damaged_tables(tmp_path: Path) -> None:
    (missing,) = iter_compositions(tmp_path / "t.csv")
    assert missing.error == "does not exist; check the path"
    whole = gzip.compress("\n".join(["formula", *[f"Fe{i}O{i + 1}" for i in range(1, 20_000)]]).encode(), mtime=0)
    (tmp_path / "t.csv.gz").write_bytes(whole[: len(whole) // 2])
    *rows, end = iter_compositions(tmp_path / "t.csv.gz")
    assert len(rows) > 100 and all(row.error is None for row in rows)
    assert end.name == str(tmp_path / "t.csv.gz") and "cannot be read as a table" in end.error
    for name, content in (("no.csv.gz", b"formula\nNaCl\n"), ("no.csv.xz", b"formula\nNaCl\n"), ("cut.csv.gz", b"")):
        (tmp_path / name).write_bytes(content)
        (entry,) = iter_compositions(tmp_path / name)
        assert isinstance(entry, CompositionEntry) and entry.error


def test_order_of_metals_is_that_of_pymatgen() -> None:
    for formula in ("LiFeO2", "MgAl2O4", "Sr2FeMoO6", "CrFeNi", "CuAu3", "YBa2Cu3O7", "LaNi5", "TiAl", "PtW"):
        ours = format_formula({Element(e.symbol).Z: n for e, n in Composition(formula).items()})
        assert ours == Composition(formula).reduced_formula
