from __future__ import annotations

import numpy as np
import pytest
import torch

from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.invariants import InvariantTensors
from ase_matprop.diffraction.ebsd.symmetry import LAUE_GROUPS, get_laue_group, multiply


@pytest.fixture(scope="module", params=LAUE_GROUPS)
def tensors(request: pytest.FixtureRequest) -> InvariantTensors:
    return InvariantTensors(request.param)


def test_the_same_for_equivalent_orientations(tensors: InvariantTensors) -> None:
    quaternions = convert.random_orientations(50, seed=0)
    here = tensors.encode(torch.tensor(quaternions))
    assert here.shape == (50, tensors.size)
    assert tensors.size == InvariantTensors.count(tensors.symmetry)
    for operator in get_laue_group(tensors.symmetry).operators:
        assert torch.allclose(tensors.encode(torch.tensor(multiply(operator, quaternions))), here, atol=1e-10)


def test_orientations_return(tensors: InvariantTensors) -> None:
    """Which shows, too, that no others than equivalent orientations have the same tensors."""
    quaternions = convert.random_orientations(300, seed=1)
    found, residuals = tensors.decode(tensors.encode(torch.tensor(quaternions)))
    assert np.percentile(convert.disorientations(found.numpy(), quaternions, tensors.symmetry), 99) < 1e-4
    assert float(residuals.median()) < 1e-9


def test_continuous_across_the_border_of_the_fundamental_zone() -> None:
    tensors = InvariantTensors("m-3m")
    inside = np.array([np.cos(np.pi / 8 - 1e-4), 0.0, 0.0, np.sin(np.pi / 8 - 1e-4)])
    outside = np.array([np.cos(np.pi / 8 + 1e-4), 0.0, 0.0, np.sin(np.pi / 8 + 1e-4)])
    reduced = convert.reduce(np.stack([inside, outside]), "m-3m")
    assert np.abs(reduced[0] - reduced[1]).max() > 0.5
    both = tensors.encode(torch.tensor(reduced))
    assert float((both[0] - both[1]).abs().max()) < 4e-3


def test_normalised() -> None:
    tensors = InvariantTensors("m-3m")
    values = tensors.encode(torch.tensor(convert.random_orientations(50_000, seed=2)))
    assert float(values.mean(dim=0).abs().max()) < 0.03
    assert float(values.square().mean()) == pytest.approx(1.0, abs=0.02)


def test_residual_grows_with_the_disturbance() -> None:
    tensors = InvariantTensors("m-3m")
    true = convert.random_orientations(200, seed=3)
    values = tensors.encode(torch.tensor(true))
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means, errors = [], []
    for size in (0.03, 0.1, 0.3):
        found, residuals = tensors.decode(values + size * noise)
        means.append(float(residuals.mean()))
        errors.append(float(convert.disorientations(found.numpy(), true).mean()))
    assert means == sorted(means)
    assert errors == sorted(errors)
    assert errors[0] < 0.5


def test_empty() -> None:
    tensors = InvariantTensors("m-3m")
    found, residuals = tensors.decode(torch.zeros(0, tensors.size))
    assert found.shape == (0, 4)
    assert residuals.shape == (0,)
