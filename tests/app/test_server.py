"""What the server answers, and to whom."""

import errno
import io
import json
import socket
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ase_matprop.app import security
from ase_matprop.app.limits import Limits, in_words
from ase_matprop.app.predicting import choices, suited
from ase_matprop.app.runs import RunFiles, check_table, kind_of, safe_path, take
from ase_matprop.app.tuning import Tuning, TuningSettings, progress_of, reason_of
from ase_matprop.app.uploads import Shelf, receive
from ase_matprop.errors import FinetuneError
from ase_matprop.finetune.vasp.files import find_runs

EXAMPLES = Path(__file__).parents[2] / "examples" / "structures"
HOST = {"Host": "127.0.0.1:8050"}
PAGE = {**HOST, "Origin": "http://127.0.0.1:8050"}


@pytest.mark.parametrize(
    ("method", "host", "origin", "site", "fine"),
    [
        ("GET", "127.0.0.1:8050", None, None, True),
        ("GET", "localhost:9999", None, "cross-site", True),  # a link from elsewhere to the page
        ("GET", "[::1]:8050", None, None, True),
        ("GET", "evil.com:8050", None, None, False),
        ("GET", "127.0.0.1.evil.com", None, None, False),
        ("GET", "localhost.evil.com:8050", None, None, False),
        ("GET", None, None, None, False),
        ("GET", "", None, None, False),
        ("GET", "127.0.0.1:8050", "http://evil.com", None, False),
        ("POST", "127.0.0.1:8050", "http://127.0.0.1:8050", "same-origin", True),
        ("POST", "127.0.0.1:8050", None, None, False),
        ("POST", "127.0.0.1:8050", "null", None, False),
        ("POST", "127.0.0.1:8050", "http://evil.com", "cross-site", False),
        ("POST", "127.0.0.1:8050", "http://127.0.0.1:3000", "same-site", False),
        ("POST", "127.0.0.1:8050", "http://localhost:8050", None, False),
        ("POST", "127.0.0.1:8050", "https://127.0.0.1:8050", None, False),
        ("POST", "evil.com:8050", "http://evil.com:8050", "same-origin", False),
    ],
)
def test_who_is_answered(method, host, origin, site, fine):
    assert (security.refusal(method, host, origin, site) is None) is fine


def test_policy_has_no_wildcards():
    policy = security.headers(["'sha256-x'"])["Content-Security-Policy"]
    assert "*" not in policy and "http" not in policy and "unsafe-eval" not in policy
    script = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert script == "script-src 'self' 'sha256-x'"


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    pytest.importorskip("dash")
    from ase_matprop.app.state import State

    found = State(tmp_path_factory.mktemp("models"), Limits(upload=50_000, sessions=50))
    yield found
    found.close()


@pytest.fixture(scope="module")
def client(state):
    from ase_matprop.app.server import create

    return create(state).server.test_client()


def send(client, token, name, content, purpose="structures", headers=PAGE):
    return client.post(
        f"/upload?purpose={purpose}", data=content, headers={**headers, "X-Session": token, "X-File-Name": name}
    )


def test_the_page_and_its_headers(client):
    answer = client.get("/", headers=HOST)
    assert answer.status_code == 200
    assert "script-src 'self' 'sha256-" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Frame-Options"] == "DENY" and answer.headers["Cache-Control"] == "no-store"
    assert "https://" not in answer.text  # nothing comes from elsewhere


def test_other_names_and_other_pages_get_nothing(client, state):
    token = state.sessions.open().token
    assert client.get("/", headers={"Host": "evil.com"}).status_code == 403
    for headers in (HOST, {**HOST, "Origin": "http://evil.com"}):
        assert send(client, token, "POSCAR", b"x", headers=headers).status_code == 403
        assert client.post("/_dash-update-component", json={}, headers=headers).status_code == 403
        assert client.post("/close", data=token, headers=headers).status_code == 403
    assert state.sessions.get(token)


def test_no_agent_interface(client):
    assert "react-entry-point" in client.get("/_mcp", headers=HOST).text  # the page itself, as for any other address
    assert client.post("/_mcp", json={}, headers=PAGE).status_code in (404, 405)


