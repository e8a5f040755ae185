"""Figures into files."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ase_matprop.errors import MatPropError

_IMAGES = (".png", ".svg", ".pdf")
_DOTS_PER_INCH = 150
#: few buttons: more would cover the title on a telephone
_CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
}
#: without it a telephone shows a page as wide as that of a desktop
_VIEWPORT = '<meta name="viewport" content="width=device-width, initial-scale=1">'
#: what a figure wants to be changed in a narrow window stands in its layout.meta
_FIT = """
var plot = document.getElementById('{plot_id}'), meta = plot.layout.meta;
if (meta && meta.narrow) {
  var narrow = null, fit = function () {
    var now = window.innerWidth < 700;
    if (now !== narrow) { narrow = now; Plotly.relayout(plot, now ? meta.narrow : meta.wide); }
  };
  window.addEventListener('resize', fit);
  fit();
}
"""


def save(figure: Any, path: str | os.PathLike[str]) -> Path:
    """Write a figure into a file: .png, .svg or .pdf from matplotlib, .html from Plotly.

    The page has plotly.js in it and needs no network.  The file is complete, or it is not there.

    Args:
        figure: what a function of :mod:`ase_matprop.plots` returned.
        path: file to write; its folder must be there.

    Returns:
        The file.

    Raises:
        MatPropError: for an ending that does not fit the figure, or a place where nothing can be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if isinstance(figure, Figure):
        if suffix not in _IMAGES:
            hint = "; for .html draw with backend='plotly'" if suffix == ".html" else ""
            raise MatPropError(f"the plot {path} must end in {', '.join(_IMAGES)}: matplotlib drew it{hint}")
        content = image(figure, suffix[1:])
    elif hasattr(figure, "to_html"):
        if suffix != ".html":
            hint = f"; for {suffix} draw with backend='matplotlib'" if suffix in _IMAGES else ""
            raise MatPropError(f"the plot {path} must end in .html: Plotly drew it{hint}")
        content = page(figure).encode()
    else:
        raise MatPropError(f"only figures of matplotlib and Plotly can be saved, not {type(figure).__name__}")
    check_path(path)
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise MatPropError(f"the plot {path} cannot be written ({error.strerror}); choose another place") from None
    return path


def backend_of(path: str | os.PathLike[str]) -> Any:
    """Return which backend draws a file of this ending.

    Raises:
        MatPropError: for an ending that no figure can have.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".html":
        return "plotly"
    if suffix in _IMAGES:
        return "matplotlib"
    raise MatPropError(f"the plot {path} must end in {', '.join(_IMAGES)} or .html")


def check_path(path: str | os.PathLike[str]) -> None:
    """Raise an error for a plot that could not be written, before anything is computed for it.

    Raises:
        MatPropError: for an ending that no figure can have, or a folder that is not there.
    """
    backend_of(path)
    if not Path(path).parent.is_dir():
        raise MatPropError(f"the folder of the plot {path} does not exist; make it first")


def image(figure: Figure, form: str = "png") -> bytes:
    """Return a figure of matplotlib as the content of an image file."""
    stream = io.BytesIO()
    metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
    figure.savefig(stream, format=form, dpi=_DOTS_PER_INCH, metadata=metadata)
    return stream.getvalue()


def page(figure: Any) -> str:
    """Return a figure of Plotly as a page that fits a telephone, too."""
    text: str = figure.to_html(full_html=True, include_plotlyjs=True, config=_CONFIG, post_script=_FIT)
    return text.replace("<head>", f"<head>{_VIEWPORT}", 1)
