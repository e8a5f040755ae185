"""Figures of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

_METRICS = {"mae": "mean absolute error", "cross_entropy": "cross entropy"}

Target = Path | BinaryIO


def learning_curve(
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
        suffix = f" ({names[member]})" if len(histories) > 1 else ""
        metric = history.columns[-1].removeprefix("validation_")
        axes.plot(history["epoch"], history[f"train_{metric}"], color=f"C{member}", ls=":", label=f"training{suffix}")
        axes.plot(history["epoch"], history[f"validation_{metric}"], color=f"C{member}", label=f"validation{suffix}")
    axes.set(xlabel="epoch", ylabel=f"{_METRICS[metric]} ({unit})", title=title, yscale="log")
    _label_logarithmic(axes)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    _save(figure, path)


def parity(
    reference: NDArray[np.float64], predicted: NDArray[np.float64], title: str, label: str, path: Target
) -> None:
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


def parities(
    reference: NDArray[np.float64], predicted: Mapping[str, NDArray[np.float64]], label: str, path: Target
) -> None:
    """Draw predicted against reference values of a small set, a panel per model with the same axes.

    Args:
        reference: shape (n,).
        predicted: name of the model -> its predictions, shape (n,).
        label: what the values are, with unit.
        path: PNG file to write.
    """
    figure = Figure(figsize=(4.2 * len(predicted), 4.2), layout="constrained")
    panels = figure.subplots(1, len(predicted), sharex=True, sharey=True, squeeze=False)[0]
    everything = np.concatenate([reference, *predicted.values()])
    margin = 0.05 * (np.ptp(everything) or 1.0)
    bounds = (everything.min() - margin, everything.max() + margin)
    for number, (axes, (name, values)) in enumerate(zip(panels, predicted.items(), strict=True)):
        axes.scatter(reference, values, s=12, alpha=0.6, lw=0.0, color=f"C{number}")
        axes.plot(bounds, bounds, color="black", lw=0.8)
        title = f"{name}: MAE {np.abs(values - reference).mean():.3g}"
        axes.set(xlabel=f"reference {label}", title=title, xlim=bounds, ylim=bounds)
        axes.set_aspect("equal")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"predicted {label}")
    _save(figure, path)


def error_distribution(
    errors: Mapping[str, NDArray[np.float64]],
    title: str,
    label: str,
    path: Target,
    marks: Mapping[str, float] | None = None,
) -> None:
    """Draw the share of rows whose absolute error is at most so large, a curve per model.

    Thesis of D. Jha, Figures 3.4 and 4.5; the dotted lines are at the median and the 90th percentile.

    Args:
        errors: name of the model -> absolute errors, shape (n,); the legend gives their mean.
        title: title of the figure.
        label: what the errors are, with unit.
        path: PNG file to write.
        marks: names of errors that mean something, and their sizes; a vertical line each.
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
    for name, size in (marks or {}).items():
        axes.axvline(size, color="black", lw=0.8, ls="--", label=name)
        low, high = min(low, 0.8 * size), max(high, 1.25 * size)
    axes.set(xlabel=label, ylabel="share of test rows", title=title, xscale="log", xlim=(low, max(high, 1.01 * low)))
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small", loc="upper left")
    _save(figure, path)


def error_against_rows(
    lines: Mapping[str, pd.DataFrame],
    level: pd.Series | None,
    quantities: Sequence[tuple[str, str]],
    title: str,
    path: Target,
) -> None:
    """Draw what was measured against the number of training rows, a panel per quantity.

    Args:
        lines: by name, a table with the columns ``rows`` and, for each quantity, its mean and ``<quantity>_std``.
        level: the quantities without training rows, a horizontal line; None for no line.
        quantities: columns and what to write on their axes.
        title: title of the figure.
        path: PNG file to write.
    """
    figure = Figure(figsize=(5.4 * len(quantities), 4.8), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, len(quantities), squeeze=False)[0]
    for axes, (column, text) in zip(panels, quantities, strict=True):
        if level is not None:
            axes.axhline(level[column], color="black", lw=0.8, ls="--", label="source")
        for number, (name, line) in enumerate(lines.items()):
            spread = line[f"{column}_std"].fillna(0.0)
            style = {"color": f"C{number % 10}", "marker": "osD"[number // 10 % 3], "ms": 4.0, "capsize": 3.0}
            axes.errorbar(line["rows"], line[column], spread, label=name, **style)
        axes.set(xlabel="rows", ylabel=text, xscale="log")
        if not column.startswith("within"):
            axes.set_yscale("log")
            _label_logarithmic(axes)
        sizes = sorted({size for line in lines.values() for size in line["rows"]})
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3, which="both")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
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


def _label_logarithmic(axes: Axes) -> None:
    """Write the numbers of a logarithmic y axis plainly; those between powers of ten only where there is room."""
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}" if high < 20.0 * low else NullFormatter())


def _save(figure: Figure, path: Target) -> None:
    FigureCanvasAgg(figure)  # no pyplot: nothing global, no display
    figure.savefig(path, dpi=150, format="png")