def test_upload_goes_to_its_session_only(client, state):
    one, other = state.sessions.open(), state.sessions.open()
    answer = send(client, one.token, "N%C3%A4%20POSCAR", (EXAMPLES / "POSCAR_MgO").read_bytes())
    assert answer.json == {"added": 1, "failed": 0, "text": ""}
    assert one.entries[0].name == "Nä POSCAR" and other.entries == []


def test_upload_without_a_session(client):
    answer = send(client, "guess", "POSCAR", b"x")
    assert answer.status_code == 410 and "reload" in answer.json["text"]


def test_upload_that_is_too_large(client, state):
    session = state.sessions.open()
    answer = send(client, session.token, "POSCAR", bytes(60_000))
    assert answer.status_code in (413, 422)
    assert session.entries == [] and not list(session.folder.iterdir())


def test_callbacks_are_small(client):
    big = json.dumps({"x": "y" * 3_000_000})
    answer = client.post("/_dash-update-component", data=big, headers={**PAGE, "Content-Type": "application/json"})
    assert answer.status_code == 413


def test_table_of_formulas_and_reference_values(client, state):
    session = state.sessions.open()
    assert send(client, session.token, "f.csv", b"formula,e\nFe2O3,-1.7\nH2O3x,1\n").json["added"] == 2
    assert session.references == {"e": {0: -1.7, 1: 1.0}}
    answer = send(client, session.token, "r.csv", b"formula,dft\nFe2O3,-1.8\n", purpose="references")
    assert "1 of 2 entries" in answer.json["text"]
    assert session.references["dft"] == {0: -1.8}
    more = b"formula,dft\nFe2O3,\nNaCl,-2\n"
    send(client, session.token, "g.csv", b"formula\nNaCl\n")
    send(client, session.token, "r.csv", more, purpose="references")
    assert session.references["dft"] == {0: -1.8, 2: -2.0}  # a second table adds to the first
    answer = send(client, session.token, "r.csv", b"\x00\x01", purpose="references")
    assert answer.status_code == 422 and not list(session.folder.iterdir())
    assert send(client, session.token, "r.csv", b"x", purpose="other").status_code == 422


def test_closing(client, state):
    session = state.sessions.open()
    assert client.post("/alive", headers={**PAGE, "X-Session": session.token}).status_code == 204
    assert client.post("/close", data=session.token, headers=PAGE).status_code == 204
    assert not session.folder.exists()
    assert client.post("/alive", headers={**PAGE, "X-Session": session.token}).status_code == 410


def test_a_port_in_use_is_named_with_a_remedy():
    pytest.importorskip("dash")
    from ase_matprop.cli import app

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = CliRunner().invoke(app, ["app", "--no-browser", "--port", str(port)])
    assert result.exit_code == 2
    assert f"the port {port} is in use" in result.output and f"--port {port + 1}" in result.output


def test_ports_that_cannot_be():
    from ase_matprop.app.server import port_problem

    assert "for the system" in port_problem(80, PermissionError(13, "Permission denied"))
    assert "--port 8050" in port_problem(65_535, OSError(99, "other"))


def test_models_can_be_chosen(tmp_path):
    found = choices(tmp_path / "none")
    assert found["irnet17-mp"].needs_structure and not found["elemnet-mp"].needs_structure
    assert {choice.origin for choice in found.values()} == {"shipped"}
    broken = tmp_path / "models" / "broken"
    broken.mkdir(parents=True)
    (broken / "card.json").write_text("{}")
    assert "broken" not in choices(broken.parent)


def test_a_formula_does_not_do_where_a_structure_is_needed():
    from ase_matprop.app.formulas import formula_entry

    entry = suited(formula_entry("Fe2O3"), choices(Path("none"))["irnet17-mp"])
    assert entry.atoms is None and "needs a structure" in entry.error


