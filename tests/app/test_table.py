"""The table, comparisons, phase diagrams and downloads, from results that are made here."""

import csv
import io
import json
import math

import numpy as np
import pytest
from ase.build import bulk

from ase_matprop.app import downloads, phases, rows, viewer
from ase_matprop.app.archives import UploadError
from ase_matprop.app.comparison import agreement, all_series, comparable
from ase_matprop.app.formulas import formula_entry
from ase_matprop.app.limits import Limits
from ase_matprop.app.reference_values import ValueTable, formulas_of, match
from ase_matprop.app.sessions import Run, Session
from ase_matprop.app.uploads import Shelf
from ase_matprop.errors import MatPropError
from ase_matprop.models.predictions import Predictions
from ase_matprop.models.registry import read_card
from ase_matprop.structures import StructureEntry

FORMULAS = ["Li2O", "Fe2O3", "LiFeO2", "H2O3x", "FeO"]
VALUES = [-2.0, -1.7, -1.9, math.nan, -1.4]
ENERGY = "m|formation_energy_per_atom"


def predictions(values, **kwargs):
    n = len(values)
    given = {
        "errors": [None if math.isfinite(value) else "is no formula" for value in values],
        "property": "formation_energy_per_atom",
        "unit": "eV/atom",
        "model": "m",
        "names": FORMULAS[:n],
        "formulas": ["" if name == "H2O3x" else name for name in FORMULAS[:n]],
        "n_atoms": np.zeros(n, dtype=np.int64),
        "spread": np.full(n, np.nan),
        "warnings": [None] * n,
        **kwargs,
    }
    return Predictions(values=np.array(values), **given)


@pytest.fixture
def session(tmp_path):
    found = Session("token", Shelf(tmp_path, Limits()))
    found.add([formula_entry(text) for text in FORMULAS])
    distance = np.array([0.3, 1.5, 2.5, math.nan, 0.2])
    spread = np.array([0.001, 0.2, 0.001, math.nan, 0.001])
    warnings = [None, None, None, None, "Fe and O never met"]
    found.runs["m"] = Run(list(range(5)), predictions(VALUES, distance=distance, spread=spread, warnings=warnings))
    found.references["dft"] = {0: -2.07, 1: -1.71, 4: -1.4}
    return found


@pytest.fixture
def table(session):
    return rows.build(session, {"m": read_card("irnet17-mp")})


def names(found):
    return [FORMULAS[row.number] for row in found]


def test_flags(table):
    flags = [row.cells.get("m|reach", rows.Cell()).flag for row in table.rows]
    assert flags == ["good", "far", "very-far", "", "unseen"]
    assert [row.cells.get("m|spread", rows.Cell()).flag for row in table.rows] == ["", "wide", "", "", ""]
    assert [bool(row.failures) for row in table.rows] == [False, False, False, True, False]
    assert rows.counts(table.rows) == {"all": 5, "failed": 1, "warned": 3}
    assert all(sign and words for sign, words in rows.FLAGS.values())


@pytest.mark.parametrize(
    ("distance", "warning", "flag"),
    [(0.5, None, "good"), (1.01, None, "far"), (2.01, "x", "very-far"), (0.5, "x", "unseen"), (math.nan, None, ""),
     (math.nan, "x", "unseen")],
)  # fmt: skip
def test_flag_of_a_distance(distance, warning, flag):
    assert rows.flag_of(distance, warning)[0] == flag


def test_sorting_puts_rows_without_a_value_last(table):
    assert names(rows.arrange(table, rows.View(sort=ENERGY))) == ["Li2O", "LiFeO2", "Fe2O3", "FeO", "H2O3x"]
    assert names(rows.arrange(table, rows.View(sort=ENERGY, descending=True)))[-1] == "H2O3x"
    assert names(rows.arrange(table, rows.View(sort="name"))) == ["Fe2O3", "FeO", "H2O3x", "Li2O", "LiFeO2"]
    assert names(rows.arrange(table, rows.View(sort="gone"))) == FORMULAS
    assert sorted(["a10", "a2", "a1"], key=rows.natural) == ["a1", "a2", "a10"]


@pytest.mark.parametrize(
    ("view", "shown"),
    [
        (rows.View(text="fe"), ["Fe2O3", "LiFeO2", "FeO"]),
        (rows.View(state="failed"), ["H2O3x"]),
        (rows.View(state="warned"), ["Fe2O3", "LiFeO2", "FeO"]),
        (rows.View(state="good"), ["Li2O"]),
        (rows.View(column=ENERGY, high=-1.8), ["Li2O", "LiFeO2"]),
        (rows.View(column=ENERGY, low=-1.8, high=-1.5), ["Fe2O3"]),
        (rows.View(text="(.*"), []),
    ],
)
def test_filters(table, view, shown):
    assert names(rows.arrange(table, view)) == shown


