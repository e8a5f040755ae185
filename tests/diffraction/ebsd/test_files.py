from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.card import PhaseSpec
from ase_matprop.diffraction.ebsd.errors import PatternError
from ase_matprop.diffraction.ebsd.maps import ScanGrid, draw_map, write_ang, write_ctf
from ase_matprop.diffraction.ebsd.pattern_files import open_patterns
from ase_matprop.diffraction.ebsd.predictor import OrientationPredictions

NICKEL = PhaseSpec(name="nickel", symmetry="m-3m", space_group=225, lattice=(3.5236, 3.5236, 3.5236, 90.0, 90.0, 90.0))


def stack(n: int, dtype: type = np.uint8, shape: tuple[int, int] = (5, 7)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (n, *shape), dtype=dtype)


def up_header(version: int, shape: tuple[int, int], scan: tuple[int, int, int] = (2, 3, 0)) -> bytes:
    offset = 16 if version == 1 else 42
    header = struct.pack("<4i", version, shape[1], shape[0], offset)
    rows, columns, hexagonal = scan
    return header if version == 1 else header + struct.pack("<B2iB2d", 1, columns, rows, hexagonal, 0.5, 0.25)


def predictions(n: int, failed: tuple[int, ...] = (), seed: int = 0) -> OrientationPredictions:
    quaternions = convert.reduce(convert.random_orientations(n, seed=seed))
    spread = np.linspace(0.1, 1.0, n)
    errors: list[str | None] = [None] * n
    for row in failed:
        quaternions[row], spread[row], errors[row] = np.nan, np.nan, "the pattern is empty"
    return OrientationPredictions(
        quaternions, spread, spread, spread, [None] * (n - 1) + ["doubtful"], errors, "m-3m", "toy"
    )


@pytest.mark.parametrize(("ending", "dtype"), [("up1", np.uint8), ("up2", np.uint16)])
@pytest.mark.parametrize("version", [1, 3])
def test_edax_binary(tmp_path: Path, ending: str, dtype: type, version: int) -> None:
    patterns = stack(6, dtype)
    path = tmp_path / f"scan.{ending}"
    path.write_bytes(up_header(version, (5, 7)) + patterns.tobytes())
    file = open_patterns(path)
    assert (file.n, file.shape, file.dtype) == (6, (5, 7), np.dtype(dtype))
    assert np.array_equal(file.read(), patterns)
    assert [len(block) for block in file.blocks(4)] == [4, 2]
    assert file.grid == (None if version == 1 else ScanGrid(2, 3, 0.5, 0.25))
    assert file.detector is None


def test_edax_binary_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "scan.up1"
    whole = up_header(1, (5, 7)) + stack(6).tobytes()
    for content, message in (
        (whole[:10], "too short"),
        (whole[:-3], "incomplete"),
        (whole[:16], "incomplete"),
        (b"\xff" * 200, "no header"),
    ):
        path.write_bytes(content)
        with pytest.raises(PatternError, match=message):
            open_patterns(path)
    path.write_bytes(up_header(1, (5, 7)).replace(b"\x01", b"\x02", 1) + stack(6).tobytes())
    with pytest.raises(PatternError, match="no header"):
        open_patterns(path)
    hexagonal = tmp_path / "hexagonal.up1"
    hexagonal.write_bytes(up_header(3, (5, 7), (2, 3, 1)) + stack(6).tobytes())
    assert open_patterns(hexagonal).grid is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff(tmp_path: Path, dtype: type) -> None:
    from PIL import Image

    patterns = stack(3, dtype)
    images = [Image.fromarray(pattern) for pattern in patterns]
    images[0].save(tmp_path / "scan.tif", save_all=True, append_images=images[1:])
    file = open_patterns(tmp_path / "scan.tif")
    assert np.array_equal(file.read(), patterns)
    assert file.read().dtype == dtype
    assert file.shape == (5, 7)