def test_predictions_of_structures_and_formulas(tmp_path):
    from ase.build import bulk

    from ase_matprop.app.formulas import formula_entry
    from ase_matprop.app.jobs import Job
    from ase_matprop.app.predicting import predict_all
    from ase_matprop.app.sessions import Session
    from ase_matprop.models import load_model
    from ase_matprop.structures import StructureEntry

    session = Session("t", Shelf(tmp_path, Limits()))
    salt = bulk("NaCl", "rocksalt", a=5.64)
    session.add(
        [StructureEntry("salt", salt, None), formula_entry("NaCl"), formula_entry("H2O3x"), formula_entry("RnF2")]
    )
    job = Job()
    text = predict_all(job, session, [choices(tmp_path)["elemnet-mp"]])
    run = session.runs["elemnet-mp"]
    assert run.predictions.values[:2] == pytest.approx(load_model("elemnet-mp").predict(["NaCl"]).values[0], abs=1e-5)
    assert [error is None for error in run.predictions.errors] == [True, True, False, False]
    assert "never saw Rn" in run.predictions.errors[3]
    assert text == "finished: 2 values of 1 model, 2 failed; the table says why"
    assert job.share == 1.0
    session.runs, session.jobs["predict"] = {}, Job()  # another run was started meanwhile
    predict_all(job, session, [choices(tmp_path)["elemnet-mp"]])
    assert session.runs == {}
    predict_all(session.jobs["predict"], session, [choices(tmp_path)["elemnet-mp"]])
    assert list(session.runs) == ["elemnet-mp"]


def test_calculations_are_unpacked_below_their_folder(tmp_path):
    shelf = Shelf(tmp_path, Limits())
    runs = RunFiles(tmp_path / "calculations")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("a/vasprun.xml", "../../OUTCAR", "a/POTCAR", "b/.hidden/OUTCAR"):
            archive.writestr(name, "x")
    take(receive(io.BytesIO(stream.getvalue()), shelf), "runs.zip", shelf, runs)
    assert sorted(runs.runs) == ["a/vasprun.xml", "b/.hidden/OUTCAR"]
    assert len(runs.passed_over) == 1 and list(runs.refused) == ["runs.zip/../../OUTCAR"]
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["calculations/runs/a/vasprun.xml", "calculations/runs/b/hidden-16924190/OUTCAR"]
    assert runs.data == [str(tmp_path / "calculations" / "runs")]


@pytest.mark.parametrize(
    ("name", "path"),
    [("a/b c/vasprun.xml.gz", "runs/a/b_c-47d8a4a8/vasprun.xml"), ("../../x/OUTCAR", "runs/x/OUTCAR"),
     ("/etc/OUTCAR", "runs/etc/OUTCAR"), ("..", "runs/file"), ("a\\..\\OUTCAR", "runs/a/OUTCAR")],
)  # fmt: skip
def test_safe_paths(name, path):
    assert str(safe_path(name, top="runs")) == path


def test_names_in_other_scripts_stay_apart(tmp_path):
    names = ["计算一/OUTCAR", "计算二/OUTCAR", "计/算/OUTCAR", "OUTCAR", "x/OUTCAR.一", "x/OUTCAR.二", "_/OUTCAR"]
    paths = [safe_path(name) for name in names]
    assert len(set(paths)) == len(names) and all(str(path).isascii() for path in paths)
    assert [len(path.parts) for path in paths] == [2, 2, 3, 1, 2, 2, 2]
    assert safe_path("数据.extxyz.gz").suffix == ".extxyz"
    # a vasprun.xml and the OUTCAR beside it are still known as one run
    for pair in (("vasprun 一.xml", "OUTCAR 一.gz"), ("vasprun.xml.一", "OUTCAR.一"), ("一_vasprun.xml", "一_OUTCAR")):
        folder = tmp_path / safe_path(pair[0], top="runs").stem
        folder.mkdir()
        for name in pair:
            (folder / safe_path(name)).touch()
        (run,) = find_runs(folder)
        assert len(run.files) == 2


def test_a_file_where_a_folder_should_be(client, state):
    session = state.sessions.open()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("r/OUTCAR", "r/OUTCAR/vasprun.xml", "r/vasprun.xml"):
            archive.writestr(name, "x")
    answer = send(client, session.token, "a.zip", stream.getvalue(), purpose="runs")
    assert answer.status_code == 200 and (answer.json["added"], answer.json["failed"]) == (2, 1)
    assert "a.zip/r/OUTCAR/vasprun.xml cannot be stored (" in answer.json["text"]
    assert not [path for path in session.folder.iterdir() if path.is_file()]


