"""What ASE loads through the entry point ``ase.plugins``: the calculators' names, and nothing heavy.

The plugin classes of ASE are still private and may move; where they are not found, ASE simply does not list the
calculators, and everything else works.
"""

from __future__ import annotations

from typing import Any

__ase_plugins__: set[Any] = set()

try:
    from ase._4.plugins.plugin import CalculatorPlugin
except ImportError:
    pass
else:
    __ase_plugins__ = {
        CalculatorPlugin(
            "matprop",
            citation="doi:10.1038/s41598-021-83193-1",
            implementation="ase_matprop.calculators.MatProp",
        ),
    }
