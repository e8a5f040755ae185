"""SchNet here beside SchNetPack's own way: an epoch of training on energies, and predictions, in the same run.

    python benchmarks/schnet.py                                       # distorted crystals made in place
    python benchmarks/schnet.py --data ../shared/data/mp/mp_formation_energy.extxyz.xz

Both sides have the same network, the same weights to begin with, the same batches in the same order and the same
optimizer; every number is the median of --repeats runs, which alternate.  SchNetPack trains with plain steps on batches
from its AtomsDataModule (an ASE database, matscipy's neighbour lists, no workers), and once more on batches that were
made beforehand, so that nothing but the network counts.  It predicts structure by structure, as its calculator does
with its AtomsConverter, and once more in batches.  Everything runs on one core.
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"

import argparse
import contextlib
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.data import chemical_symbols
from torch import Tensor, nn

from ase_matprop import load_model
from ase_matprop.descriptors.neighbors import NAME, VERSION, neighbor_graphs
from ase_matprop.models import artefact, card
from ase_matprop.models.folder import WeightsSpec
from ase_matprop.models.reach import Reach
from ase_matprop.networks import build_network
from ase_matprop.networks import schnetpack_adapter as adapter
from ase_matprop.networks.ensemble import Ensemble
from ase_matprop.networks.schnet import AtomisticNetwork
from ase_matprop.training.loop import Rows

PROTOTYPES = (
    ("MgO", "rocksalt", 4.21), ("NaCl", "rocksalt", 5.64), ("LiF", "rocksalt", 4.03), ("CsCl", "cesiumchloride", 4.12),
    ("NiAl", "cesiumchloride", 2.89), ("GaAs", "zincblende", 5.65), ("ZnS", "zincblende", 5.41),
    ("CaF2", "fluorite", 5.46), ("Cu", "fcc", 3.61), ("Fe", "bcc", 2.87), ("Si", "diamond", 5.43),
)  # fmt: skip
TARGET = "target"


def distorted_crystals(n: int, seed: int = 0) -> list[Atoms]:
    """Prototypes in cells of 2 to 24 atoms, stretched and rattled."""
    rng = np.random.default_rng(seed)
    structures = []
    for index in range(n):
        atoms = bulk(*PROTOTYPES[index % len(PROTOTYPES)]) * tuple(rng.integers(1, 3, 3))
        atoms.set_cell(atoms.cell * rng.uniform(0.95, 1.1), scale_atoms=True)
        atoms.positions += rng.uniform(-0.1, 0.1, atoms.positions.shape)
        structures.append(atoms)
    return structures


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def as_schnetpack(network: AtomisticNetwork) -> nn.Module:
    """SchNetPack's potential of the same modules with the same weights, for the mean energy of the atoms."""
    atomistic = adapter.schnetpack("atomistic")
    output = atomistic.Atomwise(n_in=network.settings["n_atom_basis"], aggregation_mode="avg", output_key=TARGET)
    output.load_state_dict(network.output.state_dict())
    potential: nn.Module = adapter.schnetpack("model").NeuralNetworkPotential(
        representation=network.representation, input_modules=[atomistic.PairwiseDistances()], output_modules=[output]
    )
    return potential


def fresh(kind: str, settings: dict[str, Any]) -> AtomisticNetwork:
    torch.manual_seed(0)
    network = build_network(kind, adapter.MAX_Z, 1, settings)
    network.settings = settings
    return network


