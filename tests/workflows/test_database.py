"""Predictions in ASE databases: resumable, and nothing that was there before is lost or changed unasked."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.db import connect

from ase_matprop import MatPropError, load_model
from ase_matprop.errors import MissingDependencyError, UnknownNameError
from ase_matprop.models import Predictor
from ase_matprop.workflows import add_predictions, database_files
from tests.conftest import untrained_model

KEY = "formation_energy_per_atom_alloy"


class StoppedError(Exception):
    """The job was killed."""


def write(path: Path, cells: list[Atoms]) -> Path:
    """A database as a group might have it: own columns, data, metadata, a deleted row, an unusable one."""
    database = connect(path)
    with database:
        for number, atoms in enumerate(cells):
            database.write(atoms, dft_energy=-0.1 * number, origin="mine", data={"kpoints": [4, 4, number]})
        database.write(Atoms("OH2", [[0, 0, 0], [1, 0, 0], [0, 1, 0]]), origin="molecule")
        database.write(bulk("U", a=4.5), origin="mine")
        database.write(cells[0], origin="deleted")
    database.delete([len(cells) + 3])
    database.metadata = {"title": "alloys", "key_descriptions": {"dft_energy": ["E", "energy", "eV"]}}
    return path


@pytest.fixture(params=["a.db", "a.json"])
def database(request: pytest.FixtureRequest, tmp_path: Path, ni_al_cells: list[Atoms]) -> Path:
    return write(tmp_path / request.param, ni_al_cells)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that reach the model."""
    sizes: list[int] = []
    inputs = Predictor._inputs

    def counting(self: Predictor, batch: list, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(batch))
        return inputs(self, batch, *args, **kwargs)

    monkeypatch.setattr(Predictor, "_inputs", counting)
    return sizes


def content(path: Path) -> list[tuple]:
    """What a user had put into a database."""
    own = ("dft_energy", "origin")
    return [
        (row.id, row.unique_id, row.toatoms(), {k: row.get(k) for k in own}, dict(row.data))
        for row in connect(path).select()
    ]


def test_copy_has_the_predictions_and_the_database_stays(
    database: Path, alloy_model: Path, ni_al_cells: list[Atoms]
) -> None:
    before, output = database.read_bytes(), database.with_name(f"scored{database.suffix}")
    seen: list[int] = []
    done = add_predictions(database, alloy_model, output=output, batch_size=5, progress=seen.append)
    assert (done.key, done.unit, done.database) == (KEY, "eV/atom", str(output))
    assert (done.n_selected, done.n_predicted, done.n_skipped, done.n_failed) == (14, 12, 0, 2) and seen == [5, 10, 14]
    assert database.read_bytes() == before
    assert sorted(path.name for path in database.parent.iterdir()) == sorted([database.name, output.name])
    assert content(output) == content(database)
    rows = list(connect(output).select())
    expected = load_model(alloy_model).predict(ni_al_cells)
    np.testing.assert_allclose([row[KEY] for row in rows[:12]], expected.values, atol=1e-5)
    np.testing.assert_allclose([row[f"{KEY}_spread"] for row in rows[:12]], expected.spread, atol=1e-5)
    sha = load_model(alloy_model).card.weights.sha256
    assert {row[f"{KEY}_model"] for row in rows} == {f"alloy {sha[:12]}"}
    # what failed has its reason, and can be selected by that
    assert dict(done.failures) == {row.id: row[f"{KEY}_error"] for row in connect(output).select(f"{KEY}_error")}
    assert "has no cell" in rows[12][f"{KEY}_error"] and "never saw U" in rows[13][f"{KEY}_error"]
    assert KEY not in rows[12].key_value_pairs and connect(output).count(f"{KEY}<100") == 12
    metadata = connect(output).metadata
    assert metadata["title"] == "alloys" and metadata["key_descriptions"]["dft_energy"] == ["E", "energy", "eV"]
    assert metadata["key_descriptions"][KEY] == [KEY, "formation energy, alloy", "eV/atom"]


