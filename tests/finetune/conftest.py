"""Synthetic VASP runs; their generator is that of the example."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import ase
import pytest
from ase import Atoms
from ase.build import bulk

from tests.conftest import untrained_model
from tests.finetune.alloys import METALS, alloys

GENERATOR = Path(__file__).parents[2] / "examples" / "finetune_vasp" / "synthetic_runs.py"


def _load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("synthetic_runs", GENERATOR)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look there for their annotations
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    return _load_generator()


@pytest.fixture(scope="session")
def relaxed(synthetic: ModuleType) -> dict[str, list[Atoms]]:
    """Relaxations of copper, gold and an alloy of them; every step with its results."""
    alloy = bulk("Cu", "fcc", a=3.85, cubic=True)
    alloy.symbols[[0, 1]] = "Au"
    return {
        "Cu": synthetic.relaxation(bulk("Cu", a=3.65)),
        "Au": synthetic.relaxation(bulk("Au", a=4.12)),
        "CuAu": synthetic.relaxation(alloy),
    }


@pytest.fixture
def project(synthetic: ModuleType, relaxed: dict[str, list[Atoms]], tmp_path: Path) -> Path:
    """A folder with three runs at different depths."""
    settings = synthetic.Settings(nsw=60, ibrion=2)
    folder = tmp_path / "runs"
    for place, name in (("elements/Cu", "Cu"), ("elements/Au", "Au"), ("alloys/ordered/CuAu", "CuAu")):
        synthetic.write_vasprun(folder / place / "vasprun.xml", relaxed[name], settings)
    return folder


@pytest.fixture(scope="session")
def ase_data() -> Path:
    """Files of VASP that ASE installs for its own tests; real ones."""
    folder = Path(ase.__file__).parent / "test" / "testdata" / "vasp"
    if not (folder / "vasprun_pstress.xml").exists():
        pytest.skip("this version of ASE comes without the files of VASP")
    return folder


@pytest.fixture(scope="session")
def metal_schnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SchNet with random weights that pretends to know the metals of the EMT potential."""
    folder = tmp_path_factory.mktemp("models") / "metals"
    return untrained_model(folder, network="schnet", n_members=1, elements=METALS)


@pytest.fixture(scope="session")
def labelled() -> list[Atoms]:
    """Alloys whose ``info`` has a formation energy."""
    return alloys(30, label="formation_energy_per_atom")


@pytest.fixture(scope="session")
def calculated() -> list[Atoms]:
    """Alloys with energy and forces of a calculation."""
    return alloys(30)
