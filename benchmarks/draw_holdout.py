"""Draw the figures of the hold-out tests from what benchmarks/holdout.py left behind.

python benchmarks/draw_holdout.py --data-dir ../shared/data --results runs/holdout-results --output docs/figures
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ase.data import atomic_numbers
from holdout import FORESTS, NETWORKS, Case
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from ase_matprop.compositions import reduced_formula
from ase_matprop.screening.discovery import precision_recall_curve
from ase_matprop.screening.hull.facets import ReferenceHull
from ase_matprop.screening.hull.references import References
from ase_matprop.screening.spaces.base import FormulaBlock

COLOURS = {"RF-Comp": "tab:orange", "RF-Phys": "tab:green", "ElemNet": "tab:blue", "IRNet-17": "tab:purple"}
TITLES = {
    "ti-o": "without Ti and O together",
    "na-fe-mn-o": "without the Na-Fe-Mn-O system",
    "60-systems": "without 60 ternary systems",
}
#: with more vertices, only the outer ones and those of known stable compounds are labelled
MOST_LABELS = 12
#: corners of the Gibbs triangle
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=Path("runs/holdout-results"))
    parser.add_argument("--output", type=Path, default=Path("docs/figures"))
    options = parser.parse_args()
    for name, system, draw in (("ti-o", "Ti-O", binary), ("na-fe-mn-o", "Na-Mn-O", ternary)):
        case = Case.load(name, options.data_dir, options.runs / "cache")
        draw(
            case,
            system,
            read(options.results, name),
            options.output / f"holdout_{system.lower().replace('-', '_')}.png",
        )
    discovery(options.results, options.output / "holdout_discovery.png")


def read(results: Path, case: str) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return model -> system -> predicted energies."""
    files = {model: results / f"{case}-{model}.npz" for model in (*FORESTS, *NETWORKS)}
    return {model: dict(np.load(path)) for model, path in files.items() if path.is_file()}


def save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120)
    print(path)


def mathtext(formula: str) -> str:
    return re.sub(r"(\d+)", r"$_{\1}$", formula)


def predicted_references(block: FormulaBlock, energies: NDArray[np.float64], numbers: list[int]) -> References:
    ids = [str(row) for row in range(len(block))]
    return References(block.numbers, block.amounts.astype(float), energies, ids, "predictions").with_elements_at_zero(
        numbers
    )


def hull_points(references: References, numbers: list[int]) -> tuple[list[str], NDArray[np.float64], NDArray[Any]]:
    """Return formulas, atom fractions in the order of ``numbers``, and energies of the vertices of a hull."""
    rows = ReferenceHull(references).vertices(numbers)
    return [reduced_formula(entry) for entry in references.take(rows).block.compositions()], *points(
        references.take(rows), numbers
    )


