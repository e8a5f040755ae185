from __future__ import annotations

import numpy as np
import pytest
import torch

from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.estimator import Estimator, to_fundamental_zone
from ase_matprop.diffraction.ebsd.losses import LOSSES, OrientationLoss
from ase_matprop.diffraction.ebsd.networks import OMNet
from ase_matprop.diffraction.ebsd.rotations import disorientations, from_euler, to_matrices
from ase_matprop.diffraction.ebsd.symmetry import LAUE_GROUPS, get_laue_group
from ase_matprop.errors import UnknownNameError

CUBIC = torch.tensor(get_laue_group("m-3m").operators)


def random(n: int, seed: int) -> torch.Tensor:
    return torch.tensor(convert.random_orientations(n, seed=seed))


def test_the_comparisons_of_equation_6_4_reduce_to_24() -> None:
    """All 24 x 24 x 2 of the thesis, with matrices and the arc cosine, and our 24 with quaternions."""
    first, second = convert.random_orientations(20, seed=0), convert.random_orientations(20, seed=1)
    operators = convert.to_matrices(get_laue_group("m-3m").operators)
    g1, g2 = convert.to_matrices(first), convert.to_matrices(second)
    for a, b, q1, q2 in zip(g1, g2, first, second, strict=True):
        variants1, variants2 = operators @ a, operators @ b
        traces = np.stack(
            [np.einsum("iab,jab->ij", variants1, variants2), np.einsum("iab,jab->ij", variants2, variants1)]
        )
        assert traces.shape == (2, 24, 24)
        smallest = np.degrees(np.arccos(np.clip((traces.max() - 1.0) / 2.0, -1.0, 1.0)))
        ours = disorientations(torch.tensor(q1), torch.tensor(q2), CUBIC)
        assert np.degrees(float(ours)) == pytest.approx(smallest, abs=1e-9)
        assert len({round(float(t), 9) for t in traces.ravel()}) <= 24


@pytest.mark.parametrize("name", LAUE_GROUPS)
def test_torch_and_numpy_agree(name: str) -> None:
    first, second = random(300, 2), random(300, 3)
    ours = disorientations(first, second, torch.tensor(get_laue_group(name).operators)).rad2deg()
    assert np.abs(ours.numpy() - convert.disorientations(first.numpy(), second.numpy(), name)).max() < 1e-9


def test_conversions_agree() -> None:
    angles = np.random.default_rng(0).uniform(0.0, 180.0, (50, 3))
    ours = from_euler(torch.tensor(angles).deg2rad())
    assert np.abs(convert.disorientations(ours.numpy(), convert.from_euler(angles), "-1")).max() < 1e-9
    assert np.allclose(to_matrices(ours).numpy(), convert.to_matrices(ours.numpy()), atol=1e-12)
    reduced = to_fundamental_zone(ours, CUBIC)
    assert np.allclose(reduced.numpy(), convert.reduce(ours.numpy(), "m-3m"), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_where_orientations_coincide(dtype: torch.dtype) -> None:
    true = random(50, 4).to(dtype)
    for factor in (0.0, 1e-30, 1e-12, 1e-6, 1e-3):
        predicted = (true + factor * random(50, 5).to(dtype)).requires_grad_()
        angle = disorientations(predicted, true, CUBIC.to(dtype))
        angle.sum().backward()
        assert torch.isfinite(angle).all()
        assert predicted.grad is not None
        assert torch.isfinite(predicted.grad).all()
        assert predicted.grad.norm(dim=1).max() < 2.1


def test_gradients_are_finite_at_half_a_turn() -> None:
    true = torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64)
    for rest in (0.0, 1e-15, 1e-6):
        predicted = torch.tensor([[rest, 0.6, 0.8, 0.0]], dtype=torch.float64, requires_grad=True)
        angle = disorientations(predicted, true, torch.tensor(get_laue_group("-1").operators))
        angle.sum().backward()
        assert float(angle.detach()) == pytest.approx(np.pi - 2.0 * rest, abs=1e-9)
        assert predicted.grad is not None
        assert torch.isfinite(predicted.grad).all()


def test_gradient_is_the_slope() -> None:
    operators = torch.tensor(get_laue_group("6/mmm").operators)
    true = random(10, 7)
    start = random(10, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda q: disorientations(q, true, operators), start)


def test_descent_reaches_the_target() -> None:
    true, predicted = random(20, 8), random(20, 9).requires_grad_()
    optimizer = torch.optim.SGD([predicted], lr=0.02)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.02 * (1.0 - step / 300)
        loss = disorientations(predicted, true, CUBIC).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(disorientations(predicted.detach(), true, CUBIC).rad2deg().mean()) < 1.0


def test_losses_of_table_6_1() -> None:
    true = to_fundamental_zone(random(30, 10), CUBIC)
    network = Estimator(OMNet((8, 8), convolutions=((2,), (2,)), dense=(4,), branch=(4,)), "euler", "m-3m")
    targets = network.targets(true)
    outputs = targets + 0.01
    predicted = network.predicted(outputs)
    values = {name: float(OrientationLoss(name)(outputs, targets, predicted, true)) for name in LOSSES}
    assert values["mae"] == pytest.approx(0.01)
    assert values["mse"] == pytest.approx(0.0001)
    assert 0.0 < values["mde"] < 0.04
    assert values["mae+mde"] == pytest.approx(values["mae"] + values["mde"])
    assert values["mse+mde"] == pytest.approx(values["mse"] + values["mde"])


def test_unknown_loss() -> None:
    with pytest.raises(UnknownNameError, match="loss 'mea'"):
        OrientationLoss("mea")  # type: ignore[arg-type]
