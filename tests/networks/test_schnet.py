"""SchNet and PaiNN: against SchNetPack's own pipeline, the papers' sizes, and what symmetry asks for."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, make_supercell
from torch import Tensor, nn

from ase_matprop.descriptors.neighbors import neighbor_graphs
from ase_matprop.errors import MissingDependencyError
from ase_matprop.networks import ATOMISTIC_NETWORKS, NETWORKS, build_network, resolve_settings
from ase_matprop.networks import schnetpack_adapter as adapter
from ase_matprop.networks.ensemble import Ensemble
from ase_matprop.networks.schnet import AtomisticNetwork, add_vectors, pair_distances, pair_vectors
from tests.conftest import SMALL_ATOMISTIC, prototype_crystals, rattled

PROTOTYPES = prototype_crystals()
CRYSTALS = [
    Atoms("Cu", [[0.3, -7.0, 2.0]], cell=[2.3, 2.4, 2.5], pbc=True),  # smaller than the cutoff
    rattled(PROTOTYPES["NaCl"] * (2, 1, 1), 0),
    PROTOTYPES["rutile"],
    bulk("He", "fcc", 20.0),  # without neighbours
    rattled(PROTOTYPES["perovskite"], 1),
    PROTOTYPES["Al slab"],
]


def inputs_of(structures: list[Atoms], network: AtomisticNetwork, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    return add_vectors(pair_vectors(neighbor_graphs(structures, network.cutoff)), dtype=dtype)


@pytest.fixture(params=sorted(ATOMISTIC_NETWORKS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def build(name: str, n_outputs: int = 1, **settings: Any) -> AtomisticNetwork:
    torch.manual_seed(0)
    network = build_network(name, 100, n_outputs, SMALL_ATOMISTIC | settings).eval()
    with torch.no_grad():
        for parameter in network.parameters():  # biases begin as zero, and would hide mistakes
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return network


@pytest.fixture
def network(name: str) -> AtomisticNetwork:
    return build(name)


def peer(network: AtomisticNetwork, kind: str, settings: dict[str, Any], n_layers: int = 2) -> nn.Module:
    """SchNetPack's own potential with the same weights, for mean energies, forces and stress."""
    spk, models = adapter.schnetpack("nn"), adapter.schnetpack("model")
    representations, atomistic = adapter.schnetpack("representation"), adapter.schnetpack("atomistic")
    representation = getattr(representations, {"schnet": "SchNet", "painn": "PaiNN"}[kind])(
        n_atom_basis=settings["n_atom_basis"],
        n_interactions=settings["n_interactions"],
        radial_basis=spk.GaussianRBF(n_rbf=settings["n_rbf"], cutoff=settings["cutoff"]),
        cutoff_fn=spk.CosineCutoff(settings["cutoff"]),
    )
    output = atomistic.Atomwise(
        n_in=settings["n_atom_basis"], n_layers=n_layers, aggregation_mode="sum", output_key="energy"
    )
    representation.load_state_dict(network.representation.state_dict())
    output.load_state_dict(network.output.state_dict())
    return models.NeuralNetworkPotential(
        representation=representation,
        input_modules=[atomistic.Strain(), atomistic.PairwiseDistances()],
        output_modules=[output, atomistic.Forces(calc_forces=True, calc_stress=True)],
    ).eval()


