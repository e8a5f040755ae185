"""ElemNet: the architecture of Table 3.1 of Jha (2020)."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from ase_matprop.networks.elemnet import ElemNet

#: Table 3.1: width of each fully connected layer, the 17th is the output
WIDTHS = [1024] * 4 + [512] * 3 + [256] * 3 + [128] * 3 + [64] * 2 + [32, 1]


def test_widths_and_number_of_parameters() -> None:
    """The number of weights and biases, worked out by hand from the widths of the table."""
    network = ElemNet(86)
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    assert [layer.out_features for layer in layers] == WIDTHS and len(layers) == 17
    expected = 86 * 1024 + 1024 + 3 * (1024 * 1024 + 1024)
    expected += 1024 * 512 + 512 + 2 * (512 * 512 + 512)
    expected += 512 * 256 + 256 + 2 * (256 * 256 + 256)
    expected += 256 * 128 + 128 + 2 * (128 * 128 + 128)
    expected += 128 * 64 + 64 + (64 * 64 + 64) + 64 * 32 + 32 + 32 + 1
    assert expected == 4_631_361 == sum((a + 1) * b for a, b in pairwise([86, *WIDTHS]))
    assert sum(parameter.numel() for parameter in network.parameters()) == expected
    assert ElemNet(86, 3).output.out_features == 3


def dropouts(network: nn.Module) -> dict[int, float]:
    """Number of the fully connected layer, counted from 1, that each dropout follows -> share that is dropped."""
    found, layer = {}, 0
    for module in network.modules():
        if isinstance(module, nn.Linear):
            layer += 1
        elif isinstance(module, nn.Dropout):
            found[layer] = module.p
    return found


def test_activations_and_dropout() -> None:
    """Table 3.1 prints the shares that are kept: 0.8, 0.9, 0.7, 0.8 after layers 4, 7, 10, 13 (section 3.2.3)."""
    network = ElemNet(86)
    assert dropouts(network) == pytest.approx({4: 1 - 0.8, 7: 1 - 0.9, 10: 1 - 0.7, 13: 1 - 0.8})
    assert sum(isinstance(module, nn.ReLU) for module in network.modules()) == 16
    assert dropouts(ElemNet(86, dropout=(0.0, 0.1, 0.0, 0.0))) == {7: 0.1}
    with pytest.raises(ValueError, match="dropout must have 4 shares. Got \\[0.1\\]"):
        ElemNet(86, dropout=[0.1])


def test_dropout_drops_what_it_says() -> None:
    torch.manual_seed(0)
    network = ElemNet(86).train()
    first = nn.Sequential(*network.blocks[:3], *list(network.blocks[3])[:2])  # without the dropout
    features = torch.rand(400, 86)
    dropped = (network.represent(features, 3) == 0) & (first(features) > 0)
    assert (dropped.sum() / (first(features) > 0).sum()).item() == pytest.approx(0.2, abs=0.01)


def test_signal_and_gradient_reach_through_17_layers() -> None:
    """A fresh network tells compositions apart, and every layer learns: neither vanishes nor explodes."""
    torch.manual_seed(0)
    network = ElemNet(86).eval()
    features = torch.rand(64, 86) * (torch.rand(64, 86) < 0.05)
    features /= features.sum(dim=1, keepdim=True).clamp(min=1e-9)
    deep = network.represent(features)
    assert 1e-3 < deep.std(dim=0).mean() / features.norm(dim=1).mean() < 1e3
    network(features).var().backward()
    norms = [block[0].weight.grad.norm().item() for block in network.blocks]
    assert min(norms) > 1e-4 * max(norms) and all(norm > 0 for norm in norms)
