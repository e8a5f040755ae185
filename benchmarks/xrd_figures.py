"""Draw the XRD figures of docs/xrd.md.

    python benchmarks/xrd_figures.py --accuracies runs/xrd-final/accuracies.csv --output docs/figures

A pattern with its backgrounds (like Figure 7.6 of the thesis), what the slope filters make of it, and the accuracies of
PADNet by what it was trained and tested on (like Figure 7.7).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from xrd_cross_validation import FILTER_SIZES, SIZE, STRIDES

from ase_matprop.diffraction.xrd import padnet, simulate
from ase_matprop.diffraction.xrd.cross_validation import INPUTS
from ase_matprop.diffraction.xrd.figures import background_figure, filter_response_figure
from ase_matprop.diffraction.xrd.networks import PeakAreaDetection

_SEED, _SAMPLE = 100, 150  # of the images that are drawn; a seed of the tuning
_METHODS = {"padnet": "PADNet", "padnet-trainable": "PADNet, trained filters", "plain-cnn": "plain CNN"}


def inputs_figure(table: pd.DataFrame, path: Path) -> None:
    """Draw mean accuracies by training input (panels) and test input (groups of bars), and their spread over folds."""
    panels = [
        (kind, method)
        for kind in table["kind"].unique()
        for method in _METHODS
        if set(INPUTS) <= set(table[(table["kind"] == kind) & (table["method"] == method)]["trained on"])
    ]
    figure = Figure(figsize=(4.2 * len(panels), 3.6), layout="constrained")
    for number, (kind, method) in enumerate(panels):
        axes: Axes = figure.add_subplot(1, len(panels), number + 1)
        rows = table[(table["kind"] == kind) & (table["method"] == method)]
        seeds = set.intersection(*(set(part["seed"]) for _, part in rows.groupby("trained on")))
        rows = rows[rows["seed"].isin(seeds)]
        means = rows.groupby(["trained on", "tested on"])[["accuracy", "std over folds"]].mean()
        for offset, test in enumerate(INPUTS):
            values = [means.loc[(train, test)] for train in INPUTS]
            places = [group + 0.27 * (offset - 1) for group in range(len(INPUTS))]
            heights = [value["accuracy"] for value in values]
            spread = [value["std over folds"] for value in values]
            axes.bar(places, heights, 0.25, yerr=spread, capsize=3, label=f"tested on {test}", color=f"C{offset}")
            for place, height in zip(places, heights, strict=True):
                axes.text(place, 2.0, f"{height:.0f}", ha="center", color="white", fontsize="small")
        axes.set_xticks(range(len(INPUTS)), [f"trained on {name}" for name in INPUTS])
        axes.set(ylim=(0, 100), ylabel="accuracy, %")
        axes.set_title(f"{kind.upper()}-like, {_METHODS[method]}, seed {', '.join(map(str, sorted(seeds)))}")
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    figure.legend(*axes.get_legend_handles_labels(), fontsize="small", loc="outside lower center", ncols=len(INPUTS))
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accuracies", type=Path, help="table of xrd_cross_validation.py")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    data = simulate("slac", SIZE, seed=_SEED)
    image = data.images[_SAMPLE, 0].astype(float)
    background_figure(image, options.output / "xrd_background.png", geometry=data.geometries[0])
    detection = padnet(size=SIZE, filter_size=FILTER_SIZES["slac"], strides=STRIDES).inputs[0]
    assert isinstance(detection, PeakAreaDetection)
    filter_response_figure(image, detection, options.output / "xrd_response.png")
    if options.accuracies is not None:
        inputs_figure(pd.read_csv(options.accuracies, keep_default_na=False), options.output / "xrd_inputs.png")


if __name__ == "__main__":
    main()