def points(references: References, numbers: list[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return atom fractions, shape (n, d), and energies, shape (n,)."""
    fractions = np.stack([np.where(references.numbers == z, references.fractions(), 0.0).sum(axis=1) for z in numbers])
    return fractions.T, references.energies


def binary(case: Case, system: str, found: dict[str, Any], path: Path) -> None:
    numbers = [atomic_numbers[symbol] for symbol in system.split("-")]
    known = case.references.restrict(numbers)
    formulas, corners, depths = hull_points(known, numbers)
    order = np.argsort(corners[:, 1])
    figure = Figure(figsize=(4.4 * len(found), 4.6), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True)
    for axes, (model, values) in zip(panels, found.items(), strict=True):
        predicted = predicted_references(case.space[system], values[system], numbers)
        x, energies = points(predicted, numbers)
        axes.scatter(x[:, 1], energies, s=4, color=COLOURS[model], alpha=0.35, lw=0)
        axes.plot(corners[order, 1], depths[order], color="black", lw=1.2, marker="o", ms=4, zorder=3)
        x, energies = points(known, numbers)
        axes.scatter(x[:, 1], energies, s=18, facecolor="none", edgecolor="black", lw=0.7)
        names, x, energies = hull_points(predicted, numbers)
        along = np.argsort(x[:, 1])
        axes.plot(x[along, 1], energies[along], color=COLOURS[model], lw=1.6, marker="D", ms=4.5, zorder=4)
        new = [row for row in along.tolist() if 0.0 < x[row, 1] < 1.0]
        stable = [name for name in formulas if name not in system.split("-")]
        right = len(set(stable) & set(names))
        shown = [row for row in new if len(new) <= MOST_LABELS or row in (new[0], new[-1]) or names[row] in stable]
        label_below(axes, [(x[row, 1], energies[row], mathtext(names[row])) for row in shown], COLOURS[model])
        axes.set_title(f"{model}: {right} of {len(stable)} stable compounds,\n{len(new) - right} other vertices")
        axes.set(xlabel=f"fraction of {system.split('-')[1]}", xlim=(-0.02, 1.02))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("formation energy (eV/atom)")
    low, high = panels[0].get_ylim()
    panels[0].set_ylim(low - 0.16 * (high - low), min(high, 0.6))
    handles = [
        Line2D([], [], color="black", marker="o", ms=4, label="known hull"),
        Line2D([], [], color="black", marker="o", mfc="none", ls="", ms=4, label="known compounds"),
        Line2D([], [], color="grey", marker="D", ms=4.5, label="predicted hull"),
        Line2D([], [], color="grey", marker=".", ls="", alpha=0.5, label="predicted, all formulas"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    save(figure, path)


def label_below(axes: Axes, marks: list[tuple[float, float, str]], colour: str) -> None:
    """Write formulas in two rows under the hull, as near to their compositions as there is room."""
    gap = min(0.085, 0.9 / max(1, len(marks)))
    places = [x for x, _, _ in marks]
    for number in range(1, len(places)):
        places[number] = max(places[number], places[number - 1] + gap)
    for number in reversed(range(len(places))):
        places[number] = min(places[number], 0.95 - gap * (len(places) - 1 - number))
    for number, (place, (x, energy, text)) in enumerate(zip(places, marks, strict=True)):
        axes.annotate(
            text,
            (x, energy),
            xytext=(max(place, 0.05 + gap * number), 0.02 + 0.055 * (number % 2)),
            textcoords="axes fraction",
            ha="center",
            fontsize=8,
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.4, "alpha": 0.6, "shrinkB": 4},
        )


def ternary(case: Case, system: str, found: dict[str, Any], path: Path) -> None:
    symbols = system.split("-")
    numbers = [atomic_numbers[symbol] for symbol in symbols]
    known = case.references.restrict(numbers)
    n_panels = len(found) + 1
    figure = Figure(figsize=(11.0, 4.3 * ((n_panels + 1) // 2)), layout="constrained")
    panels = figure.subplots((n_panels + 1) // 2, 2).ravel()
    for axes in panels[n_panels:]:
        axes.axis("off")
    stable, places, _ = hull_points(known, numbers)
    compounds = [row for row, name in enumerate(stable) if name not in symbols]
    for axes, model in zip(panels, ["known", *found], strict=False):
        references = known
        if model != "known":
            references = predicted_references(case.space[system], found[model][system], numbers)
        triangle(axes, symbols)
        colour = COLOURS.get(model, "black")
        tie_lines(axes, references, numbers, colour)
        names, x, _ = hull_points(references, numbers)
        inside = np.array([name not in symbols for name in names])
        axes.scatter(*(places[compounds] @ CORNERS).T, s=62, facecolor="none", edgecolor="black", lw=1.1, zorder=4)
        axes.scatter(*(x[inside] @ CORNERS).T, s=24, color=colour, marker="o" if model == "known" else "D", zorder=5)
        right = len({stable[row] for row in compounds} & set(names))
        if model == "known":
            axes.set_title(f"known: {len(compounds)} stable compounds", pad=12)
            label_beside(axes, [(*(places[row] @ CORNERS), mathtext(stable[row])) for row in compounds])
        else:
            axes.set_title(
                f"{model}: {right} of {len(compounds)} stable, {inside.sum() - right} other vertices", pad=12
            )
    handles = [
        Line2D([], [], color="black", marker="o", mfc="none", ls="", ms=7, label="known stable compound"),
        Line2D([], [], color="grey", marker="D", ls="", ms=5, label="vertex of the predicted hull"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    save(figure, path)


def label_beside(axes: Axes, marks: list[tuple[float, float, str]]) -> None:
    """Write formulas in a column on either side of a triangle, in the order of their heights."""
    ordered = sorted(marks)
    for side, column in ((-0.03, ordered[: len(marks) // 2]), (1.03, ordered[len(marks) // 2 :])):
        heights = np.linspace(0.08, 0.86, len(column))
        for (x, y, text), height in zip(sorted(column, key=lambda mark: mark[1]), heights, strict=True):
            axes.annotate(
                text,
                (x, y),
                xytext=(side, height),
                ha="right" if side < 0 else "left",
                va="center",
                fontsize=9,
                arrowprops={"arrowstyle": "-", "lw": 0.4, "alpha": 0.7, "color": "tab:red", "shrinkB": 3},
            )


def triangle(axes: Axes, symbols: list[str]) -> None:
    axes.plot(*np.vstack([CORNERS, CORNERS[:1]]).T, color="black", lw=1.0)
    for symbol, place, shift in zip(symbols, CORNERS, ((-0.03, -0.07), (0.03, -0.07), (0.0, 0.04)), strict=True):
        axes.annotate(symbol, place + np.array(shift), ha="center", fontsize=12)
    axes.set_aspect("equal")
    axes.set(xlim=(-0.3, 1.3), ylim=(-0.1, 0.95))
    axes.axis("off")


def tie_lines(axes: Axes, references: References, numbers: list[int], colour: str) -> None:
    from ase_matprop.screening.hull.stability import phase_diagram

    diagram = phase_diagram(references, numbers)
    symbols = [element.symbol for element in diagram.elements]
    for facet in diagram.facets:
        x = np.array(
            [[diagram.qhull_entries[i].composition.get_atomic_fraction(symbol) for symbol in symbols] for i in facet]
        )
        axes.plot(*(np.vstack([x, x[:1]]) @ CORNERS).T, color=colour, lw=0.5, alpha=0.6)


def discovery(results: Path, path: Path) -> None:
    tables = {name: pd.read_csv(results / f"{name}-held-out.csv") for name in TITLES}
    figure = Figure(figsize=(13.0, 8.0), layout="constrained")
    panels = figure.subplots(2, len(tables))
    for column, (name, table) in enumerate(tables.items()):
        upper, lower = panels[:, column]
        true = table["e_above_hull"]
        for model, colour in COLOURS.items():
            if f"{model} e_above_hull" not in table:
                continue
            pred = table[f"{model} e_above_hull"]
            curve = precision_recall_curve(true, pred)
            upper.plot(curve["recall"], curve["precision"], color=colour, label=model, lw=1.4)
            at_zero = curve[curve["cut"] <= 0.0]
            if len(at_zero):
                upper.plot(at_zero["recall"].iloc[-1], at_zero["precision"].iloc[-1], "o", color=colour, ms=7)
            lower.step(curve["cut"], curve["recall"], where="post", color=colour, lw=1.4, label=f"{model}, recall")
            lower.step(curve["cut"], curve["precision"], where="post", color=colour, lw=1.2, ls="--")
        prevalence = float((true <= 0.0).mean())
        for axes in (upper, lower):
            axes.axhline(prevalence, color="black", lw=0.8, ls=":", label=f"by chance ({prevalence:.2f})")
            axes.set_ylim(-0.02, 1.02)
            axes.grid(alpha=0.3)
        upper.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02))
        upper.set_title(
            f"{TITLES[name]}\n{len(table)} held-out compounds, {int((true <= 0.0).sum())} stable", fontsize=11
        )
        upper.legend(fontsize=9, title="point: cut at 0")
        lower.axvline(0.0, color="grey", lw=0.8)
        lower.set(xlabel="cut on the predicted hull distance (eV/atom)", xlim=(-0.3, 0.4))
        lower.set_ylabel("recall (full), precision (dashed)")
    save(figure, path)


if __name__ == "__main__":
    main()
