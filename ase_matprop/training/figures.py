"""Figures of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

_METRICS = {"mae": "mean absolute error", "cross_entropy": "cross entropy"}


def learning_curve(histories: Sequence[pd.DataFrame], title: str, unit: str, path: Path) -> None:
    """Draw training and validation error against the epoch, one pair of lines per ensemble member.

    Args:
        histories: tables with the columns ``epoch``, ``train_<metric>`` and ``validation_<metric>``.
        title: title of the figure.
        unit: unit of the errors.
        path: PNG file to write.
    """
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for member, history in enumerate(histories):
        suffix = f" (member {member})" if len(histories) > 1 else ""
        metric = history.columns[-1].removeprefix("validation_")
        axes.plot(history["epoch"], history[f"train_{metric}"], color=f"C{member}", ls=":", label=f"training{suffix}")
        axes.plot(history["epoch"], history[f"validation_{metric}"], color=f"C{member}", label=f"validation{suffix}")
    axes.set(xlabel="epoch", ylabel=f"{_METRICS[metric]} ({unit})", title=title, yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    _save(figure, path)


def parity(reference: NDArray[np.float64], predicted: NDArray[np.float64], title: str, label: str, path: Path) -> None:
    """Draw predicted against reference values, coloured by the density of points."""
    figure = Figure(figsize=(5.0, 4.4), layout="constrained")
    axes = figure.add_subplot()
    low, high = np.percentile(reference, [0.05, 99.95])
    margin = 0.05 * (high - low)
    extent = (low - margin, high + margin)
    density = axes.hexbin(reference, predicted, gridsize=90, bins="log", mincnt=1, extent=extent + extent)
    axes.plot(extent, extent, color="black", lw=0.8)
    figure.colorbar(density, label="rows")
    axes.set(xlabel=f"reference {label}", ylabel=f"predicted {label}", title=title, xlim=extent, ylim=extent)
    axes.set_aspect("equal")
    _save(figure, path)


def error_distribution(errors: Mapping[str, NDArray[np.float64]], title: str, label: str, path: Path) -> None:
    """Draw the share of rows whose absolute error is at most so large, a curve per model.

    Thesis of D. Jha, Figures 3.4 and 4.5; the dotted lines are at the median and the 90th percentile.

    Args:
        errors: name of the model -> absolute errors, shape (n,); the legend gives their mean.
        title: title of the figure.
        label: what the errors are, with unit.
        path: PNG file to write.
    """
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, values) in enumerate(errors.items()):
        style = ("-", "--", ":")[number // 10 % 3]  # ten colours
        axes.ecdf(values, color=f"C{number % 10}", ls=style, label=f"{name} (mean {values.mean():.3g})")
    everything = np.concatenate(list(errors.values()))
    low, high = np.percentile(everything[everything > 0.0], [2.0, 99.8]) if everything.any() else (0.1, 1.0)
    for share in (0.5, 0.9):
        axes.axhline(share, color="black", lw=0.8, ls=":")
    axes.set(xlabel=label, ylabel="share of test rows", title=title, xscale="log", xlim=(low, max(high, 1.01 * low)))
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small", loc="upper left")
    _save(figure, path)


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], title: str, path: Path) -> None:
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


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)  # no pyplot: nothing global, no display
    figure.savefig(path, dpi=150)