def test_a_full_disk(client, state, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    session = state.sessions.open()
    monkeypatch.setattr("ase_matprop.app.routes.receive", full)
    answer = send(client, session.token, "POSCAR", b"x")
    assert answer.status_code == 507 and "No space left" in answer.json["text"] and answer.json["added"] == 0


@pytest.mark.parametrize(
    ("name", "kind"),
    [("vasprun.xml", "vasprun"), ("ZrO2_vasprun.xml.bz2", "vasprun"), ("OUTCAR.relax1", "outcar"),
     ("a.extxyz", "extxyz"), ("a.csv.gz", "table"), ("POTCAR", None), ("a.db", None), ("a.traj", None)],
)  # fmt: skip
def test_kinds_of_calculations(name, kind):
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("formula,energy\nFe2O3,1\n", True),
        ("formula,energy\n/etc/passwd,1\n", False),
        ("formula,structure\nFe2O3,/etc/passwd\n", False),
        ("structure,formula\n/x,Fe2O3\n", False),
        ("name,energy\nx,1\n", False),
    ],
)
def test_tables_to_learn_from_name_no_files(tmp_path, text, good):
    path = tmp_path / "a.csv"
    path.write_text(text)
    if good:
        check_table(path, 1000)
    else:
        with pytest.raises(ValueError):
            check_table(path, 1000)


def settings(**kwargs):
    return TuningSettings(**{"model": Path("m"), "name": "mine", "data": ["-d"], **kwargs})


@pytest.mark.parametrize(
    "given", [{"name": "../x"}, {"name": "-x"}, {"name": ""}, {"scheme": "TL9"}, {"epochs": 0}, {"column": "--force"},
              {"references": "/etc/passwd"}],
)  # fmt: skip
def test_settings_that_cannot_be_used(given):
    with pytest.raises(FinetuneError):
        settings(**given).check()


def test_the_command_cannot_be_extended():
    command = settings(column="a b; rm -rf /", epochs=3).command(Path("out"))
    assert command[-3:] == ["--", "m", "-d"]
    assert "--column=a b; rm -rf /" in command and "--epochs=3" in command


def test_progress_of_a_training(tmp_path):
    assert progress_of("", tmp_path) == (0, 0, "reading the calculations")
    line = "INFO: training fine-tuned: 40 rows, 5 for validation, up to 30 epochs"
    history = tmp_path / "work" / "fine-tuned_0" / "member_0" / "history.csv"
    history.parent.mkdir(parents=True)
    history.write_text("epoch,loss\n0,1\n1,1\n")
    done, total, text = progress_of(line, tmp_path)
    assert (done, total) == (2, 30) and "40 rows: epoch 2 of at most 30" in text


def test_the_reason_is_that_of_the_process(tmp_path):
    assert reason_of(["INFO: x", "matprop: there are no runs", ""]) == "there are no runs"
    assert reason_of(["Traceback", "MemoryError", ""]).endswith("MemoryError")
    assert Tuning(settings(), tmp_path).report() is None


def test_the_documentation_has_the_limits():
    text = (Path(__file__).parents[2] / "docs" / "app.md").read_text(encoding="utf-8")
    limits = Limits()
    for words in (
        f"| one file or zip file | {in_words(limits.upload)} |",
        f"| POSCAR, CIF, table, unpacked | {in_words(limits.largest['cif'])} |",
        f"| extxyz, unpacked | {in_words(limits.largest['extxyz'])} |",
        f"| vasprun.xml, OUTCAR, unpacked | {in_words(limits.largest['vasprun'])} |",
        f"{limits.members:,} files, {in_words(limits.expanded)} unpacked, none of them more than {limits.ratio} times",
        f"| entries of a session | {limits.entries:,} |",
        f"| atoms of a structure | {limits.atoms} |",
        f"| tabs at a time | {limits.sessions} |",
    ):
        assert words in text
    assert limits.idle == 3 * 3600 and "three hours" in text
    assert limits.largest["poscar"] == limits.largest["cif"] == limits.largest["table"]