def test_tiff_that_is_no_pattern(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "colour.tif"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    with pytest.raises(PatternError, match="colours"):
        open_patterns(path)
    first, second = Image.fromarray(np.zeros((4, 4), np.uint8)), Image.fromarray(np.zeros((5, 4), np.uint8))
    first.save(path, save_all=True, append_images=[second])
    with pytest.raises(PatternError, match="2 sizes"):
        open_patterns(path)
    Image.fromarray(np.zeros((4, 4), np.uint8)).convert("P").save(path)
    with pytest.raises(PatternError, match="mode P"):
        open_patterns(path)
    Image.fromarray(np.full((4, 4), 70_000, np.int32)).save(path)
    with pytest.raises(PatternError, match="from 70000 to 70000"):
        open_patterns(path)
    images = [Image.fromarray(page) for page in stack(3, shape=(40, 40))]
    images[0].save(path, save_all=True, append_images=images[1:])
    whole = path.read_bytes()
    file = open_patterns(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PatternError, match="damaged"):
        list(file.blocks())
    path.write_bytes(b"no image")
    with pytest.raises(PatternError, match="cannot be read as TIFF"):
        open_patterns(path)
    with pytest.raises(PatternError, match="does not exist"):
        open_patterns(tmp_path / "missing.tif")
    with pytest.raises(PatternError, match=r"end in \.h5"):
        open_patterns(tmp_path / "scan.bmp")


def write_hdf5(path: Path, maker: str, patterns: np.ndarray, *, calibrated: bool = True) -> None:
    h5py = pytest.importorskip("h5py")
    n, (rows, columns) = len(patterns), patterns.shape[1:]
    center = np.full(n, 0.4 if calibrated else 0.0)
    values: dict[str, dict[str, Any]] = {
        "kikuchipy": {
            "Data/patterns": patterns, "Header/pcx": center.reshape(2, 3), "Header/pcy": center.reshape(2, 3) / 2,
            "Header/pcz": center.reshape(2, 3), "Header/n_rows": 2, "Header/n_columns": 3, "Header/step_x": 1.5,
            "Header/step_y": 1.5, "Header/sample_tilt": 69.0, "Header/static_background": patterns.mean(axis=0),
        },
        "EDAX": {
            "Data/Pattern": patterns, "Header/Pattern Center Calibration/x-star": center[:1],
            "Header/Pattern Center Calibration/y-star": 2 * center[:1], "Header/nRows": [2], "Header/nColumns": [3],
            "Header/Pattern Center Calibration/z-star": center[:1], "Header/Sample Tilt": [69.0],
            "Header/Step X": [1.5], "Header/Step Y": [1.5],
        },
        "Bruker Nano": {
            "Data/RawPatterns": patterns, "Data/PCX": center, "Data/PCY": center / 2, "Data/DD": center,
            "Header/NROWS": 2, "Header/NCOLS": 3, "Header/XSTEP": 1.5, "Header/YSTEP": 1.5,
            "Header/SampleTilt": 69.0, "Header/StaticBackground": patterns.mean(axis=0),
        },
    }.get(maker, {})  # fmt: skip
    assert (rows, columns) == patterns.shape[1:]
    with h5py.File(path, "w") as file:
        file[" Manufacturer" if maker == "EDAX" else "Manufacturer"] = maker
        for name, value in values.items():
            file[f"Scan 1/EBSD/{name}"] = value


@pytest.mark.parametrize("maker", ["kikuchipy", "EDAX", "Bruker Nano"])
def test_hdf5(tmp_path: Path, maker: str) -> None:
    patterns, path = stack(6, shape=(6, 6)), tmp_path / "scan.h5"
    write_hdf5(path, maker, patterns)
    file = open_patterns(path)
    assert np.array_equal(file.read(), patterns)
    assert file.grid == ScanGrid(2, 3, 1.5, 1.5)
    assert file.detector is not None
    assert np.allclose(file.detector.pattern_center, (0.4, 0.2, 0.4))
    assert file.detector.sample_tilt == 69.0
    assert (file.static_background is None) == (maker == "EDAX")
    assert file.centers is None if maker == "EDAX" else file.centers is not None and file.centers.shape == (6, 3)
    write_hdf5(path, maker, patterns, calibrated=False)
    file = open_patterns(path)
    if maker == "EDAX":  # y from the bottom: zeros stay impossible through the distance
        assert file.detector is None
    assert file.detector is None


def test_hdf5_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    write_hdf5(path, "Somebody", stack(6))
    with pytest.raises(PatternError, match="comes from somebody"):
        open_patterns(path)
    write_hdf5(path, "EDAX", stack(6))
    with pytest.raises(PatternError, match="no scan 'Scan 7'; it has Scan 1"):
        open_patterns(path, scan="Scan 7")
    path.write_bytes(b"no HDF5")
    with pytest.raises(PatternError, match="cannot be read as HDF5"):
        open_patterns(path)


def change_hdf5(path: Path, changes: dict[str, Any]) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "a") as file:
        for name, value in changes.items():
            key = f"Scan 1/EBSD/{name}"
            if key in file:
                del file[key]
            if value is not None:
                file[key] = value


