"""The package as a whole: light to import, and nothing global changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ase_matprop


def run_python(code: str, folder: Path | None = None) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    return result.stdout.strip()


def test_import_is_light() -> None:
    code = (
        "import sys, ase_matprop, ase_matprop.ase_plugin\n"
        "print([m for m in ('torch', 'pymatgen', 'matminer', 'freud', 'lightning', 'pandas') if m in sys.modules])"
    )
    assert run_python(code) == "[]"


def test_public_names() -> None:
    assert len(ase_matprop.__all__) < 10
    for name in ase_matprop.__all__:
        assert getattr(ase_matprop, name) is not None
    assert set(ase_matprop.__all__) <= set(dir(ase_matprop))


def test_standard_error_of_others_is_not_lost() -> None:
    """voro++'s messages are kept away through the file descriptor; what other threads write meanwhile must arrive."""
    code = (
        "import os, threading, ase_matprop\n"
        "from ase.build import bulk\n"
        "from ase_matprop.descriptors import ward2017\n"
        "stop = threading.Event(); written = 0\n"
        "def write():\n"
        "    global written\n"
        "    while not stop.is_set():\n"
        "        os.write(2, b'line\\n'); written += 1; stop.wait(0.001)\n"
        "thread = threading.Thread(target=write); thread.start()\n"
        "ward2017.compute([bulk('Cu', cubic=True) * (3, 3, 3)] * 10); stop.set(); thread.join(); print(written)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.count("line\n") == int(result.stdout) > 0


def test_nothing_global_is_changed() -> None:
    code = (
        "import os, warnings, numpy, torch\n"
        "state = lambda: (torch.get_default_dtype(), torch.get_num_threads(), dict(os.environ), os.getcwd(),\n"
        "                 numpy.geterr(), list(warnings.filters), torch.initial_seed(),\n"
        "                 numpy.random.get_state()[1].tolist())\n"
        "import ase_matprop, pandas, freud, pydantic, joblib, scipy.spatial, safetensors.torch, ase.db\n"
        "from ase.build import bulk\n"
        "before = state()\n"
        "atoms = bulk('NaCl', 'rocksalt', 5.64); atoms.calc = ase_matprop.MatProp(); atoms.get_potential_energy()\n"
        "print(before == state())"
    )
    assert run_python(code) == "True"


def test_schnetpack_changes_nothing_global(schnet_model: Path, tmp_path: Path) -> None:
    """What its import does to warnings and logging is undone, and it leaves no file in the working directory."""
    code = (
        "import logging, os, warnings, numpy, torch\n"
        "state = lambda: (torch.get_default_dtype(), torch.get_num_threads(), dict(os.environ), os.getcwd(),\n"
        "                 numpy.geterr(), list(warnings.filters), torch.get_rng_state().tolist(),\n"
        "                 numpy.random.get_state()[1].tolist(), logging.getLogger().level,\n"
        "                 logging.getLogger().handlers[:])\n"
        "import ase_matprop, pandas, freud, pydantic, joblib, scipy.spatial, safetensors.torch, lightning.pytorch\n"
        "import matscipy.neighbours\n"
        "from ase.build import bulk\n"
        "before = state()\n"
        f"atoms = bulk('NaCl', 'rocksalt', 5.64); atoms.calc = ase_matprop.SchNet({str(schnet_model)!r})\n"
        "atoms.get_forces()\n"
        "print([what for what, other in zip(before, state()) if what != other], os.listdir())"
    )
    assert run_python(code, tmp_path) == "[] []"
