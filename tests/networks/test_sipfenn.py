"""The SIPFENN networks: the architectures of Figure 3.1 of Krajewski et al. (2022)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ase_matprop.networks.sipfenn import NN9, NN20, NN24, SIPFENN

#: Figure 3.1, layer by layer: width, activation, whether a DropoutLayer follows; the output layer is not listed
FIGURE_3_1: dict[type[SIPFENN], list[tuple[int, type[nn.Module], bool]]] = {
    NN9: [
        (10000, nn.Softsign, False),
        (10000, nn.Sigmoid, False),
        (10000, nn.Sigmoid, False),
        (10000, nn.Sigmoid, False),
        (1000, nn.ELU, False),
        (100, nn.ELU, False),
    ],
    NN20: [
        (10000, nn.Softsign, True),
        (10000, nn.Sigmoid, True),
        (10000, nn.ELU, True),
        (10000, nn.Sigmoid, True),
        (1000, nn.ELU, True),
        (100, nn.ELU, False),
    ],
    NN24: [
        (4000, nn.Softsign, True),
        (4000, nn.Sigmoid, True),
        (4000, nn.ELU, True),
        (1000, nn.ELU, True),
        (100, nn.ELU, False),
    ],
}
#: weights and biases, worked out by hand from the widths above
N_PARAMETERS = {
    NN9: 271 * 10000 + 10000 + 3 * (10000 * 10000 + 10000) + 10000 * 1000 + 1000 + 1000 * 100 + 100 + 100 + 1,
    NN20: 271 * 10000 + 10000 + 3 * (10000 * 10000 + 10000) + 10000 * 1000 + 1000 + 1000 * 100 + 100 + 100 + 1,
    NN24: 271 * 4000 + 4000 + 2 * (4000 * 4000 + 4000) + 4000 * 1000 + 1000 + 1000 * 100 + 100 + 100 + 1,
}
#: size in MB with four bytes per parameter: "around 1,200MB" (section 2.5) and "only 145MB" (section 3.1; it is 149)
SIZES = {NN9: 1200, NN20: 1200, NN24: 145}


@pytest.mark.parametrize("kind", FIGURE_3_1)
def test_architecture(kind: type[SIPFENN]) -> None:
    with torch.device("meta"):  # which takes no memory
        network = kind(271)
    found = [
        (block[0].out_features, type(block[1]), any(isinstance(module, nn.Dropout) for module in block))
        for block in network.blocks
    ]
    assert found == FIGURE_3_1[kind]
    assert network.output.in_features == 100 and network.output.out_features == 1
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    assert n_parameters == N_PARAMETERS[kind]
    assert 4e-6 * n_parameters == pytest.approx(SIZES[kind], rel=0.06)


@pytest.mark.parametrize("kind", FIGURE_3_1)
def test_width_factor(kind: type[SIPFENN]) -> None:
    network = kind(7, 2, width_factor=0.01)
    widths = [block[0].out_features for block in network.blocks]
    assert widths == [round(0.01 * width) for width, _, _ in FIGURE_3_1[kind]]
    assert network(torch.rand(3, 7)).shape == (3, 2)
    assert all(block[0].out_features == 1 for block in kind(7, width_factor=1e-9).blocks)
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="width_factor must be positive. Got"):
            kind(7, width_factor=wrong)


def test_share_of_the_dropout() -> None:
    shares = [m.p for m in NN24(7, width_factor=0.01, dropout=0.3).modules() if isinstance(m, nn.Dropout)]
    assert shares == [0.3] * 4
    assert not any(isinstance(m, nn.Dropout) for m in NN20(7, width_factor=0.01, dropout=0.0).modules())
    torch.manual_seed(0)
    network = NN24(7, width_factor=0.25).train()
    dropped = network.represent(torch.rand(20, 7), 0) == 0
    assert dropped.float().mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("kind", FIGURE_3_1)
def test_gradient_reaches_the_first_layer(kind: type[SIPFENN]) -> None:
    torch.manual_seed(0)
    network = kind(20, width_factor=0.01).eval()
    network(torch.randn(32, 20)).var().backward()
    norms = [block[0].weight.grad.norm().item() for block in network.blocks]
    assert norms[0] > 1e-5 * max(norms)
