"""Transfer learning with SchNet: the experiments of the papers on the data that we have.

    python benchmarks/transfer.py tmo --data-dir ../shared/data --source runs/schnet-source-mp/schnet-source-mp
    python benchmarks/transfer.py nomad --data-dir ../shared/data --source runs/schnet-source-mp/schnet-source-mp
    python benchmarks/transfer.py mlearn --data-dir ../shared/data --source schnet-mp

``tmo``: Tables 2 and 3 of S. Krawczuk and D. Venturi, J. Mach. Learn. Model. Comput. 1 (2020): direct training against
TL1, TL2 and TL3 on oxides of Ti, V and Fe (``extended``: and of Cr and Mn), whose formulas the source never saw.
``nomad``: the (Al,Ga,In)2O3 alloys of the NOMAD2018 challenge.  ``mlearn``: energies and forces of Mo and Si.

One row per run is appended to ``--output``; what is there, of the same source with the same settings, is not done
again.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from ase_matprop import load_model
from ase_matprop.finetune.adapt import adapt, moved
from ase_matprop.finetune.data import LabData, read_data
from ase_matprop.finetune.division import Part
from ase_matprop.finetune.evaluation import measure
from ase_matprop.finetune.prepared import Prepared, prepare
from ase_matprop.finetune.schemes import default_training, get_scheme
from ase_matprop.models import artefact
from ase_matprop.models.registry import find_model
from ase_matprop.properties import get_property
from ase_matprop.structures import as_atoms
from ase_matprop.training.readers import read_extxyz
from ase_matprop.training.recipe import TrainingSection
from ase_matprop.training.splits import Split

MP = "mp/mp_formation_energy.extxyz.xz"
TMO = "mp/tmo_transfer.csv"
NOMAD = "nomad2018/nomad2018_train.extxyz.xz"
SCRATCH, SOURCE = "no transfer", "source"
#: what tells one run from another; ``made_with`` stands for the source and all settings of the training
KEYS = ("set", "n", "part", "seed", "scheme", "made_with")

Task = tuple[str, Prepared, Split, int, int]  # set, rows, division, number of the part, seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", choices=["tmo", "extended", "nomad", "mlearn", "summary"])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--source", help="name or folder of the model to start from")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of training rows")
    parser.add_argument("--schemes", nargs="+", default=[SOURCE, SCRATCH, "TL1", "TL2", "TL3"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="most epochs; the default of the package if not given")
    parser.add_argument("--schedule", choices=["plateau", "one_cycle"], default="plateau")
    parser.add_argument("--learning-rate", type=float, help="the default of the package if not given")
    parser.add_argument("--batch-size", type=int, help="the default of the package if not given")
    parser.add_argument("--l2", type=float, default=0.0)
    parser.add_argument("--output", type=Path, default=Path("runs/transfer.csv"))
    options = parser.parse_args()
    if options.experiment == "summary":
        summarize(options.output)
        return
    source = artefact.load(find_model(options.source))
    done = _done(options.output)
    for task in tasks(options):
        for scheme in options.schemes:
            name, _, split, part, seed = task
            settings = _settings(source, scheme, options)
            key = (name, len(split.train) + len(split.validation), part, seed, scheme, _digest(source, settings))
            if tuple(map(str, key)) not in done:
                run(source, settings, task, key, options)


def _done(path: Path) -> set[tuple[str, ...]]:
    """Return the keys of the runs in a table."""
    if not path.is_file():
        return set()
    table = pd.read_csv(path, dtype=str)
    if "made_with" not in table:
        raise SystemExit(f"{path} does not say with which settings it was made; choose another --output")
    return set(table[list(KEYS)].itertuples(index=False, name=None))


def _settings(source: artefact.Artefact, scheme: str, options: argparse.Namespace) -> TrainingSection | None:
    """Return the settings of the training, None where nothing is trained."""
    if scheme == SOURCE:
        return None
    changes = {"weight_decay": options.l2, "schedule": options.schedule}
    given = {"max_epochs": options.epochs, "learning_rate": options.learning_rate, "batch_size": options.batch_size}
    changes |= {key: value for key, value in given.items() if value is not None}
    return default_training(source.card, from_scratch=scheme == SCRATCH).model_copy(update=changes)


def _digest(source: artefact.Artefact, settings: TrainingSection | None) -> str:
    made_with = [source.card.weights.sha256, None if settings is None else settings.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()[:12]


def tasks(options: argparse.Namespace) -> Iterator[Task]:
    """Yield the divisions of the rows in training, validation (a tenth of the training rows) and test."""
    predictor = load_model(options.source)
    if options.experiment == "mlearn":
        for symbol in ("Mo", "Si"):
            path = options.data_dir / "mlearn" / f"{symbol}_train.extxyz.xz"
            prepared = prepare(read_data(path, forces=True, references="none"), predictor)
            for seed in range(options.seeds):
                order = np.random.default_rng(seed).permutation(len(prepared))
                n_test = len(prepared) // 5
                yield symbol, prepared, _split(order[n_test:], order[:n_test], seed), 0, seed
        return
    if options.experiment == "nomad":
        prepared = prepare(read_data(options.data_dir / NOMAD, property="formation_energy_per_cation"), predictor)
        order = np.random.default_rng(0).permutation(len(prepared))
        rest, test = order[480:], order[:480]
        for size in options.sizes or (len(rest),):
            for seed in range(options.seeds):
                yield "NOMAD2018", prepared, _split(rest[:size], test, seed), 0, seed
        return
    listed = pd.read_csv(options.data_dir / TMO).set_index("material_id")
    if options.experiment == "tmo":
        listed = listed[listed["set"] == "target"]
    prepared = prepare(_of_materials_project(options.data_dir / MP, listed.index), predictor)
    is_test = (listed.loc[prepared.table.ids, "split"] == "validation").to_numpy()
    rest = np.flatnonzero(~is_test)
    for size in options.sizes or (len(rest), len(rest) // 2, len(rest) // 4):
        for seed in range(options.seeds):
            order = np.random.default_rng(seed).permutation(rest)
            for part in range(len(rest) // size):
                chosen = order[part * size : (part + 1) * size]
                yield options.experiment, prepared, _split(chosen, np.flatnonzero(is_test), seed), part, seed


def _split(rest: np.ndarray, test: np.ndarray, seed: int) -> Split:
    order = np.random.default_rng([seed, 1]).permutation(rest)
    n_validation = max(1, len(order) // 10)
    nothing = np.empty(0, dtype=np.int64)
    return Split(np.sort(order[n_validation:]), np.sort(order[:n_validation]), np.sort(test), nothing)


def _of_materials_project(path: Path, wanted: pd.Index) -> LabData:
    structures = {atoms.info["material_id"]: atoms for atoms in read_extxyz(path)}
    names = [name for name in wanted if name in structures]
    return LabData(
        names=names,
        items=[as_atoms(structures[name]) for name in names],
        targets=np.array([structures[name].info["formation_energy_per_atom"] for name in names]),
        property="formation_energy_per_atom",
    )


def run(
    source: artefact.Artefact, settings: TrainingSection | None, task: Task, key: tuple, options: argparse.Namespace
) -> None:
    """Train once, measure on the test rows, and append the result."""
    _, prepared, split, _, seed = task
    scheme = key[4]
    learnt = {"mlearn": "energy_per_atom", "nomad": "formation_energy_per_cation"}.get(options.experiment)
    entry = get_property(learnt or "formation_energy_per_atom")
    start = time.perf_counter()
    if settings is None:
        model = source if learnt is None else moved(source, prepared, split.train)
    else:
        folder = options.output.parent / "transfer" / "-".join(map(str, key)).replace(" ", "_")
        chosen = None if scheme == SCRATCH else get_scheme(scheme, source.card)
        options_of_run = {"seed": seed, "folder": folder, "same_property": learnt is None}
        model = adapt(source, prepared, split.train, split.validation, chosen, settings, **options_of_run).artefact
    errors, table = measure({scheme: [model]}, [Part(prepared, split)], entry)
    of_cells = float((table[scheme] - table["reference"]).abs().mul(table["n_atoms"]).mean())
    row = {
        **dict(zip(KEYS, key, strict=True)),
        "source": source.card.name,
        **{
            setting: None if settings is None else getattr(settings, setting)
            for setting in ("learning_rate", "schedule", "max_epochs", "batch_size", "weight_decay")
        },
        **{measure: value for measure, value in errors[scheme].to_dict().items() if measure != "n"},
        "mae_of_cells": of_cells,
        "seconds": time.perf_counter() - start,
    }
    print(row, flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    is_new = not options.output.is_file()
    with options.output.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, row.keys())
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def summarize(path: Path) -> None:
    """Print the mean of each measure over parts and seeds."""
    table = pd.read_csv(path)
    within = [f"within_chemical_accuracy_per_{what}" for what in ("atom", "cell")]
    measures = ["mae", "mae_of_cells", *within, "forces_mae"]
    settings = ["source", "learning_rate", "schedule", "max_epochs", "batch_size", "weight_decay"]
    grouped = table.groupby(["set", "n", "scheme", *settings], sort=False, dropna=False)
    summary = grouped[measures].mean().round(4)
    summary.insert(0, "runs", grouped.size())
    summary.insert(2, "spread", grouped["mae"].std().round(4))
    print(summary.to_string())


if __name__ == "__main__":
    main()
