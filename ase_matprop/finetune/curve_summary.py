"""What the trainings of a learning curve say together: means, a figure, and what more rows would bring."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ase_matprop.finetune.evaluation import CHEMICAL_ACCURACY
from ase_matprop.finetune.writing import write_text
from ase_matprop.plots import save
from ase_matprop.plots.sizes import Line, draw_lines
from ase_matprop.properties import MaterialProperty

JSON_FILE, FIGURE_FILE = "learning_curve.json", "learning_curve.png"
#: not a scheme of fine-tuning: the network from random weights, the source as it is, and with its offsets moved
SCRATCH, SOURCE, SHIFTED = "scratch", "source", "shifted"
#: what tells one training from another, in the table of trainings
KEYS = ("scheme", "learning_rate_fraction", "rounds", "rows", "repeat")
#: what is measured of each
MEASURED = (
    "mae", "rmse", "median", "largest", "within_chemical_accuracy_per_atom", "within_chemical_accuracy_per_cell",
    "forces_mae",
)  # fmt: skip
#: 1 where no epoch was better than the start, which was kept: nothing was learnt from these rows
KEPT = "kept_start"

_LINE = list(KEYS[:3])  # what one line of the figure has in common
_AVERAGED = ("mae", "median", *MEASURED[4:])
_FEW_SIZES = 4


def summarize(runs: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation over the repeats.

    Args:
        runs: one row per training with the columns :data:`KEYS` and :data:`MEASURED`.

    Returns:
        One row per scheme, learning rate, rounds and number of rows, with the number of repeats, and for each quantity
        that was measured a column with the mean and one ending in ``_std`` with the standard deviation, NaN for one
        repeat.
    """
    grouped = runs.groupby([*_LINE, "rows"], dropna=False)
    columns: dict[str, pd.Series[Any]] = {"repeats": grouped.size()}
    for name in _AVERAGED:
        if runs[name].notna().any():
            columns |= {name: grouped[name].mean(), f"{name}_std": grouped[name].std(ddof=1)}
    return pd.DataFrame(columns).reset_index()


def label(scheme: str, learning_rate_fraction: float | None, rounds: float | None) -> str:
    """Return a name for a line of the figure."""
    parts = [{SCRATCH: "from scratch", SHIFTED: "source, shifted"}.get(scheme, scheme)]
    if learning_rate_fraction is not None and not pd.isna(learning_rate_fraction):
        parts.append(f"{learning_rate_fraction:g} of the learning rate")
    if rounds is not None and not pd.isna(rounds):
        parts.append(f"{rounds:g} rounds")
    return ", ".join(parts)


def outlook(runs: pd.DataFrame, summary: pd.DataFrame, unit: str) -> list[str]:
    """Return in sentences how much more rows brought, and what the next doubling would bring.

    A power law is fitted to the mean errors of the best scheme against the number of rows, and for the range to those
    of each repeat.  Numbers of rows with which the untrained start was kept are left out: its error says nothing of
    what training brings.
    """
    trained = summary[~summary["scheme"].isin([SOURCE, SHIFTED])]
    largest = trained["rows"].max()
    best = trained[trained["rows"] == largest].sort_values("mae", kind="stable").iloc[0]
    chosen = _same_line(trained, best)
    n_rows, errors = chosen["rows"].to_numpy(dtype=float), chosen["mae"].to_numpy()
    name = label(*best[_LINE])
    found = []
    source = summary[summary["scheme"] == SOURCE]
    if len(source):
        start = float(source["mae"].iloc[0])
        word = "below" if errors[-1] < start else "NOT below"
        found.append(
            f"{name} is the best with {largest} rows: MAE {errors[-1]:.4f} {unit}, {word} that of the source as it is, "
            f"{start:.4f} {unit}."
        )
    else:
        found.append(f"{name} is the best with {largest} rows: MAE {errors[-1]:.4f} {unit}.")
    n_lines = len(trained[trained["rows"] == largest])
    if n_lines > 1:
        found.append(
            f"It was chosen out of {n_lines} by this same error on the held-out rows, which makes the error a little "
            "too good: confirm it with another seed."
        )
    shifted = summary[(summary["scheme"] == SHIFTED) & (summary["rows"] == largest)]
    if len(shifted) and shifted["mae"].iloc[0] <= errors[-1]:
        found.append(
            f"To move the offsets of the source alone is as good ({shifted['mae'].iloc[0]:.4f} {unit}): training its "
            "weights brought nothing."
        )
    if len(chosen) < 2:
        return [*found, "One number of rows says nothing of what more of them would bring; give several sizes."]
    untrained = _untrained_sizes(runs, best)
    if untrained:
        chosen = chosen[~chosen["rows"].isin(untrained)]
        found.append(
            f"With {_listed(untrained)} rows no epoch was better than the untrained start, which was kept, in at least "
            "one repeat: these errors are left out of what follows."
        )
        if len(chosen) < 2:
            return [
                *found,
                f"{'One size' if len(chosen) else 'No size'} is left, which says nothing of what more rows would "
                "bring; give larger sizes.",
            ]
        runs = runs[~runs["rows"].isin(untrained)]
        n_rows, errors = chosen["rows"].to_numpy(dtype=float), chosen["mae"].to_numpy()
    last = f"{n_rows[-1]:.0f}"
    exponent, level = _power_law(n_rows, errors)
    each = 1.0 - 2.0**-exponent
    next_error = level * (2.0 * largest) ** -exponent
    if exponent <= 0.0:
        return [
            *found,
            f"The error did not fall from {n_rows[0]:.0f} to {last} rows ({errors[0]:.4f} -> {errors[-1]:.4f} {unit}"
            "): these numbers give no reason to expect that more rows of this kind would help.",
        ]
    step = "the next doubling, to " if n_rows[-1] == largest else ""
    found.append(
        f"Each doubling of the rows lowered the error by {each:.0%} (from {errors[0]:.4f} with {n_rows[0]:.0f} to "
        f"{errors[-1]:.4f} {unit} with {last}). By the power law fitted to {len(chosen)} sizes {step}{2 * largest} "
        f"rows{',' if step else ''} would bring {next_error:.4f} {unit}{_range(runs, best, largest)}."
    )
    caution = "This is an extrapolation: it takes for granted that new rows are like those that are there"
    if len(chosen) < _FEW_SIZES:
        caution += f", and it rests on {len(chosen)} sizes only"
    found.append(f"{caution}.")
    return found


