"""Archives that unpack to too much, or to somewhere else."""

import bz2
import gzip
import lzma
import stat
import struct
import zipfile
import zlib

import pytest

from ase_matprop.app.archives import Archive, UploadError, unpack_file
from ase_matprop.app.limits import Limits, in_words
from ase_matprop.app.runs import RunFiles, take
from ase_matprop.app.uploads import Shelf

LIMITS = Limits(expanded=3_000_000, members=20)


def make_zip(path, files, **kwargs):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **kwargs) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def unpacked(path, tmp_path, limits=LIMITS, largest=2_000_000):
    """Name -> content, or the reason."""
    found = {}
    with Archive(path, limits) as archive:
        for number, member in enumerate(archive.members()):
            target = tmp_path / f"out{number}"
            try:
                archive.unpack(member, target, largest)
                found[member.name] = target.read_bytes()
            except UploadError as error:
                assert not target.exists()
                found[member.name] = str(error)
    return found


def test_plain_files_come_out(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"folder/POSCAR": "one", "b.cif": b"two", "__MACOSX/x": "", "folder/": ""})
    assert unpacked(path, tmp_path) == {"folder/POSCAR": b"one", "b.cif": b"two"}


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..\\..\\windows", "C:\\windows\\x", "a/../b"]
)
def test_paths_that_lead_out_are_refused(tmp_path, name):
    path = make_zip(tmp_path / "a.zip", {name: "x", "good": "y"})
    found = unpacked(path, tmp_path)
    assert found.pop("good") == b"y"
    assert all("leads out" in text for text in found.values()) and found
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "out1"]


def test_links_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert "link" in unpacked(path, tmp_path)["link"]


def test_nested_archives_are_refused(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"b.zip": "x", "c.tgz": "x", "d.7z": "x"})
    assert all("archive within" in text for text in unpacked(path, tmp_path).values())


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_without_a_limit_are_refused(tmp_path, method):
    """zipfile gives all that 64 kB of them unpack to at once."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("POSCAR", "short")
        archive.writestr("vasprun.xml", "short")
    found = unpacked(path, tmp_path)
    assert len(found) == 2 and all("ordinary zip" in str(text) for text in found.values())
    shelf = Shelf(tmp_path, LIMITS)
    runs = RunFiles(tmp_path / "calculations")
    take(path, "a.zip", shelf, runs)
    assert "ordinary zip" in runs.refused["a.zip/vasprun.xml"] and not runs.runs


def test_zip_bomb_is_stopped_by_its_ratio(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"POSCAR": bytes(1_900_000)}, compresslevel=9)
    assert path.stat().st_size < 3_000
    assert "zip bomb" in unpacked(path, tmp_path)["POSCAR"]


def test_what_an_archive_unpacks_to_has_a_limit_in_all(tmp_path):
    noise = bytes(range(256)) * 4_000  # 1 MB, which passes by itself
    path = make_zip(tmp_path / "a.zip", {f"{n}": noise[:990_000] for n in range(5)})
    found = unpacked(path, tmp_path)
    assert [isinstance(value, bytes) for value in found.values()] == [True, True, True, False, False]
    assert "several archives" in str(found["4"])


def test_one_file_has_a_limit(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"POSCAR": bytes(600_000)})
    assert "larger than 500 kB" in unpacked(path, tmp_path, largest=500_000)["POSCAR"]


def test_a_size_in_the_table_of_contents_that_is_a_lie_does_not_help(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"POSCAR": bytes(1_900_000)})
    raw = bytearray(path.read_bytes())
    central = raw.rfind(b"PK\x01\x02")
    raw[central + 24 : central + 28] = struct.pack("<I", 100)
    path.write_bytes(raw)
    assert isinstance(unpacked(path, tmp_path)["POSCAR"], str | bytes)
    assert not any(p.stat().st_size > 1_000_000 for p in tmp_path.iterdir())


def test_too_many_files(tmp_path):
    path = make_zip(tmp_path / "a.zip", {str(number): "x" for number in range(21)})
    with pytest.raises(UploadError, match="more than 20 files"):
        Archive(path, LIMITS)


def test_a_huge_table_of_contents_is_not_read(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"x": "y"})
    raw = bytearray(path.read_bytes())
    end = raw.rfind(b"PK\x05\x06")
    raw[end + 12 : end + 16] = struct.pack("<L", 3_000_000)
    path.write_bytes(raw)
    with pytest.raises(UploadError, match="files"):
        Archive(path, LIMITS)


@pytest.mark.parametrize("content", [b"", b"rubbish" * 100, b"PK\x05\x06", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_zip_file(tmp_path, content):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(UploadError, match="zip file"):
        Archive(path, LIMITS)


def test_damaged_file_in_a_zip(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"POSCAR": bytes(range(256)) * 40})
    raw = bytearray(path.read_bytes())
    raw[60:80] = b"\xff" * 20
    path.write_bytes(raw)
    assert "cannot be unpacked" in unpacked(path, tmp_path)["POSCAR"]


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.mark.parametrize("ending", PACKERS)
def test_packed_files(tmp_path, ending):
    source, target = tmp_path / "a", tmp_path / "b"
    content = bytes(range(256)) * 500
    source.write_bytes(PACKERS[ending](content[:70_000]) + PACKERS[ending](content[70_000:]))  # two parts, as of pigz
    unpack_file(source, target, ending, 1_000_000, 100)
    assert target.read_bytes() == content


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("cut", [5, 100])
def test_packed_files_that_are_cut_off(tmp_path, ending, cut):
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(PACKERS[ending](zlib.compress(bytes(range(256)) * 50) * 10)[:-cut])
    with pytest.raises(UploadError, match="cannot be unpacked"):
        unpack_file(source, target, ending, 1_000_000, 100)
    assert not target.exists()


@pytest.mark.parametrize("ending", PACKERS)
def test_packed_bombs(tmp_path, ending):
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(PACKERS[ending](bytes(5_000_000)))
    with pytest.raises(UploadError, match="zip bomb"):
        unpack_file(source, target, ending, 10_000_000, 100)
    with pytest.raises(UploadError, match="larger than 400 kB"):
        unpack_file(source, target, ending, 400_000, 100)
    assert not target.exists()


def test_rubbish_is_not_unpacked(tmp_path):
    source = tmp_path / "a"
    source.write_bytes(b"no gzip at all")
    with pytest.raises(UploadError, match="damaged"):
        unpack_file(source, tmp_path / "b", ".gz", 1000, 100)


def test_sizes_in_words():
    assert [in_words(size) for size in (12, 2_500, 100_000_000, 1_000_000_000)] == [
        "12 bytes", "2.5 kB", "100 MB", "1 GB"
    ]  # fmt: skip
