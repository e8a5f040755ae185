"""Networks whose wide layers multiply in bfloat16."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ase_matprop.networks import build_network
from ase_matprop.networks.ensemble import Ensemble
from ase_matprop.networks.rounding import NARROWEST, with_rounded_layers

SETTINGS = {
    "elemnet": {},
    "irnet": {"stacks": [[512, 2], [256, 2], [64, 1]]},
    "srnet": {"stacks": [[512, 2], [256, 2], [64, 1]]},
}


def network(name: str) -> nn.Module:
    torch.manual_seed(3)
    return Ensemble(build_network(name, 86, 1, SETTINGS[name]) for _ in range(2)).eval()


def layers(module: nn.Module) -> list[nn.Module]:
    return [each for each in module.modules() if hasattr(each, "weight") and each.weight.ndim == 2]


@pytest.mark.parametrize("name", SETTINGS)
def test_wide_layers_are_rounded_and_narrow_ones_are_not(name: str) -> None:
    rounded = layers(with_rounded_layers(network(name)))
    kinds = {layer.weight.dtype for layer in rounded}
    assert kinds == {torch.float32, torch.bfloat16}
    for layer in rounded:
        wide = min(layer.weight.shape) >= NARROWEST
        assert layer.weight.dtype == (torch.bfloat16 if wide else torch.float32)
        assert layer.bias is None or layer.bias.dtype == layer.weight.dtype
    assert len(rounded) == len(layers(network(name)))


@pytest.mark.parametrize("name", SETTINGS)
def test_values_change_little_and_come_in_float32(name: str) -> None:
    original = network(name)
    features = torch.rand(200, 86)
    with torch.inference_mode():
        before, after = original.member_outputs(features), with_rounded_layers(original).member_outputs(features)
    assert after.dtype == torch.float32 and after.shape == before.shape
    assert 0.0 < (after - before).abs().max() < 0.05 * before.std() + 0.05 * before.abs().max()


def test_the_original_stays_as_it_is() -> None:
    original = network("irnet").train()
    state = copy.deepcopy(original.state_dict())
    rounded = with_rounded_layers(original)
    assert original.training and not rounded.training
    assert all(torch.equal(value, state[key]) for key, value in original.state_dict().items())
    assert all(parameter.dtype == torch.float32 for parameter in original.parameters())
    assert not {p.data_ptr() for p in original.parameters()} & {p.data_ptr() for p in rounded.parameters()}


def test_a_network_of_narrow_layers_gives_the_same() -> None:
    small = Ensemble([build_network("irnet", 86, 1, {"stacks": [[64, 2], [32, 1]]})]).eval()
    features = torch.rand(10, 86)
    with torch.inference_mode():
        assert torch.equal(small.member_outputs(features), with_rounded_layers(small).member_outputs(features))
