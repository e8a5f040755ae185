"""Tabulated filters: the compiled loops against torch and against plain Python, and what the table costs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from ase.build import bulk
from torch import Tensor

from ase_matprop.descriptors.neighbors import neighbor_graphs
from ase_matprop.networks import filter_table
from ase_matprop.networks.filter_table import FINE_INTERVALS, INTERVALS, Pairs, convolve, grid, place
from ase_matprop.networks.schnet import SchNet, add_vectors, pair_distances, pair_vectors
from tests.conftest import SMALL_ATOMISTIC, rattled

WIDTH, N_INTERVALS = 7, 90
Case = tuple[Tensor, Tensor, Pairs]


def case(index_type: torch.dtype = torch.int32, value_type: torch.dtype = torch.float32) -> Case:
    """Features, table and pairs of three structures, one of them an atom without neighbours."""
    graphs = neighbor_graphs(
        [
            rattled(bulk("NaCl", "rocksalt", 5.64) * (2, 1, 1), 0),
            bulk("He", "fcc", 20.0),
            rattled(bulk("Mg"), 1),
        ],
        4.5,
    )
    inputs = pair_distances(graphs)
    assert 0 in graphs.n_neighbors
    intervals, weights = place(inputs["distances"], graphs.cutoff, N_INTERVALS)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(len(graphs.numbers), WIDTH, generator=generator, dtype=value_type)
    table = torch.randn(N_INTERVALS + 1, WIDTH, generator=generator, dtype=value_type)
    integers = (tensor.to(index_type) for tensor in (inputs["first_pairs"], inputs["neighbors"], intervals))
    return features, table, Pairs(*integers, weights.to(value_type))


def naive(features: Tensor, table: Tensor, pairs: Pairs) -> np.ndarray:
    output = np.zeros(features.shape)
    lower = pairs.intervals.tolist()
    for i in range(len(features)):
        for pair in range(int(pairs.first[i]), int(pairs.first[i + 1])):
            weight = float(pairs.weights[pair])
            filters = (1.0 - weight) * table[lower[pair]] + weight * table[lower[pair] + 1]
            output[i] += (features[pairs.neighbors[pair]] * filters).double().numpy()
    return output


@pytest.fixture(params=["numba", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """With the compiled loops, and as it is where numba is not installed."""
    if request.param == "numba":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(filter_table, "_kernels", lambda: None)
    yield request.param


@pytest.mark.parametrize("index_type", [torch.int32, torch.int64], ids=str)
def test_sum_over_neighbors(path: str, index_type: torch.dtype) -> None:
    arguments = case(index_type)
    result = convolve(*arguments)
    assert result.dtype == torch.float32 and result.shape == arguments[0].shape
    np.testing.assert_allclose(result.numpy(), naive(*arguments), atol=1e-4)
    assert (result[arguments[2].first.diff() == 0] == 0.0).all()


@pytest.mark.parametrize("index_type", [torch.int32, torch.int64], ids=str)
def test_gradients_are_those_of_autograd(path: str, index_type: torch.dtype) -> None:
    features, table, pairs = case(index_type)
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(3))
    found = _gradients(convolve, features, table, pairs, weights)
    expected = _gradients(_with_torch, features, table, pairs, weights)
    for one, other in zip(found, expected, strict=True):
        assert one.abs().max() > 0.0
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def _with_torch(features: Tensor, table: Tensor, pairs: Pairs) -> Tensor:
    centers = torch.repeat_interleave(torch.arange(len(features)), pairs.first.diff().long())
    lower, weights = pairs.intervals.long(), pairs.weights[:, None]
    filters = (1.0 - weights) * table[lower] + weights * table[lower + 1]
    return torch.zeros_like(features).index_add(0, centers, features[pairs.neighbors.long()] * filters)


def _gradients(
    function: Callable[..., Tensor], features: Tensor, table: Tensor, pairs: Pairs, weights: Tensor
) -> tuple[Tensor, ...]:
    features, table = features.clone().requires_grad_(), table.clone().requires_grad_()
    return torch.autograd.grad((function(features, table, pairs) * weights).square().sum(), [features, table])


def test_gradients_against_finite_differences() -> None:
    """In float64, which takes the path without compiled loops; the other one is compared with it above."""
    features, table, pairs = case(torch.int64, torch.float64)
    pairs = pairs._replace(intervals=pairs.intervals % 5)  # a small table, for speed
    leaves = features[:, :2].clone().requires_grad_(), table[:6, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda f, t: convolve(f, t, pairs), leaves)


@pytest.mark.parametrize("frozen", [0, 1])
def test_only_what_is_asked_for_has_a_gradient(path: str, frozen: int) -> None:
    features, table, pairs = case()
    leaves = [features.requires_grad_(frozen != 0), table.requires_grad_(frozen != 1)]
    convolve(*leaves, pairs).sum().backward()
    assert [leaf.grad is None for leaf in leaves] == [frozen == 0, frozen == 1]


def test_memory_order_does_not_matter(path: str) -> None:
    features, table, pairs = case()
    transposed = [tensor.t().contiguous().t() for tensor in (features, table)]
    assert not any(tensor.is_contiguous() for tensor in transposed)
    torch.testing.assert_close(convolve(*transposed, pairs), convolve(features, table, pairs))


def test_grid() -> None:
    """The ends of equal intervals from zero to the cutoff; a distance lies between those of its interval."""
    ends = grid(6.0, 400, torch.device("cpu"))
    assert ends.shape == (401,)
    assert ends[0] == 0.0 and ends[-1] == pytest.approx(6.0) and torch.allclose(ends.diff(), ends[1], rtol=1e-3)
    distances = torch.cat([torch.linspace(0.0, 6.0, 9999), ends])
    intervals, weights = place(distances, 6.0, 400)
    assert intervals.min() == 0 and intervals.max() == 399
    assert weights.min() == 0.0 and weights.max() <= 1.0
    torch.testing.assert_close(torch.lerp(ends[intervals], ends[intervals + 1], weights), distances)


@pytest.fixture
def network() -> SchNet:
    torch.manual_seed(0)
    return SchNet(**SMALL_ATOMISTIC).eval()


def test_table_equals_exact_filters_within_its_resolution(
    path: str, network: SchNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linear interpolation: a table twice as fine is about four times closer."""
    crystals = [rattled(bulk(*arguments) * (2, 1, 1), seed) for seed, arguments in enumerate(CRYSTALS)]
    graphs = neighbor_graphs(crystals, network.cutoff)
    with torch.inference_mode():
        exact = network(add_vectors(pair_vectors(graphs)))
        errors = []
        monkeypatch.setattr(filter_table, "PER_GAUSSIAN", 1)
        for n_intervals in (25, 50, 100, INTERVALS):
            monkeypatch.setattr(filter_table, "INTERVALS", n_intervals)
            errors.append(float((network(pair_distances(graphs)) - exact).abs().mean() / exact.std()))
    assert errors[0] > 3.0 * errors[1] > 9.0 * errors[2]
    assert errors[3] < 1e-4


