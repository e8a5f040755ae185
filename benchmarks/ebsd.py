"""Orientations from EBSD patterns: a trained network beside dictionary and Hough indexing, on the same patterns.

    pip install 'ase-matprop[ebsd]' pyebsdindex
    python benchmarks/ebsd.py omnet-nickel --threads 1 --output runs/ebsd-benchmark.json

The 1,000 test patterns of the model's recipe, and the nine real patterns that kikuchipy ships with their orientations.
Rows of the network: all members together, and each alone.  All methods take the nominal pattern centre for the
simulated patterns; the real ones are resampled from their own pattern centres to that.  All methods but the network,
which does it itself, get the patterns after the same background correction.  The dictionary is our simulation on a
cubochoric grid of orix, compared by the normalised dot product of equation 6.2 of the thesis in one matrix product;
``--check`` runs the smallest one through kikuchipy, too.  PyEBSDIndex compiles itself for a minute or more on its first
pattern, which is not measured.  Rates are patterns per second of processor time, of which other programs take none.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ase_matprop.diffraction.ebsd import artefact
from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.geometry import Detector
from ase_matprop.diffraction.ebsd.master_pattern import MasterPattern
from ase_matprop.diffraction.ebsd.predictor import EbsdPredictor
from ase_matprop.diffraction.ebsd.preprocessing import Preprocessing, remove_static_background
from ase_matprop.diffraction.ebsd.recipe import EbsdRecipe
from ase_matprop.diffraction.ebsd.run import summarize
from ase_matprop.diffraction.ebsd.simulation import Simulator
from ase_matprop.diffraction.ebsd.training import held_out
from ase_matprop.diffraction.ebsd.warping import warp
from ase_matprop.diffraction.shipped import model_path

Indexing = Callable[[torch.Tensor], np.ndarray]

#: size of a dictionary in the fundamental zone -> steps along half an edge of the cubochoric cube: (2 n + 1)^3 / 24
SEMI_EDGE_STEPS = {30_000: 45, 100_000: 67, 300_000: 96}


def grid(size: int) -> np.ndarray:
    """Return about ``size`` orientations, evenly spread over the fundamental zone of m-3m, shape (n, 4)."""
    from orix.quaternion.symmetry import Oh
    from orix.sampling import get_sample_fundamental

    found = get_sample_fundamental(point_group=Oh, method="cubochoric", semi_edge_steps=SEMI_EDGE_STEPS[size])
    return np.asarray(found.data, dtype=np.float64)


class Dictionary:
    """Indexing by the most similar of many simulated patterns."""

    def __init__(self, size: int, detector: Detector, master: MasterPattern) -> None:
        self.quaternions = grid(size)
        self.preparation = Preprocessing(detector.shape, pool=1)
        simulator, parts = Simulator(master, detector), []
        start = time.process_time()
        for part in np.array_split(self.quaternions, max(1, len(self.quaternions) // 1024)):
            image = simulator.project(torch.tensor(part).float())
            parts.append(self._prepare(image).half())  # half of the memory; differences are below the noise
        self.patterns = torch.cat(parts)
        self.seconds = time.process_time() - start

    def _prepare(self, patterns: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self.preparation(patterns).flatten(1), dim=1)

    def index(self, patterns: torch.Tensor) -> np.ndarray:
        """Return the orientations of the most similar patterns, shape (n, 4)."""
        prepared = self._prepare(patterns)
        best = torch.full((len(patterns),), -2.0)
        found = torch.zeros(len(patterns), dtype=torch.long)
        for start in range(0, len(self.patterns), 8192):
            scores, rows = (prepared @ self.patterns[start : start + 8192].float().T).max(dim=1)
            better = scores > best
            best[better], found[better] = scores[better], rows[better] + start
        return self.quaternions[found.numpy()]


def hough(detector: Detector) -> Indexing:
    """Return indexing by PyEBSDIndex, through kikuchipy."""
    import kikuchipy
    from orix.crystal_map import PhaseList

    preparation = Preprocessing(detector.shape, pool=1)
    phases = PhaseList(kikuchipy.data.nickel_ebsd_master_pattern_small().phase)
    geometry = kikuchipy.detectors.EBSDDetector(
        shape=detector.shape, pc=detector.pattern_center, sample_tilt=detector.sample_tilt, tilt=detector.tilt
    )

    def index(patterns: torch.Tensor) -> np.ndarray:
        prepared = preparation(patterns)[:, 0]
        low, high = prepared.amin(dim=(1, 2), keepdim=True), prepared.amax(dim=(1, 2), keepdim=True)
        images = (255.0 * (prepared - low) / (high - low)).round().byte().numpy()
        signal = kikuchipy.signals.EBSD(images[None])
        indexer = geometry.get_indexer(phases, nBands=9)
        found = signal.hough_indexing(phases, indexer, verbose=0)
        return np.asarray(found.rotations.data, dtype=np.float64).reshape(-1, 4)[: len(images)]

    return index


def check_with_kikuchipy(dictionary: Dictionary, detector: Detector, patterns: torch.Tensor) -> np.ndarray:
    """Return what kikuchipy's dictionary indexing gives with the same grid, shape (n, 4)."""
    import kikuchipy
    from orix.crystal_map import CrystalMap, PhaseList
    from orix.quaternion import Rotation

    images = dictionary.preparation(patterns)[:, 0].numpy()
    simulated = dictionary.patterns.float().reshape(-1, *detector.shape).numpy()
    signal = kikuchipy.signals.EBSD(images[None])
    phase = kikuchipy.data.nickel_ebsd_master_pattern_small().phase
    library = kikuchipy.signals.EBSD(
        simulated, xmap=CrystalMap(Rotation(dictionary.quaternions), phase_list=PhaseList(phase))
    )
    found = signal.dictionary_indexing(library, keep_n=1)
    return np.asarray(found.rotations.data, dtype=np.float64).reshape(-1, 4)[: len(images)]


