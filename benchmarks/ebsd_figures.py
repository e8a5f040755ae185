"""Draw the figures of docs/ebsd.md.

python benchmarks/ebsd_figures.py --benchmark runs/ebsd-benchmark.json --model omnet-nickel --output docs/figures
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from ebsd import real_patterns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.maps import ScanGrid, draw_map
from ase_matprop.diffraction.ebsd.master_pattern import MasterPattern
from ase_matprop.diffraction.ebsd.predictor import EbsdPredictor
from ase_matprop.diffraction.ebsd.preprocessing import Preprocessing, remove_static_background
from ase_matprop.diffraction.ebsd.recipe import EbsdRecipe
from ase_matprop.diffraction.ebsd.simulation import Simulator

_SEED = 5
_GRAINS = 30
_SCAN = (45, 70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--benchmark", type=Path, default=Path("runs/ebsd-benchmark.json"))
    parser.add_argument("--model", default="omnet-nickel", help="name of a shipped model, or a folder")
    parser.add_argument("--output", type=Path, default=Path("docs/figures"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    predictor = EbsdPredictor.load(options.model)
    _save(errors(json.loads(options.benchmark.read_text(encoding="utf-8"))), options.output / "ebsd_errors.png")
    _save(patterns(EbsdRecipe.model_validate(predictor.card.recipe)), options.output / "ebsd_patterns.png")
    _save(scan(predictor), options.output / "ebsd_map.png")


def errors(benchmark: dict) -> Figure:
    """Shares of the patterns below an error, of every method."""
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, key, title in (
        (left, "simulated", "1,000 simulated patterns"),
        (right, "real", "9 real patterns, against kikuchipy's refined orientations"),
    ):
        for name, row in benchmark[key].items():
            if "seed" not in name:
                _distribution(axes, name, np.sort(row["degrees"]))
        axes.set(xscale="log", xlim=(0.02, 65.0), ylim=(0.0, 1.02), xlabel="disorientation (degrees)")
        axes.set_title(title, fontsize=9)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
    left.set_ylabel("share of the patterns below")
    left.legend(fontsize=8)
    return figure


def _distribution(axes: Axes, name: str, degrees: np.ndarray) -> None:
    shares = np.arange(1, len(degrees) + 1) / len(degrees)
    width = 2.2 if name == "network" else 1.3
    axes.plot(degrees, shares, drawstyle="steps-post", lw=width, label=name.replace("network", "OMNet, three members"))


def patterns(recipe: EbsdRecipe) -> Figure:
    """Real patterns, and simulated ones of the same orientations as they are and as they are trained on."""
    recorded, static, known, centers = real_patterns()
    kept = [0, 1, 2, 3]
    simulator = Simulator(MasterPattern.nickel(), recipe.detector, recipe.disturbances)
    preparation = Preprocessing(recipe.detector.shape, sigma=recipe.preparation.sigma, pool=1)
    rows = {
        "recorded": recorded,
        "without background": preparation(torch.from_numpy(remove_static_background(recorded, static)))[:, 0],
        "simulated": preparation(simulator.project(torch.from_numpy(known).float(), centers))[:, 0],
        "simulated, as in training": preparation(simulator.patterns(known, seed=_SEED))[:, 0],
    }
    figure = Figure(figsize=(1.7 * len(kept) + 0.3, 7.0), layout="constrained")
    for line, (name, images) in zip(figure.subplots(len(rows), len(kept)), rows.items(), strict=True):
        for axes, image in zip(line, images.numpy()[kept], strict=True):
            axes.imshow(image, cmap="gray", vmin=np.percentile(image, 1), vmax=np.percentile(image, 99))
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=8)
    return figure


def scan(predictor: EbsdPredictor) -> Figure:
    """The map of a simulated scan over grains."""
    recipe = EbsdRecipe.model_validate(predictor.card.recipe)
    random = np.random.default_rng(_SEED)
    rows, columns = _SCAN
    seeds = random.uniform(0.0, 1.0, (_GRAINS, 2)) * _SCAN
    points = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1).reshape(-1, 2)
    grains = np.square(points[:, None] - seeds).sum(axis=-1).argmin(axis=1)
    simulator = Simulator(MasterPattern.nickel(), recipe.detector, recipe.disturbances)
    quaternions = convert.random_orientations(_GRAINS, seed=_SEED)[grains]
    result = predictor.predict(simulator.patterns(quaternions, seed=_SEED).numpy().astype(np.uint8))
    degrees = convert.disorientations(result.quaternions, quaternions, predictor.card.phase.symmetry)
    sure = np.array([warning is None for warning in result.warnings])
    print(
        f"map: mean {degrees.mean():.2f}, median {np.median(degrees):.2f} degrees; "
        f"{sure.mean():.1%} without a warning, mean {degrees[sure].mean():.2f}, median {np.median(degrees[sure]):.2f}, "
        f"{(degrees[sure] > 5.0).mean():.1%} of them wrong by more than 5 degrees"
    )
    return draw_map(result, predictor.card.phase, ScanGrid(rows, columns))


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110)
    print(path)


if __name__ == "__main__":
    main()
