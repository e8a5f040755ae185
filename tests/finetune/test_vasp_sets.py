"""VASP runs that do not go together, runs that are one, and what a structure is.

Files are synthetic (examples/finetune_vasp/synthetic_runs.py) unless a test says otherwise.
"""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule

from ase_matprop.errors import CalculationError, IncompatibleRunsError, MatPropError, ReferenceEnergyError
from ase_matprop.finetune import VaspRuns, read_vasp, references_from_runs
from tests.finetune.runs import by_name, only


def test_mixing_is_refused(synthetic, relaxed, project: Path) -> None:
    synthetic.write_vasprun(
        project / "other" / "vasprun.xml", relaxed["CuAu"][-1:], synthetic.Settings(gga="PS", encut=520.0)
    )
    with pytest.raises(IncompatibleRunsError) as caught:
        read_vasp(project)
    message = str(caught.value)
    for words in ("differ in ENCUT, functional", "set 1: 3 runs with PBE, ENCUT 400 eV", "set 2: 1 run with PBEsol"):
        assert words in message
    assert "allow_mixed=True (--allow-mixed)" in message and "other/vasprun.xml" in message
    mixed, unchecked = read_vasp(project, allow_mixed=True), read_vasp(project, check=False)
    assert len(mixed) == len(unchecked) == 4
    frame = mixed.to_frame().set_index("functional")
    assert list(frame.loc["PBE", "settings_set"]) == [1, 1, 1] and frame.loc["PBEsol", "settings_set"] == 2
    # the elements were calculated with the other functional
    assert np.isnan(frame.loc["PBEsol", "formation_energy_per_atom"])
    assert frame.loc["PBE", "formation_energy_per_atom"].notna().all()
    assert mixed.missing_elements() == ["Au", "Cu"]
    with pytest.raises(IncompatibleRunsError):
        unchecked.check_compatible()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"potcars": {"Cu": "PAW_PBE Cu_pv 01Jan2000"}}, "POTCAR of Cu"),
        ({"hubbard_u": {"Cu": 4.0}}, "U of Cu"),
        ({"encut": 401.0}, "ENCUT"),
        ({"tags": {"LHFCALC": True, "HFSCREEN": 0.2, "AEXX": 0.25}}, "functional"),
        ({"tags": {"LSORBIT": True}}, "functional"),
        ({"tags": {"IVDW": 12}}, "functional"),
    ],
)
def test_what_keeps_runs_apart(synthetic, relaxed, project: Path, changes, word: str) -> None:
    synthetic.write_vasprun(project / "o" / "vasprun.xml", relaxed["CuAu"][:1], synthetic.Settings(**changes))
    with pytest.raises(IncompatibleRunsError, match=rf"differ in {word} \("):
        read_vasp(project)


@pytest.mark.parametrize("writer", ["vasprun.xml", "OUTCAR"])
def test_aspherical_corrections_keep_runs_apart(synthetic, tmp_path: Path, writer: str) -> None:
    """A file that does not say whether there were any goes with both."""
    write = synthetic.write_outcar if writer == "OUTCAR" else synthetic.write_vasprun
    for number, tags in enumerate(({"LASPH": True}, {}, {"LASPH": False})):
        frame = synthetic.snapshot(bulk("Cu", a=3.5 + 0.1 * number))
        write(tmp_path / str(number) / writer, [frame], synthetic.Settings(tags=tags))
    runs = read_vasp(tmp_path, check=False)
    assert [run.settings.aspherical for run in runs] == [True, None, False]
    with pytest.raises(IncompatibleRunsError, match=r"differ in LASPH \(.*LASPH on.*LASPH off"):
        runs.check_compatible()
    VaspRuns(runs[:2], energy="sigma0").check_compatible()


def test_what_may_differ(synthetic, project: Path) -> None:
    """K-points and spin, U of an element that the others do not have, and the way in which PBE was asked for."""
    for name, changes in {
        "kpoints": {"mesh": (2, 2, 2), "ispin": 2, "magmom": [2.0]},
        "u": {"hubbard_u": {"Ni": 6.2}},
        "from POTCAR": {"gga": "--"},
    }.items():
        frame = synthetic.snapshot(bulk("Ni", a=3.52 + 0.1 * len(name)))
        synthetic.write_vasprun(project / name / "vasprun.xml", [frame], synthetic.Settings(**changes))
    with pytest.raises(IncompatibleRunsError, match="U of Ni"):  # of the three among themselves
        read_vasp(project)
    shutil.rmtree(project / "u")
    assert set(read_vasp(project).to_frame()["settings_set"]) == {1}