def measure(name: str, index: Indexing, patterns: torch.Tensor, true: np.ndarray) -> dict:
    start = time.process_time()
    found = index(patterns)
    seconds = time.process_time() - start
    degrees = convert.disorientations(found, true)
    row: dict[str, Any] = summarize(degrees).model_dump() | {"patterns_per_core_second": len(patterns) / seconds}
    row["degrees"] = [round(float(value), 3) for value in degrees]
    print(
        f"{name:24s} mean {row['mean']:6.3f}  median {row['median']:6.3f}  below 2: {row['share_below_2']:6.1%}  "
        f"max {row['maximum']:5.1f}  {row['patterns_per_core_second']:9.1f} patterns/s",
        flush=True,
    )
    return row


def real_patterns() -> tuple[torch.Tensor, np.ndarray, np.ndarray, np.ndarray]:
    """Return the nine patterns, their static background, orientations and pattern centres."""
    import kikuchipy

    signal = kikuchipy.data.nickel_ebsd_small()
    header = signal.original_metadata
    centers = np.stack([np.asarray(header[name], dtype=np.float64).ravel() for name in ("pcx", "pcy", "pcz")], axis=1)
    patterns = torch.from_numpy(signal.data.reshape(9, 60, 60).astype(np.float32))
    return patterns, np.asarray(signal.static_background), np.asarray(signal.xmap.rotations.data), centers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name of a shipped model, or a folder")
    parser.add_argument("--dictionaries", type=int, nargs="*", default=sorted(SEMI_EDGE_STEPS))
    parser.add_argument("--patterns", type=int, default=None, help="only the first test patterns")
    parser.add_argument("--no-hough", action="store_true")
    parser.add_argument("--check", action="store_true", help="compare the smallest dictionary with kikuchipy")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--output", type=Path, default=None, help="JSON file")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    loaded = artefact.load(model_path(arguments.model, "ebsd"))
    predictor = EbsdPredictor(loaded)
    recipe = EbsdRecipe.model_validate(predictor.card.recipe)
    master, detector = MasterPattern.nickel(), recipe.detector
    test = held_out(recipe, "test", master)
    patterns, true = test.patterns[: arguments.patterns], test.quaternions[: arguments.patterns]
    recorded, static, known, centers = real_patterns()
    corrected, _ = warp(torch.from_numpy(remove_static_background(recorded, static)), detector, detector, centers)

    def network_of(chosen: EbsdPredictor) -> tuple[Indexing, Indexing]:
        def simulated(images: torch.Tensor) -> np.ndarray:
            return chosen.predict(images.numpy()).quaternions

        def real(images: torch.Tensor) -> np.ndarray:
            result = chosen.predict(
                images.numpy().astype(np.uint8), detector=detector, centers=centers, static_background=static
            )
            print("  distance", result.distance.round(1), "limit", round(chosen.card.confidence.limit, 2))
            return result.quaternions

        return simulated, real

    rows: dict[str, dict[str, Any]] = {"simulated": {}, "real": {}}
    methods = [("network", *network_of(predictor), recorded)]
    for seed, member in zip(recipe.seeds, loaded.members, strict=True):
        alone = EbsdPredictor(replace(loaded, members=[member]))
        methods.append((f"network, seed {seed}", *network_of(alone), recorded))
    if not arguments.no_hough:
        indexing = hough(detector)
        indexing(corrected)  # compiles
        methods.append(("PyEBSDIndex", indexing, indexing, corrected))
    predictor.predict(patterns[:64].numpy())  # warm
    for name, simulated, real, images in methods:
        rows["simulated"][name] = measure(f"{name}, simulated", simulated, patterns, true)
        rows["real"][name] = measure(f"{name}, real", real, images, known)
    for size in arguments.dictionaries:
        dictionary = Dictionary(size, detector, master)
        name = f"dictionary {len(dictionary.quaternions)}"
        rows["simulated"][name] = measure(f"{name}, simulated", dictionary.index, patterns, true)
        rows["simulated"][name]["seconds_to_simulate"] = dictionary.seconds
        rows["real"][name] = measure(f"{name}, real", dictionary.index, corrected, known)
        if arguments.check and size == min(arguments.dictionaries):
            theirs = check_with_kikuchipy(dictionary, detector, patterns)
            same = convert.disorientations(dictionary.index(patterns), theirs) < 1e-3
            print(f"  kikuchipy gives the same orientation for {same.mean():.1%} of the patterns")
            rows["simulated"][name]["same_as_kikuchipy"] = float(same.mean())
    if arguments.output is not None:
        weights = predictor.card.weights.sha256
        content = {"model": predictor.card.name, "sha256": weights, "threads": torch.get_num_threads()} | rows
        arguments.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
