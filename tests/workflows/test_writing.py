"""Tables of predictions that go on where they were stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from ase import Atoms
from ase.build import bulk

from ase_matprop import MatPropError, load_model
from ase_matprop.models import Predictor
from ase_matprop.workflows import write_predictions
from tests.conftest import untrained_model


class StoppedError(Exception):
    """The job was killed."""


def stopped_after(cells: list, number: int) -> Iterator[object]:
    yield from cells[:number]
    raise StoppedError


@pytest.fixture
def cells(ni_al_cells: list[Atoms]) -> list:
    return [*ni_al_cells, None, bulk("U", a=4.5), *ni_al_cells[:3]]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.json"])
def test_table_is_that_of_the_predictions(name: str, cells: list, alloy_model: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    written = write_predictions(iter(cells), alloy_model, output=tmp_path / name, batch_size=5, progress=seen.append)
    assert (written.n_rows, written.n_resumed, written.n_failed) == (17, 0, 2) and seen == [5, 10, 15, 17]
    read = {"a.csv": pd.read_csv, "a.parquet": pd.read_parquet, "a.json": pd.read_json}[name](tmp_path / name)
    expected = load_model(alloy_model).predict(cells).to_frame()
    if "warning" not in expected:
        expected["warning"] = None
    for column in ("name", "formula", "error"):
        assert read[column].where(read[column].notna(), None).tolist() == expected[column].tolist()
    assert (read[expected.columns[3]] - expected[expected.columns[3]]).abs().max() < 1e-5
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("cut_off", [False, True])
def test_stopped_run_goes_on(
    cells: list, alloy_model: Path, tmp_path: Path, cut_off: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_predictions(cells, alloy_model, output=tmp_path / "whole.csv", batch_size=4).path.read_bytes()
    output = tmp_path / "a.csv"
    with pytest.raises(StoppedError):
        write_predictions(stopped_after(cells, 10), alloy_model, output=output, batch_size=4)
    partial = tmp_path / "a.csv.partial"
    assert not output.exists() and partial.read_bytes() == whole[: len(partial.read_bytes())]
    if cut_off:  # killed while it wrote a row
        partial.write_bytes(partial.read_bytes() + b"structure 8 (AlNi),Al")
    with pytest.raises(MatPropError, match=r"stopped has left .*a\.csv\.partial; give resume=True"):
        write_predictions(cells, alloy_model, output=output, batch_size=4)
    evaluated = 0
    inputs = Predictor._inputs

    def counting(self: Predictor, batch: list, *args: object, **kwargs: object) -> object:
        nonlocal evaluated
        evaluated += len(batch)
        return inputs(self, batch, *args, **kwargs)

    monkeypatch.setattr(Predictor, "_inputs", counting)
    written = write_predictions(iter(cells), alloy_model, output=output, batch_size=4, resume=True)
    assert (written.n_rows, written.n_resumed) == (17, 8) and evaluated == 9
    assert output.read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "whole.csv"]


def test_other_structures_or_models_do_not_go_on(cells: list, alloy_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.csv"
    with pytest.raises(StoppedError):
        write_predictions(stopped_after(cells, 9), alloy_model, output=output, batch_size=4)
    before = (tmp_path / "a.csv.partial").read_bytes()
    for others in ([bulk("Ni"), *cells[1:]], cells[:5], []):
        with pytest.raises(MatPropError, match="the first 8 structures are not those"):
            write_predictions(others, alloy_model, output=output, batch_size=4, resume=True)
    other = untrained_model(tmp_path / "alloy", descriptor="ward2017", elements=("Ni", "Al"), n_members=1)
    with pytest.raises(MatPropError, match="has predictions of alloy with other weights"):
        write_predictions(cells, other, output=output, resume=True)
    assert (tmp_path / "a.csv.partial").read_bytes() == before


def test_bad_outputs(cells: list, alloy_model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("mine")
    with pytest.raises(MatPropError, match=r"mine\.csv exists; delete it"):
        write_predictions(cells, alloy_model, output=tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_text() == "mine"
    with pytest.raises(MatPropError, match="must end in"):
        write_predictions(cells, alloy_model, output=tmp_path / "a.xlsx")
    with pytest.raises(MatPropError, match="does not exist; make it first"):
        write_predictions(cells, alloy_model, output=tmp_path / "no" / "a.csv")
    with pytest.raises(MatPropError, match=r"ending in \.parquet cannot be appended to"):
        write_predictions(cells, alloy_model, output=tmp_path / "a.parquet", resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.csv"]


def test_no_structures_give_a_table_without_rows(alloy_model: Path, tmp_path: Path) -> None:
    write_predictions([], alloy_model, output=tmp_path / "a.csv")
    assert list(pd.read_csv(tmp_path / "a.csv").columns)[:2] == ["name", "formula"]


def test_partial_without_a_record_is_not_written_over(cells: list, alloy_model: Path, tmp_path: Path) -> None:
    partial = tmp_path / "a.csv.partial"
    partial.write_text("mine")
    for resume in (False, True):
        with pytest.raises(MatPropError, match=r"a\.csv\.partial is there without .*a\.csv\.progress\.json.*delete it"):
            write_predictions(cells, alloy_model, output=tmp_path / "a.csv", resume=resume)
        assert partial.read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_run_that_was_stopped_before_its_first_batch_can_be_repeated(
    cells: list, alloy_model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "a.csv"
    with pytest.raises(StoppedError):
        write_predictions(stopped_after(cells, 2), alloy_model, output=output, batch_size=4)
    assert write_predictions(cells[:3], alloy_model, output=output).n_rows == 3


def test_partial_that_lost_bytes_does_not_go_on(cells: list, alloy_model: Path, tmp_path: Path) -> None:
    output, partial = tmp_path / "a.csv", tmp_path / "a.csv.partial"
    with pytest.raises(StoppedError):
        write_predictions(stopped_after(cells, 9), alloy_model, output=output, batch_size=4)
    partial.write_bytes(partial.read_bytes()[:-50])
    before = partial.read_bytes()
    with pytest.raises(MatPropError, match=r"a\.csv\.partial has .* bytes, fewer than .*progress\.json.*delete both"):
        write_predictions(cells, alloy_model, output=output, batch_size=4, resume=True)
    assert partial.read_bytes() == before
    partial.unlink()  # nothing is left to be lost
    assert write_predictions(cells, alloy_model, output=output, batch_size=4).n_resumed == 0


def test_rows_are_on_the_disk_before_the_record_says_so(
    cells: list, alloy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def noting(number: int) -> None:
        synced.append(Path(f"/proc/self/fd/{number}").readlink().name)
        fsync(number)

    monkeypatch.setattr(os, "fsync", noting)
    write_predictions(cells[:3], alloy_model, output=tmp_path / "a.csv")
    assert synced[-2:] == ["a.csv.partial", "a.csv.progress.json.new"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\xff\xfe\x00", b"[]", b"{}", b'{"n_rows": "8", "n_bytes": 10, "rows": "a"}',
        b'{"n_rows": 8, "n_bytes": null, "rows": "a"}', b'{"n_rows": 8, "n_bytes": -1, "rows": "a"}',
    ],
)  # fmt: skip
def test_bad_record(content: bytes, cells: list, alloy_model: Path, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        write_predictions(stopped_after(cells, 9), alloy_model, output=tmp_path / "a.csv", batch_size=4)
    (tmp_path / "a.csv.progress.json").write_bytes(content)
    before = (tmp_path / "a.csv.partial").read_bytes()
    with pytest.raises(MatPropError, match=r"progress\.json, .* of .*a\.csv\.partial is sound, cannot be read.*both"):
        write_predictions(cells, alloy_model, output=tmp_path / "a.csv", batch_size=4, resume=True)
    assert (tmp_path / "a.csv.partial").read_bytes() == before


def test_table_with_disagreement(cells: list, alloy_model: Path, tmp_path: Path) -> None:
    other = untrained_model(tmp_path / "other", descriptor="ward2017", elements=("Ni", "Al"), n_members=1)
    output = tmp_path / "a.csv"
    with pytest.raises(StoppedError):
        write_predictions(stopped_after(cells, 9), alloy_model, output=output, batch_size=4, compare_with=other)
    with pytest.raises(MatPropError, match="compared with other models"):
        write_predictions(cells, alloy_model, output=output, resume=True)
    write_predictions(cells, alloy_model, output=output, resume=True, compare_with=other)
    expected = load_model(alloy_model, compare_with=other).predict(cells).disagreement
    assert (pd.read_csv(output)["disagreement"] - expected).abs().max() < 1e-5


@pytest.mark.parametrize("what", ["position", "cell", "numbers"])
def test_other_geometry_of_the_same_formula_does_not_go_on(
    what: str, cells: list, alloy_model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "a.csv"
    with pytest.raises(StoppedError):
        write_predictions(stopped_after(cells, 9), alloy_model, output=output, batch_size=4)
    before = (tmp_path / "a.csv.partial").read_bytes()
    other = cells[2].copy()
    if what == "position":
        other.positions[0, 0] += 0.01
    elif what == "cell":
        other.cell[0, 0] += 0.01
    else:
        other.numbers[:] = other.numbers[::-1].copy()
    changed = [*cells[:2], other, *cells[3:]]
    with pytest.raises(MatPropError, match="the first 8 structures are not those whose rows are in"):
        write_predictions(changed, alloy_model, output=output, batch_size=4, resume=True)
    assert (tmp_path / "a.csv.partial").read_bytes() == before
    # last digits, which another machine may compute otherwise, do not count
    same = [atoms if atoms is None else atoms.copy() for atoms in cells]
    for atoms in same:
        if atoms is not None:
            atoms.positions += 1e-12
            atoms.cell.array[atoms.cell.array == 0.0] = -1e-12
    assert write_predictions(same, alloy_model, output=output, batch_size=4, resume=True).n_resumed == 8


def test_compositions_go_on(tmp_path: Path) -> None:
    formulas = ["NaCl", "Fe2O3", "not a formula", {"Na": 1, "Fe": 0.5}]
    with pytest.raises(StoppedError):
        write_predictions(stopped_after(formulas, 3), "elemnet-mp", output=tmp_path / "a.csv", batch_size=1)
    with pytest.raises(MatPropError, match="the first 3 structures are not those"):
        write_predictions(["NaCl", "Fe3O4", *formulas[2:]], "elemnet-mp", output=tmp_path / "a.csv", resume=True)
    assert write_predictions(formulas, "elemnet-mp", output=tmp_path / "a.csv", resume=True).n_resumed == 3


def test_record_of_another_version(cells: list, alloy_model: Path, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        write_predictions(stopped_after(cells, 9), alloy_model, output=tmp_path / "a.csv", batch_size=4)
    path = tmp_path / "a.csv.progress.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 1}))
    with pytest.raises(MatPropError, match=r"a\.csv\.partial was begun by another version of ase_matprop.*delete it"):
        write_predictions(cells, alloy_model, output=tmp_path / "a.csv", batch_size=4, resume=True)
