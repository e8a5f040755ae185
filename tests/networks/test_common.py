"""What holds for every network on feature vectors: shapes, evaluation mode, hidden layers, names and settings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from ase_matprop.errors import UnknownNameError
from ase_matprop.networks import ATOMISTIC_NETWORKS, NETWORKS, build_network, resolve_settings
from ase_matprop.networks.irnet import STACKS, IRNet
from ase_matprop.networks.vector import VectorNetwork

#: settings with which each network is small, with dropout
SMALL: dict[str, dict[str, Any]] = {
    "irnet": {"stacks": [[32, 2], [16, 2]], "dropout": 0.3},
    "srnet": {"stacks": [[32, 2], [16, 2]], "dropout": 0.3},
    "plain": {"stacks": [[32, 2], [16, 2]], "dropout": 0.3},
    "elemnet": {},
    "nn9": {"width_factor": 0.004},
    "nn20": {"width_factor": 0.004},
    "nn24": {"width_factor": 0.01},
}


@pytest.fixture(params=SMALL)
def network(request: pytest.FixtureRequest) -> VectorNetwork:
    torch.manual_seed(0)
    return build_network(request.param, 20, 2, SMALL[request.param])


def test_batch_of_one_equals_batch_of_many(network: VectorNetwork) -> None:
    features = torch.randn(7, 20)
    network.eval()
    together = network(features)
    assert together.shape == (7, 2) and together.std(dim=0).min() > 0
    alone = torch.cat([network(row[None]) for row in features])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(network(features), together, rtol=0, atol=0)


def test_dropout_acts_in_training_only(network: VectorNetwork) -> None:
    has_dropout = any(isinstance(module, nn.Dropout) for module in network.modules())
    features = torch.randn(16, 20)
    network.train()
    assert torch.equal(network(features), network(features)) != has_dropout
    network.eval()
    assert torch.equal(network(features), network(features))


def test_hidden_layers(network: VectorNetwork) -> None:
    """Each layer follows from the one before it, and the output is linear in the last."""
    network.eval()
    features = torch.randn(5, 20)
    n_layers = len(network.blocks)
    before = features
    for layer in range(n_layers):
        activations = network.represent(features, layer)
        torch.testing.assert_close(activations, network.blocks[layer](before))
        torch.testing.assert_close(activations, network.represent(features, layer - n_layers), rtol=0, atol=0)
        assert activations.ndim == 2 and len(activations) == 5
        before = activations
    torch.testing.assert_close(network.output(network.represent(features)), network(features))
    for wrong in (n_layers, -n_layers - 1):
        with pytest.raises(IndexError):
            network.represent(features, wrong)


def test_state_is_all_that_a_network_is(network: VectorNetwork, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["network"]
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.randn(8, 20))  # running statistics of the normalisation
    other = build_network(name, 20, 2, SMALL[name])
    other.load_state_dict(network.state_dict())
    features = torch.randn(5, 20)
    torch.testing.assert_close(other.eval()(features), network.eval()(features), rtol=0, atol=0)


def test_every_network_is_tested() -> None:
    assert set(SMALL) == set(NETWORKS) - ATOMISTIC_NETWORKS


@pytest.mark.parametrize("name", SMALL)
def test_settings(name: str) -> None:
    resolved = resolve_settings(name, SMALL[name])
    assert SMALL[name].items() <= resolved.items() and "dropout" in resolved
    shapes = [
        {key: tensor.shape for key, tensor in build_network(name, 20, 2, settings).state_dict().items()}
        for settings in (SMALL[name], resolved)
    ]
    assert shapes[0] == shapes[1]
    with pytest.raises(ValueError, match="colour"):
        build_network(name, 20, 2, {"colour": "blue"})


def test_unknown_network() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'elemnet'"):
        build_network("elementnet", 86, 1, {})


@pytest.mark.parametrize(("name", "residual"), [("srnet", "stacked"), ("plain", "none")])
@pytest.mark.parametrize("depth", STACKS)
def test_names_of_the_residuals(name: str, residual: str, depth: int) -> None:
    """SRNet is IRNet with a shortcut round each stack, the plain network has none: Figure 5 of Jha et al. (2021)."""
    with torch.device("meta"):
        network = build_network(name, 145, 1, {"depth": depth})
        expected = IRNet(145, depth=depth, residual=residual)
    assert {key: tensor.shape for key, tensor in network.state_dict().items()} == {
        key: tensor.shape for key, tensor in expected.state_dict().items()
    }
    n_blocks = len(STACKS[depth]) if name == "srnet" else depth - 1
    assert len(network.blocks) == n_blocks
