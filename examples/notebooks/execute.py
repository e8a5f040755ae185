"""Execute the notebooks of this folder, and check or store what they print.

    python examples/notebooks/execute.py                    all notebooks; fails where one fails or its words changed
    python examples/notebooks/execute.py --write 3*.ipynb   store the outputs of these

Stored are outputs only: no times, no versions, nothing of the machine.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
LARGEST = 300_000  # bytes of a notebook
SECONDS = 300  # for a cell, on whatever machine
#: what must not stand in an output: paths of a machine, addresses in memory, progress bars
_TRACES = re.compile(r"/(?:home|root|tmp|work|Users|usr|opt)/\S*|[A-Z]:\\\\\S*|0x[0-9a-f]{6,}|\d+%\|")
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def notebooks() -> list[Path]:
    """Return the notebooks of this folder, sorted."""
    return sorted(HERE.glob("*.ipynb"))


def execute(path: Path) -> nbformat.NotebookNode:
    """Return the notebook with the outputs of a fresh kernel in its folder; the file is not changed.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails; the message has the cell and the traceback.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=40"],  # errors only, on the terminal
    )
    client.execute()
    return cleaned(notebook)


def cleaned(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the notebook without what belongs to the machine that executed it: times, versions, states of cells."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = {}
    return notebook


def printed(cell: nbformat.NotebookNode) -> str:
    """Return what a cell printed or showed, as text."""
    parts = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream" and output.name == "stdout":
            parts.append(output.text)
        elif output.output_type in ("execute_result", "display_data"):
            parts.append(output.data.get("text/plain", ""))
    return "\n".join(parts)


def words(cell: nbformat.NotebookNode) -> list[str]:
    """Return what a cell printed with every number replaced by #: numbers differ a little from machine to machine."""
    return _NUMBER.sub("#", printed(cell)).split()


def problems(path: Path) -> list[str]:
    """Return what is wrong with a stored notebook; an empty list if nothing is."""
    found = []
    if path.stat().st_size > LARGEST:
        found.append(f"it has {path.stat().st_size:,} bytes, more than {LARGEST:,}")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("its cells were not executed once, from the first to the last")
    for number, cell in enumerate(code, start=1):
        for output in cell.outputs:
            if output.output_type == "error" or output.get("name") == "stderr":
                found.append(f"cell {number} failed or warned: {output.get('text', output.get('evalue'))[:200]}")
        shown = [str(output.get("data", {}).get(kind, "")) for output in cell.outputs for kind in ("text/html",)]
        if trace := _TRACES.search("\n".join([printed(cell), *shown])):
            found.append(f"cell {number} shows {trace[0]!r}")
        if cell.metadata:
            found.append(f"cell {number} has metadata: {dict(cell.metadata)}")
    return found


def changes(path: Path) -> list[str]:
    """Execute a notebook and return in which cells it prints other words than those that are stored."""
    stored, fresh = nbformat.read(path, as_version=4), execute(path)
    return [
        f"cell {number} prints\n{printed(new)}\nand not\n{printed(old)}"
        for number, (old, new) in enumerate(zip(stored.cells, fresh.cells, strict=True))
        if old.cell_type == "code" and words(old) != words(new)
    ]


def main(arguments: list[str]) -> int:
    """Execute the notebooks that are named, or all; return the exit code."""
    write = "--write" in arguments
    paths = [Path(name) for name in arguments if name != "--write"] or notebooks()
    failed = False
    for path in paths:
        if write:
            nbformat.write(execute(path), path)
        found = problems(path) + ([] if write else changes(path))
        failed |= bool(found)
        print(f"{path.name}: {'; '.join(found) or 'ok'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
