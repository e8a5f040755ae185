"""The losses of Table 6.1 of the thesis, and the representations of an orientation, at equal numbers of steps.

    python benchmarks/ebsd_losses.py recipes/ebsd/omnet-nickel.toml --steps 1000 --output runs/ebsd-losses

Every row is one network of the recipe with another output and loss, trained on the same patterns and measured on the
validation patterns; the test patterns are not touched.  A run that was interrupted goes on when it is run again.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch

from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.master_pattern import MasterPattern
from ase_matprop.diffraction.ebsd.recipe import EbsdRecipe
from ase_matprop.diffraction.ebsd.training import held_out, predict_all, train

ROWS = [
    *(("euler", loss) for loss in ("mae", "mse", "mde", "mae+mde", "mse+mde")),
    *(("quaternion", loss) for loss in ("mae", "mse", "mde", "mae+mde", "mse+mde")),
    *(("invariants", loss) for loss in ("mae", "mse")),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--network", default=None, help="name of the network, in place of the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    base = EbsdRecipe.read(arguments.recipe)
    master = MasterPattern.nickel()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = [("output", "loss", "mean", "median", "share_below_2")]
    for output, loss in ROWS:
        network = base.network.model_copy(update={"output": output, "name": arguments.network or base.network.name})
        training = base.training.model_copy(update={"loss": loss, "steps": arguments.steps})
        recipe = base.model_copy(update={"network": network, "training": training})
        folder = arguments.output / f"{output}-{loss}"
        estimator = train(recipe, seed=arguments.seed, folder=folder, master_pattern=master, checkpoint_every=100)
        validation = held_out(recipe, "validation", master)
        preparation = recipe.preparation.build(recipe.detector)
        found, _, _ = predict_all([estimator], preparation, validation.patterns)
        degrees = convert.disorientations(found, validation.quaternions)
        rows.append((output, loss, *(f"{x:.3f}" for x in (degrees.mean(), np.median(degrees), (degrees < 2).mean()))))
        print(*rows[-1], flush=True)
    with (arguments.output / "losses.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


if __name__ == "__main__":
    main()
