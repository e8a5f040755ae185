"""benchmarks/transfer.py does not take the results of other settings for its own."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from ase_matprop.models import artefact
from tests.conftest import untrained_model

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "transfer.py"


@pytest.fixture(scope="module")
def transfer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("transfer", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_settings_and_source_are_part_of_the_key(transfer: ModuleType, metal_schnet: Path, tmp_path: Path) -> None:
    given = {"l2": 0.0, "schedule": "plateau", "epochs": None, "learning_rate": None, "batch_size": None}
    source = artefact.load(metal_schnet)
    other = artefact.load(untrained_model(tmp_path / "other", network="schnet"))

    def digest(model: artefact.Artefact, **changes: object) -> str:
        return transfer._digest(model, transfer._settings(model, "TL1", argparse.Namespace(**given | changes)))

    changes = [{"l2": 0.1}, {"schedule": "one_cycle"}, {"epochs": 3}, {"learning_rate": 2e-5}, {"batch_size": 4}]
    digests = [digest(source), digest(other), *(digest(source, **change) for change in changes)]
    assert len(set(digests)) == len(digests) and digest(source) == digests[0]


def test_tables_that_do_not_say_are_refused(transfer: ModuleType, tmp_path: Path) -> None:
    table = tmp_path / "transfer.csv"
    assert transfer._done(table) == set()
    table.write_text("set,n,part,seed,scheme,mae\ntmo,100,0,0,TL1,0.05\n")
    with pytest.raises(SystemExit, match="choose another --output"):
        transfer._done(table)
    table.write_text("set,n,part,seed,scheme,made_with,mae\ntmo,100,0,0,TL1,0123,0.05\n")
    assert transfer._done(table) == {("tmo", "100", "0", "0", "TL1", "0123")}
