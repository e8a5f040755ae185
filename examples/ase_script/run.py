"""The script of script_emt.py with another calculator: nothing but the two lines that choose it is different.

python examples/ase_script/run.py
"""

import difflib
import runpy
import tempfile
from pathlib import Path

SCRIPT = Path(__file__).with_name("script_emt.py")


def with_calculator(text: str, name: str, model: str) -> str:
    """Return the script with the lines of the calculator replaced."""
    changed = text.replace("from ase.calculators.emt import EMT\n", f"from ase_matprop import {name}\n")
    return changed.replace("EMT()", f'{name}("{model}")')


def show(text: str, original: str, label: str) -> None:
    """Run a script and print the difference to the original before what it prints."""
    changes = difflib.unified_diff(original.splitlines(), text.splitlines(), lineterm="", n=0)
    print(f"\n{label}", flush=True)
    for line in changes:
        if line[:1] in "+-" and not line.startswith(("+++", "---")):
            print(f"  {line}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "script.py"
        path.write_text(text)
        runpy.run_path(str(path))


original = SCRIPT.read_text()
show(original, original, "EMT, the script as it is")
show(with_calculator(original, "SchNet", "schnet-mp"), original, "SchNet: relaxation, equation of state, energies")

# a network on descriptors has no forces: the static part of the same script
static = original[: original.index("# 1. relax")] + original[original.index("# 3. static") :]
show(with_calculator(static, "IRNet", "irnet17-mp"), static, "IRNet: the static energies")
