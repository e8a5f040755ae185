"""Fixtures: crystals built in place, and the folder of the large data sets where there is one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_vacuum, bulk, fcc111, make_supercell
from ase.spacegroup import crystal

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    folder = Path(os.environ.get("MATPROP_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the data sets: {folder} does not exist, MATPROP_DATA names another folder")
    return folder


@pytest.fixture(scope="session")
def example_dir() -> Path:
    return ROOT / "examples" / "structures"


def shuffled_elements(atoms: Atoms, symbols: str, seed: int) -> Atoms:
    """A copy with elements of ``symbols`` (a formula) spread over the sites, each of them at least once."""
    species = Atoms(symbols).get_chemical_symbols()
    rng = np.random.default_rng(seed)
    drawn = species + list(rng.choice(species, len(atoms) - len(species)))
    copy = atoms.copy()
    copy.set_chemical_symbols(rng.permutation(drawn).tolist())
    return copy


def rattled(atoms: Atoms, seed: int, amplitude: float = 0.12) -> Atoms:
    copy = atoms.copy()
    copy.positions += np.random.default_rng(seed).uniform(-amplitude, amplitude, copy.positions.shape)
    return copy


def sheared(atoms: Atoms, seed: int) -> Atoms:
    """The same crystal with lattice vectors chosen otherwise, and skewed."""
    rng = np.random.default_rng(seed)
    matrix = np.eye(3, dtype=int)
    for _ in range(3):
        i, j = rng.permutation(3)[:2]
        matrix[i] += rng.choice([-1, 1]) * matrix[j]
    return make_supercell(atoms, matrix)


def prototype_crystals() -> dict[str, Atoms]:
    """Crystals with lattice parameters from Wyckoff's tables, rounded; what counts here is variety, not precision."""
    slab = fcc111("Al", (1, 1, 4), vacuum=4.0)
    slab.pbc = True
    oxide_slab = bulk("MgO", "rocksalt", 4.21, cubic=True)
    add_vacuum(oxide_slab, 7.0)
    rutile = crystal("TiO", [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90])
    corundum = crystal(
        "FeO", [(0, 0, 0.355), (0.306, 0, 0.25)], spacegroup=167, cellpar=[5.035, 5.035, 13.747, 90, 90, 120],
        primitive_cell=True,
    )  # fmt: skip
    perovskite = crystal(
        "SrTiO", [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)], spacegroup=221, cellpar=[3.905] * 3 + [90] * 3
    )
    spinel = crystal(
        "MgAlO", [(0.125,) * 3, (0.5,) * 3, (0.2624,) * 3], spacegroup=227, setting=2, cellpar=[8.083] * 3 + [90] * 3,
        primitive_cell=True,
    )  # fmt: skip
    return {
        "Cu fcc": bulk("Cu"),
        "Fe bcc": bulk("Fe"),
        "Mg hcp": bulk("Mg"),
        "Si diamond": bulk("Si"),
        "Po sc": bulk("Po", "sc", 3.34),
        "Ti hcp, c/a off": bulk("Ti", "hcp", 2.95, c=5.2),
        "NaCl": bulk("NaCl", "rocksalt", 5.64),
        "MgO cubic": bulk("MgO", "rocksalt", 4.21, cubic=True),
        "CsCl": bulk("CsCl", "cesiumchloride", 4.123),
        "NiAl": bulk("NiAl", "cesiumchloride", 2.887),
        "GaAs": bulk("GaAs", "zincblende", 5.653),
        "ZnO wurtzite": bulk("ZnO", "wurtzite", 3.25, c=5.207),
        "CaF2": bulk("CaF2", "fluorite", 5.463),
        "rutile": rutile,
        "corundum": corundum,
        "perovskite": perovskite,
        "spinel": spinel,
        "Al slab": slab,
        "MgO slab": oxide_slab,
    }


def crystals_for_comparison() -> dict[str, Atoms]:
    """44 crystals of 1 to 200 atoms and 1 to 6 elements, among them distorted, skewed and layered ones."""
    prototypes = prototype_crystals()
    result = dict(prototypes)
    for seed, name in enumerate(("Fe bcc", "NaCl", "ZnO wurtzite", "rutile", "perovskite", "spinel", "Al slab")):
        result[f"{name}, rattled"] = rattled(
            prototypes[name] * (2, 1, 1) if len(prototypes[name]) < 3 else prototypes[name], seed
        )
    for seed, name in enumerate(("Cu fcc", "NaCl", "GaAs", "rutile", "perovskite", "Mg hcp")):
        result[f"{name}, sheared"] = sheared(prototypes[name], seed)
    for seed, symbols in enumerate(("FeNi", "FeCrNi", "LiCoO", "CuZnSnS", "CoCrFeMnNi", "NaLaTiZrOF")):
        parent = bulk("Cu", cubic=True) * (2, 1, 1) if seed % 2 else bulk("MgO", "rocksalt", 4.3, cubic=True)
        result[f"{symbols} on a lattice"] = shuffled_elements(parent, symbols, seed)
        if seed > 1:
            result[f"{symbols}, rattled and sheared"] = sheared(
                rattled(shuffled_elements(parent, symbols, seed), seed), seed
            )
    strained = shuffled_elements(bulk("Ti", "hcp", 2.95, c=4.68) * (2, 2, 1), "TiAlV", 9)
    strained.set_cell(strained.cell @ np.array([[1, 0.3, 0], [0, 0.9, -0.2], [0.1, 0, 1.2]]), scale_atoms=True)
    result["Ti-Al-V, strained"] = strained
    result["200 atoms"] = rattled(
        shuffled_elements(bulk("NaCl", "rocksalt", 4.6, cubic=True) * (5, 5, 1), "NiMnO", 3), 3, 0.05
    )
    return result