def steps(network: nn.Module, batches: Iterable[tuple[Any, Tensor]], output: Callable[[Any], Tensor]) -> None:
    """One plain epoch."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    network.train()
    for inputs, targets in batches:
        optimizer.zero_grad()
        nn.functional.l1_loss(output(network(inputs)), targets).backward()
        optimizer.step()


def database_batches(
    folder: Path, structures: list[Atoms], targets: np.ndarray, batches: list[list[int]], cutoff: float
) -> Callable[[], Iterator[tuple[Any, Tensor]]]:
    """Return what makes the batches as the loader of SchNetPack's AtomsDataModule does, in the given order."""
    data, transform = adapter.schnetpack("data"), adapter.schnetpack("transform")
    path = str(folder / "structures.db")
    created = data.ASEAtomsData.create(path, distance_unit="Ang", property_unit_dict={TARGET: "eV"})
    created.add_systems([{TARGET: np.array([value])} for value in targets], structures)
    module = data.AtomsDataModule(
        path,
        batch_size=len(batches[0]),
        num_train=len(structures) - 2,
        num_val=1,
        num_test=1,
        split_file=None,
        transforms=[transform.MatScipyNeighborList(cutoff), transform.CastTo32()],
        num_workers=0,
    )
    with contextlib.chdir(folder):  # it leaves a lock in the working directory
        module.setup()
    loader = module.train_dataloader()
    loader.dataset.subset_idx = None  # all rows, and not those of its own split

    def make() -> Iterator[tuple[Any, Tensor]]:
        for batch in batches:
            inputs = loader.collate_fn([loader.dataset[row] for row in batch])
            yield inputs, inputs[TARGET]

    return make


def write_model(folder: Path, network: AtomisticNetwork, kind: str, structures: list[Atoms]) -> None:
    numbers = sorted({int(number) for atoms in structures for number in atoms.numbers})
    artefact.save(
        folder,
        card.ModelCard(
            name=folder.name, description="benchmark", property="formation_energy_per_atom", unit="eV/atom",
            per_atom=True,
            network=card.NetworkSpec(
                name=kind, settings=network.settings, n_inputs=adapter.MAX_Z,
                n_parameters=sum(parameter.numel() for parameter in network.parameters()),
            ),
            descriptor=card.DescriptorSpec(name=NAME, version=VERSION, labels=[]),
            elements=[chemical_symbols[number] for number in numbers],
            training_set=card.TrainingSet(name="", licence="", citation="", source="", rows={}, split={}),
            errors={}, citation=[], recipe={}, code_version="", created="",
            weights=WeightsSpec(sha256="", dtype="float32"),
        ),
        Ensemble([network]),
        None,
        artefact.TargetTransform(np.zeros(1), np.ones(1), np.zeros((adapter.MAX_Z, 1))),
        Reach.of(neighbor_graphs(structures, network.cutoff)),
    )  # fmt: skip


def compare_training(
    options: argparse.Namespace, structures: list[Atoms], folder: Path
) -> tuple[AtomisticNetwork, nn.Module]:
    """Print the times of an epoch, and return the network and SchNetPack's potential as they are after it."""
    settings = {name: getattr(options, name) for name in ("n_atom_basis", "n_interactions", "n_rbf", "cutoff")}
    targets = np.random.default_rng(1).normal(size=len(structures)).astype(np.float32)
    order = np.random.default_rng(2).permutation(len(structures)).tolist()
    batches = [order[start : start + options.batch_size] for start in range(0, len(order), options.batch_size)]
    neighbor_graphs(structures[:5], options.cutoff)
    finding, graphs = seconds(lambda: neighbor_graphs(structures, options.cutoff))
    rows = Rows(graphs, targets[:, None], options.network != "schnet")
    loaded = database_batches(folder, structures, targets, batches, options.cutoff)
    prepared = list(loaded())
    print(
        f"{options.network}, {settings}\n{len(structures)} structures of {graphs.n_atoms.mean():.1f} atoms with "
        f"{graphs.n_neighbors.mean():.1f} neighbours each, batches of {options.batch_size}\n"
    )

    def ours() -> AtomisticNetwork:
        network = fresh(options.network, settings)
        steps(network, (rows[batch] for batch in batches), lambda output: output)
        return network

    def theirs(given: Iterable[tuple[Any, Tensor]]) -> nn.Module:
        potential = as_schnetpack(fresh(options.network, settings))
        steps(potential, given, lambda output: output[TARGET])
        return potential

    ours()  # compiles the loops
    times: list[tuple[float, ...]] = []
    for _ in range(options.repeats):
        here, network = seconds(ours)
        loader, potential = seconds(lambda: theirs(loaded()))
        beforehand, _ = seconds(lambda: theirs((dict(inputs), given) for inputs, given in prepared))
        times.append((here + finding, loader, beforehand))
    here, loader, beforehand = np.median(times, axis=0)
    print("| training, one epoch | seconds | ratio |\n|---|---|---|")
    print(f"| here, with {finding:.2f} s for neighbour lists, found once for all epochs | {here:.2f} | 1 |")
    print(f"| SchNetPack, AtomsDataModule | {loader:.2f} | {loader / here:.1f} |")
    print(f"| SchNetPack, batches made beforehand | {beforehand:.2f} | {beforehand / here:.1f} |\n")
    return network.eval(), potential.eval()


