"""Reading references, and what is refused."""

from __future__ import annotations

import gzip
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pymatgen.analysis.phase_diagram import PDEntry
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

from ase_matprop.compositions import reduced_formula
from ase_matprop.errors import MissingDependencyError, ReferenceEnergyError, UnknownElementError
from ase_matprop.models import load_model
from ase_matprop.screening.arguments import element_number
from ase_matprop.screening.hull.origins import functional_warning
from ase_matprop.screening.hull.references import References, read_references
from tests.screening.hull.examples import references_of

TABLE = "id,formula,formation_energy_per_atom\na,NaN,-0.1\nb,Fe2O3,-1.7\nc,Na,0.0\nd,N2,0.0\n"


def test_csv_with_the_formula_of_sodium_nitride(tmp_path: Path) -> None:
    path = tmp_path / "refs.csv"
    path.write_text("# from somewhere\n# Functional: PBE(+U)\n" + TABLE)
    references = read_references(path)
    assert references.formulas() == ["NaN", "Fe2O3", "Na", "N2"] and references.ids == list("abcd")
    assert references.energies.tolist() == [-0.1, -1.7, 0.0, 0.0] and references.functional == "PBE(+U)"
    assert references.numbers.tolist()[1] == [8, 26] and references.amounts.tolist()[1] == [3.0, 2.0]
    assert references.numbers.dtype == np.uint8 and references.source == str(path)
    assert read_references(path, functional="r2SCAN").functional == "r2SCAN"


@pytest.mark.parametrize("ending", [".csv.gz", ".parquet"])
@pytest.mark.parametrize(
    "names", [("Composition", "e_form"), ("reduced_formula", "delta_e"), ("pretty_formula", "formation_energy")]
)
def test_usual_columns_and_endings(tmp_path: Path, ending: str, names: tuple[str, str]) -> None:
    path = tmp_path / f"refs{ending}"
    frame = pd.DataFrame({names[0]: ["Li2O", "Li", "O2"], names[1]: [-2.0, 0.0, 0.0]})
    if ending == ".parquet":
        frame.to_parquet(path)
    else:
        path.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    references = read_references(path)
    assert references.formulas() == ["Li2O", "Li", "O2"] and references.ids == ["1", "2", "3"]


def test_named_columns(tmp_path: Path) -> None:
    path = tmp_path / "refs.csv"
    path.write_text("what,e,name,formula\nLi2O,-2,x,y\nLi,0,u,v\n")
    references = References.from_csv(path, "what", "e", "name")
    assert references.formulas() == ["Li2O", "Li"] and references.ids == ["x", "u"]
    with pytest.raises(ReferenceEnergyError, match="no column 'nothing'.*its columns are what, e, name, formula"):
        References.from_csv(path, "what", "nothing")
    with pytest.raises(ReferenceEnergyError, match="no column formation_energy_per_atom or"):
        read_references(path)


def test_bad_rows_are_named_or_left_out(tmp_path: Path) -> None:
    path = tmp_path / "refs.csv"
    path.write_text("formula,e_form\nLi,0\nXx2O,-1\nLi2O,\nFeO,abc\nFeO,-1.2\nFe,-50\n")
    message = r"4 of 6 rows cannot be used: row 2 \(Xx2O\).*Xx is no element.*row 3 \(Li2O\).*nan.*row 6 \(Fe\): -50"
    with pytest.raises(ReferenceEnergyError, match=message):
        read_references(path)
    assert read_references(path, skip_bad=True).formulas() == ["Li", "FeO"]
    path.write_text("formula,e_form\nXx,0\n")
    with pytest.raises(ReferenceEnergyError, match="has no reference compound"):
        read_references(path, skip_bad=True)


