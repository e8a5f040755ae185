"""``matprop info`` and the completion of the shell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

import ase_matprop
from ase_matprop import environment, list_models
from ase_matprop.cli import app
from ase_matprop.cli.completion import model_names
from ase_matprop.diffraction import shipped
from ase_matprop.environment import Library, describe_environment


@pytest.fixture(scope="module")
def described() -> environment.Environment:
    return describe_environment()


def test_what_is_described(described: environment.Environment) -> None:
    assert described.version == ase_matprop.__version__
    assert described.python.startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert described.problems == []
    assert described.devices[0].name == "cpu"
    assert described.threads["cores"] == os.cpu_count() and described.threads["torch"] >= 1
    assert Path(described.folders["models"]).is_dir()


def test_models_are_verified(described: environment.Environment) -> None:
    assert [model.name for model in described.models] == [*list_models(), *shipped.list_models()]
    assert all(model.problem is None and model.n_bytes > 10_000 for model in described.models)


def test_libraries_are_those_of_the_installation(described: environment.Environment) -> None:
    needed = [Requirement(line) for line in metadata.requires("ase-matprop") if "extra ==" not in line]
    assert {library.name for library in described.libraries} == {requirement.name for requirement in needed}
    assert all(library.accepted and library.version for library in described.libraries)
    torch = next(library for library in described.libraries if library.name == "torch")
    assert torch.version == metadata.version("torch") and torch.required.startswith(">=")


def test_extras(described: environment.Environment) -> None:
    assert {"screening", "export", "onnx"} <= described.extras.keys() and "dev" not in described.extras
    # an extra that names another one has its packages
    assert described.extras["onnx"] == described.extras["export"]
    assert {library.name for library in described.extras["export"]} == {"h5py", "onnx", "onnxruntime"}


def test_missing_and_too_old_packages() -> None:
    wanted = [Requirement("numpy>=999"), Requirement("no-such-package-at-all>=1"), Requirement("numpy>=999")]
    missing, old = environment._libraries(wanted)
    assert missing == Library("no-such-package-at-all", ">=1", None, False)
    assert str(missing) == "no-such-package-at-all missing"
    assert not old.accepted and str(old) == f"numpy {metadata.version('numpy')} (needs >=999)"


def test_without_an_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(environment.metadata, "metadata", not_found)
    monkeypatch.setattr(environment.metadata, "version", not_found)
    described = describe_environment()
    assert described.installed_version is None and described.libraries == [] and described.extras == {}
    assert "not installed" in described.problems[0]


def test_broken_torch_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("libtorch_cpu.so: cannot open shared object file")

    monkeypatch.setattr(environment.importlib, "import_module", broken)
    described = describe_environment()
    assert described.devices == [] and "libtorch_cpu.so" in described.problems[0]


def test_damaged_models_are_named(tmp_path: Path) -> None:
    source = list_models()["schnet-mp"]
    for name in ("sound", "altered", "no-weights", "no-card", "card-cut-off"):
        shutil.copytree(source, tmp_path / name)
    weights = tmp_path / "altered" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    (tmp_path / "no-weights" / "weights.safetensors").unlink()
    (tmp_path / "no-card" / "card.json").unlink()
    card = tmp_path / "card-cut-off" / "card.json"
    card.write_text(card.read_text()[:100])
    problems: list[str] = []
    found = {model.name: model.problem for model in environment._models(tmp_path, problems)}
    assert found.pop("sound") is None and "SHA-256" in found["altered"]
    assert len(found) == 4 and all(found.values()) and problems == []
    assert environment._models(tmp_path / "nowhere", problems) == [] and "nowhere" in problems[0]


def test_info_for_people_and_machines() -> None:
    result = CliRunner().invoke(app, ["info"])
    assert result.exit_code == 0
    for text in (ase_matprop.__version__, "torch", "schnet-mp", "weights verified", "screening", "cores"):
        assert text in result.stdout
    found = json.loads(CliRunner().invoke(app, ["info", "--json"]).stdout)
    assert found["version"] == ase_matprop.__version__
    assert {model["name"] for model in found["models"]} == {*list_models(), *shipped.list_models()}
    assert found["extras"]["export"][0] == {
        "name": "h5py",
        "required": ">=3.10",
        "version": metadata.version("h5py"),
        "accepted": True,
    }


def test_info_shows_only_harmless_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MP_API_KEY", "do-not-tell-anybody")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    result = CliRunner().invoke(app, ["info"])
    assert "OMP_NUM_THREADS=7" in result.stdout and "do-not-tell" not in result.stdout


def test_paths_with_brackets_are_shown_as_they_are(
    monkeypatch: pytest.MonkeyPatch, described: environment.Environment
) -> None:
    from dataclasses import replace

    odd = replace(described, executable="/home/[bold]/python", installed_version="9.9")
    monkeypatch.setattr(environment, "describe_environment", lambda: odd)
    result = CliRunner().invoke(app, ["info"])
    assert "/home/[bold]/python" in result.stdout and "9.9 is installed" in result.stdout


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0 and result.stdout.split() == ["ase_matprop", ase_matprop.__version__]


def complete(shell: str, line: str, **variables: str) -> str:
    words = line.split(" ")
    asked = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    code = "import sys; sys.argv = ['matprop']; from ase_matprop.cli import app; app(prog_name='matprop')"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "_MATPROP_COMPLETE": f"complete_{shell}", **asked, **variables},
    )
    return result.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_names_of_models_are_completed(shell: str) -> None:
    for line in ("matprop predict POSCAR --model irnet17-m", "matprop models info irnet17-m"):
        assert "irnet17-mp" in complete(shell, line) and "irnet17-bandgap" not in complete(shell, line)


def test_commands_and_options_are_completed() -> None:
    assert {"predict", "featurize", "models", "info"} <= set(complete("bash", "matprop ").split())
    assert "--compare-with" in complete("bash", "matprop predict --comp")
    assert complete("bash", "matprop predict --model /etc/").strip() == ""  # files are the shell's business


def test_model_names() -> None:
    assert model_names("") == list(list_models())
    assert model_names("nn2") == ["nn20-mp", "nn24-mp"] and model_names("x") == []


def test_completion_is_on() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert "--install-completion" in result.stdout and "--show-completion" in result.stdout


def test_completion_imports_nothing_heavy() -> None:
    code = (
        "import sys; from ase_matprop.cli.completion import model_names; model_names('')\n"
        "print([m for m in ('torch', 'pymatgen', 'matminer', 'pandas', 'ase', 'pydantic') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