def test_second_run_does_nothing(database: Path, alloy_model: Path, evaluated: list[int]) -> None:
    output = database.with_name(f"scored{database.suffix}")
    add_predictions(database, alloy_model, output=output)
    before = output.read_bytes()
    evaluated.clear()
    again = add_predictions(database, alloy_model, output=output)
    assert (again.n_predicted, again.n_skipped, again.n_failed, sum(evaluated)) == (0, 14, 0, 0)
    assert output.read_bytes() == before


def test_stopped_run_goes_on(
    database: Path, alloy_model: Path, evaluated: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = database.with_name(f"whole{database.suffix}")
    add_predictions(database, alloy_model, output=whole, batch_size=4)
    output = database.with_name(f"scored{database.suffix}")

    def stop(done: int) -> None:
        if done == 8:
            raise StoppedError

    with pytest.raises(StoppedError):
        add_predictions(database, alloy_model, output=output, batch_size=4, progress=stop)
    assert connect(output).count(KEY) == 8
    # in the middle of a batch: nothing of it is written
    change = database_files.OpenDatabase.update

    def half(self: Any, changes: Any) -> None:
        def first_two() -> Any:
            yield from list(changes)[:2]
            raise StoppedError

        change(self, first_two())

    if database.suffix == ".db":  # a JSON file is written as a whole
        monkeypatch.setattr(database_files.OpenDatabase, "update", half)
        with pytest.raises(StoppedError):
            add_predictions(database, alloy_model, output=output, batch_size=4)
        monkeypatch.setattr(database_files.OpenDatabase, "update", change)
        assert connect(output).count(KEY) == 8
    evaluated.clear()
    done = add_predictions(database, alloy_model, output=output, batch_size=4)
    assert (done.n_skipped, done.n_predicted, done.n_failed, sum(evaluated)) == (8, 4, 2, 6)
    for one, other in zip(connect(output).select(), connect(whole).select(), strict=True):
        assert one.key_value_pairs == other.key_value_pairs


def test_in_place_only_when_asked(database: Path, alloy_model: Path) -> None:
    before, rows = database.read_bytes(), content(database)
    with pytest.raises(MatPropError, match=r"give output='other\.db'.*or in_place=True"):
        add_predictions(database, alloy_model)
    with pytest.raises(MatPropError, match="not both"):
        add_predictions(database, alloy_model, output="b.db", in_place=True)
    with pytest.raises(MatPropError, match=r"is the database itself; give in_place=True"):
        add_predictions(database, alloy_model, output=database)
    assert database.read_bytes() == before
    done = add_predictions(database, alloy_model, in_place=True)
    assert done.n_predicted == 12 and content(database) == rows
    assert [path.name for path in database.parent.iterdir()] == [database.name]


def test_selection_and_key(database: Path, alloy_model: Path) -> None:
    add_predictions(database, alloy_model, in_place=True, selection="id<4,origin=mine", key="hform")
    assert [row.id for row in connect(database).select("hform")] == [1, 2, 3]
    done = add_predictions(database, alloy_model, in_place=True, key="hform")
    assert (done.n_skipped, done.n_predicted) == (3, 9)


def test_changed_structures_and_other_weights_are_predicted_again(
    database: Path, alloy_model: Path, ni_al_cells: list[Atoms], tmp_path_factory: pytest.TempPathFactory
) -> None:
    add_predictions(database, alloy_model, in_place=True, key="hform")
    old = connect(database).get(id=2).hform
    connect(database).update(2, atoms=ni_al_cells[5])
    done = add_predictions(database, alloy_model, in_place=True, key="hform")
    assert (done.n_predicted, done.n_skipped) == (1, 13)
    assert connect(database).get(id=2).hform == pytest.approx(connect(database).get(id=6).hform, abs=1e-5) != old
    # the only failure that the new model does not share gets its value, and the reason goes
    other = untrained_model(
        tmp_path_factory.mktemp("m") / "alloy", descriptor="ward2017", elements=("Ni", "Al", "U"), n_members=1
    )
    done = add_predictions(database, other, in_place=True, key="hform")
    assert (done.n_predicted, done.n_failed, done.n_skipped) == (13, 1, 0)
    row = connect(database).get(id=14)
    assert "hform" in row and "hform_error" not in row and "hform_spread" not in connect(database).get(id=1)


def test_values_of_dft_are_not_written_over(database: Path, alloy_model: Path) -> None:
    before = database.read_bytes()
    with pytest.raises(MatPropError, match=r"row 1 of .* has a value 'dft_energy' that no model.*choose another key"):
        add_predictions(database, alloy_model, in_place=True, key="dft_energy")
    assert database.read_bytes() == before


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("2nd", "begin with no digit"), ("h-form", "letters, digits and underscores"), ("energy", "ASE has for itself"),
        ("NiAl", "is a chemical formula"), (" ", "letters, digits"),
    ],
)  # fmt: skip
def test_keys_that_ase_refuses(key: str, problem: str, tmp_path: Path, alloy_model: Path) -> None:
    with pytest.raises(MatPropError, match=problem):
        add_predictions(tmp_path / "a.db", alloy_model, in_place=True, key=key)


