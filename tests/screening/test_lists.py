"""Formulas of tables, structures of files."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import pickle
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.build import bulk
from ase.db import connect
from ase.io import write
from pymatgen.core import Composition

from ase_matprop import MatPropError
from ase_matprop.compositions import parse_formula
from ase_matprop.screening.spaces import lists
from ase_matprop.screening.spaces.lists import FormulaList, StructureList
from ase_matprop.structures import iter_structures

FORMULAS = ["Fe2O3", "NaN", "Li0.5CoO2", "", "Xx2O", "LiFePO4", "Fe2O3", "CuSO4·5H2O", "((", "H2O", "U3O8"]
GOOD = [formula for formula in FORMULAS if formula not in ("", "Xx2O", "((")]


def rows_of(space: FormulaList) -> list[dict[int, float]]:
    return [row for shard in range(space.n_shards) for block in space.blocks(shard) for row in block.compositions()]


def failures_of(space: FormulaList) -> list[tuple[str, str]]:
    return [failure for shard in range(space.n_shards) for failure in space.failed_formulas(shard)]


def table(folder: Path, name: str, column: str = "formula", formulas: list[str] | None = None) -> Path:
    frame = pd.DataFrame({"id": range(len(formulas or FORMULAS)), column: formulas or FORMULAS})
    frame["note"] = 'with "quotes", commas,\nand a line ä'
    path = folder / name
    if name.endswith(".parquet"):
        frame.to_parquet(path, row_group_size=4)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.xz", "a.csv.bz2", "A.CSV", "a.parquet"])
@pytest.mark.parametrize("shard_size", [1, 3, 4, 11, 100])
def test_rows_keep_their_order_whatever_the_shards(tmp_path: Path, name: str, shard_size: int) -> None:
    space = FormulaList(table(tmp_path, name), shard_size=shard_size)
    assert rows_of(space) == [dict(sorted(parse_formula(formula).items())) for formula in GOOD]
    assert space.n_candidates == 11 == sum(map(space.shard_size, range(space.n_shards)))
    assert space.n_shards == -(-11 // shard_size) and space.elements == {1, 3, 7, 8, 11, 15, 16, 26, 27, 29, 92}
    failures = failures_of(space)
    assert [Path(found).name for found, _ in failures] == [f"{name}#3", f"{name}#4", f"{name}#8"]
    assert "empty" in failures[0][1] and "Xx is no element" in failures[1][1]
    for shard in range(space.n_shards):
        assert sum(map(len, space.blocks(shard))) + len(space.failed_formulas(shard)) == space.shard_size(shard)
    assert rows_of(pickle.loads(pickle.dumps(space))) == rows_of(space)


def test_blocks_are_padded_and_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "FORMULAS_AT_ONCE", 3)
    blocks = list(FormulaList(table(tmp_path, "a.csv")).blocks(0))
    assert [len(block) for block in blocks] == [3, 3, 2]
    assert blocks[0].numbers.tolist() == [[8, 26, 0], [7, 11, 0], [3, 8, 27]]
    assert blocks[0].amounts.tolist() == [[3, 2, 0], [1, 1, 0], [0.5, 2, 1]]
    assert blocks[0].numbers.dtype == np.uint8 and blocks[0].amounts.dtype == np.float64
    assert blocks[0].formulas() == ["Fe2O3", "NaN", "Li0.5CoO2"]


@pytest.mark.parametrize("column", ["Composition", " PRETTY_FORMULA ", "reduced_formula"])
@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_columns(tmp_path: Path, column: str, name: str) -> None:
    path = table(tmp_path, name, column)
    if name == "a.csv" or column == column.strip():
        assert len(rows_of(FormulaList(path))) == 8
    assert len(rows_of(FormulaList(path, column=column))) == 8
    with pytest.raises(MatPropError, match=r"has no column smiles; its columns are id, "):
        FormulaList(path, column="smiles")


def test_the_first_known_column_is_taken_or_the_named_one(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("\ufeffcomposition,formula,mine\r\nMgO,NaCl,KBr\r\n\r\nMgO,NaCl\r\nFe,Ni,Cu\r\n".encode())
    assert FormulaList(path).elements == {11, 17, 28}
    assert FormulaList(path, "composition").elements == {8, 12, 26}
    mine = FormulaList(path, "mine", shard_size=2)
    assert mine.elements == {19, 35, 29} and mine.n_candidates == 3
    assert mine.failed_formulas(0)[0][0].endswith("a.csv#1") and mine.failed_formulas(1) == []


def test_bytes_that_are_no_text_cost_their_own_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"formula,name\nNaCl,caf\xe9\nMg\xe9O,x\nKBr,y\n")
    space = FormulaList(path)
    assert len(rows_of(space)) == 2 and [name for name, _ in failures_of(space)] == [f"{path}#1"]


def test_lists_of_formulas() -> None:
    items = [*FORMULAS, Composition("MgO0.5"), {"Na": 1, "Cl": 1.0}, None, bulk("Ni"), np.str_("KBr")]
    space = FormulaList(items, shard_size=4)
    assert space.n_candidates == 16 and len(rows_of(space)) == 12
    assert rows_of(space)[-4:] == [{8: 0.5, 12: 1}, {11: 1, 17: 1}, {28: 1}, {19: 1, 35: 1}]
    assert [name for name, _ in failures_of(space)] == [f"formulas#{row}" for row in (3, 4, 8, 13)]
    assert rows_of(FormulaList(pd.Series(FORMULAS))) == rows_of(FormulaList(iter(FORMULAS)))
    assert FormulaList(items, shard_size=4).describe() == space.describe()
    assert FormulaList(items[::-1], shard_size=4).describe() != space.describe()
    json.dumps(space.describe())


def test_description_is_that_of_the_content(tmp_path: Path) -> None:
    path = table(tmp_path, "a.csv")
    before = FormulaList(path).describe()
    assert before["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "other").mkdir()
    moved = path.rename(tmp_path / "other/b.csv")
    assert FormulaList(moved).describe() == before != FormulaList(moved, shard_size=2).describe()
    assert FormulaList(table(tmp_path, "a.csv", formulas=["NaCl", *FORMULAS[1:]])).describe() != before
    json.dumps(before)


def test_a_file_that_changes_after_the_start_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ni_files: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path, "a.csv")
    space, structures = FormulaList("a.csv"), StructureList(ni_files.name)
    monkeypatch.chdir("/")
    assert len(rows_of(space)) == 8 and space.failed_formulas(0)[0][0] == "a.csv#3"  # another working directory
    assert next(structures.entries(0)).name == "structures/POSCAR_1"
    (tmp_path / "a.csv").write_text("formula\nNaCl\n")
    (ni_files / "POSCAR_2").unlink()
    with pytest.raises(MatPropError, match=r"a\.csv is gone or was changed"):
        rows_of(space)
    with pytest.raises(MatPropError, match="POSCAR_2 is gone or was changed"):
        list(structures.entries(0))


def test_a_change_that_leaves_the_size_is_noticed(tmp_path: Path, ni_files: Path) -> None:
    path = table(tmp_path, "a.csv")
    space, structures = FormulaList(path), StructureList(ni_files)
    for file in (path, ni_files / "POSCAR_2"):
        os.utime(file, ns=(1, 1))  # copied, or touched
    assert len(rows_of(space)) == 8 and len(list(structures.entries(0))) == structures.n_candidates
    for file in (path, ni_files / "POSCAR_2"):
        before = file.read_bytes()
        file.write_bytes(before.replace(b"0", b"1", 1))
        assert file.stat().st_size == len(before)
        os.utime(file, ns=(2, 2))
    for again in (space, pickle.loads(pickle.dumps(space))):
        with pytest.raises(MatPropError, match=r"a\.csv is gone or was changed"):
            rows_of(again)
    with pytest.raises(MatPropError, match="POSCAR_2 is gone or was changed"):
        list(structures.entries(0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no column formula or composition.*it is empty"),
        ("formula\n", "has no rows"),
        ("name,energy\nNaCl,1\n", "its columns are name, energy"),
        ("formula\nfoo\nbar\n", "none of the 2 rows .* has a usable formula; row 0: 'foo'"),
    ],
)
def test_tables_without_formulas(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(MatPropError, match=message):
        FormulaList(path)


def test_what_is_no_table(tmp_path: Path) -> None:
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(b"formula\n" + b"NaCl\n" * 100_000)[:150])
    contents = {"a.csv.gz": b"formula\n", "a.csv.xz": lzma.compress(b"x")[:9], "a.csv.bz2": bz2.compress(b"x")[:9]}
    for name, content in {**contents, "a.parquet": b"PAR1 no"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MatPropError, match="cannot be read as a table"):
            FormulaList(tmp_path / name)
    with pytest.raises(MatPropError, match="cut.csv.gz cannot be read as a table"):
        FormulaList(cut)
    pd.DataFrame({"formula": [1.5]}).to_parquet(tmp_path / "number.parquet")
    (tmp_path / "folder.csv").mkdir()
    for given, message in {
        tmp_path / "none.csv": "does not exist", tmp_path / "folder.csv": "is a folder", "Fe2O3": "must end in .csv",
        tmp_path / "number.parquet": "has double, not text",
    }.items():  # fmt: skip
        with pytest.raises(MatPropError, match=message):
            FormulaList(given)
    for bad in ([], ["foo"], 5, {"Fe": 2}, pd.DataFrame({"formula": ["NaCl"]})):
        with pytest.raises(MatPropError):
            FormulaList(bad)
    with pytest.raises(MatPropError, match="shard_size"):
        FormulaList(["NaCl"], shard_size=0)
    for shard in (-1, 1):
        with pytest.raises(MatPropError, match="no shard"):
            FormulaList(["NaCl"]).failed_formulas(shard)


@pytest.fixture
def ni_files(tmp_path: Path) -> Path:
    """Return a folder with files of all kinds: 4 sound ones with 6 structures, a bad one, and others."""
    folder = tmp_path / "structures"
    (folder / "below").mkdir(parents=True)
    for number, symbol in ((1, "Ni"), (2, "Al"), (10, "Cu")):
        write(folder / f"POSCAR_{number}", bulk(symbol), format="vasp")
    write(folder / "below/several.extxyz", [bulk("Fe"), bulk("Ag"), bulk("Au")])
    (folder / "bad.cif").write_text("data_bad\n")
    (folder / "INCAR").write_text("ENCUT = 500\n")
    (folder / "table.json").write_text('{"no": "structure"}')
    (folder / ".hidden.cif").write_text("data_bad\n")
    return folder


def database(path: Path) -> Path:
    with connect(path) as db:
        for symbol in ("Ni", "Al", "Cu", "Pd", "Pt"):
            db.write(bulk(symbol))
        db.write(Atoms("CO", [[0, 0, 0], [0, 0, 1.1]]))  # no cell
        del db[2]
    return path


def entries_of(space: StructureList) -> list[tuple[str, str, str | None]]:
    found = []
    for shard in range(space.n_shards):
        entries = list(space.entries(shard))
        assert len(entries) == space.shard_size(shard)
        for entry in entries:
            assert entry.atoms is None or entry.atoms.info == {"name": entry.name}
            found.append((entry.name, entry.formula, entry.error))
    return found


@pytest.mark.parametrize("shard_size", [1, 2, 3, 100])
def test_structures_are_those_of_the_reader(ni_files: Path, shard_size: int) -> None:
    several = [ni_files / "below", ni_files / "POSCAR_2"]
    for given in (ni_files, several, *(str(ni_files / pattern) for pattern in ("POSCAR_*", "*", "**"))):
        space = StructureList(given, shard_size)
        expected = list(iter_structures(given))
        assert entries_of(space) == [(entry.name, entry.formula, entry.error) for entry in expected]
        assert space.n_candidates == len(expected) and space.n_shards == -(-len(expected) // shard_size)
        assert space.elements == set().union(*(entry.elements for entry in expected))
        assert entries_of(pickle.loads(pickle.dumps(space))) == entries_of(space)


@pytest.mark.parametrize("shard_size", [1, 2, 100])
def test_rows_of_a_database_are_named_by_their_ids(tmp_path: Path, shard_size: int) -> None:
    path = database(tmp_path / "file.db")
    before = path.read_bytes()
    space = StructureList([path, path], shard_size)
    found = entries_of(space)
    assert [name for name, _, _ in found] == [f"{path}#{number}" for number in (1, 3, 4, 5, 6)] * 2
    assert [formula for _, formula, _ in found[:5]] == ["Ni", "Cu", "Pd", "Pt", ""]
    assert found[4][2] and space.elements >= {28, 29, 46, 78} and space.n_candidates == 10
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_files_that_are_no_databases_stay_as_they_are(tmp_path: Path, ni_files: Path) -> None:
    empty, other, rowless = ni_files / "empty.db", ni_files / "other.db", ni_files / "rowless.db"
    empty.touch()
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (id INTEGER)")
    connection.close()
    with connect(rowless) as db:
        db.write(bulk("Ni"))
        del db[1]
    before = {path: path.read_bytes() for path in (empty, other, rowless)}
    for path in before:
        with pytest.raises(MatPropError, match=f"none of the structures can be used; .*{path.name}"):
            StructureList(path)
    found = entries_of(StructureList(ni_files))
    assert [Path(name).name for name, _, error in found if error] == ["bad.cif", "empty.db"]
    assert {path: path.read_bytes() for path in before} == before


def test_description_of_structures(ni_files: Path) -> None:
    space = StructureList(ni_files)
    before = space.describe()
    assert StructureList(ni_files).describe() == before == json.loads(json.dumps(before))
    assert StructureList(ni_files, 3).describe() != before
    path = ni_files / "POSCAR_1"
    text = path.read_text()
    path.write_text(text.replace("1.0", "1.1", 1))
    assert path.stat().st_size == len(text) and StructureList(ni_files).describe() != before
    path.write_text(text)
    assert StructureList(ni_files).describe() == before
    path.rename(ni_files / "POSCAR_3")
    assert StructureList(ni_files).describe() != before


def test_a_moved_folder_is_the_same_space(tmp_path: Path, ni_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tmp_path / "moved" / "and" / "renamed"
    shutil.copytree(ni_files, moved)
    for inside in ("", "POSCAR_*", "**", "below", "POSCAR_1"):
        described = StructureList(moved / inside).describe()
        assert described == StructureList(str(ni_files / inside)).describe() and str(tmp_path) not in str(described)
    before = StructureList([ni_files, ni_files / "below"]).describe()
    monkeypatch.chdir(moved)
    assert StructureList([".", "below"]).describe() == StructureList([moved, "./below"]).describe() == before


def test_bad_structure_inputs(tmp_path: Path, ni_files: Path) -> None:
    (tmp_path / "nothing").mkdir()
    for given, message in [
        (ni_files / "POSCAR_7", "POSCAR_7: does not exist; did you mean"),
        ([ni_files, tmp_path / "*.cif"], "matches no structure file"),
        (tmp_path / "nothing", "folder without structure files"),
        (ni_files / "bad.cif", "none of the structures can be used; the first: .*bad.cif"),
        ([], "is empty"),
        ("", "empty path"),
        ([bulk("Ni")], "not of type Atoms; write them to a file"),
        (5, "not of type int"),
    ]:
        with pytest.raises(MatPropError, match=message):
            StructureList(given)
    with pytest.raises(MatPropError, match="no shard 5"):
        list(StructureList(ni_files).entries(5))
