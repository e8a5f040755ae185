"""Fine-tuning on a laboratory's own calculations: VASP runs in, references, and a network that is adapted to them.

    from ase_matprop.finetune import read_vasp

    runs = read_vasp("my_vasp_runs/")                             # every run, with the reason where one is not used
    runs.to_frame()

The names load what they need at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase_matprop.finetune.references import (
        References,
        fitted_references,
        references_from_runs,
        references_from_table,
    )
    from ase_matprop.finetune.vasp import VaspRun, VaspRuns, read_vasp

_MODULE_OF = {
    "References": "ase_matprop.finetune.references",
    "VaspRun": "ase_matprop.finetune.vasp",
    "VaspRuns": "ase_matprop.finetune.vasp",
    "fitted_references": "ase_matprop.finetune.references",
    "read_vasp": "ase_matprop.finetune.vasp",
    "references_from_runs": "ase_matprop.finetune.references",
    "references_from_table": "ase_matprop.finetune.references",
}

__all__ = [
    "References",
    "VaspRun",
    "VaspRuns",
    "fitted_references",
    "read_vasp",
    "references_from_runs",
    "references_from_table",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