def test_output_that_is_no_copy(database: Path, alloy_model: Path, ni_al_cells: list[Atoms]) -> None:
    other = write(database.with_name(f"other{database.suffix}"), ni_al_cells)
    before = other.read_bytes()
    with pytest.raises(MatPropError, match="exists and is no copy of"):
        add_predictions(database, alloy_model, output=other)
    assert other.read_bytes() == before


def test_copy_in_the_other_format(database: Path, alloy_model: Path) -> None:
    output = database.with_suffix(".json" if database.suffix == ".db" else ".db")
    done = add_predictions(database, alloy_model, output=output, batch_size=5)
    assert (done.n_predicted, done.n_failed) == (12, 2)
    for one, other in zip(content(output), content(database), strict=True):
        assert one[1:] == other[1:]
    assert connect(output).metadata["title"] == "alloys"
    assert add_predictions(database, alloy_model, output=output).n_skipped == 14


def test_database_objects(database: Path, alloy_model: Path) -> None:
    assert add_predictions(connect(database), alloy_model, in_place=True).n_predicted == 12
    with pytest.raises(MatPropError, match="must be a path, an address or an ASE database. Got list"):
        add_predictions([1], alloy_model, in_place=True)


def test_bad_databases(tmp_path: Path, alloy_model: Path, database: Path) -> None:
    with pytest.raises(MatPropError, match=r"missing\.db does not exist"):
        add_predictions(tmp_path / "missing.db", alloy_model, in_place=True)
    assert not (tmp_path / "missing.db").exists()  # ASE would have made one
    with pytest.raises(MatPropError, match=r"must end in \.db or \.json"):
        add_predictions(tmp_path / "a.xyz", alloy_model, in_place=True)
    for name in ("b.db", "b.json"):
        (tmp_path / name).write_text('{"no": "database"}')
        with pytest.raises(MatPropError, match=f"{name} is no ASE database"):
            add_predictions(tmp_path / name, alloy_model, in_place=True)
        assert (tmp_path / name).read_text() == '{"no": "database"}'
    with pytest.raises(MatPropError, match="no row that 'origin=yours' selects"):
        add_predictions(database, alloy_model, in_place=True, selection="origin=yours")
    with pytest.raises(MatPropError, match="selection 'natoms<' cannot be used"):
        add_predictions(database, alloy_model, in_place=True, selection="natoms<")
    with pytest.raises(UnknownNameError, match="unknown predicted property 'band_gap'"):
        add_predictions(database, alloy_model, in_place=True, property="band_gap")


def test_servers_need_their_package_and_show_no_password(alloy_model: Path) -> None:
    with pytest.raises(MissingDependencyError, match="pip install 'ase-db-backends'"):
        add_predictions("postgresql://me:secret@host:5432/db", alloy_model, in_place=True)
    assert database_files._without_password("postgresql://me:secret@host:5432/db") == "postgresql://host:5432/db"


def test_database_on_a_server_is_copied_row_by_row(tmp_path: Path, alloy_model: Path, ni_al_cells: list[Atoms]) -> None:
    """No server is at hand: ASE's class for one is that of SQLite with other SQL, and so is this stand-in."""
    write(tmp_path / "hidden.db", ni_al_cells)
    server = connect(tmp_path / "hidden.db")
    real, server.filename = server.filename, "postgresql://me:secret@host/db"
    connected = server._connect
    server._connect = lambda: (setattr(server, "filename", real), connected())[1]
    done = add_predictions(server, alloy_model, output=tmp_path / "copy.db")
    assert done.n_predicted == 12 and len(connect(tmp_path / "copy.db")) == 14


