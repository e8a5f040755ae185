"""Plots, each a function that returns a figure of matplotlib or, with ``backend="plotly"``, an interactive one.

    from ase_matprop.plots import parity, save

    save(parity(reference, result.values, unit=result.unit), "parity.png")
    save(parity(reference, result.values, unit=result.unit, backend="plotly"), "parity.html")

Nothing global is changed: no pyplot, no display, no style.  Plotly, and pymatviz for its periodic table, come with
``pip install 'ase-matprop[plots]'``.
"""

from ase_matprop.plots.distribution import error_cdf
from ase_matprop.plots.elements import error_by_element
from ase_matprop.plots.files import save
from ase_matprop.plots.phase_diagrams import hull
from ase_matprop.plots.scatter import parity
from ase_matprop.plots.sizes import learning_curve
from ase_matprop.plots.spreads import calibration

__all__ = ["calibration", "error_by_element", "error_cdf", "hull", "learning_curve", "parity", "save"]