@pytest.mark.parametrize("n_rbf", [50, 150, 300])
def test_tables_resolve_the_gaussians(n_rbf: int) -> None:
    """However narrow they are: in training to a few thousandths of the spread, afterwards to 1e-5."""
    torch.manual_seed(0)
    network = SchNet(n_atom_basis=16, n_interactions=2, n_rbf=n_rbf, cutoff=5.0).eval()
    graphs = neighbor_graphs([rattled(bulk(*arguments), seed) for seed, arguments in enumerate(CRYSTALS)], 5.0)
    with torch.inference_mode():
        exact, found = network(add_vectors(pair_vectors(graphs))), network(pair_distances(graphs))
        assert (found - exact).abs().mean() < 4e-3 * exact.std()
        network.keep_tables()
        torch.testing.assert_close(network(pair_distances(graphs)), exact, rtol=0, atol=5e-6)


def test_tables_of_a_finished_network(path: str, network: SchNet) -> None:
    """They are as good as the filters themselves, are made once, and are no part of the state."""
    graphs = neighbor_graphs([rattled(bulk(*arguments), seed) for seed, arguments in enumerate(CRYSTALS)], 4.5)
    names = set(network.state_dict())
    network.keep_tables()
    assert {table.shape for table in network._tables} == {(FINE_INTERVALS + 1, 16)}
    with torch.inference_mode():
        found, exact = network(pair_distances(graphs)), network(add_vectors(pair_vectors(graphs)))
        torch.testing.assert_close(found, exact, rtol=0, atol=2e-6)
        torch.testing.assert_close(found, copy.deepcopy(network)(pair_distances(graphs)), rtol=0, atol=1e-6)
    assert set(network.state_dict()) == names


CRYSTALS = [
    *(("NaCl", "rocksalt", a) for a in np.linspace(5.0, 6.0, 8)),
    *(("MgO", "rocksalt", a) for a in np.linspace(4.0, 4.8, 8)),
]


def test_table_gives_the_gradients_of_the_weights(path: str, network: SchNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a table that has a point at each distance, every weight has the gradient that exact filters give it."""
    graphs = neighbor_graphs([rattled(bulk("NaCl", "rocksalt", 5.64), 0), bulk("Fe")], network.cutoff)
    distances, places = np.unique(graphs.distances, return_inverse=True)
    ends = torch.from_numpy(np.append(distances, network.cutoff)).float()
    monkeypatch.setattr(filter_table, "grid", lambda cutoff, n_intervals, device: ends)
    placed = torch.from_numpy(places).int(), torch.zeros(len(places))
    monkeypatch.setattr(filter_table, "place", lambda distances, cutoff, n_intervals: placed)
    gradients = []
    for inputs in (pair_distances(graphs), add_vectors(pair_vectors(graphs))):
        network.zero_grad()
        network(inputs).square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in network.named_parameters()})
    for name, expected in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], expected, rtol=1e-3, atol=1e-5, msg=name)
