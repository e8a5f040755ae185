"""What a person drops on the page."""

import gzip
import io
import pickle
import sqlite3
import zipfile
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

from ase_matprop.app.archives import UploadError
from ase_matprop.app.limits import Limits
from ase_matprop.app.runs import RunFiles, take
from ase_matprop.app.uploads import Shelf, display_name, read_upload, reader_of, receive
from ase_matprop.errors import StructureError
from ase_matprop.structures import read_structures

EXAMPLES = Path(__file__).parents[2] / "examples" / "structures"


@pytest.fixture
def shelf(tmp_path):
    folder = tmp_path / "session"
    folder.mkdir()
    return Shelf(folder, Limits())


def upload(shelf, name, content, room=2000):
    path = receive(io.BytesIO(content), shelf)
    entries = read_upload(path, name, shelf, room=room)
    assert not list(shelf.folder.iterdir())  # nothing is left on disk
    return entries


def reason(shelf, name, content):
    (entry,) = upload(shelf, name, content)
    assert entry.atoms is None
    return entry.error


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("NaCl.cif", "Na4Cl4"),
        ("POSCAR_MgO", "Mg4O4"),
        ("TiO2_rutile.vasp", "Ti2O4"),
        ("CONTCAR_GaAs", "GaAs"),
        ("Fe2O3_hematite.cif", "Fe12O18"),
    ],
)
def test_examples(shelf, name, formula):
    (entry,) = upload(shelf, name, (EXAMPLES / name).read_bytes())
    assert (entry.name, entry.formula, entry.error) == (name, formula, None)
    assert entry.atoms.info["name"] == name


def test_frames_and_packed_files(shelf):
    content = gzip.compress((EXAMPLES / "CsCl_and_NiAl.extxyz").read_bytes())
    entries = upload(shelf, "a folder/two.extxyz.gz", content)
    assert [entry.name for entry in entries] == ["a folder/two.extxyz.gz#0", "a folder/two.extxyz.gz#1"]


def test_poscar_that_is_named_after_its_compound(shelf):
    (entry,) = upload(shelf, "MgO", (EXAMPLES / "POSCAR_MgO").read_bytes())
    assert entry.formula == "Mg4O4"


def test_zip_with_good_and_bad_files(shelf):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/POSCAR", (EXAMPLES / "POSCAR_MgO").read_bytes())
        archive.writestr("../POSCAR", (EXAMPLES / "POSCAR_MgO").read_bytes())
        archive.writestr("a/NaCl.cif", b"")
        archive.writestr("notes.md", b"text")
    entries = upload(shelf, "all.zip", stream.getvalue())
    assert [entry.name for entry in entries] == [
        "all.zip/a/POSCAR", "all.zip/../POSCAR", "all.zip/a/NaCl.cif", "all.zip/notes.md"
    ]  # fmt: skip
    assert entries[0].formula == "Mg4O4"
    assert "leads out" in entries[1].error
    assert "empty" in entries[2].error
    assert ".md file" in entries[3].error


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("NaCl.cif", b"", "is an empty file"),
        ("a.zip", b"", "is an empty file"),
        ("a.zip", b"no zip", "is no zip file"),
        ("POSCAR", bytes(range(256)) * 4, "binary data"),
        ("photo.cif", b"\x89PNG\r\n\x1a\n" + bytes(100), "binary data"),
        ("a.extxyz", b"\xff\xfe rubbish \xff", "number of atoms should be"),
        ("a.cif", b"just text", "no CIF data block"),
        ("vasprun.xml", b"<modeling><structure>", "no complete vasprun.xml"),
        ("photo.png", b"\x89PNG", ".png file"),
        ("unknown", b"hello", "does not say what it is"),
        ("a.cif.gz", b"hello", "cannot be unpacked"),
        ("a.cif.gz", gzip.compress(bytes(3_000_000)), "zip bomb"),
        ("a.xyz", b"999999999999\n\nH 0 0 0\n", "ends after 1 of 999999999999 atoms"),
        ("a.xyz", b"99999999999999999999999\n\nH 0 0 0\n", "ends after 1 of"),
    ],
)
def test_wrong_files(shelf, name, content, words):
    assert words in reason(shelf, name, content)


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("/tmp/matprop_was_unpickled"),))


ATOM = "species:S:1:pos:R:3"
WIDE = [
    (f"Properties={ATOM}:foo:R:10000000", "'foo' '10000000' columns"),
    (f"Properties={ATOM}:foo:R:-1", "1 to 99"),
    (f"Properties={ATOM}:foo:R:0", "1 to 99"),
    (f"Properties={ATOM}:foo:R:x", "1 to 99"),
    (f'"Prop"er\\ties="{ATOM}:foo:R:1_0000"', "1 to 99"),  # ASE takes all these for Properties=
    (f"Properties={ATOM}:foo:R:99", "have 103 columns, but its first atom has 4"),
]


@pytest.mark.parametrize(("comment", "words"), WIDE)
def test_columns_that_are_only_announced(shelf, tmp_path, comment, words):
    text = f"1\n{comment}\nH 0 0 0\n"
    assert words in reason(shelf, "a.xyz", text.encode())
    path = tmp_path / "b.extxyz"
    path.write_text(text)
    with pytest.raises(StructureError, match=r"b\.extxyz.*columns"):  # as the command line reads it
        read_structures(path)
    runs = RunFiles(tmp_path / "calculations")
    take(path, "b.extxyz", shelf, runs)
    assert words in runs.refused["b.extxyz"] and runs.table is None
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_frames_beside_one_with_too_many_columns(shelf):
    good = f'1\nLattice="3 0 0 0 3 0 0 0 3" Properties={ATOM}:forces:R:3\nH 0 0 0 1 2 3\n'
    entries = upload(shelf, "a.xyz", (good + good.replace("R:3\n", "R:4\n") + good).encode())
    assert [entry.error is None for entry in entries] == [True, False, True]


