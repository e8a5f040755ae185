"""Figures of a training run that say nothing of predictions: those are in :mod:`ase_matprop.plots`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ase_matprop.plots.style import COLOURS, label_logarithmic

_METRICS = {"mae": "mean absolute error", "cross_entropy": "cross entropy"}

Target = Path | BinaryIO


def training_history(
    histories: Sequence[pd.DataFrame], title: str, unit: str, path: Target, names: Sequence[str] | None = None
) -> None:
    """Draw training and validation error against the epoch, one pair of lines per ensemble member.

    Args:
        histories: tables with the columns ``epoch``, ``train_<metric>`` and ``validation_<metric>``.
        title: title of the figure.
        unit: unit of the errors.
        path: PNG file to write.
        names: what the histories are, if they are not those of ensemble members.
    """
    if names is None:
        names = [f"member {member}" for member in range(len(histories))]
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for member, history in enumerate(histories):
        colour = COLOURS[member % len(COLOURS)]
        suffix = f" ({names[member]})" if len(histories) > 1 else ""
        metric = history.columns[-1].removeprefix("validation_")
        axes.plot(
            history["epoch"],
            history[f"train_{metric}"],
            color=colour,
            ls=":",
            label=f"training{suffix}",
        )
        axes.plot(
            history["epoch"],
            history[f"validation_{metric}"],
            color=colour,
            label=f"validation{suffix}",
        )
    axes.set(xlabel="epoch", ylabel=f"{_METRICS[metric]} ({unit})", title=title, yscale="log")
    label_logarithmic(axes)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    _save(figure, path)


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], title: str, path: Target) -> None:
    """Draw the number of rows by true and predicted class."""
    figure = Figure(figsize=(4.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    values = np.array(matrix)
    axes.imshow(values / np.maximum(values.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0.0, vmax=1.0)
    for row, column in np.ndindex(values.shape):
        share = values[row, column] / max(values[row].sum(), 1)
        axes.text(
            column,
            row,
            f"{values[row, column]}\n({share:.1%})",
            ha="center",
            va="center",
            color="white" if share > 0.5 else "black",
        )
    ticks = range(len(classes))
    axes.set(xlabel="predicted", ylabel="reference", title=title)
    axes.set_xticks(ticks, classes)
    axes.set_yticks(ticks, classes, rotation=90, va="center")
    _save(figure, path)


def _save(figure: Figure, path: Target) -> None:
    FigureCanvasAgg(figure)  # no pyplot: nothing global, no display
    figure.savefig(path, dpi=150, format="png")