@pytest.mark.parametrize(
    ("gga", "tags", "titles", "functional"),
    [
        ("PE", {}, "PAW_PBE", "PBE"),
        ("--", {}, "PAW_PBE", "PBE"),
        ("--", {}, "PAW", "LDA"),
        ("PS", {}, "PAW_PBE", "PBEsol"),
        ("PE", {"LHFCALC": True, "AEXX": 0.25, "HFSCREEN": 0.2}, "PAW_PBE", "HSE06"),
        ("PE", {"LHFCALC": True, "AEXX": 0.25, "HFSCREEN": 0.2079}, "PAW_PBE", "HSE06"),
        ("PE", {"LHFCALC": True, "AEXX": 0.32, "HFSCREEN": 0.2}, "PAW_PBE", "HSE06 (AEXX 0.32)"),
        ("PE", {"LHFCALC": True, "AEXX": 0.25, "HFSCREEN": 0.3}, "PAW_PBE", "HSE03"),
        ("PE", {"LHFCALC": True, "AEXX": 0.25, "HFSCREEN": 0.0}, "PAW_PBE", "PBE0"),
        ("PE", {"LHFCALC": True, "AEXX": 1.0, "HFSCREEN": 0.0}, "PAW_PBE", "HF"),
        ("B3", {"LHFCALC": True, "AEXX": 0.2, "HFSCREEN": 0.0}, "PAW_PBE", "B3LYP"),
        ("--", {"METAGGA": "SCAN"}, "PAW_PBE", "SCAN"),
        ("PE", {"METAGGA": "R2SCA"}, "PAW_PBE", "r2SCAN"),
        ("--", {"METAGGA": "Scan", "LUSE_VDW": True}, "PAW_PBE", "SCAN+rVV10"),
        ("BO", {"LUSE_VDW": True}, "PAW_PBE", "optB88-vdW"),
        ("PE", {"IVDW": 12}, "PAW_PBE", "PBE+D3(BJ)"),
        ("PE", {"LSORBIT": True}, "PAW_PBE", "PBE+SOC"),
    ],
)
def test_names_of_functionals(synthetic, relaxed, tmp_path: Path, gga, tags, titles: str, functional: str) -> None:
    settings = synthetic.Settings(gga=gga, tags=tags, potcars={"Cu": f"{titles} Cu 22Jun2005"})
    for writer, name in ((synthetic.write_vasprun, "vasprun.xml"), (synthetic.write_outcar, "OUTCAR")):
        run = only(read_vasp(writer(tmp_path / name, relaxed["Cu"][-1:], settings)))
        assert run.settings.label == functional


def test_hubbard_u(synthetic, relaxed, tmp_path: Path) -> None:
    run = only(
        read_vasp(
            synthetic.write_vasprun(
                tmp_path / "vasprun.xml", relaxed["CuAu"][-1:], synthetic.Settings(hubbard_u={"Cu": 4.0})
            )
        )
    )
    assert run.settings.label == "PBE+U" and run.settings.hubbard_u == {"Cu": 4.0}
    assert read_vasp(run.path).to_frame()["hubbard_u"][0] == "Cu 4"


def test_duplicates(synthetic, project: Path) -> None:
    source = project / "elements" / "Cu" / "vasprun.xml"
    (project / "z_copy").mkdir()
    (project / "z_copy" / "vasprun.xml.gz").write_bytes(gzip.compress(source.read_bytes()))
    runs = by_name(read_vasp(project), project)
    copy = runs["z_copy/vasprun.xml.gz"]
    assert copy.status == "rejected" and f"duplicate of {source}" in copy.reason and not copy.frames
    # with other settings the same energy is a coincidence
    text = gzip.decompress((project / "z_copy" / "vasprun.xml.gz").read_bytes())
    assert b">400.0<" in text
    (project / "z_copy" / "vasprun.xml.gz").write_bytes(gzip.compress(text.replace(b">400.0<", b">520.0<")))
    assert len(read_vasp(project, check=False).used) == 4
    # both files in one folder are one run
    shutil.copy(project / "z_copy" / "vasprun.xml.gz", source.parent)
    shutil.rmtree(project / "z_copy")
    assert len(read_vasp(project)) == 3
    # as is a folder that is named twice
    assert len(read_vasp([project, project / "elements"])) == 3


