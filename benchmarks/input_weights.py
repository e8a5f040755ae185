"""Which features a network listens to: the sums of squared weights of its first layer.

    python benchmarks/input_weights.py --models nn20-mp nn24-mp --output docs/figures/input_weights.png

A. M. Krajewski et al., Comput. Mater. Sci. 208, 111254 (2022), Figure 3.2.  Weights act on features that the model has
scaled (divided by their maximum, for the SIPFENN networks).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ase_matprop.models import artefact
from ase_matprop.models.registry import find_model

SHOWN = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["nn20-mp", "nn24-mp"])
    parser.add_argument("--output", type=Path, default=Path("docs/figures/input_weights.png"))
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(7.0 * len(options.models), 4.6), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(options.models))), options.models, strict=True):
        loaded = artefact.load(find_model(name))
        first = next(iter(loaded.network.members[0].parameters())).detach().numpy()
        sums = (first.astype(float) ** 2).sum(axis=0)
        labels = np.array(loaded.card.descriptor.labels)
        order = np.argsort(sums)[::-1]
        axes.plot(np.arange(1, len(sums) + 1), sums[order])
        axes.set(yscale="log", xlabel="rank of the feature", ylabel="sum of squared input weights", title=name)
        n_weak = (sums < 0.1 * sums.max()).sum()
        print(f"\n{name}: {n_weak} of {len(sums)} features have less than a tenth of the largest sum")
        for rank, row in enumerate(order[:SHOWN], start=1):
            print(f"{rank:3d}  {sums[row]:10.4g}  {labels[row]}")
        text = "\n".join(f"{rank} {labels[row]}" for rank, row in enumerate(order[:SHOWN], start=1))
        axes.text(0.98, 0.97, text, transform=axes.transAxes, ha="right", va="top", fontsize=7)
    FigureCanvasAgg(figure)
    figure.savefig(options.output, dpi=120)


if __name__ == "__main__":
    main()