def test_csv_and_json_have_every_row(session):
    read = list(csv.DictReader(io.StringIO(downloads.as_text(session, "csv"))))
    assert [row["name"] for row in read] == FORMULAS
    assert float(read[1]["formation_energy_per_atom"]) == -1.7
    assert float(read[0]["reference dft"]) == -2.07 and read[2]["reference dft"] == ""
    assert read[3]["error"] and read[3]["formation_energy_per_atom"] == ""
    entries = json.loads(downloads.as_text(session, "json"))
    assert [row["formation_energy_per_atom"] for row in entries] == [-2.0, -1.7, -1.9, None, -1.4]
    with pytest.raises(MatPropError, match="csv, json"):
        downloads.as_text(session, "xlsx")


def test_entries_that_a_model_did_not_reach_are_rows_too(session):
    session.runs["m"] = Run([0, 2], predictions(VALUES[:2]))
    read = list(csv.DictReader(io.StringIO(downloads.as_text(session, "csv"))))
    assert [row["name"] for row in read] == [FORMULAS[0], "Fe2O3", FORMULAS[1], *FORMULAS[3:]]
    assert {row["model"] for row in read} == {"m"}
    assert [row["error"] == "not predicted yet; run again" for row in read] == [False, True, False, False, True]
    assert read[3]["error"] and read[4]["reference dft"] == "-1.4" and read[4]["formation_energy_per_atom"] == ""
    assert read[4]["formula"] == "FeO" and len(json.loads(downloads.as_text(session, "json"))) == 5


def test_units_of_reference_values(session):
    pytest.importorskip("dash")
    from ase_matprop.app.callbacks.comparing import comparison

    session.references["mp"] = {0: -2.0, 1: -1.7}
    session.runs["gap"] = Run(list(range(5)), predictions([1.0, 2.0, 3.0, 4.0, 5.0], property="band_gap", unit="eV"))
    table, *plots = comparison(session, "reference|dft", dark=False)
    shown = str(table)
    assert "0.027 eV/atom" in shown and "4.393 eV'" in shown and "0.040'" in shown
    figures = [plot.children.figure for plot in plots]
    titles = [(figure.layout.xaxis.title.text, len(figure.layout.yaxis.title.text) > 0) for figure in figures]
    assert len(titles) == 3 and {title for title, _ in titles} == {
        "dft (reference)", "dft (reference) (eV/atom)", "dft (reference) (eV)"
    }  # fmt: skip


def test_entries_can_be_downloaded_before_they_are_predicted(session):
    session.runs = {}
    read = list(csv.DictReader(io.StringIO(downloads.as_text(session, "csv"))))
    assert [row["name"] for row in read] == FORMULAS


def test_a_spreadsheet_executes_nothing(session):
    session.runs["m"].predictions.names[0] = '=HYPERLINK("http://x")'
    read = list(csv.DictReader(io.StringIO(downloads.as_text(session, "csv"))))
    assert read[0]["name"].startswith("'=")


def test_series_and_agreement(session):
    session.runs["other"] = Run([0, 1], predictions([-2.1, -1.7]))
    reference, first, other = all_series(session)
    assert [each.label for each in comparable(reference, [reference, first, other])] == ["m", "other"]
    assert [each.label for each in comparable(first, [reference, first, other])] == ["dft (reference)", "other"]
    found = agreement(reference, first)
    assert found.n == 3
    assert found.mae == pytest.approx((0.07 + 0.01 + 0.0) / 3)
    assert found.bias == pytest.approx((0.07 + 0.01 + 0.0) / 3)
    assert (found.largest, found.worst) == (pytest.approx(0.07), 0)
    nothing = agreement(all_series(session)[0], other.__class__("x", "x", "", "", np.full(5, np.nan)))
    assert nothing.n == 0 and math.isnan(nothing.mae) and nothing.worst is None


def test_phase_diagram(session):
    pytest.importorskip("plotly")
    (energies,) = [each for each in all_series(session) if each.key == ENERGY]
    found = phases.systems(session.entries, energies)
    assert found[0] == phases.ChemicalSystem("Fe-Li-O", (0, 1, 2, 4))
    figure, table = phases.diagram(session.entries, energies, found[0])
    assert len(figure.data) and list(table["name"]) == ["Li2O", "Fe2O3", "LiFeO2", "FeO"]
    stable = dict(zip(table["name"], table["stable"], strict=True))
    assert stable["Li2O"] and stable["LiFeO2"] and not stable["FeO"]
    # Fe2O3 -> 2 FeO + O: the hull at FeO lies on the line from Fe to Fe2O3, at 5/6 of its depth
    above = table.loc[table["name"] == "FeO", "e_above_hull"].item()
    assert above == pytest.approx(-1.4 + 1.7 * (0.5 / 0.6), abs=1e-9)
    beside, _ = phases.diagram(session.entries, energies, found[0], all_series(session)[0])
    assert len(beside.data) > len(figure.data)


