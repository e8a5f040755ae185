"""Fine-tuning on a laboratory's own calculations: VASP runs in, references, and a network that is adapted to them.

    from ase_matprop.finetune import finetune, learning_curve, read_vasp

    read_vasp("my_vasp_runs/").to_frame()                         # every run, with the reason where one is not used
    finetune("schnet-mp", "my_vasp_runs/", scheme="TL2", output="my_oxides").verdict
    learning_curve("schnet-mp", "my_vasp_runs/", output="curve").outlook      # what more runs would bring

The names load what they need at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase_matprop.finetune.curves import LearningCurve, learning_curve
    from ase_matprop.finetune.references import (
        References,
        fitted_references,
        references_from_runs,
        references_from_table,
    )
    from ase_matprop.finetune.run import FinetuneResult, finetune
    from ase_matprop.finetune.vasp import VaspRun, VaspRuns, read_vasp

_MODULE_OF = {
    "FinetuneResult": "ase_matprop.finetune.run",
    "LearningCurve": "ase_matprop.finetune.curves",
    "References": "ase_matprop.finetune.references",
    "VaspRun": "ase_matprop.finetune.vasp",
    "VaspRuns": "ase_matprop.finetune.vasp",
    "finetune": "ase_matprop.finetune.run",
    "fitted_references": "ase_matprop.finetune.references",
    "learning_curve": "ase_matprop.finetune.curves",
    "read_vasp": "ase_matprop.finetune.vasp",
    "references_from_runs": "ase_matprop.finetune.references",
    "references_from_table": "ase_matprop.finetune.references",
}

__all__ = [
    "FinetuneResult",
    "LearningCurve",
    "References",
    "VaspRun",
    "VaspRuns",
    "finetune",
    "fitted_references",
    "learning_curve",
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