def test_missing_pattern_centers(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    write_hdf5(path, "Bruker Nano", stack(6, shape=(6, 6)), calibrated=False)
    file = open_patterns(path)
    assert file.detector is None
    assert file.centers is None
    change_hdf5(path, {"Data/PCX": np.full(6, 0.4), "Data/DD": np.array([0.5, 0.5, 0.0, 0.5, np.nan, 0.5])})
    file = open_patterns(path)
    assert file.centers is not None
    assert np.isnan(file.centers).all(axis=1).tolist() == [False, False, True, False, True, False]
    assert file.detector is not None
    assert np.allclose(file.detector.pattern_center, (0.4, 0.0, 0.5))


def test_regions_of_bruker(tmp_path: Path) -> None:
    patterns, path = stack(6, shape=(6, 6)), tmp_path / "scan.h5"
    write_hdf5(path, "Bruker Nano", patterns)
    x, y = np.array([7, 9, 8, 8, 7, 9]), np.array([3, 2, 3, 2, 2, 3])
    change_hdf5(path, {"SEM/IX": x, "SEM/IY": y, "Data/PCX": np.arange(6) / 10})
    file = open_patterns(path)
    order = [4, 3, 1, 0, 2, 5]
    assert file.grid == ScanGrid(2, 3, 1.5, 1.5)
    assert np.array_equal(file.read(), patterns[order])
    assert np.array_equal(np.concatenate(list(file.blocks(4))), patterns[order])
    assert file.centers is not None
    assert np.allclose(file.centers[:, 0], np.array(order) / 10)
    change_hdf5(path, {"SEM/IX": np.array([7, 9, 8, 8, 7, 10])})
    with pytest.raises(PatternError, match="no rectangle"):
        open_patterns(path)


@pytest.mark.parametrize(
    ("maker", "name"),
    [("kikuchipy", "azimuth_angle"), ("kikuchipy", "twist_angle"), ("EDAX", "Camera Azimuthal Angle")],
)
def test_turned_detectors(tmp_path: Path, maker: str, name: str) -> None:
    path = tmp_path / "scan.h5"
    write_hdf5(path, maker, stack(6, shape=(6, 6)))
    change_hdf5(path, {f"Header/{name}": 0.0})
    assert open_patterns(path).detector is not None
    change_hdf5(path, {f"Header/{name}": 3.0})
    with pytest.raises(PatternError, match=f"turned .{name} 3 degrees"):
        open_patterns(path)


def test_hdf5_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    write_hdf5(path, "kikuchipy", stack(6, shape=(6, 6)))
    change_hdf5(path, {"Header": None})
    with pytest.raises(PatternError, match="not laid out"):
        open_patterns(path)


def test_files_of_kikuchipy() -> None:
    kikuchipy = pytest.importorskip("kikuchipy")
    folder = Path(kikuchipy.__file__).parent / "data"
    signal = kikuchipy.data.nickel_ebsd_small()
    file = open_patterns(folder / "kikuchipy_h5ebsd" / "patterns.h5")
    assert np.array_equal(file.read(), signal.data.reshape(9, 60, 60))
    assert file.grid == ScanGrid(3, 3, 1.5, 1.5)
    assert file.centers is not None
    assert file.static_background is not None
    assert np.array_equal(file.static_background, signal.static_background)
    edax = open_patterns(folder / "edax_h5ebsd" / "patterns.h5")
    assert np.array_equal(edax.read(), file.read())
    assert edax.detector is None  # it has zeros
    binary = open_patterns(folder / "edax_binary" / "edax_binary.up1")
    assert np.array_equal(binary.read(), signal.data.reshape(9, 60, 60))


@pytest.mark.parametrize("ending", ["ang", "ctf"])
def test_orix_reads_what_is_written(tmp_path: Path, ending: str) -> None:
    io = pytest.importorskip("orix.io")
    results, path = predictions(6, failed=(2,)), tmp_path / f"scan.{ending}"
    write = write_ang if ending == "ang" else write_ctf
    write(path, results, NICKEL, ScanGrid(2, 3, 0.5, 0.5))
    crystal_map = io.load(path)
    good = results.succeeded
    assert crystal_map.shape == (2, 3)
    assert np.array_equal(crystal_map.is_indexed, good)
    angles = convert.to_euler(crystal_map.rotations.data.reshape(6, -1)[good])
    if ending == "ctf":  # Oxford's sample frame
        angles[:, 0] += 90.0
    assert convert.disorientations(convert.from_euler(angles), results.quaternions[good]).max() < 2e-3
    assert np.allclose(crystal_map.x, [0, 0.5, 1, 0, 0.5, 1])
    phase = crystal_map.phases[int(crystal_map.phase_id[0])]
    assert phase.point_group.laue.name == "m-3m"
    assert phase.name == "nickel"


def test_files_without_orix(tmp_path: Path) -> None:
    results = predictions(4, failed=(1,))
    write_ang(tmp_path / "scan.ang", results, NICKEL)
    rows = [line.split() for line in (tmp_path / "scan.ang").read_text().splitlines() if not line.startswith("#")]
    assert len(rows) == 4
    assert np.allclose([float(x) for x in rows[0][:3]], np.radians(results.euler[0]), atol=1e-4)
    assert float(rows[1][6]) == -1.0
    write_ctf(tmp_path / "scan.ctf", results, NICKEL)
    lines = (tmp_path / "scan.ctf").read_text().splitlines()
    assert lines[-3].startswith("0\t1.0000\t0.0000\t0\t3")
    phi1, phi, phi2 = results.euler[0]
    assert np.allclose([float(x) for x in lines[-4].split("\t")[5:8]], [(phi1 - 90.0) % 360.0, phi, phi2], atol=1e-3)
    with pytest.raises(PatternError, match=r"2 x 3 points needs 6 patterns. Got 4"):
        write_ang(tmp_path / "scan.ang", results, NICKEL, ScanGrid(2, 3))


def test_oxford_files_of_other_lattices(tmp_path: Path) -> None:
    zirconium = PhaseSpec(
        name="zirconium", symmetry="6/mmm", space_group=194, lattice=(3.23, 3.23, 5.15, 90.0, 90.0, 120.0)
    )
    with pytest.raises(PatternError, match="axes are not orthogonal"):
        write_ctf(tmp_path / "scan.ctf", predictions(4), zirconium)
    write_ang(tmp_path / "scan.ang", predictions(4), zirconium)


def test_map(tmp_path: Path) -> None:
    results = predictions(12, failed=(3,))
    figure = draw_map(results, NICKEL, ScanGrid(3, 4, 0.5, 0.5))
    figure.savefig(tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 5000
    image = figure.axes[0].images[0].get_array()
    assert image is not None
    assert np.allclose(image[0, 3], 0.8)
    assert "1 failed, 1 doubtful" in figure.axes[0].get_title()