def test_locked_database(database: Path, alloy_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_files, "_LOCK_TIMEOUT", 0.1)
    before = database.read_bytes()
    lock = Path(f"{database}.lock")
    lock.touch()
    start = time.monotonic()
    with pytest.raises(MatPropError, match=r"is locked by another program.*delete the file .*\.lock"):
        add_predictions(database, alloy_model, in_place=True)
    assert lock.exists() and time.monotonic() - start < 20 and database.read_bytes() == before


def test_classes_are_written_by_name(tmp_path: Path, ni_al_cells: list[Atoms]) -> None:
    model = untrained_model(
        tmp_path / "metal", descriptor="ward2017", elements=("Ni", "Al"), properties=("metallicity",)
    )
    database = write(tmp_path / "a.db", ni_al_cells)
    assert add_predictions(database, model, in_place=True, key="kind").n_predicted == 12
    assert {row.kind for row in connect(database).select("kind")} <= {"metal", "non-metal"}


@pytest.mark.parametrize("suffix", [".db", ".json"])
@pytest.mark.parametrize("change", ["pair", "atoms"])
def test_database_that_was_changed_is_noticed(database: Path, alloy_model: Path, suffix: str, change: str) -> None:
    output = database.with_name(f"scored{suffix}")
    add_predictions(database, alloy_model, output=output, key="one")
    add_predictions(database, alloy_model, output=output, key="two")  # other columns of ours are no change
    before = output.read_bytes()
    connect(database).update(3, **({"origin": "yours"} if change == "pair" else {"atoms": bulk("Ni")}))
    with pytest.raises(MatPropError, match="exists and is no copy of .* as it is now"):
        add_predictions(database, alloy_model, output=output, key="one")
    assert output.read_bytes() == before and not Path(f"{output}.lock").exists()


@pytest.mark.parametrize("suffix", [".db", ".json"])
def test_ids_stay_where_rows_were_deleted(database: Path, alloy_model: Path, suffix: str) -> None:
    connect(database).delete([1, 2, 7])
    output = database.with_name(f"scored{suffix}")
    done = add_predictions(database, alloy_model, output=output)
    assert content(output) == content(database)
    assert [number for number, _ in done.failures] == [13, 14]
    assert [row.id for row in connect(output).select(f"{KEY}_error")] == [13, 14]
    assert connect(output).write(bulk("Ni")) >= 15  # and ASE can go on


