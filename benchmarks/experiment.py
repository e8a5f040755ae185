"""Models that were trained on calculations, compared with measured formation enthalpies.

    python benchmarks/experiment.py --data-dir ../shared/data --models elemnet-oqmd elemnet-mp

D. Jha et al., Nat. Commun. 10, 5316 (2019), thesis Table 5.4 and Figures 5.3 and 5.8.  With ``--split``, the
split.json of a training run on experiments, only the test rows of that run count, for all models.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ase_matprop import load_model

FILE = "compositions/experimental_formation_energy.csv.gz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--models", nargs="+", required=True, help="names or model folders")
    parser.add_argument("--split", type=Path, help="split.json of a training run: only its test rows count")
    parser.add_argument("--output", type=Path, default=Path("docs/figures/experiment.png"))
    options = parser.parse_args()
    frame = pd.read_csv(options.data_dir / FILE)
    if options.split is not None:
        frame = frame[frame["formula"].isin(json.loads(options.split.read_text())["test"])]
    reference = frame["formation_energy_per_atom"].to_numpy()
    figure = Figure(figsize=(4.0 * (len(options.models) + 1), 4.0), layout="constrained")
    *parities, distribution = figure.subplots(1, len(options.models) + 1)
    print(f"{len(frame)} measured formation enthalpies\n\n| model | rows | MAE (eV/atom) | median | 90th percentile |")
    print("|---|---|---|---|---|")
    for axes, name in zip(parities, options.models, strict=True):
        predictor = load_model(name)
        predicted = predictor.predict(frame["formula"].tolist()).values
        known = np.isfinite(predicted)
        errors = np.sort(np.abs(predicted - reference)[known])
        mae, median, tenth = errors.mean(), np.median(errors), np.percentile(errors, 90)
        label = predictor.card.name
        print(f"| {label} | {known.sum()} | {mae:.4f} | {median:.4f} | {tenth:.4f} |")
        axes.scatter(reference, predicted, s=6, alpha=0.5)
        bounds = (min(reference.min(), np.nanmin(predicted)) - 0.1, max(reference.max(), np.nanmax(predicted)) + 0.1)
        axes.plot(bounds, bounds, color="black", lw=0.8)
        axes.set(xlabel="measured (eV/atom)", ylabel="predicted (eV/atom)", title=f"{label}\nMAE {mae:.3f} eV/atom")
        distribution.plot(errors, np.arange(1, len(errors) + 1) / len(errors), label=label)
    distribution.set(xlabel="absolute error (eV/atom)", ylabel="share of the rows", xlim=(0, 0.8), ylim=(0, 1))
    distribution.grid(alpha=0.3)
    distribution.legend(fontsize=8)
    FigureCanvasAgg(figure)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=120)


if __name__ == "__main__":
    main()
