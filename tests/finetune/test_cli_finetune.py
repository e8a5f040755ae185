"""``matprop finetune`` and ``matprop learning-curve``, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from ase import Atoms
from ase.io import write
from typer.testing import CliRunner

from ase_matprop import load_model
from ase_matprop.cli import app
from ase_matprop.finetune.run import finetune
from tests.finetune.alloys import alloys

RUNNER = CliRunner()


def run(*arguments: object):
    return RUNNER.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def file(labelled: list[Atoms], tmp_path: Path) -> Path:
    write(tmp_path / "lab.extxyz", labelled)
    return tmp_path / "lab.extxyz"


def test_help() -> None:
    result = run("--help")
    assert "finetune" in result.stdout and "learning-curve" in result.stdout
    for command in ("finetune", "learning-curve"):
        result = run(command, "--help")
        assert result.exit_code == 0 and "--references" in result.stdout


def test_finetune(metal_schnet: Path, file: Path, tmp_path: Path) -> None:
    output = tmp_path / "my_alloys"
    result = run("finetune", metal_schnet, file, "--scheme", "TL2", "-o", output, "--epochs", 2, "--batch-size", 8)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("my_alloys is better than metals on the ") and "eV/atom" in lines[0]
    for name in ("source", "source, shifted", "fine-tuned", "from scratch", "Report: ", "Model folder: "):
        assert name in result.stdout
    card = load_model(output).card
    assert card.recipe["training"]["max_epochs"] == 2 and card.recipe["finetune"]["scheme"] == "TL2"
    assert run("predict", file, "--model", output).exit_code == 0


def test_not_better_is_exit_code_1(metal_schnet: Path, tmp_path: Path) -> None:
    structures = [atoms.copy() for atoms in alloys(12, label="e_form")]
    for atoms, value in zip(structures, load_model(metal_schnet).predict(structures).values, strict=True):
        atoms.info = {"e_form": float(value)}
    write(tmp_path / "lab.extxyz", structures)
    command = ["finetune", metal_schnet, tmp_path / "lab.extxyz", "--column", "e_form", "-o", tmp_path / "out"]
    command += ["--epochs", 1, "--no-scratch"]
    result = run(*command)
    assert result.exit_code == 1
    assert "is NOT better than metals" in result.stdout.splitlines()[0]
    assert "--resume --force" in result.stdout and not (tmp_path / "out" / "card.json").exists()
    result = run(*command, "--resume", "--force")
    assert result.exit_code == 0 and "saved only because that was forced" in result.stdout
    assert "from scratch" not in result.stdout
    assert load_model(tmp_path / "out").card.name == "out"


def test_vasp_runs(synthetic, metal_schnet: Path, tmp_path: Path) -> None:
    synthetic.write_runs(tmp_path / "runs", elements=("Cu", "Au"), n_random=5)
    command = ("finetune", metal_schnet, tmp_path / "runs", "-o", tmp_path / "out", "--epochs", 1, "--no-scratch")
    result = run(*command, "--force", "--folds", 2)
    assert result.exit_code == 0, result.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["references"]["kind"] == "runs" and set(report["references"]["energies"]) == {"Cu", "Au"}
    assert len(report["rejected"]) == 2  # the elements' own runs
    result = run(*command[:4], tmp_path / "forces", *command[5:], "--references", "none", "--forces", "--force")
    assert result.exit_code == 0 and "of the forces" in result.stdout.splitlines()[0], result.stderr


def test_errors_are_one_line(metal_schnet: Path, file: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (("finetune", "schnett", file, "-o", tmp_path / "a"), "schnett"),
        (("finetune", metal_schnet, file, "-o", tmp_path / "a", "--scheme", "TL7"), "unknown fine-tuning scheme 'TL7'"),
        (("finetune", metal_schnet, tmp_path / "nothing", "-o", tmp_path / "a"), "nothing"),
        (("finetune", metal_schnet, file, "-o", tmp_path), "is not empty"),
        (("learning-curve", metal_schnet, file, "-o", tmp_path / "a", "--sizes", "8,x"), "--sizes must be whole"),
        (("learning-curve", metal_schnet, file, "-o", tmp_path / "a", "--learning-rates", "fast"), "must be numbers"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2 and words in result.stderr
        assert result.stderr.startswith("matprop: ") and len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(("command", "name"), [("finetune", "finetune"), ("learning-curve", "learning_curve")])
def test_interruption_says_how_to_go_on(
    command: str, name: str, metal_schnet: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"ase_matprop.finetune.{ {'finetune': 'run'}.get(name, 'curves') }.{name}", interrupted)
    result = run(command, metal_schnet, file, "-o", tmp_path / "out")
    assert result.exit_code == 130 and "the same command and --resume" in result.stderr


def test_learning_curve(metal_schnet: Path, file: Path, tmp_path: Path) -> None:
    output = tmp_path / "curve"
    command = ["learning-curve", metal_schnet, file, "-o", output, "--sizes", "6,12", "--schemes", "TL1,scratch"]
    command += ["--rounds", "1,2", "--learning-rates", "0.1", "--repeats", 1]
    result = run(*command)
    assert result.exit_code == 0, result.stderr
    assert "is the best with 12 rows" in result.stdout.splitlines()[0]
    assert "TL1, 0.1 of the learning rate, 2 rounds" in result.stdout and "from scratch, 1 rounds" in result.stdout
    assert len(pd.read_csv(output / "learning_curve.csv")) == (2 + 2) * 2 + 2 + 1
    assert run(*command).exit_code == 2
    assert run(*command, "--resume").exit_code == 0
    assert (output / "learning_curve.png").is_file()


def test_rejected_rows_are_counted(metal_schnet: Path, labelled: list[Atoms], tmp_path: Path) -> None:
    data = [atoms.copy() for atoms in labelled]
    data[3].info["formation_energy_per_atom"] = -1e6
    data[4].info.clear()
    write(tmp_path / "lab.extxyz", data)
    few = (metal_schnet, tmp_path / "lab.extxyz", "-o")
    for result in (
        run("finetune", *few, tmp_path / "out", "--epochs", 1, "--no-scratch", "--force"),
        run("learning-curve", *few, tmp_path / "curve", "--sizes", 8, "--rounds", 1, "--repeats", 1),
    ):
        assert result.exit_code == 0, result.stderr
        (line,) = [line for line in result.stderr.splitlines() if "rejected" in line]
        assert line.startswith("28 of 30 rows used, 2 rejected: lab.extxyz#") and "an energy of -1e+06 eV/atom" in line
    assert len(json.loads((tmp_path / "curve" / "learning_curve.json").read_text())["rejected"]) == 2


def test_device_is_one_line(metal_schnet: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for command in ("finetune", "learning-curve"):
        result = run(command, metal_schnet, file, "-o", tmp_path / "out", "--device", "cuda")
        assert result.exit_code == 2 and "--device cpu" in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_table_fits_on_80_columns(
    metal_schnet: Path, calculated: list[Atoms], tmp_path: Path, capsys: pytest.CaptureFixture, caplog
) -> None:
    from rich.console import Console

    import ase_matprop.cli.finetuning as module

    with pytest.MonkeyPatch.context() as patch, caplog.at_level("INFO", "ase_matprop.finetune.run"):
        patch.setattr(module, "_console", lambda: Console(width=80, highlight=False))
        options = {"references": "none", "forces": True, "epochs": 1, "force": True, "batch_size": 8}
        module._show_result(finetune(metal_schnet, calculated, output=tmp_path / "out", **options))
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if "held-out rows, eV/atom" in line)
    shown = lines[start : start + 8]
    assert max(map(len, shown)) <= 80 and "\u2026" not in "".join(shown)
    for word in ("MAE", "RMSE", "median", "largest", "kcal/mol", "per atom", "per cell", "Angstrom", "from scratch"):
        assert any(word in line for line in shown), (word, shown)
    said = [message for message in caplog.messages if message.startswith("training ")]
    assert [message.partition(":")[0] for message in said] == ["training fine-tuned", "training from scratch"]


def test_function_of_the_command() -> None:
    import ase_matprop.finetune

    assert ase_matprop.finetune.finetune is finetune
