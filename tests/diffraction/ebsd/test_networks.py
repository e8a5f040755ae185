from __future__ import annotations

import pytest
import torch
from torch import nn

from ase_matprop.diffraction.ebsd.estimator import Estimator
from ase_matprop.diffraction.ebsd.networks import NETWORKS, OMNet, build_network
from ase_matprop.errors import UnknownNameError


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_published_network_has_207_024_067_parameters() -> None:
    with torch.device("meta"):
        network = OMNet()
        output = network(torch.empty(2, 1, 60, 60))
    assert count(network) == 207_024_067
    assert count(network.convolutions) == 6_206_912
    assert count(network.branches[0]) == 2_360_833  # "each branch leverages around 2 million parameters"
    assert output.shape == (2, 3, 1)
    widths = [layer.out_channels for layer in network.convolutions if isinstance(layer, nn.Conv2d)]
    assert widths == [256, 256, 512, 512, 256, 256, 96, 96]
    assert [type(layer).__name__ for layer in network.convolutions].count("MaxPool2d") == 2
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


@pytest.mark.parametrize("name", ["omnet-compact", "omnet-early-pool"])
@pytest.mark.parametrize(
    ("output", "branches", "numbers"), [("invariants", 3, 15), ("quaternion", 4, 1), ("euler", 3, 1)]
)
def test_compact_networks(name: str, output: str, branches: int, numbers: int) -> None:
    network = build_network(name, (30, 30), {"n_branches": branches, "outputs_per_branch": numbers})
    estimator = Estimator(network, output, "m-3m").eval()  # type: ignore[arg-type]
    assert count(estimator) < 1_500_000
    patterns = torch.randn(5, 1, 30, 30)
    parameters = estimator(patterns)
    n_estimates = 3 if output == "invariants" else 1
    assert parameters.shape == (5, n_estimates, estimator.n_parameters)
    estimates = estimator.estimate(parameters)
    assert estimates.quaternions.shape == (5, n_estimates, 4)
    assert torch.allclose(estimates.quaternions.norm(dim=-1), torch.ones((), dtype=torch.float64))
    assert estimates.residuals.shape == (5, n_estimates)
    alone = estimator(patterns[:1])
    assert torch.allclose(alone, parameters[:1], atol=1e-5)


def test_wrong_settings() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'omnet-compact'"):
        build_network("omnet-compakt", (30, 30), {})
    with pytest.raises(ValueError, match="no setting 'depth'"):
        build_network("omnet", (30, 30), {"depth": 3})
    with pytest.raises(ValueError, match="pools leave nothing"):
        build_network("omnet-early-pool", (4, 4), {})
    with pytest.raises(ValueError, match="needs 15 outputs_per_branch"):
        Estimator(build_network("omnet-compact", (30, 30), {}), "invariants", "m-3m")
    assert set(NETWORKS) == {"omnet", "omnet-compact", "omnet-early-pool"}
