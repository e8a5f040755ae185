"""IRNet, SRNet and plain network: the sizes of the papers, and what shortcuts and evaluation mode promise."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from ase_matprop.errors import UnknownNameError
from ase_matprop.networks import build_network
from ase_matprop.networks.ensemble import Ensemble
from ase_matprop.networks.irnet import RESIDUALS, STACKS, IRNet


def linear_layers(network: nn.Module) -> list[nn.Linear]:
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


@pytest.mark.parametrize("depth", STACKS)
@pytest.mark.parametrize("residual", RESIDUALS)
def test_depth_counts_layers_without_projections(depth: int, residual: str) -> None:
    network = IRNet(271, depth=depth, residual=residual)
    projections = [m for name, m in network.named_modules() if name.endswith("projection") and isinstance(m, nn.Linear)]
    assert len(linear_layers(network)) - len(projections) == depth
    assert len(projections) == (0 if residual == "none" else len(STACKS[depth]))


def test_widths_of_17_layers() -> None:
    """Table 4 of Jha et al. (2021): 4 x 1024, 3 x 512, 3 x 256, 3 x 128, 2 x 64, 32, 1."""
    layers = linear_layers(IRNet(271, depth=17, residual="none"))
    widths = [1024] * 4 + [512] * 3 + [256] * 3 + [128] * 3 + [64] * 2 + [32, 1]
    assert [layer.out_features for layer in layers] == widths
    # weights and biases of the linear layers, and two numbers per unit of batch normalisation
    sizes = [271, *widths]
    expected = sum((a + 1) * b for a, b in pairwise(sizes)) + 2 * sum(widths[:-1])
    assert sum(parameter.numel() for parameter in IRNet(271, residual="none").parameters()) == expected


def test_shortcut_lets_the_input_through() -> None:
    """A sequence whose ReLU gives zero is the identity under a shortcut, and zero without one."""
    features = torch.randn(5, 8)
    for residual, expected in (("individual", features), ("stacked", features), ("none", torch.zeros(5, 8))):
        network = IRNet(8, stacks=[(8, 2)], residual=residual).eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d):
                nn.init.zeros_(module.weight)
        torch.testing.assert_close(network.represent(features), expected)


def test_batch_of_one_equals_batch_of_many_in_evaluation_mode() -> None:
    torch.manual_seed(0)
    network = IRNet(20, 2, depth=10, dropout=0.2).eval()
    features = torch.randn(7, 20)
    together = network(features)
    assert together.shape == (7, 2)
    torch.testing.assert_close(together, torch.cat([network(row[None]) for row in features]), rtol=1e-4, atol=1e-6)


def test_representation_by_layer() -> None:
    network = IRNet(20, depth=10).eval()
    features = torch.randn(3, 20)
    assert network.represent(features, layer=0).shape == (3, 1024)
    assert network.represent(features, layer=-1).shape == (3, 32)
    torch.testing.assert_close(network.output(network.represent(features)), network(features))


def test_ensemble_is_the_mean_of_its_members() -> None:
    ensemble = Ensemble(IRNet(6, stacks=[(4, 1)]) for _ in range(3)).eval()
    features = torch.randn(5, 6)
    outputs = ensemble.member_outputs(features)
    assert outputs.shape == (3, 5, 1)
    torch.testing.assert_close(ensemble(features), outputs.mean(dim=0))


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="depth must be one of .* Got 18"):
        IRNet(271, depth=18)
    with pytest.raises(ValueError, match="residual must be one of .* Got 'dense'"):
        IRNet(271, residual="dense")
    with pytest.raises(UnknownNameError, match="Did you mean 'irnet'"):
        build_network("irnt", 3, 1, {})
    with pytest.raises(ValueError, match="width"):
        build_network("irnet", 3, 1, {"width": 3})