def test_near_duplicate_is_noted(synthetic, project: Path) -> None:
    original = by_name(read_vasp(project), project)["alloys/ordered/CuAu/vasprun.xml"]
    moved = original.atoms.copy()
    moved.positions[0] += [0.01, 0.0, 0.0]
    synthetic.write_vasprun(project / "moved" / "vasprun.xml", [synthetic.snapshot(moved)])
    far = bulk("Cu", "hcp", a=2.7, c=4.4) * (2, 1, 1)
    far.symbols[[0, 1]] = "Au"
    synthetic.write_vasprun(project / "other" / "vasprun.xml", [synthetic.snapshot(far)])
    runs = by_name(read_vasp(project), project)
    assert runs["moved/vasprun.xml"].is_used
    assert runs["moved/vasprun.xml"].notes == [
        f"nearly the structure of {original.path}: the two belong on one side of a split"
    ]
    assert not any("nearly" in note for note in runs["other/vasprun.xml"].notes)
    assert {run.atoms.info["group"] for run in runs.values()} == {"Cu", "Au", "CuAu"}


@pytest.mark.parametrize("source", ["MAGMOM", "OUTCAR"])
def test_magnetic_orderings_are_noted(synthetic, tmp_path: Path, source: str) -> None:
    """Ferromagnetic, and two antiferromagnetic orderings of one cell; the last is the second with all spins turned."""
    base = bulk("Ni", cubic=True)
    orderings = {"a": [1, 1, 1, 1], "b": [1, 1, -1, -1], "c": [1, -1, 1, -1], "d": [-1, 1, -1, 1]}
    for number, (name, moments) in enumerate(orderings.items()):
        frame = synthetic.snapshot(base)
        frame.calc.results["energy"] += 0.05 * min(number, 2) + 1e-5 * number
        settings = synthetic.Settings(
            ispin=2, magmom=moments if source == "MAGMOM" else [1.0] * 4, moments=moments if source == "OUTCAR" else ()
        )
        synthetic.write_vasprun(tmp_path / name / "vasprun.xml", [frame], settings)
        synthetic.write_outcar(tmp_path / name / "OUTCAR", [frame], settings)
    runs = by_name(read_vasp(tmp_path), tmp_path)
    assert all(run.is_used for run in runs.values())
    assert runs["a/vasprun.xml"].notes == []
    for name in "bc":
        assert "another magnetic ordering" in runs[f"{name}/vasprun.xml"].notes[0]
        assert "cannot tell the two apart" in runs[f"{name}/vasprun.xml"].notes[0]


def test_molecule_slab_and_atom(synthetic, project: Path) -> None:
    dimer = molecule("N2", vacuum=6.0, pbc=True)
    synthetic.write_vasprun(project / "n2" / "vasprun.xml", [synthetic.snapshot(dimer)])
    atom = dimer[:1]
    synthetic.write_vasprun(project / "n" / "vasprun.xml", [synthetic.snapshot(atom)])
    slab = bulk("Cu", cubic=True) * (1, 1, 2)
    slab.center(vacuum=6.0, axis=2)
    synthetic.write_vasprun(project / "slab" / "vasprun.xml", [synthetic.snapshot(slab)])
    runs = by_name(read_vasp(project), project)
    assert runs["n2/vasprun.xml"].formula == "N2" and "a molecule in a box" in runs["n2/vasprun.xml"].notes[0]
    assert "good as the reference of N" in runs["n2/vasprun.xml"].notes[0]
    assert "no reference of its element" in runs["n/vasprun.xml"].notes[0] and runs["n/vasprun.xml"].is_isolated_atom
    assert "vacuum along c: no reference of its element" in runs["slab/vasprun.xml"].notes[0]
    assert not runs["elements/Cu/vasprun.xml"].notes
    # the molecule is the reference of nitrogen, though the file of the atom came first
    energies = read_vasp(project).to_frame().set_index("path")["formation_energy_per_atom"]
    assert energies[runs["n2/vasprun.xml"].path] == 0.0
    assert energies[runs["n/vasprun.xml"].path] > 1.0