def write(
    folder: Path,
    summary: pd.DataFrame,
    sentences: list[str],
    entry: MaterialProperty,
    source: str,
    counts: Mapping[str, int],
    rejected: Mapping[str, str],
) -> None:
    """Write ``learning_curve.json`` and ``learning_curve.png``.

    Args:
        folder: where to.
        summary: as :func:`summarize` gives it.
        sentences: as :func:`outlook` gives them.
        entry: the property.
        source: name of the model that was fine-tuned.
        counts: number of held-out rows, ``held_out_rows``, and of all others, ``rows``.
        rejected: name -> reason, for the rows that could not be used.
    """
    content = {
        "outlook": sentences,
        "source": source,
        "property": entry.name,
        "unit": entry.unit,
        **counts,
        "rejected": dict(rejected),
        "summary": json.loads(summary.to_json(orient="records", double_precision=12)),
    }
    write_text(folder / JSON_FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")
    quantities = [("mae", f"MAE ({entry.unit})")]
    if "within_chemical_accuracy_per_atom" in summary:
        quantities.append(("within_chemical_accuracy_per_atom", f"share within {CHEMICAL_ACCURACY:.4f} eV per atom"))
    if "forces_mae" in summary:
        quantities.append(("forces_mae", "MAE of the forces (eV/Angstrom)"))
    save(_figure(summary, quantities, f"{source}: {counts['held_out_rows']} held-out rows"), folder / FIGURE_FILE)


def _figure(summary: pd.DataFrame, quantities: Sequence[tuple[str, str]], title: str) -> Figure:
    """Return a figure of what was measured against the number of training rows, a panel per quantity.

    Args:
        summary: as :func:`summarize` gives it.
        quantities: columns, and what to write on their axes.
        title: title of the figure.
    """
    parts = {
        label(*cast(tuple[str, float, float], key)): part
        for key, part in summary[summary["scheme"] != SOURCE].groupby(_LINE, dropna=False)
    }
    level = summary[summary["scheme"] == SOURCE]
    figure = Figure(figsize=(5.4 * len(quantities), 4.8), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, len(quantities), squeeze=False)[0]
    for axes, (column, text) in zip(panels, quantities, strict=True):
        columns = ["rows", column, f"{column}_std"]
        lines = {name: Line(*part[columns].to_numpy(dtype=np.float64).T) for name, part in parts.items()}
        start = None if level.empty else float(level[column].iloc[0])
        draw_lines(axes, lines, text, start, logarithmic=not column.startswith("within"))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
    return figure


def _untrained_sizes(runs: pd.DataFrame, best: pd.Series) -> list[int]:
    """Return the numbers of rows with which the start was kept in any repeat of the best line."""
    line = _same_line(runs, best)
    if KEPT not in line:
        return []
    return sorted({int(n) for n in line.loc[line[KEPT] == 1, "rows"]})


def _listed(numbers: Sequence[int]) -> str:
    *some, last = map(str, numbers)
    return f"{', '.join(some)} and {last}" if some else last


def _same_line(table: pd.DataFrame, line: pd.Series) -> pd.DataFrame:
    """Return the rows of a table with the scheme, learning rate and rounds of one row, in the order of their sizes."""
    same = np.ones(len(table), dtype=bool)
    for name in _LINE:
        same &= table[name].isna() if pd.isna(line[name]) else table[name] == line[name]
    return table[same].sort_values("rows")


def _power_law(n_rows: NDArray[np.float64], errors: NDArray[np.float64]) -> tuple[float, float]:
    """Return ``exponent`` and ``level`` of error = level * rows ** -exponent."""
    slope, intercept = np.polyfit(np.log(n_rows), np.log(np.maximum(errors, 1e-12)), 1)
    return float(-slope), float(np.exp(intercept))


def _range(runs: pd.DataFrame, best: pd.Series, largest: int) -> str:
    """Return the range of the error with twice the rows, over the power laws of the single repeats."""
    found: list[Any] = []
    for _, repeat in _same_line(runs, best).groupby("repeat"):
        if len(repeat) > 1:
            exponent, level = _power_law(repeat["rows"].to_numpy(dtype=float), repeat["mae"].to_numpy())
            found.append(level * (2.0 * largest) ** -exponent)
    return f" ({min(found):.4f} to {max(found):.4f} by the single repeats)" if len(found) > 1 else ""