def predict_with_schnetpack(model: nn.Module, structures: list[Atoms], cutoff: float, dtype: torch.dtype) -> Any:
    interfaces, transform = adapter.schnetpack("interfaces"), adapter.schnetpack("transform")
    convert = interfaces.AtomsConverter(transform.ASENeighborList(cutoff), dtype=dtype)
    batch = convert(structures)
    strain = torch.zeros_like(batch["_cell"])
    return model.to(dtype)({**batch, "strain": strain})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_against_schnetpack(name: str, network: AtomisticNetwork, dtype: torch.dtype) -> None:
    """Its converter, neighbour list and modules, with the same weights: energies of the cells, forces and stress.

    SchNetPack's stress has the sign and unit of ASE's.
    """
    structures = [CRYSTALS[row] for row in (0, 1, 2, 4, 5)]
    expected = predict_with_schnetpack(peer(network, name, SMALL_ATOMISTIC), structures, network.cutoff, dtype)

    network = network.to(dtype)
    inputs = pair_vectors(neighbor_graphs(structures, network.cutoff))
    inputs["positions"].requires_grad_()
    strain = torch.zeros(len(structures), 3, 3, dtype=torch.float64, requires_grad=True)
    means = network(add_vectors(inputs, strain, dtype))
    energies = means[:, 0] * inputs["n_atoms"]
    assert means.dtype == dtype and means.shape == (5, 1)
    of_positions, of_strain = torch.autograd.grad(energies.sum(), [inputs["positions"], strain])
    volumes = torch.tensor([atoms.get_volume() for atoms in structures])
    stress = of_strain / volumes[:, None, None]
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    for ours, theirs in ((energies, "energy"), (-of_positions, "forces"), (stress, "stress")):
        assert ours.abs().max() > 1e-3
        torch.testing.assert_close(ours.to(dtype), expected[theirs].to(dtype), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("n_output_layers", [1, 3])
def test_against_schnetpack_with_other_output_layers(name: str, n_output_layers: int) -> None:
    network = build(name, n_output_layers=n_output_layers)
    model = peer(network, name, SMALL_ATOMISTIC, n_output_layers)
    expected = predict_with_schnetpack(model, CRYSTALS[1:2], network.cutoff, torch.float32)["energy"]
    found = network(inputs_of(CRYSTALS[1:2], network))
    torch.testing.assert_close(found[:, 0] * len(CRYSTALS[1]), expected, rtol=1e-4, atol=1e-4)


#: Krawczuk and Venturi (2020), Table 1: interaction blocks and features of their three networks
@pytest.mark.parametrize(("n_interactions", "n_atom_basis"), [(6, 128), (4, 30), (3, 64)])
def test_sizes_of_the_paper(name: str, n_interactions: int, n_atom_basis: int) -> None:
    settings = {"n_interactions": n_interactions, "n_atom_basis": n_atom_basis, "n_rbf": 20, "cutoff": 4.0}
    network = build(name, **settings)
    blocks = network.representation.interactions
    assert network.n_layers == len(blocks) == n_interactions
    assert network.representation.embedding.weight.shape == (100, n_atom_basis)
    if name == "schnet":
        # per block: two layers of the filter network, and three without and with biases around the convolution
        f = n_atom_basis
        expected = n_interactions * ((20 + 1) * f + (f + 1) * f + f * f + 2 * (f + 1) * f)
        assert sum(p.numel() for p in blocks.parameters()) == expected
    values = network(inputs_of(CRYSTALS, network))
    assert values.shape == (len(CRYSTALS), 1) and values.isfinite().all()
    assert network.represent(inputs_of(CRYSTALS, network)).shape == (len(CRYSTALS), n_atom_basis)


def test_defaults_are_those_of_the_paper(name: str) -> None:
    settings = resolve_settings(name, {})
    assert (settings["n_interactions"], settings["n_atom_basis"]) == (6, 128)
    shapes = [
        {key: tensor.shape for key, tensor in build_network(name, 100, 1, given).state_dict().items()}
        for given in ({}, settings)
    ]
    assert shapes[0] == shapes[1]


def test_batch_of_one_equals_batch_of_many(network: AtomisticNetwork) -> None:
    together = network(inputs_of(CRYSTALS, network))
    alone = torch.cat([network(inputs_of([atoms], network)) for atoms in CRYSTALS])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(network(inputs_of(CRYSTALS, network)), together, rtol=0, atol=0)


def test_symmetry(network: AtomisticNetwork) -> None:
    """In float64, so that nothing is hidden behind rounding; contributions follow the atoms."""
    network = network.double()
    for atoms in CRYSTALS:
        order = np.random.default_rng(0).permutation(len(atoms))
        translated, rotated, mirrored, moved = (atoms.copy() for _ in range(4))
        translated.positions += (0.37, -11.1, 2.2)
        rotated.rotate(77, (1, -2, 0.4), rotate_cell=True)
        mirrored.set_cell(atoms.cell.array * [1, -1, 1])
        mirrored.positions = atoms.positions * [1, -1, 1]
        moved.positions[-1] += moved.cell[0] - 2 * moved.cell[2]
        expected = contributions(network, atoms)
        for variant in (translated, rotated, mirrored, moved):
            torch.testing.assert_close(contributions(network, variant), expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(contributions(network, atoms[order]), expected[order], rtol=1e-9, atol=1e-9)
        twice = contributions(network, atoms * (1, 2, 1))
        torch.testing.assert_close(twice, torch.cat([expected, expected]), rtol=1e-9, atol=1e-9)
        skewed = contributions(network, make_supercell(atoms, [[1, 0, 0], [-1, 1, 0], [2, 1, 1]]))
        torch.testing.assert_close(skewed, expected, rtol=1e-9, atol=1e-9)


def contributions(network: AtomisticNetwork, atoms: Atoms) -> Tensor:
    return network.contributions(network.hidden(inputs_of([atoms], network, torch.float64))).detach()


def test_environment_counts(network: AtomisticNetwork) -> None:
    """Different structures of one composition differ, and so do different elements in one structure."""
    compressed = CRYSTALS[1].copy()
    compressed.set_cell(0.97 * compressed.cell, scale_atoms=True)
    other = CRYSTALS[1].copy()
    other.numbers[other.numbers == 11] = 19
    values = network(inputs_of([CRYSTALS[1], compressed, other], network))[:, 0]
    assert (values[1:] - values[0]).abs().min() > 1e-3


def test_smooth_at_the_cutoff(network: AtomisticNetwork) -> None:
    """An atom that enters the cutoff changes the energy without a step and, as it enters, without a force."""
    network = network.double()
    distances = network.cutoff + np.array([-1e-3, -1e-6, 1e-6, 1e-3])
    dimers = [Atoms("NaCl", [[0, 0, 0], [0, 0, d]], cell=[30, 30, 30], pbc=True) for d in distances]
    values = network(inputs_of(dimers, network, torch.float64))[:, 0].detach()
    assert (values - values[-1]).abs().max() < 1e-6
    assert values[2] == values[3]


def test_mean_of_contributions(name: str) -> None:
    network = build(name, n_outputs=3)
    inputs = inputs_of(CRYSTALS, network)
    of_atoms = network.contributions(network.hidden(inputs))
    assert of_atoms.shape == (sum(map(len, CRYSTALS)), 3)
    means = torch.stack([part.mean(dim=0) for part in of_atoms.split([len(atoms) for atoms in CRYSTALS])])
    torch.testing.assert_close(network(inputs), means)
    torch.testing.assert_close(network.read_out(network.hidden(inputs), inputs), network(inputs), rtol=0, atol=0)


def test_representation_by_block(network: AtomisticNetwork) -> None:
    """The output layers make the prediction from the representation of the last block, which is that of SchNetPack."""
    inputs = inputs_of(CRYSTALS, network)
    n_layers = network.n_layers
    layers = [network.represent(inputs, layer) for layer in range(n_layers)]
    for layer, values in enumerate(layers):
        assert values.shape == (len(CRYSTALS), SMALL_ATOMISTIC["n_atom_basis"])
        torch.testing.assert_close(values, network.represent(inputs, layer - n_layers), rtol=0, atol=0)
    assert (layers[1] - layers[0]).abs().max() > 1e-3
    hidden = network.hidden(inputs)
    parts = hidden.split([len(atoms) for atoms in CRYSTALS])
    torch.testing.assert_close(layers[-1], torch.stack([part.mean(dim=0) for part in parts]))
    one_atom = network.read_out(layers[-1][:1], {"n_atoms": torch.tensor([1]), "structures": torch.tensor([0])})
    torch.testing.assert_close(one_atom, network(inputs)[:1])
    for wrong in (n_layers, -n_layers - 1):
        with pytest.raises(IndexError):
            network.represent(inputs, wrong)
    assert not any(module._forward_hooks for module in network.modules())


def test_first_block_of_schnet_is_the_whole_of_a_shorter_network() -> None:
    whole, short = build("schnet"), build("schnet", n_interactions=1)
    state = {key: tensor for key, tensor in whole.representation.state_dict().items() if "interactions.1" not in key}
    short.representation.load_state_dict(state)
    inputs = inputs_of(CRYSTALS, whole)
    torch.testing.assert_close(whole.represent(inputs, 0), short.represent(inputs))


def test_representation_from_tabulated_filters() -> None:
    network = build("schnet")
    tabulated = pair_distances(neighbor_graphs(CRYSTALS, network.cutoff))
    for layer in range(network.n_layers):
        exact = network.represent(inputs_of(CRYSTALS, network), layer)
        torch.testing.assert_close(network.represent(tabulated, layer), exact, rtol=1e-3, atol=1e-3)


def test_bfloat16_is_close_to_float32(name: str) -> None:
    network = build(name)
    graphs = neighbor_graphs(CRYSTALS, network.cutoff)
    ways = [add_vectors(pair_vectors(graphs))] + ([pair_distances(graphs)] if name == "schnet" else [])
    for inputs in ways:
        with torch.autocast("cpu", torch.bfloat16):
            hidden = network.hidden(inputs)
        found = network.read_out(hidden.float(), inputs)
        torch.testing.assert_close(found, network(inputs), rtol=0.05, atol=0.05)


def test_state_is_all_that_a_network_is(name: str, network: AtomisticNetwork) -> None:
    other = build_network(name, 100, 1, SMALL_ATOMISTIC).eval()
    other.load_state_dict(network.state_dict())
    inputs = inputs_of(CRYSTALS, network)
    torch.testing.assert_close(other(inputs), network(inputs), rtol=0, atol=0)


def test_ensemble(name: str) -> None:
    members = []
    for seed in range(3):
        torch.manual_seed(seed)
        members.append(build_network(name, 100, 2, SMALL_ATOMISTIC))
    ensemble = Ensemble(members).eval()
    inputs = inputs_of(CRYSTALS, members[0])
    outputs = ensemble.member_outputs(inputs)
    assert outputs.shape == (3, len(CRYSTALS), 2) and outputs.std(dim=0).min() > 0
    torch.testing.assert_close(ensemble(inputs), outputs.mean(dim=0))
    assert ensemble.n_layers == 2
    assert ensemble.member_activations(inputs, 0).shape == (3, len(CRYSTALS), SMALL_ATOMISTIC["n_atom_basis"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_atom_basis": 0}, "n_atom_basis is too small. Got 0"),
        ({"n_interactions": 0}, "n_interactions is too small. Got 0"),
        ({"n_rbf": 1}, "n_rbf is too small. Got 1"),
        ({"cutoff": -1.0}, "cutoff is too small. Got -1.0"),
        ({"cutoff": float("nan")}, "cutoff"),
        ({"n_output_layers": 0}, "n_output_layers is too small. Got 0"),
        ({"cutoff": "far"}, "do not suit the network"),
        ({"n_interactions": 2.5}, "do not suit the network"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_bad_settings(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(name, 100, 1, SMALL_ATOMISTIC | settings)


def test_filters_and_inputs(name: str) -> None:
    with pytest.raises(ValueError, match="has 100 inputs. Got 86"):
        build_network(name, 86, 1, SMALL_ATOMISTIC)
    if name == "schnet":
        network = build("schnet", n_filters=5)
        assert network.representation.interactions[0].in2f.out_features == 5
        assert network(inputs_of(CRYSTALS, network)).isfinite().all()
        with pytest.raises(ValueError, match="n_filters is too small. Got 0"):
            build_network(name, 100, 1, SMALL_ATOMISTIC | {"n_filters": 0})
    else:
        with pytest.raises(ValueError, match="only SchNet has n_filters"):
            build_network(name, 100, 1, SMALL_ATOMISTIC | {"n_filters": 5})


def test_networks_on_graphs() -> None:
    assert {name for name, network in NETWORKS.items() if isinstance(network, type)} >= ATOMISTIC_NETWORKS
    for name in ATOMISTIC_NETWORKS:
        assert issubclass(NETWORKS[name], AtomisticNetwork)


def test_without_schnetpack(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def missing(module: str) -> None:
        raise ModuleNotFoundError("No module named 'schnetpack'", name="schnetpack")

    monkeypatch.setattr(adapter.importlib, "import_module", missing)
    level = logging.getLogger().level
    with pytest.raises(MissingDependencyError, match="pip install 'schnetpack'"):
        build_network(name, 100, 1, SMALL_ATOMISTIC)
    assert logging.getLogger().level == level