@pytest.mark.parametrize("axes", [(2,), (1, 2), (0, 1, 2)])
def test_slabs_wires_and_clusters_are_references_of_nothing(synthetic, project: Path, axes: tuple[int, ...]) -> None:
    """Also where they are the only run of their element."""
    cut = bulk("Cu", cubic=True)
    for axis in axes:
        cut.center(vacuum=4.0, axis=axis)
    shutil.rmtree(project / "elements" / "Cu")
    synthetic.write_vasprun(project / "cut" / "vasprun.xml", [synthetic.snapshot(cut)])
    runs = read_vasp(project)
    run = by_name(runs, project)["cut/vasprun.xml"]
    assert run.vacuum == "".join("abc"[axis] for axis in axes) and run.is_used and not run.is_reference
    assert "no reference of its element; calculate the crystal" in run.notes[0] and "good as" not in run.notes[0]
    assert runs.missing_elements() == ["Cu"]
    assert runs.to_frame().set_index("formula")["formation_energy_per_atom"].isna()[["Cu", "CuAu"]].all()
    with pytest.raises(ReferenceEnergyError, match="no reference energy of Cu"):
        references_from_runs(runs)


def test_real_cluster_is_no_reference(ase_data: Path) -> None:
    """18 atoms of nickel in a box, of ASE's own tests."""
    run = only(read_vasp(ase_data / "OUTCAR_example_1"))
    assert run.vacuum == "abc" and not run.is_reference
    assert run.notes == [
        "a cluster in a box: no reference of its element; calculate the crystal for formation energies"
    ]


def test_symbols_of_old_files(synthetic, tmp_path: Path) -> None:
    """'r' stands for Zr and 'X' for Xe; a parameter that overflowed its format is passed over."""
    path = synthetic.write_vasprun(tmp_path / "vasprun.xml", [synthetic.snapshot(bulk("Cu"))])
    text = path.read_text().replace("<c>Cu</c>", "<c>r </c>")
    text = text.replace("<parameters>", '<parameters><i type="int" name="KINTER">******</i>')
    path.write_text(text)
    run = only(read_vasp(path))
    assert run.is_used and run.formula == "Zr" and set(run.settings.potcars) == {"Zr"}
    path.write_text(text.replace("<c>r </c>", "<c>Qq</c>"))
    assert "'Qq', which does not exist" in only(read_vasp(path)).reason


def test_file_without_potcars(synthetic, tmp_path: Path) -> None:
    path = synthetic.write_vasprun(tmp_path / "vasprun.xml", [synthetic.snapshot(bulk("Cu"))])
    path.write_text(path.read_text().replace("<c>PAW_PBE Cu 01Jan2000</c>", "<c></c>"))
    run = only(read_vasp(path))
    assert run.is_used and run.settings.potcars == {} and run.settings.functional == "PBE"


def test_table(project: Path) -> None:
    frame = read_vasp(project).to_frame()
    energies = ["energy_per_atom", "formation_energy_per_atom"]
    assert list(frame)[:8] == ["path", "formula", "n_atoms", *energies, "functional", "status", "reason"]
    assert set(frame["status"]) == {"used"} and frame["reason"].isna().all()
    assert list(frame["kpoints"]) == ["4x4x4"] * 3
    # one atom, 64 points; and the definition of KSPACING for the cell that the mesh was made for, fcc with a = 3.65
    row = frame.set_index("formula").loc["Cu"]
    assert row["kpoint_density"] == 64
    assert row["kpoint_spacing"] == pytest.approx(2 * np.pi * np.sqrt(3) / 3.65 / 4, rel=1e-6)


def test_progress(project: Path) -> None:
    calls: list[tuple[int, int | None]] = []
    read_vasp(project, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_errors_are_of_this_package() -> None:
    assert issubclass(IncompatibleRunsError, CalculationError) and issubclass(CalculationError, MatPropError)
