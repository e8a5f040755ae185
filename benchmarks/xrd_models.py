"""Train the XRD networks that come with the package: PADNet on all simulated images of several seeds.

    python benchmarks/xrd_models.py --output ase_matprop/diffraction/zoo --accuracies runs/xrd-final/accuracies.csv

One model for each kind of data, with the settings of the cross-validation.  The seeds of its images (200 to 207) are
those of no other measurement; it is tested on all images of the seeds 300 to 302, which decide nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import torch
from xrd_cross_validation import FILTER_SIZES, SIZE, STRIDES, TRAINING

from ase_matprop.diffraction.xrd import simulate, train_model
from ase_matprop.diffraction.xrd.card import Accuracy
from ase_matprop.diffraction.xrd.simulation import ImageSet, join

KINDS = {"slac": "one frame, strong irregular background", "nist": "two frames, low smooth background"}
TRAINING_SEEDS, TEST_SEEDS = range(200, 208), range(300, 303)


def images(kind: str, seeds: range) -> ImageSet:
    return join([simulate(kind, SIZE, seed=seed) for seed in seeds])


def cross_validated(path: Path | None, kind: str) -> Accuracy | None:
    """Return what PADNet reached in cross-validation, from the table of ``xrd_cross_validation.py``."""
    if path is None:
        return None
    table = pd.read_csv(path, keep_default_na=False)
    rows = table[(table["kind"] == kind) & (table["method"] == "padnet")]
    rows = rows[(rows["trained on"] == "I") & (rows["tested on"] == "I")]
    if rows.empty:
        raise SystemExit(f"{path} has no accuracy of padnet on {kind} images")
    seeds = ", ".join(str(seed) for seed in rows["seed"])
    return Accuracy(
        n=177 * len(rows),
        accuracy=round(float(rows["accuracy"].mean()) / 100.0, 4),
        of=f"ten-fold cross-validation of networks that were trained on 159 or 160 simulated images, seeds {seeds}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the model folders")
    parser.add_argument("--accuracies", type=Path, help="table of xrd_cross_validation.py, for the card")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for kind in options.kinds:
        name = f"padnet-{kind}-sim"
        test = f"simulated images of the seeds {TEST_SEEDS[0]} to {TEST_SEEDS[-1]}, which had no part in anything else"
        predictor = train_model(
            images(kind, TRAINING_SEEDS),
            options.output / name,
            name=name,
            description=f"PADNet for {kind.upper()}-like simulated diffraction images of Sn-Ti-Zn-O: {KINDS[kind]}.",
            network={"filter_size": FILTER_SIZES[kind], "strides": STRIDES},
            training=TRAINING[kind],
            training_set={
                "name": f"ase_matprop.diffraction.xrd.simulate({kind!r}, {SIZE}, seed=...)",
                "seeds": f"{TRAINING_SEEDS[0]} to {TRAINING_SEEDS[-1]}",
                "rows": 177 * len(TRAINING_SEEDS),
                "split": "all images of these seeds are for training; the test images are of other seeds",
            },
            cross_validation=cross_validated(options.accuracies, kind),
            test=(test, images(kind, TEST_SEEDS)),
            notes=(
                "It has only seen simulated images of 128 x 128 pixels, and was tested on such images alone. Nothing "
                "is known of what it does with images of a real instrument.",
                "It knows the eight phase regions of its training and nothing else: a pattern of other phases gets the "
                "name of one of these.",
            ),
            precision="float16",
            progress=lambda epoch, loss: print(f"epoch {epoch}: loss {loss:.4f}", flush=True),
        )
        print(name, predictor.card.accuracies, flush=True)


if __name__ == "__main__":
    main()
