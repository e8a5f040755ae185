"""What happens when something on the page is pressed; thin over the functions of :mod:`ase_matprop.app`."""

from typing import Any

from ase_matprop.app.callbacks import comparing, entries, models, predictions, table, tuning
from ase_matprop.app.state import State


def register(app: Any, state: State) -> None:
    """Add all callbacks to a Dash application."""
    for module in (entries, predictions, table, comparing, tuning, models):
        module.register(app, state)