def test_copy_that_another_program_writes(database: Path, alloy_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs on one JSON file would each write the whole of it."""
    monkeypatch.setattr(database_files, "_LOCK_TIMEOUT", 0.1)
    output = database.with_name("scored.json")

    def second_run(done: int) -> None:
        with pytest.raises(MatPropError, match=r"scored\.json is locked by another program"):
            add_predictions(database, alloy_model, output=output)

    assert add_predictions(database, alloy_model, output=output, progress=second_run).n_predicted == 12
    assert sorted(path.name for path in database.parent.iterdir()) == sorted([database.name, output.name])


def test_disagreement_is_written(database: Path, alloy_model: Path, ni_al_cells: list[Atoms], tmp_path: Path) -> None:
    other = untrained_model(tmp_path / "other", descriptor="ward2017", elements=("Ni", "Al"), n_members=1)
    compared = load_model(alloy_model, compare_with=other)
    add_predictions(database, alloy_model, in_place=True, key="h")
    done = add_predictions(database, alloy_model, in_place=True, key="h", compare_with=other)
    assert (done.n_predicted, done.n_skipped) == (12, 0)  # there was nothing to compare with before
    rows = list(connect(database).select("h"))
    expected = compared.predict(ni_al_cells).disagreement
    np.testing.assert_allclose([row.h_disagreement for row in rows], expected, atol=1e-5)
    assert {row.h_compared_with for row in rows} == {f"other {load_model(other).card.weights.sha256[:12]}"}
    assert add_predictions(database, compared, in_place=True, key="h").n_skipped == 14
    assert add_predictions(database, alloy_model, in_place=True, key="h").n_skipped == 0
    assert not any(name in row for row in connect(database).select() for name in ("h_disagreement", "h_compared_with"))


@pytest.mark.parametrize("how", ["in_place", "output", "object"])
def test_file_that_is_no_ase_database_is_not_made_one(tmp_path: Path, alloy_model: Path, how: str) -> None:
    """ASE writes its tables into an empty file, and into that of another program, when it only reads."""
    empty, other = tmp_path / "empty.db", tmp_path / "other.db"
    empty.touch()
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (a INTEGER)")
    connection.close()
    before = other.read_bytes()
    options: dict[str, Any] = {"output": tmp_path / "b.db"} if how == "output" else {"in_place": True}
    for path, problem in ((empty, "it is empty"), (other, "it has no table of structures")):
        with pytest.raises(MatPropError, match=rf"{path.name} is no ASE database \({problem}.*check the file"):
            add_predictions(connect(path) if how == "object" else path, alloy_model, **options)
    assert empty.stat().st_size == 0 and other.read_bytes() == before
    with pytest.raises(MatPropError, match=r"missing\.db does not exist"):
        add_predictions(connect(tmp_path / "missing.db"), alloy_model, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.db", "other.db"]


def without_permission(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Let a file or folder look as if it must not be written to; for the superuser permissions do not count."""
    access = os.access

    def asking(asked: Any, mode: int, **options: Any) -> bool:
        return not (Path(asked) == path and mode & os.W_OK) and access(asked, mode, **options)

    monkeypatch.setattr(os, "access", asking)


def test_read_only_file(database: Path, alloy_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = database.read_bytes()
    without_permission(monkeypatch, database)
    problem = rf"{database.name} cannot be written: the file is read-only; allow it with chmod, or give output="
    with pytest.raises(MatPropError, match=problem):
        add_predictions(database, alloy_model, in_place=True)
    output = database.with_name(f"scored{database.suffix}")
    assert add_predictions(database, alloy_model, output=output).n_predicted == 12
    without_permission(monkeypatch, output)
    with pytest.raises(MatPropError, match=rf"{output.name} cannot be written: the file is read-only.*another name"):
        add_predictions(database, alloy_model, output=output)
    assert database.read_bytes() == before


def test_read_only_folder(database: Path, alloy_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_permission(monkeypatch, database.parent)
    problem = rf"{database.name} cannot be written: the folder .*{database.parent.name} is read-only.*give output="
    with pytest.raises(MatPropError, match=problem):
        add_predictions(database, alloy_model, in_place=True)
    output = database.with_name(f"scored{database.suffix}")
    problem = rf"output .*{output.name} cannot be written: the folder .*{database.parent.name} is read-only"
    with pytest.raises(MatPropError, match=problem):
        add_predictions(database, alloy_model, output=output)
    assert [path.name for path in database.parent.iterdir()] == [database.name]


@pytest.mark.parametrize("in_place", [True, False])
def test_permission_that_is_refused_later(
    database: Path, alloy_model: Path, in_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network drives refuse what os.access has promised; ASE then says nothing but 'Error'."""

    def refuse(self: Any) -> None:
        raise OSError(errno.EACCES, "Error", self.name)

    monkeypatch.setattr("ase.utils.Lock.acquire", refuse)
    output = database.with_name(f"scored{database.suffix}")
    options: dict[str, Any] = {"in_place": True} if in_place else {"output": output}
    name = database.name if in_place else output.name
    with pytest.raises(MatPropError, match=f"{name} cannot be written: Permission denied"):
        add_predictions(database, alloy_model, **options)
    assert [path.name for path in database.parent.iterdir()] == [database.name]


def test_sqlite_errors_name_file_and_cause(
    tmp_path: Path, ni_al_cells: list[Atoms], alloy_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.db", ni_al_cells)
    for code, remedy in (
        (sqlite3.SQLITE_READONLY, "chmod"), (sqlite3.SQLITE_BUSY, "another program"),
        (sqlite3.SQLITE_CORRUPT, "check the file"),
    ):  # fmt: skip
        error = sqlite3.OperationalError("the cause")
        error.sqlite_errorcode = code

        def refuse(self: Any, *args: Any, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(database_files.OpenDatabase, "describe", refuse)
        with pytest.raises(MatPropError, match=rf"a\.db cannot be used: the cause; .*{remedy}"):
            add_predictions(path, alloy_model, in_place=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_read_only_for_real(database: Path, alloy_model: Path, what: str) -> None:
    path = database if what == "file" else database.parent
    mode = path.stat().st_mode
    path.chmod(mode & ~0o222)
    try:
        with pytest.raises(MatPropError, match=f"{database.name} cannot be written: the {what} .*is read-only"):
            add_predictions(database, alloy_model, in_place=True)
        if what == "folder":
            with pytest.raises(MatPropError, match=r"scored\.db cannot be written: the folder .* is read-only"):
                add_predictions(database, alloy_model, output=database.with_name("scored.db"))
    finally:
        path.chmod(mode)


@pytest.mark.parametrize("suffix", [".db", ".json"])
def test_no_copy_stays_behind_where_nothing_was_predicted(
    database: Path, alloy_model: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = database.with_name(f"scored{suffix}")
    name = database.name.replace(".", r"\.")
    for options, problem in (
        ({"selection": "origin=yours"}, f"database .*{name} has no row that .*{name}$"),
        ({"selection": "natoms<"}, "selection 'natoms<' cannot be used"),
        ({"property": "band_gap"}, "unknown predicted property"),
        ({"key": "dft_energy"}, f"row 1 of .*{name} has a value"),
        ({"key": "NiAl"}, "is a chemical formula"),
        ({"batch_size": 0}, "batch_size must be"),
    ):
        with pytest.raises(MatPropError, match=problem):
            add_predictions(database, alloy_model, output=output, **options)  # type: ignore[arg-type]
        assert [path.name for path in database.parent.iterdir()] == [database.name]

    def stop(self: Predictor, batch: list, *args: Any, **kwargs: Any) -> Any:
        if batch:
            raise StoppedError
        return inputs(self, batch, *args, **kwargs)

    inputs = Predictor._inputs
    monkeypatch.setattr(Predictor, "_inputs", stop)
    with pytest.raises(StoppedError):
        add_predictions(database, alloy_model, output=output)
    assert [path.name for path in database.parent.iterdir()] == [database.name]
    monkeypatch.setattr(Predictor, "_inputs", inputs)
    add_predictions(database, alloy_model, output=output, selection="id<4")
    monkeypatch.setattr(Predictor, "_inputs", stop)
    with pytest.raises(StoppedError):
        add_predictions(database, alloy_model, output=output)
    assert connect(output).count(KEY) == 3  # what an earlier run has written stays


def test_copy_that_another_run_has_written_to_stays(
    tmp_path: Path, ni_al_cells: list[Atoms], alloy_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, output = write(tmp_path / "a.db", ni_al_cells), tmp_path / "scored.db"
    inputs = Predictor._inputs

    def other_run(self: Predictor, batch: list, *args: Any, **kwargs: Any) -> Any:
        if not batch:
            return inputs(self, batch, *args, **kwargs)
        monkeypatch.setattr(Predictor, "_inputs", inputs)
        add_predictions(database, alloy_model, output=output)
        raise StoppedError

    monkeypatch.setattr(Predictor, "_inputs", other_run)
    with pytest.raises(StoppedError):
        add_predictions(database, alloy_model, output=output)
    assert connect(output).count(KEY) == 12


def test_none_is_named(alloy_model: Path) -> None:
    with pytest.raises(MatPropError, match="must be a path, an address or an ASE database; None was given"):
        add_predictions(None, alloy_model, in_place=True)


def test_database_with_a_write_ahead_log(tmp_path: Path, ni_al_cells: list[Atoms], alloy_model: Path) -> None:
    """The log of a copy has another name than the copy, once that has its own name."""
    path = write(tmp_path / "a.db", ni_al_cells)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    assert add_predictions(path, alloy_model, output=tmp_path / "b.db").n_predicted == 12
    assert [file.name for file in tmp_path.glob("b*")] == ["b.db"] and content(tmp_path / "b.db") == content(path)
    assert add_predictions(path, alloy_model, in_place=True).n_predicted == 12
