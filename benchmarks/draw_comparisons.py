"""Draw the figures of docs/results.md from what benchmarks/compare.py left behind.

python benchmarks/draw_comparisons.py --comparisons runs/comparisons --output docs/figures
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pandas as pd
from compare import slug
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comparisons", type=Path, default=Path("runs/comparisons"))
    parser.add_argument("--output", type=Path, default=Path("docs/figures"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    figures = {"depth": depth, "learning-curves": learning_curves, "overfitting": overfitting, "transfer": transfer}
    for name, draw in figures.items():
        folder = options.comparisons / name
        if not (folder / "results.csv").is_file():
            print(f"left out: {folder} has no results.csv")
            continue
        figure = Figure(figsize=(5.4, 4.0), layout="constrained")
        draw(figure.add_subplot(), pd.read_csv(folder / "results.csv"), folder)
        FigureCanvasAgg(figure)
        figure.savefig(options.output / f"{name}.png", dpi=120)


def depth(axes: Axes, results: pd.DataFrame, folder: Path) -> None:
    results[["network", "depth"]] = results["variant"].str.rsplit(n=1, expand=True)
    for network, rows in results.groupby("network", sort=False):
        axes.plot(rows["depth"].astype(int), rows["test MAE"], marker="o", label=f"{network}, test")
        axes.plot(rows["depth"].astype(int), rows["train MAE"], ls=":", color=axes.lines[-1].get_color())
    title = "dotted: training rows"
    axes.set(xlabel="number of layers", ylabel="mean absolute error (eV/atom)", title=title, yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()


def learning_curves(axes: Axes, results: pd.DataFrame, folder: Path) -> None:
    results["network"] = [re.sub(r" [\d,]+ rows$", "", variant) for variant in results["variant"]]
    for network, rows in results.groupby("network", sort=False):
        ordered = rows.sort_values("training rows")
        axes.loglog(ordered["training rows"], ordered["test MAE"], marker="o", label=network)
    summaries = [pd.read_csv(path) for path in folder.parents[1].glob("forest-*/summary.csv")]  # of matprop baseline
    if summaries:
        forest = pd.concat(summaries).sort_values("train_rows")
        axes.loglog(forest["train_rows"], forest["test_mae"], marker="o", label="random forest, features of IRNet-17")
    axes.set(xlabel="training rows", ylabel="test mean absolute error (eV/atom)")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend()


def overfitting(axes: Axes, results: pd.DataFrame, folder: Path) -> None:
    for variant in results["variant"]:
        history = pd.read_csv(folder / slug(variant) / "member_0" / "history.csv")
        ratio = history["validation_mae"] / history["train_mae"]
        axes.plot(history["epoch"], ratio.rolling(3, min_periods=1).mean(), label=variant)
    axes.axhline(1.0, color="black", lw=0.6)
    axes.set(xlabel="epoch", ylabel="validation error / training error", ylim=(0.5, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def transfer(axes: Axes, results: pd.DataFrame, folder: Path) -> None:
    """Draw mean and standard deviation over the splits, and print them as a table."""
    rows = results[results["variant"].str.startswith("experiment")]
    parts = rows["variant"].str.split(", ", expand=True)
    rows = rows.assign(start=parts[1], choice=parts[2])
    print("| start | training rows | test MAE (eV/atom), mean and standard deviation of the splits |\n|---|---|---|")
    for start, group in rows.groupby("start"):
        table = group.groupby("choice").agg({"training rows": "mean", "test MAE": ["mean", "std"]})
        table = table.sort_values(("training rows", "mean"))
        sizes, means, deviations = (table[column] for column in table)
        axes.errorbar(sizes, means, deviations, marker="o", capsize=3, label=start)
        for size, mean, deviation in zip(sizes, means, deviations, strict=True):
            print(f"| {start} | {size:.0f} | {mean:.4f} +- {deviation:.4f} |")
    axes.set(xlabel="training rows", ylabel="test mean absolute error (eV/atom)", xscale="log", ylim=(0, None))
    axes.set(title="measured formation enthalpies")
    axes.grid(alpha=0.3, which="both")
    axes.legend()


if __name__ == "__main__":
    main()
