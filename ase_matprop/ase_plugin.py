"""What ASE loads through the entry point ``ase.plugins``: the calculators' names, and nothing heavy.

The plugin classes of ASE are still private and may move; where they are not found, ASE simply does not list the
calculators, and everything else works.  ASE 3.29 lists them (``ase info --plugins``), but its older look-up by name
(``ase run``, ``get_calculator_class``) does not know plugins yet.
"""

from __future__ import annotations

import logging
from typing import Any

__ase_plugins__: set[Any] = set()

try:
    from ase._4.plugins.plugin import CalculatorPlugin

    __ase_plugins__ = {
        CalculatorPlugin(name, citation=citation, implementation=f"ase_matprop.calculators.{class_name}")
        for name, class_name, citation in (
            ("matprop", "MatProp", "doi:10.1038/s41598-021-83193-1"),
            ("irnet", "IRNet", "doi:10.1038/s41598-021-83193-1"),
            ("sipfenn", "SIPFENN", "doi:10.1016/j.commatsci.2022.111254"),
            ("elemnet", "ElemNet", "doi:10.1038/s41598-018-35934-y"),
            ("schnet", "SchNet", "doi:10.1063/1.5019779"),
        )
    }
except Exception:  # whatever changed in ASE's private part must not break ASE for the user
    logging.getLogger(__name__).debug("ASE's plugin classes are not as expected", exc_info=True)