def test_one_element_is_no_system(session):
    session.entries = [formula_entry("Fe"), formula_entry("LiFePO4F")]
    session.references = {}
    session.runs["m"] = Run([0, 1], predictions([0.1, -2.0]))
    assert phases.systems(session.entries, all_series(session)[0]) == []


def value_table(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return ValueTable.read(path, largest=100_000)


def test_values_by_name_and_by_formula(tmp_path):
    entries = [StructureEntry(name, bulk("Cu"), None) for name in ("a.zip/x/NaCl.cif", "MgO.vasp.gz", "c")]
    columns, text = match(value_table(tmp_path, "name;dft\nNaCl;1.5\nMgO.vasp;2.5\nzzz;3\n"), entries)
    assert columns == {"dft": {0: 1.5, 1: 2.5}}
    assert text == "2 of 3 entries have values; 2 of 3 rows of the table were used"
    formulas = [formula_entry("Fe4O6"), formula_entry("NaCl")]
    columns, text = match(value_table(tmp_path, "formula,e,note\nFe2O3,-1.7,x\nClNa,-2\nClNa,-3\n"), formulas)
    assert columns == {"e": {0: -1.7}} and "differ" in text


def test_names_with_and_without_folder_and_ending(tmp_path):
    files = ("a/1.cif", "b/1.cif", "b/TiO2_1.0.cif", "b/TiO2_1.5.cif.gz", "t.extxyz#0", "t.extxyz#1")
    entries = [StructureEntry(name, bulk("Cu"), None) for name in files]
    text = "name,e\na/1,1\nb/1,2\nTiO2_1.0,3\nTiO2_1.5,4\nt,5\nt#1,6\n1,7\nTiO2_1,8\n"
    columns, said = match(value_table(tmp_path, text), entries)
    assert columns == {"e": {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0, 5: 6.0}}
    assert said.endswith("; 2 rows were left out, since their names fit several entries")
    with pytest.raises(UploadError, match="such as '1'; write 'a/1.cif'"):
        match(value_table(tmp_path, "name,e\n1,7\n"), entries)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty file"),
        ("name,e\n", "no rows"),
        ("x,y\n1,2\n", "no column 'name' or 'formula'"),
        (b"name,e\n\xff\xfe,2\n", "UTF-8"),
        (b"name,e\nx\0,2\n", "binary"),
        ("name," + "e" * 200_000 + "\nx,1\n", "a table may have"),
    ],
)
def test_wrong_tables(tmp_path, text, words):
    with pytest.raises(UploadError, match=words):
        value_table(tmp_path, text)


def test_tables_that_do_not_fit(tmp_path):
    entries = [formula_entry("NaCl")]
    with pytest.raises(UploadError, match="no row that belongs"):
        match(value_table(tmp_path, "name,e\nKCl,1\n"), entries)
    with pytest.raises(UploadError, match="no column of numbers"):
        match(value_table(tmp_path, "name,e\nNaCl,x\n"), entries)
    with pytest.raises(UploadError, match="add structures"):
        match(value_table(tmp_path, "name,e\nNaCl,1\n"), [])
    with pytest.raises(UploadError, match="room for 1"):
        formulas_of(value_table(tmp_path, "formula\nNaCl\nKCl\n"), room=1)


def test_picture_of_a_structure():
    pytest.importorskip("plotly")
    figure = viewer.structure_figure(bulk("NaCl", "rocksalt", a=5.64, cubic=True))
    balls = {trace.name: len(trace.x) for trace in figure.data if trace.type == "mesh3d"}
    # eight corners and six faces; twelve edges and the centre: 14 and 13 atoms of 162 corners each
    assert sorted(balls.values()) == [13 * 162, 14 * 162]
    ball, faces = viewer._ball(2)
    normals = np.cross(ball[faces[:, 1]] - ball[faces[:, 0]], ball[faces[:, 2]] - ball[faces[:, 0]])
    assert np.all(np.einsum("ij,ij->i", normals, ball[faces[:, 0]]) > 0)  # all look outwards
    assert len(ball) == 162 and len(faces) == 320
    facts = dict(viewer.facts(bulk("NaCl", "rocksalt", a=5.64, cubic=True)))
    assert facts["space group"] == "Fm-3m (225)"