def compare_predictions(
    options: argparse.Namespace, structures: list[Atoms], folder: Path, network: AtomisticNetwork, trained: nn.Module
) -> None:
    interfaces, transform = adapter.schnetpack("interfaces"), adapter.schnetpack("transform")
    convert = interfaces.AtomsConverter(transform.MatScipyNeighborList(options.cutoff))
    same = as_schnetpack(network).eval()
    write_model(folder / "model", network, options.network, structures)
    model = load_model(folder / "model")

    @torch.no_grad()
    def with_schnetpack(potential: nn.Module, at_once: int) -> np.ndarray:
        parts = [structures[start : start + at_once] for start in range(0, len(structures), at_once)]
        return np.concatenate([potential(convert(part))[TARGET].numpy().reshape(-1) for part in parts])

    model.predict(structures[:10])
    times: list[tuple[float, ...]] = []
    for _ in range(options.repeats):
        here, values = seconds(lambda: model.predict(structures).values)
        single, reference = seconds(lambda: with_schnetpack(same, 1))
        batched, _ = seconds(lambda: with_schnetpack(same, 256))
        times.append((here, single, batched))
    here, single, batched = np.median(times, axis=0)
    print("| predictions | structures per second | ratio |\n|---|---|---|")
    for what, took in (
        ("here, load_model(...).predict", here),
        ("SchNetPack, AtomsConverter and model, one by one", single),
        ("SchNetPack, AtomsConverter and model, 256 at once", batched),
    ):
        print(f"| {what} | {len(structures) / took:.0f} | {took / here:.1f} |")
    after = np.abs(with_schnetpack(trained, 256) - reference).max()
    print(
        f"\nlargest difference of predictions, same weights: {np.abs(values - reference).max():.1e}; after an epoch of "
        f"training on either side: {after:.1e} (standard deviation of the predictions: {reference.std():.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=None, help="extended XYZ file to draw structures from")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--network", choices=["schnet", "painn"], default="schnet")
    parser.add_argument("--n-atom-basis", type=int, default=64)
    parser.add_argument("--n-interactions", type=int, default=3)
    parser.add_argument("--n-rbf", type=int, default=50)
    parser.add_argument("--cutoff", type=float, default=5.0)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.data is None:
        structures = distorted_crystals(options.n)
    else:
        from ase_matprop.training.readers import read_extxyz

        everything = read_extxyz(options.data)
        rows = np.random.default_rng(0).choice(len(everything), min(options.n, len(everything)), replace=False)
        structures = [everything[row] for row in rows]
    versions = f"torch {torch.__version__}, SchNetPack {version('schnetpack')}"
    print(f"{platform.processor() or platform.machine()}, one core, {versions}")
    with tempfile.TemporaryDirectory() as name:
        network, trained = compare_training(options, structures, Path(name))
        compare_predictions(options, structures, Path(name), network, trained)


if __name__ == "__main__":
    main()