#: settings with which SchNet and PaiNN are small and smooth
SMALL_ATOMISTIC: dict[str, Any] = {"n_atom_basis": 16, "n_interactions": 2, "n_rbf": 12, "cutoff": 4.5}


def known_environments() -> list[Atoms]:
    """What an untrained SchNet pretends to have seen: Na with Cl, Mg with O, Fe with Fe, stretched and distorted."""
    crystals = [
        bulk("NaCl", "rocksalt", 5.64, cubic=True),
        bulk("MgO", "rocksalt", 4.21, cubic=True),
        bulk("Fe", cubic=True) * (2, 2, 2),
    ]
    found = []
    for atoms in crystals:
        for seed, factor in enumerate((0.9, 1.0, 1.15)):
            stretched = atoms.copy()
            stretched.set_cell(factor * stretched.cell, scale_atoms=True)
            found += [stretched, rattled(stretched, seed, 0.3)]
    return found


def untrained_model(
    folder: Path,
    *,
    descriptor: str = "fractions",
    properties: Sequence[str] = ("formation_energy_per_atom",),
    network: str = "irnet",
    settings: Mapping[str, Any] | None = None,
    n_members: int = 2,
    elements: Sequence[str] = ("O", "Na", "Mg", "Cl", "Fe"),
    precision: str = "float32",
) -> Path:
    """Write a model folder with an untrained network; its numbers mean nothing.  The folder's name is the model's."""
    import torch

    from ase_matprop.descriptors.neighbors import neighbor_graphs
    from ase_matprop.descriptors.registry import get_descriptor
    from ase_matprop.models import artefact, card
    from ase_matprop.models.folder import WeightsSpec
    from ase_matprop.models.reach import Reach
    from ase_matprop.networks import ATOMISTIC_NETWORKS, build_network
    from ase_matprop.networks.ensemble import Ensemble
    from ase_matprop.properties import get_property

    atomistic = network in ATOMISTIC_NETWORKS
    if atomistic:
        descriptor, settings = "neighbors", {**SMALL_ATOMISTIC, **(settings or {})}
    labels = list(get_descriptor(descriptor).labels)
    settings = {"stacks": [[16, 2], [8, 1]]} if settings is None else settings
    first = get_property(properties[0])
    n_inputs = 100 if atomistic else len(labels)
    n_outputs = len(first.classes) or len(properties)
    scaler: artefact.Scaler | None = artefact.Scaler(np.zeros(n_inputs), np.full(n_inputs, 0.3), 8.0)
    target = artefact.TargetTransform(np.full(n_outputs, -1.5), np.full(n_outputs, 1.2))
    reach = None
    if atomistic:
        scaler, reach = None, Reach.of(neighbor_graphs(known_environments(), settings["cutoff"]))
        offsets = np.random.default_rng(2).normal(scale=0.5, size=(n_inputs, n_outputs))
        target = artefact.TargetTransform(target.offset, np.full(n_outputs, 0.4), offsets)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        ensemble = Ensemble(build_network(network, n_inputs, n_outputs, settings) for _ in range(n_members))
    artefact.save(
        folder,
        card.ModelCard(
            name=folder.name,
            description="untrained",
            property=first.name,
            further_properties=list(properties[1:]),
            unit=first.unit,
            per_atom=first.per_atom,
            network=card.NetworkSpec(
                name=network,
                settings=dict(settings),
                n_inputs=n_inputs,
                n_outputs=n_outputs,
                n_members=n_members,
                n_parameters=sum(parameter.numel() for parameter in ensemble.parameters()),
            ),
            descriptor=card.DescriptorSpec(
                name=descriptor,
                version=get_descriptor(descriptor).version,
                labels=labels,
                clip=None if atomistic else 8.0,
            ),
            elements=list(elements),
            training_set=card.TrainingSet(name="none", licence="", citation="", source="", rows={}, split={}),
            errors={"test": card.ErrorSummary(n=1, mae=1.0, median=1.0, percentile_90=1.0, rmse=1.0)},
            citation=["nobody"],
            recipe={},
            code_version="0",
            created="2026-01-01",
            weights=WeightsSpec(sha256="", dtype=precision),
        ),
        ensemble.eval(),
        scaler,
        target,
        reach,
    )
    return folder


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two members that predict a formation energy from element fractions."""
    return untrained_model(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="session")
def structure_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that predicts a formation energy, and needs the structure."""
    return untrained_model(tmp_path_factory.mktemp("models") / "structural", descriptor="structure", n_members=1)


@pytest.fixture(scope="session")
def two_property_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two members that predict a formation energy and a band gap from element fractions."""
    return untrained_model(
        tmp_path_factory.mktemp("models") / "two-properties", properties=("formation_energy_per_atom", "band_gap")
    )


@pytest.fixture(scope="session")
def classifier_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two members that tell metals from non-metals by element fractions."""
    return untrained_model(tmp_path_factory.mktemp("models") / "classifier", properties=("metallicity",))


@pytest.fixture(scope="session", params=["schnet", "painn"])
def atomistic_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two members of SchNet, then of PaiNN, that predict a formation energy from neighbour graphs."""
    folder = tmp_path_factory.mktemp("models") / f"small-{request.param}"
    return untrained_model(folder, network=request.param)


@pytest.fixture(scope="session")
def schnet_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One SchNet that predicts a formation energy from neighbour graphs."""
    return untrained_model(tmp_path_factory.mktemp("models") / "one-schnet", network="schnet", n_members=1)
