"""Sessions do not see one another, and end."""

import os
import subprocess
import sys

import pytest
from ase.build import bulk

from ase_matprop.app.formulas import formula_entries, formula_entry, split_formulas
from ase_matprop.app.jobs import Job, StoppedError, Workers
from ase_matprop.app.limits import Limits
from ase_matprop.app.sessions import PREFIX, SessionError, Sessions, remove_leftovers
from ase_matprop.errors import MatPropError
from ase_matprop.structures import StructureEntry


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sessions(tmp_path, clock):
    found = Sessions(Limits(sessions=3, idle=100.0, forgotten=50.0), clock=clock, parent=tmp_path)
    yield found
    found.close_all()


def test_two_sessions_share_nothing(sessions):
    one, other = sessions.open(), sessions.open()
    one.add([StructureEntry("Cu", bulk("Cu"), None)])
    assert other.entries == [] and one.folder != other.folder and one.token != other.token
    assert len(one.token) >= 40
    assert sessions.get(one.token) is one


@pytest.mark.parametrize("token", [None, "", "x", 5, ["a"]])
def test_no_session_without_its_token(sessions, token):
    sessions.open()
    with pytest.raises(SessionError, match="reload the page"):
        sessions.get(token)


def test_a_closed_session_is_gone_from_the_disk(sessions):
    session = sessions.open()
    (session.folder / "secret").write_text("x")
    job = session.jobs["predict"] = Job()
    sessions.close(session.token)
    assert not session.folder.exists() and job.cancelled
    with pytest.raises(SessionError):
        sessions.get(session.token)
    sessions.close("unknown")


def test_idle_sessions_are_deleted(sessions, clock):
    idle, used = sessions.open(), sessions.open()
    clock.now = 60
    sessions.get(used.token)
    clock.now = 120
    assert sessions.sweep() == 1
    assert not idle.folder.exists() and used.folder.exists()


def test_there_is_a_limit_which_forgotten_tabs_do_not_fill(sessions, clock):
    first = sessions.open()
    for _ in range(2):
        sessions.open()
    with pytest.raises(SessionError, match="close some of them"):
        sessions.open()
    clock.now = 60
    assert sessions.open().folder.exists()
    assert not first.folder.exists()


def test_the_folder_is_private_and_goes_with_the_server(sessions):
    session = sessions.open()
    assert sessions.folder.stat().st_mode & 0o077 == 0
    assert session.folder.stat().st_mode & 0o077 == 0
    sessions.close_all()
    assert not sessions.folder.exists()


def test_folders_of_killed_servers_are_deleted(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / f"{PREFIX}{dead.pid}-abc"
    mine = tmp_path / f"{PREFIX}{os.getpid()}-abc"
    other = tmp_path / f"{PREFIX}notes"
    for folder in (left, mine, other):
        folder.mkdir()
    assert remove_leftovers(tmp_path) == [left]
    assert mine.exists() and other.exists()


def test_a_job_counts_and_stops():
    job = Job(4)
    job.step(2, "half")
    assert (job.share, job.message, job.active) == (0.5, "half", True)
    job.cancel()
    with pytest.raises(StoppedError):
        job.step(3)
    job.run(lambda _: "never")
    assert job.state == "stopped" and not job.active


def test_what_goes_wrong_in_a_job_is_its_message(caplog):
    def fail(error):
        job = Job()

        def work(_):
            raise error

        job.run(work)
        return job.state, job.message

    assert fail(MatPropError("the reason")) == ("failed", "the reason")
    state, message = fail(ZeroDivisionError("odd"))
    assert state == "failed" and "ZeroDivisionError: odd" in message
    assert "Traceback" in caplog.text


def test_workers_take_turns():
    workers = Workers(1)
    done = []
    jobs = [workers.start(Job(), lambda job, n=n: done.append(n) or "done") for n in range(3)]
    assert all(job.finished.wait(20) for job in jobs)
    assert done == [0, 1, 2] and [job.state for job in jobs] == ["done"] * 3
    workers.close()


def test_formulas_are_separated_by_lines_commas_and_semicolons():
    assert split_formulas("Fe2O3, Ca3(PO4)2\n\n NaCl ;Fe2 O3\r\n") == ["Fe2O3", "Ca3(PO4)2", "NaCl", "Fe2 O3"]
    assert split_formulas(" ,\n;") == []


@pytest.mark.parametrize("text", ["H2O3x", "Xx2", "/etc/passwd", "POSCAR", "<script>alert(1)</script>", "H" * 5000])
def test_what_is_no_formula(text):
    entry = formula_entry(text)
    assert entry.amounts is None and entry.error
    assert len(entry.name) <= 203


def test_a_formula_is_never_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "POSCAR").write_text("Mg O\n")
    assert "no formula" in formula_entry("POSCAR").error or "no element" in formula_entry("POSCAR").error


def test_formulas_up_to_the_room_that_there_is():
    found = list(formula_entries("Fe2O3,NaCl,MgO,CaO", room=2))
    assert [entry.error is None for entry in found] == [True, True, False]
    assert "left out" in found[-1].error
