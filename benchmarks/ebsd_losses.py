"""The losses of Table 6.1 of the thesis, and the representations of an orientation, at equal numbers of steps.

    python benchmarks/ebsd_losses.py recipes/ebsd/omnet-nickel.toml --steps 400 --half --output runs/ebsd-losses

Every row is one network of the recipe with another output and loss, trained on the same patterns and measured on the
validation patterns; the test patterns are not touched.  All patterns are disturbed as the recipe's test patterns are,
which is little, so that few steps show something.  A run that was interrupted goes on when it is run again.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch

from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.evaluation import predict_all
from ase_matprop.diffraction.ebsd.master_pattern import MasterPattern
from ase_matprop.diffraction.ebsd.recipe import EbsdRecipe
from ase_matprop.diffraction.ebsd.training import held_out, train

ROWS = [
    *(("euler", loss) for loss in ("mae", "mse", "mde", "mae+mde", "mse+mde")),
    *(("quaternion", loss) for loss in ("mae", "mse", "mde", "mae+mde", "mse+mde")),
    *(("invariants", loss) for loss in ("mae", "mse")),
]
HALF = {"convolutions": [[16, 16], [32, 32, 32], [48, 48]], "dense": [256, 128], "branch": [64, 32]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--network", default=None, help="name of the network, in place of the recipe's")
    parser.add_argument("--half", action="store_true", help="omnet-early-pool at half of its widths")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    base = EbsdRecipe.read(arguments.recipe)
    base = base.model_copy(update={"disturbances": base.test_disturbances or base.disturbances})
    master = MasterPattern.nickel()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = [("output", "loss", "mean", "median", "share_below_2")]
    for output, loss in ROWS:
        update = {"output": output, "name": arguments.network or base.network.name}
        network = base.network.model_copy(update=update | ({"settings": HALF} if arguments.half else {}))
        training = base.training.model_copy(update={"loss": loss, "steps": arguments.steps, "noise_ramp": 0.0})
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
