"""Report on a screening run: one HTML page that needs no other file and, with plotly.js in it, no network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

import ase_matprop
from ase_matprop.errors import MatPropError
from ase_matprop.plots.elements import periodic_table
from ase_matprop.plots.style import COLOURS, plotly_objects
from ase_matprop.properties import get_property
from ase_matprop.screening.results import HULL_COLUMN, Results
from ase_matprop.screening.summary import Histogram, Summary

REPORT_FILE = "report.html"

_SYSTEMS_SHOWN = 25
_LONGEST_SHOWN = 400  # characters of a setting
_FIRST_SECTIONS = ("space", "model", "references", "settings")
_BELOW, _ABOVE = COLOURS[1], COLOURS[0]

_TEMPLATES = Environment(
    loader=PackageLoader("ase_matprop.screening"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class _Column:
    """Column of the table of candidates: its title, its name in the results and the class of its cells."""

    title: str
    name: str
    kind: str
    digits: int = 3

    def write(self, value: Any) -> str:
        if self.kind == "number":
            return _number(value, self.digits)
        return "" if pd.isna(value) else str(value)


def write_report(
    results: Results | str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    plotly_js: Literal["embedded", "cdn"] = "embedded",
    n_best: int = 50,
) -> Path:
    """Write the report on a screening run, finished or not.

    What was screened is taken from ``run.json``: each of its entries ``space``, ``model``, ``references`` and
    ``settings`` becomes a table, and so does any other.  The test error of the model is taken from
    ``run["model"]["errors"]["test"]["mae"]``, as in a model card, or from ``run["model"]["test_mae"]``; the cut from
    ``run["cut"]``, as a number in the unit of the column by which candidates are ordered.  None of them needs to be
    there.

    Args:
        results: the results, or their folder.
        path: file to write; ``report.html`` in the folder by default.
        plotly_js: ``"embedded"`` puts plotly.js (5 MB) into the page, which then works offline; with ``"cdn"`` the
            browser loads it from the network.
        n_best: number of candidates in the table of the best.

    Returns:
        The file, which is complete wherever it is there.

    Raises:
        MissingDependencyError: without Plotly or pymatviz.
        MatPropError: if the results cannot be read or the file cannot be written.
    """
    if plotly_js not in ("embedded", "cdn"):
        raise MatPropError(f"plotly_js must be 'embedded' or 'cdn', not {plotly_js!r}")
    if not isinstance(results, Results):
        results = Results(results)
    path = results.folder / REPORT_FILE if path is None else Path(path)
    summary = results.summary()
    best = results.top(n_best)
    systems, n_systems = results.first_systems(_SYSTEMS_SHOWN)
    columns = _best_columns(results, best)
    page = _TEMPLATES.get_template("report.html.j2").render(
        title=f"Screening {results.folder.resolve().name}",
        headline=_headline(results, summary),
        cautions=[*results.run.get("warnings", []), *_cautions(results, summary, best)],
        sections=_sections(results.run),
        counts=_counts(summary),
        sizes=[
            (str(n), f"{scored:,}", f"{kept:,}", _share(kept, scored))
            for n, (scored, kept) in summary.by_n_elements.items()
        ],
        systems=_system_rows(systems, results),
        n_systems=f"{n_systems:,}",
        value_title=_value_title(results),
        best_titles=[(column.title, column.kind) for column in columns],
        best=_best_rows(best, columns),
        figures=_figures_html(results, summary, plotly_js),
        summary=summary,
        open_ends=bool(summary.hull_histogram and np.isinf(summary.hull_histogram.edges).any()),
        folder=str(results.folder),
        version=ase_matprop.__version__,
    )
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise MatPropError(f"the report {path} cannot be written ({error.strerror}); choose another place") from None
    return path


def hull_histogram_figure(histogram: Histogram, cut: float | None = None) -> Any:
    """Return a figure of how many candidates were scored by hull distance, on a logarithmic scale.

    Args:
        histogram: counts by hull distance in eV/atom; an infinite outer bin is drawn as wide as the one beside it.
        cut: hull distance below which candidates were kept, eV/atom.

    Raises:
        MissingDependencyError: without Plotly.
    """
    go = plotly_objects()
    edges = np.array(histogram.edges)
    labels = [f"{low:.3g} to {high:.3g} eV/atom" for low, high in pairwise(edges)]
    width = float(np.diff(edges[np.isfinite(edges)]).max(initial=0.0)) or 1.0
    if np.isneginf(edges[0]):
        labels[0] = f"below {edges[1]:.3g} eV/atom"
        edges[0] = edges[1] - width
    if np.isposinf(edges[-1]):
        labels[-1] = f"above {edges[-2]:.3g} eV/atom"
        edges[-1] = edges[-2] + width
    centres = (edges[1:] + edges[:-1]) / 2.0
    figure = go.Figure()
    for name, color, rows in (("below the known hull", _BELOW, centres < 0), ("above it", _ABOVE, centres >= 0)):
        if rows.any():
            figure.add_bar(
                x=centres[rows].tolist(),
                y=np.array(histogram.counts)[rows].tolist(),
                width=np.diff(edges)[rows].tolist(),
                customdata=np.array(labels)[rows].tolist(),
                hovertemplate="%{customdata}<br>%{y:,} candidates<extra></extra>",
                name=name,
                marker_color=color,
            )
    if cut is not None:
        figure.add_vline(x=cut, line_dash="dash", line_color="#b03030", annotation_text="cut")
    figure.update_layout(
        xaxis_title="distance to the hull (eV/atom)", yaxis_title="scored candidates", yaxis_type="log",
        bargap=0.05, height=420, margin={"t": 30, "r": 20}, template="plotly_white",
        legend={"orientation": "h", "y": 1.08},
    )  # fmt: skip
    top = np.log10(max(2, *histogram.counts))
    figure.update_yaxes(range=[-0.3, 1.05 * top], dtick=1, exponentformat="power")  # half a candidate, to show one
    return figure


def element_figure(by_element: Mapping[str, tuple[int, int]]) -> Any:
    """Return a periodic table of how many of the kept candidates have each element.

    Args:
        by_element: symbol -> (scored, kept); at least one candidate must have been kept.

    Raises:
        MissingDependencyError: without pymatviz.
    """
    kept = {symbol: float(n_kept) for symbol, (_, n_kept) in by_element.items() if n_kept}
    details = {
        symbol: f"{n_kept:,} kept of {scored:,} scored ({_share(n_kept, scored)})"
        for symbol, (scored, n_kept) in by_element.items()
    }
    logarithmic = max(kept.values()) > 30.0 * min(kept.values())
    return periodic_table(kept, details, "kept candidates", form=_short, logarithmic=logarithmic)


def _figures_html(results: Results, summary: Summary, plotly_js: str) -> dict[str, str]:
    """Return the figures by name as parts of the page; the first one brings plotly.js."""
    figures = {}
    histogram = summary.hull_histogram
    if results.has_hull and histogram is not None and any(histogram.counts):
        figures["hull"] = hull_histogram_figure(histogram, _cut(results))
    if any(kept for _, kept in summary.by_element.values()):
        figures["elements"] = element_figure(summary.by_element)
    parts: dict[str, str] = {}
    for name, figure in figures.items():
        script: bool | str = False if parts else ("cdn" if plotly_js == "cdn" else True)
        parts[name] = figure.to_html(
            full_html=False, include_plotlyjs=script, div_id=f"figure-{name}", config={"displaylogo": False}
        )
    return parts


def _cut(results: Results) -> float | None:
    cut = results.run.get("cut")
    return float(cut) if isinstance(cut, (int, float)) and not isinstance(cut, bool) else None


def _model(results: Results) -> tuple[str, float | None, str]:
    """Return name, mean absolute error on the test set and unit of the model."""
    model = results.run.get("model")
    if not isinstance(model, Mapping):
        return str(model) if model else "the model", None, _unit(results)
    test = model.get("errors", {})
    test = test.get("test", {}) if isinstance(test, Mapping) else {}
    mae = model.get("test_mae", test.get("mae") if isinstance(test, Mapping) else None)
    return str(model.get("name", "the model")), mae if isinstance(mae, (int, float)) else None, _unit(results)


def _unit(results: Results) -> str:
    return results.units.get(results.property, "")


def _property_title(results: Results) -> str:
    try:
        return get_property(results.property).long_name
    except MatPropError:
        return results.property.replace("_", " ")


def _value_title(results: Results) -> str:
    if results.has_hull:
        return "lowest hull distance (eV/atom)"
    return f"{'highest' if results.highest_is_best else 'lowest'} {_title_with_unit(results)}"


def _title_with_unit(results: Results) -> str:
    unit = _unit(results)
    return f"{_property_title(results)} ({unit})" if unit else _property_title(results)


def _headline(results: Results, summary: Summary) -> str:
    name, mae, unit = _model(results)
    text = f"{summary.n_kept:,} of {summary.n_scored:,} candidates that {name} scored were kept"
    limits = _limits(results, unit)
    if limits:
        text += f": those with {' and '.join(limits)}"
    return f"{text}." if mae is None else f"{text}. Its mean absolute error on its test set is {mae:.4g} {unit}."


def _limits(results: Results, unit: str) -> list[str]:
    """Return what was kept in words: the limits of the hull distance and of the property."""
    limits, cut = [], _cut(results)
    if cut is not None and results.has_hull:
        limits.append(f"a hull distance of at most {cut:g} eV/atom")
    keep = results.run.get("keep")
    bounds = dict(keep) if isinstance(keep, Mapping) else {}
    if cut is not None and not results.has_hull:
        bounds.setdefault("maximum", cut)
    words = [
        f"at {word} {bounds[name]:g}" for name, word in (("minimum", "least"), ("maximum", "most")) if name in bounds
    ]
    if words:
        limits.append(f"a {_property_title(results)} of {' and '.join(words)} {unit}".rstrip())
    return limits


def _cautions(results: Results, summary: Summary, best: pd.DataFrame) -> list[str]:
    found = []
    if summary.note:
        found.append(f"{summary.note[0].upper()}{summary.note[1:]}. Counts and tables are those of the others.")
    if summary.caution:
        found.append(f"{summary.caution[0].upper()}{summary.caution[1:]}.")
    if not results.has_hull:
        found.append("There was no hull: candidates are ordered by the predicted value, and whether they are stable "
                     "against decomposition is not known.")  # fmt: skip
    _, mae, _ = _model(results)
    if mae is not None and results.has_hull:
        found.append(
            f"Differences of hull distances below the error of the model ({mae:.3g} eV/atom on its test set) say "
            "little; among millions of candidates those with the greatest errors come first. Calculate the best ones."
        )
    if summary.n_failed:
        share = _share(summary.n_failed, summary.n_scored + summary.n_failed)
        found.append(f"{summary.n_failed:,} candidates have no value ({share}).")
    if "warning" in best.columns and (n_warned := int(best["warning"].map(bool).sum())):
        found.append(f"{n_warned} of the {len(best)} best candidates have a warning.")
    return found


def _counts(summary: Summary) -> list[tuple[str, str]]:
    rows = [
        ("candidates", f"{summary.n_candidates:,}"),
        ("taken out by a filter", f"{summary.n_filtered:,}"),
        ("scored", f"{summary.n_scored:,}"),
        ("failed", f"{summary.n_failed:,}"),
        ("kept", f"{summary.n_kept:,}"),
        ("shards", f"{summary.n_shards - len(summary.missing):,} of {summary.n_shards:,}"),
    ]
    if summary.seconds > 0:
        rows.append(("time, added up over processes", f"{summary.seconds:,.0f} s"))
        rows.append(("scored per second and process", f"{summary.n_scored / summary.seconds:,.0f}"))
    return rows


def _system_rows(systems: pd.DataFrame, results: Results) -> list[list[str]]:
    value = HULL_COLUMN if results.has_hull else results.property
    columns = (systems[name] for name in ("system", "n_kept", value))
    return [[system, f"{n:,}", _number(lowest, 4)] for system, n, lowest in zip(*columns, strict=True)]


def _best_columns(results: Results, best: pd.DataFrame) -> list[_Column]:
    """Return the columns of the table of candidates, without those that have nothing to say."""
    columns = [
        _Column("formula", "formula", "name"),
        _Column("structure", "name", "text"),
        _Column("system", "system", "name"),
        _Column(_title_with_unit(results), results.property, "number", 4),
        _Column("hull distance (eV/atom)", HULL_COLUMN, "number", 4),
        _Column("decomposition", "decomposition", "text"),
        _Column("spread", "spread", "number"),
        _Column("distance to training set", "distance", "number"),
        _Column("warning", "warning", "text"),
    ]
    return [column for column in columns if column.name in best and any(map(column.write, best[column.name]))]


def _best_rows(best: pd.DataFrame, columns: list[_Column]) -> list[list[str]]:
    cells = [[column.write(value) for value in best[column.name]] for column in columns]
    return [list(row) for row in zip(*cells, strict=True)]


def _sections(run: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return what ``run.json`` says: title and rows of a table for each entry that has entries, the rest at the end."""
    nested = {name: value for name, value in run.items() if isinstance(value, Mapping) and value}
    names = [name for name in _FIRST_SECTIONS if name in nested]
    names += [name for name in nested if name not in names]
    sections = [(name.replace("_", " "), _flat(nested[name])) for name in names]
    rest = _flat({name: value for name, value in run.items() if not isinstance(value, Mapping)})
    return [*sections, ("run", rest)] if rest else sections


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, value in values.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            rows += _flat(value, f"{name}: ")
        elif value is not None and value not in ("", []):
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            rows.append((name, text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]} ..."))
    return rows


def _number(value: Any, digits: int) -> str:
    return "" if pd.isna(value) else f"{value:.{digits}f}"


def _share(part: int, whole: int) -> str:
    return f"{100.0 * part / whole:.3g}%" if whole else ""


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.0f}"