def test_total_energies_are_recognised() -> None:
    with pytest.raises(ReferenceEnergyError, match=r"not near 0 eV/atom \(O -4.900\).*total energies"):
        references_of({"O": -4.9, "Li": 0.0})


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"formula,e_form\n"])
def test_files_that_are_no_tables(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "refs.csv"
    path.write_bytes(content)
    with pytest.raises(ReferenceEnergyError, match="refs.csv"):
        read_references(path)
    for name in ("missing.csv", "missing.json", "missing.parquet"):
        with pytest.raises(ReferenceEnergyError, match="does not exist"):
            read_references(tmp_path / name)


def entries() -> list[Any]:
    cell = Structure(Lattice.cubic(3.0), ["Li"], [[0, 0, 0]])
    return [
        ComputedStructureEntry(cell, -2.0, entry_id="li", parameters={"run_type": "GGA"}),
        ComputedEntry("Li2", -3.0, entry_id="li-high"),
        ComputedEntry("O4", -20.0, entry_id="o", parameters={"run_type": "GGA+U"}),
        ComputedEntry("Li4O2", -30.0, correction=-0.6, entry_id="li2o"),
        PDEntry(Composition("LiO"), -8.0, name="peroxide"),
    ]


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("ending", [".json", ".json.gz"])
def test_entries_of_pymatgen(tmp_path: Path, wrapped: bool, ending: str) -> None:
    items = [entry.as_dict() for entry in entries()]
    text = json.dumps({"entries": items} if wrapped else items, default=str)
    path = tmp_path / f"entries{ending}"
    path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    references = read_references(path)
    assert references.ids[:4] == ["li", "li-high", "o", "li2o"] and references.functional == "GGA, GGA+U"
    expected = [0.0, 0.5, 0.0, (-30.6 + 4 * 2.0 + 2 * 5.0) / 6, (-8.0 + 2.0 + 5.0) / 2]
    np.testing.assert_allclose(references.energies, expected, atol=1e-12)
    assert [reduced_formula(row) for row in references.block.compositions()] == ["Li", "Li", "O", "Li2O", "LiO"]


def test_entries_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "entries.json"
    path.write_text(json.dumps([entry.as_dict() for entry in entries()[3:]]))
    with pytest.raises(ReferenceEnergyError, match="no entry of the element Li, O"):
        read_references(path)
    for text, reason in (("{", "cannot be read as JSON"), ("[]", "has no entries"), ('[{"a": 1}]', "entry 1 of")):
        path.write_text(text)
        with pytest.raises(ReferenceEnergyError, match=reason):
            read_references(path)


def test_end_members() -> None:
    references = references_of([("Fe", 0.1), ("Fe", 0.0), ("Fe2O3", -1.7), ("LiFeO2", -1.8)])
    assert references.end_members() == {26: 1}
    with pytest.raises(ReferenceEnergyError, match="no entries of the elements Li, O in the references.*at_zero"):
        references.check_covers(["Fe", "Li", 8])
    full = references.with_elements_at_zero()
    full.check_covers([3, 8, 26])
    assert len(full) == 6 and full.energies[-2:].tolist() == [0.0, 0.0] and full.ids[-1] == "O at zero"
    references.with_elements_at_zero(["Na"]).check_covers(["Na", "Fe"])
    assert len(full.with_elements_at_zero()) == 6
    part = full.restrict(["Fe", "O"])
    assert part.formulas() == ["Fe", "Fe", "Fe2O3", "O"] and part.elements == {8, 26}
    with pytest.raises(ReferenceEnergyError, match="no reference compound"):
        full.restrict(["Na"])


def test_fingerprint_depends_on_what_matters() -> None:
    one = references_of({"Li": 0.0, "Li2O": -2.0})
    assert one.fingerprint() == references_of({"Li": 0.0, "Li2O": -2.0}).fingerprint()
    others = [references_of({"Li": 0.0, "Li2O": -2.1}), references_of({"Li": 0.0, "Li2O2": -2.0}), one.restrict(["Li"])]
    assert len({one.fingerprint(), *(other.fingerprint() for other in others)}) == 4


def test_element_names() -> None:
    assert list(map(element_number, ["Fe", 8, np.int64(3)])) == [26, 8, 3]
    for wrong in ("Xx", 0, 200):
        with pytest.raises(UnknownElementError, match="is no element"):
            element_number(wrong)


def test_lengths_must_agree() -> None:
    with pytest.raises(ReferenceEnergyError, match="2 formulas, 1 energies"):
        References.from_formulas(["Li", "O"], [0.0])


class FakeRester:
    """Stands for mp_api.client.MPRester, with what its thermo endpoint is asked and answers."""

    asked: dict[str, Any]

    def __init__(self, key: str) -> None:
        self.key = key
        self.materials = types.SimpleNamespace(thermo=self)

    def __enter__(self) -> FakeRester:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def search(self, **criteria: Any) -> list[Any]:
        FakeRester.asked = criteria
        if self.key == "wrong":
            raise RuntimeError(f"401 for {self.key}")
        rows = [("mp-1", "Li", 0.0), ("mp-2", "Li2O", -2.0), ("mp-3", "O2", 0.0), ("mp-4", "NaCl", -2.1)]
        rows += [("mp-5", "LiO", None)]  # type: ignore[list-item]
        names = ("material_id", "formula_pretty", "formation_energy_per_atom")
        return [types.SimpleNamespace(**dict(zip(names, row, strict=True))) for row in rows]


@pytest.fixture
def materials_project(monkeypatch: pytest.MonkeyPatch) -> None:
    client = types.ModuleType("mp_api.client")
    client.MPRester = FakeRester  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mp_api", types.ModuleType("mp_api"))
    monkeypatch.setitem(sys.modules, "mp_api.client", client)
    monkeypatch.delenv("MP_API_KEY", raising=False)


@pytest.mark.usefixtures("materials_project")
def test_materials_project(monkeypatch: pytest.MonkeyPatch) -> None:
    references = References.from_materials_project(["Li", "O"], "key")
    assert references.formulas() == ["Li", "Li2O", "O2"] and references.ids == ["mp-1", "mp-2", "mp-3"]
    assert references.functional == "PBE(+U), Materials Project corrections"
    assert FakeRester.asked["chemsys"] == ["Li", "O", "Li-O"] and FakeRester.asked["thermo_types"] == ["GGA_GGA+U"]
    with pytest.raises(ReferenceEnergyError, match="MP_API_KEY"):
        References.from_materials_project(["Li"])
    monkeypatch.setenv("MP_API_KEY", "other")
    References.from_materials_project(["Li", "O", "Na", "Cl", "K", "S"])
    assert FakeRester.asked["is_stable"] is True and "chemsys" not in FakeRester.asked
    with pytest.raises(ReferenceEnergyError, match="gave no answer") as caught:
        References.from_materials_project(["Li"], "wrong")
    assert "wrong" not in str(caught.value)


def test_materials_project_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mp_api", None)
    with pytest.raises(MissingDependencyError, match="pip install 'mp-api'"):
        References.from_materials_project(["Li"], "key")


def with_origin(
    source: str = "refs.csv", functional: str | None = None, ids: tuple[str, str] = ("1", "2")
) -> References:
    return References.from_formulas(["Li", "O"], [0.0, 0.0], ids, source, functional)


@pytest.mark.parametrize(
    ("model", "references", "expected"),
    [
        ("elemnet-mp", with_origin(ids=("mp-1", "mp-2")), None),
        ("elemnet-mp", with_origin(functional="PBE(+U)"), None),
        ("irnet17-mp", with_origin("Materials Project", "PBE(+U), Materials Project corrections"), None),
        ("elemnet-oqmd", with_origin("data/oqmd.csv"), None),
        ("elemnet-oqmd", with_origin("/data/mp_all/li_fe_o_mp.csv"), "energies of OQMD.*energies of Materials Project"),
        ("elemnet-mp", with_origin(functional="r2SCAN"), "r2SCAN"),
        ("elemnet-mp", with_origin("jarvis.csv"), "OptB88vdW energies of JARVIS"),
        ("elemnet-experimental", with_origin(ids=("mp-1", "mp-2")), "learnt measured energies"),
        ("elemnet-mp", with_origin(), "not known how the energies of refs.csv were calculated"),
    ],
)  # fmt: skip
def test_functional_warning(model: str, references: References, expected: str | None) -> None:
    found = functional_warning(load_model(model).card, references)
    if expected is None:
        assert found is None
    else:
        assert found is not None and re.search(expected, found)


def test_functional_of_an_unknown_training_set() -> None:
    warning = functional_warning("my own runs", with_origin(functional="PBE"))
    assert warning is not None and "not known which functional the model" in warning