@pytest.mark.parametrize("name", ["a.traj", "a.json", "a.db", "a.pkl", "a.pckl", "a.py", "a.npz", "a.cfg", "a.pwi"])
def test_formats_with_objects_are_refused_by_name(shelf, name, tmp_path):
    marker = Path("/tmp/matprop_was_unpickled")
    marker.unlink(missing_ok=True)
    assert "file" in reason(shelf, name, pickle.dumps(Bomb()))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["POSCAR", "a.cif", "a.extxyz", "vasprun.xml", "plain"])
def test_a_pickle_under_a_good_name_is_not_unpickled(shelf, name):
    marker = Path("/tmp/matprop_was_unpickled")
    marker.unlink(missing_ok=True)
    assert reason(shelf, name, pickle.dumps(Bomb()))
    assert not marker.exists()


def test_a_database_under_another_name_is_not_opened(shelf, tmp_path):
    database = tmp_path / "x"
    with sqlite3.connect(database) as connection:
        connection.execute("create table systems (id int)")
    assert reason(shelf, "POSCAR", database.read_bytes())
    assert reason(shelf, "x", database.read_bytes())


def test_code_in_a_magnetic_cif_is_not_executed(shelf):
    """CVE-2024-23346 of pymatgen: a transformation that was given to eval()."""
    marker = Path("/tmp/matprop_was_executed")
    marker.unlink(missing_ok=True)
    attack = (
        "data_x\n_cell_length_a 4\n_cell_length_b 4\n_cell_length_c 4\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
        "_cell_angle_gamma 90\nloop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
        "Fe 0 0 0\n_space_group_magn.transform_BNS_Pp_abc 'a,b,[d for d in ().__class__.__mro__[1].__getattribute__ "
        '( *[().__class__.__mro__[1]]+["__sub" + "classes__"]) () if d.__name__ == "BuiltinImporter"][0]'
        '.load_module ("os").system ("touch /tmp/matprop_was_executed");0,0,0\'\n'
        "_space_group_magn.number_BNS 62.448\n_space_group_magn.name_BNS \"P n' m a' \"\n"
    )
    upload(shelf, "a.mcif", attack.encode())
    upload(shelf, "a.cif", attack.encode())
    assert not marker.exists()


def test_entities_in_a_vasprun_do_not_explode(shelf):
    lol = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    content = f'<?xml version="1.0"?><!DOCTYPE m [<!ENTITY l0 "lol">{lol}]><modeling><i>&l11;</i></modeling>'
    assert reason(shelf, "vasprun.xml", content.encode())


def test_files_of_the_machine_are_not_read_through_entities(shelf):
    content = (
        '<?xml version="1.0"?><!DOCTYPE m [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        "<modeling><atominfo><array name='atoms'><set><rc><c>&x;</c></rc></set></array></atominfo></modeling>"
    )
    assert "root:" not in reason(shelf, "vasprun.xml", content.encode())


def test_too_many_atoms(shelf):
    stream = io.StringIO()
    write(stream, bulk("Cu", cubic=True) * (6, 6, 6), format="extxyz")
    assert "has 864 atoms, and the page takes 500" in reason(shelf, "a.extxyz", stream.getvalue().encode())


def test_more_structures_than_there_is_room_for(shelf):
    frame = (EXAMPLES / "CsCl_and_NiAl.extxyz").read_bytes()
    entries = upload(shelf, "a.extxyz", frame * 3, room=4)
    assert len(entries) == 5
    assert [entry.error is None for entry in entries] == [True] * 4 + [False]
    assert "left out" in entries[-1].error


def test_uploads_have_a_limit(tmp_path):
    shelf = Shelf(tmp_path, Limits(upload=1000))
    with pytest.raises(UploadError, match="has 2 kB, and the page takes 1 kB"):
        receive(io.BytesIO(bytes(2000)), shelf, announced=2000)
    with pytest.raises(UploadError, match="is too large"):
        receive(io.BytesIO(bytes(2000)), shelf, announced=None)  # a length that was not announced, or a lie
    assert not list(tmp_path.iterdir())


def test_structure_files_have_a_limit(tmp_path):
    shelf = Shelf(tmp_path, Limits(largest={"cif": 100, "poscar": 100}))
    path = receive(io.BytesIO((EXAMPLES / "NaCl.cif").read_bytes()), shelf)
    (entry,) = read_upload(path, "NaCl.cif", shelf, room=10)
    assert "larger than 100 bytes" in entry.error


def test_a_session_has_a_limit_on_disk(tmp_path):
    shelf = Shelf(tmp_path, Limits(session=100), size=100)
    with pytest.raises(UploadError, match="reload the page"):
        receive(io.BytesIO(b"x"), shelf)


def test_names_are_shown_in_one_harmless_line():
    assert display_name("../a\nb\x00.cif") == "../a?b?.cif"
    assert display_name("") == "file without a name"
    assert len(display_name("x" * 5000)) < 130


@pytest.mark.parametrize(
    ("name", "kind"),
    [("POSCAR", "poscar"), ("a/b/CONTCAR.xz", "poscar"), ("x.CIF", "cif"), ("vasprun.xml.gz", "vasprun"), ("Fe2O3", ""),
     ("run.xyz", "extxyz"), ("note.txt", "")],
)  # fmt: skip
def test_readers_by_name(name, kind):
    assert reader_of(name) == kind
