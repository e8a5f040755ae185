"""Whether errors grow with the distance to the training set, the spread and the disagreement: measured on test rows.

    python benchmarks/reach.py --data-dir ../shared/data
    python benchmarks/reach.py --data-dir ../shared/data --models irnet17-mp elemnet-mp --figure docs/figures/reach.png

The test rows are those of the recipe of each model: none of them was used in training, tuning, or for the units of the
distance.  Rows are sorted by each measure and cut into ten equal parts; the table has the mean absolute error of each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from ase_matprop import load_model
from ase_matprop.models.predictor import Predictor
from ase_matprop.training.datasets import FeatureTable, load_feature_table
from ase_matprop.training.preparation import split_table
from ase_matprop.training.recipe import Recipe

mpl.use("Agg")
import matplotlib.pyplot as plt

STRUCTURE_MODELS = ["irnet17-mp", "schnet-mp", "nn24-mp", "nn20-mp"]
FORMULA_MODELS = ["irnet17-composition-mp", "elemnet-mp", "elemnet-oqmd"]
COMPARED = ["irnet17-mp", "schnet-mp"]  # which have the same test rows
PARTS = 10


def evaluate(name: str, options: argparse.Namespace) -> pd.DataFrame:
    """Return error, distance, spread and warnings of the test rows of a model, by their identifiers."""
    recipe = Recipe.read(options.recipes / f"{name}.toml")
    table = load_feature_table(
        options.data_dir, recipe.data, recipe.descriptor.name, cache_dir=options.cache_dir, cutoff=recipe.cutoff
    )
    rows = split_table(recipe, table, options.data_dir).test
    predictor = load_model(name)
    parts = [of_rows(predictor, table, part) for part in np.array_split(rows, max(1, len(rows) // 2000))]
    return pd.concat(parts)


def of_rows(predictor: Predictor, table: FeatureTable, rows: np.ndarray) -> pd.DataFrame:
    features = table.features[rows]
    members, hidden = predictor._members_and_hidden(features)
    numbers = table.numbers[rows]
    reach = predictor._reach
    assert reach is not None and reach.distance is not None
    graphs = None if isinstance(features, np.ndarray) else features
    warnings = reach.warnings([set(row[row > 0].tolist()) for row in numbers], graphs)
    return pd.DataFrame(
        {
            "value": members.mean(axis=0)[:, 0],
            "reference": table.targets[rows, 0],
            "error": np.abs(members.mean(axis=0)[:, 0] - table.targets[rows, 0]),
            "distance": reach.distance.of(hidden),
            "spread": members.std(axis=0)[:, 0],
            "warned": [warning is not None for warning in warnings],
            "never together": ["together" in (warning or "") for warning in warnings],
        },
        index=[table.ids[row] for row in rows],
    )


def deciles(measure: pd.Series, error: pd.Series) -> list[float]:
    return [float(part.mean()) for part in np.array_split(error.to_numpy()[np.argsort(measure.to_numpy())], PARTS)]


def line(name: str, measure: str, frame: pd.DataFrame) -> str:
    frame = frame.dropna(subset=measure)
    rank = spearmanr(frame[measure], frame["error"])[0]
    return (
        f"| {name} | {measure} | {rank:.2f} | "
        + " | ".join(f"{x:.3f}" for x in deciles(frame[measure], frame["error"]))
        + " |"
    )


def draw(frames: dict[str, pd.DataFrame], path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.8), layout="constrained")
    for name, frame in frames.items():
        ordered = frame.sort_values("distance")
        parts = np.array_split(np.arange(len(ordered)), PARTS)
        x = [ordered["distance"].iloc[part].median() for part in parts]
        left.plot(x, [ordered["error"].iloc[part].mean() for part in parts], "o-", markersize=4, label=name)
    left.set(xlabel="distance to the training set (median of a tenth)", ylabel="mean absolute error (eV/atom)")
    left.legend(fontsize=8)
    name, frame = next((n, f) for n, f in frames.items() if "disagreement" in f)
    parts = np.array_split(frame.dropna(subset="disagreement").sort_values("disagreement"), 20)
    x = np.array([part["disagreement"].mean() for part in parts])
    right.loglog(x, [part["error"].mean() for part in parts], "o", label=f"{name}: twentieths of the test rows")
    right.loglog(x, x, "--", color="0.5", label="error = disagreement")
    right.set(xlabel="disagreement (eV/atom)", ylabel="mean absolute error (eV/atom)")
    right.legend(fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--recipes", type=Path, default=Path("recipes"))
    parser.add_argument("--cache-dir", type=Path, default=Path("runs/cache"))
    parser.add_argument("--models", nargs="+", default=[*STRUCTURE_MODELS, *FORMULA_MODELS])
    parser.add_argument("--figure", type=Path, default=None)
    options = parser.parse_args()
    frames = {name: evaluate(name, options) for name in options.models}
    compared = [name for name in COMPARED if name in frames]
    if len(compared) > 1:
        values = pd.concat([frames[name]["value"] for name in compared], axis=1, join="inner")
        for name in compared:
            frames[name]["disagreement"] = values.std(axis=1, ddof=0)  # NaN where a row is not in both test sets
        mean = values.mean(axis=1)
        error = (mean - frames[compared[0]]["reference"].loc[mean.index]).abs().mean()
        print(f"mean of {', '.join(compared)}: MAE {error:.4f} eV/atom on {len(mean)} rows\n")
    print("| model | sorted by | Spearman | " + " | ".join(f"tenth {k}" for k in range(1, PARTS + 1)) + " |")
    print("|---|---|---|" + "---|" * PARTS)
    for name, frame in frames.items():
        for measure in ("distance", "spread", "disagreement"):
            if measure in frame and frame[measure].any():
                print(line(name, measure, frame))
    print("\n| model | rows | MAE | distance > 1 | > 2 | > 3 | warned | pair never together |")
    print("|---|---|---|---|---|---|---|---|")
    for name, frame in frames.items():
        cells = [f"{len(frame)}", f"{frame['error'].mean():.4f}"]
        chosen = [frame["distance"] > cut for cut in (1, 2, 3)] + [frame["warned"], frame["never together"]]
        cells += [f"{frame['error'][rows].mean():.3f} ({rows.sum()})" if rows.any() else "(0)" for rows in chosen]
        print(f"| {name} | " + " | ".join(cells) + " |")
    if options.figure is not None:
        draw(frames, options.figure)


if __name__ == "__main__":
    main()
