"""Equations 7.1 to 7.8 and the architecture of Figures 7.3 to 7.5 of Jha (2020)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ase_matprop.diffraction.xrd.errors import DiffractionSettingsError
from ase_matprop.diffraction.xrd.networks import (
    PeakAreaDetection,
    build_pattern_network,
    padnet,
    plain_cnn,
)
from ase_matprop.diffraction.xrd.slope_filters import slope_filters
from ase_matprop.errors import UnknownNameError


def test_slope_filters_are_those_of_the_equations() -> None:
    f = 50
    first, second, vertical, horizontal = slope_filters(f)[:, 0].numpy()
    for i in range(1, f + 1):  # the diagonal filters, counted from 1
        for j in range(1, f + 1):
            assert first[i - 1, j - 1] == (-1 if i < j else 1)
            assert second[i - 1, j - 1] == (-1 if i + j > f else 1)
    for i in range(f):  # the halves, counted from 0
        for j in range(f):
            assert vertical[i, j] == (-1 if i < f / 2 else 1)
            assert horizontal[i, j] == (-1 if j < f / 2 else 1)


def test_second_filter_changes_sign_across_the_anti_diagonal() -> None:
    first, second, vertical, horizontal = slope_filters(6)[:, 0].numpy()
    assert np.array_equal(second, -first[:, ::-1]) and np.array_equal(vertical, horizontal.T)
    assert second[0, 0] == 1 and second[-1, -1] == -1 and (np.diag(second[:, ::-1]) == -1).all()
    assert vertical.sum() == horizontal.sum() == 0 and first.sum() == 6 and second.sum() == -6


def test_balanced_filters_remove_a_flat_background() -> None:
    balanced, literal = slope_filters(4, balanced=True)[:, 0], slope_filters(4)[:, 0]
    assert torch.equal(balanced.sum(dim=(1, 2)), torch.zeros(4))
    assert (balanced != literal).sum(dim=(1, 2)).tolist() == [4, 4, 0, 0]
    response = PeakAreaDetection(4, balanced=True).respond(torch.full((1, 1, 16, 16), 50.0))
    assert torch.equal(response, torch.zeros(1, 4, 16, 16))


@pytest.mark.parametrize("size", [0, 1, 7])
def test_size_of_filters_is_checked(size: int) -> None:
    with pytest.raises(DiffractionSettingsError, match=f"even and at least 2. Got {size}"):
        slope_filters(size)


def test_response_is_that_of_loops() -> None:
    """Equations 7.5 to 7.7 pixel by pixel, away from the border."""
    f, image = 4, np.random.default_rng(0).poisson(100.0, (20, 22)).astype(np.float64)
    filters = slope_filters(f)[:, 0].numpy()
    slopes = np.full((4, *image.shape), np.nan)
    for i in range(2, 18):
        for j in range(2, 20):
            window = image[i - 2 : i + 2, j - 2 : j + 2]
            slopes[:, i, j] = np.abs((filters * window).sum(axis=(1, 2)))
    found = PeakAreaDetection(f).respond(torch.tensor(image, dtype=torch.float32)[None, None])[0].numpy()
    assert found.shape == slopes.shape
    for i in range(5, 15):
        for j in range(5, 17):
            assert np.allclose(found[:, i, j], slopes[:, i - 2 : i + 3, j - 2 : j + 3].max(axis=(1, 2)))


def test_flat_background_leaves_nothing_in_the_halves_also_at_the_border() -> None:
    response = PeakAreaDetection(6).respond(torch.full((1, 1, 24, 24), 50.0))[0]
    assert torch.equal(response[2:], torch.zeros(2, 24, 24))
    assert torch.allclose(response[:2], torch.tensor(6 * 50.0))  # the diagonal of F1 and F2


@pytest.mark.parametrize("softmax", ["channels", "space", "none"])
def test_softmax(softmax: str) -> None:
    torch.manual_seed(0)
    detection = PeakAreaDetection(4, softmax=softmax).train()
    images = torch.rand(3, 1, 16, 16)
    out = detection(images)
    assert out.shape == (3, 4, 16, 16)
    if softmax == "channels":
        assert torch.allclose(out.sum(dim=1), torch.ones(3, 16, 16))
    elif softmax == "space":
        assert torch.allclose(out.sum(dim=(2, 3)), torch.ones(3, 4))
    else:
        assert torch.allclose(out.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-5)
    with pytest.raises(UnknownNameError, match="unknown softmax of PADNet 'chanels'. Did you mean 'channels'"):
        PeakAreaDetection(4, softmax="chanels")


def test_fixed_and_trainable_filters() -> None:
    images, composition = torch.rand(4, 1, 64, 64), torch.rand(4, 3)
    for trainable in (False, True):
        network = padnet(size=64, filter_size=4, trainable=trainable, strides=(2, 1, 1))
        assert network.fixed_inputs is not trainable
        network(images, composition).sum().backward()
        assert (network.inputs[0].filters.grad is not None) is trainable


def test_architecture_of_one_frame() -> None:
    """Figure 7.5: 64, 96, 32 maps, pooled by 2; 2048 pixels end as 16 x 16, then 512; composition 256, 256, 256."""
    network = padnet()
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert [(each.in_channels, each.out_channels, each.stride[0]) for each in convolutions] == [
        (4, 64, 4),
        (64, 96, 2),
        (96, 32, 2),
    ]
    assert all(each.kernel_size == (5, 5) for each in convolutions)
    assert sum(isinstance(module, nn.MaxPool2d) for module in network.modules()) == 3
    dense = [(each.in_features, each.out_features) for each in network.modules() if isinstance(each, nn.Linear)]
    assert dense == [(16 * 16 * 32, 512), (3, 256), (256, 256), (512 + 256, 256), (256, 8)]
    assert network.inputs[0].filters.shape == (4, 1, 50, 50)


def test_two_frames_have_half_the_widths() -> None:
    network = padnet(size=128, n_frames=2, filter_size=4)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert [each.out_channels for each in convolutions] == [32, 48, 16] * 2
    assert network(torch.rand(2, 2, 128, 128), torch.rand(2, 3)).shape == (2, 8)
    with pytest.raises(DiffractionSettingsError, match="frames must be 1 or 2. Got 3"):
        padnet(n_frames=3)


def test_plain_network_is_the_same_without_peak_area_detection() -> None:
    plain, pad = plain_cnn(size=128), padnet(size=128, filter_size=4)
    sizes = {name: tuple(each.shape) for name, each in plain.state_dict().items()}
    others = {name: tuple(each.shape) for name, each in pad.state_dict().items() if "filters" not in name}
    different = {name for name in sizes if sizes[name] != others[name]}
    assert sizes.keys() == others.keys()
    assert different == {"graphs.0.0.0.weight", "inputs.0.norm.running_mean", "inputs.0.norm.running_var"}


def test_network_on_images_alone() -> None:
    network = plain_cnn(size=64, n_composition=0, strides=(2, 1, 1)).eval()
    assert network(torch.rand(1, 1, 64, 64)).shape == (1, 8)
    with pytest.raises(DiffractionSettingsError, match="needs a composition"):
        plain_cnn(size=64, strides=(2, 1, 1)).eval()(torch.rand(1, 1, 64, 64))


def test_rows_do_not_depend_on_the_batch() -> None:
    torch.manual_seed(1)
    network = padnet(size=64, filter_size=4, strides=(2, 1, 1)).eval()
    images, composition = torch.rand(5, 1, 64, 64), torch.rand(5, 3)
    together = network(images, composition)
    assert torch.allclose(together[3:4], network(images[3:4], composition[3:4]), atol=1e-5)


def test_wrong_settings() -> None:
    with pytest.raises(DiffractionSettingsError, match="32 pixels are too small for strides of"):
        padnet(size=32, filter_size=4, strides=(64, 8, 8))
    with pytest.raises(DiffractionSettingsError, match="strides must be 3 numbers"):
        plain_cnn(strides=(1, 2))
    with pytest.raises(DiffractionSettingsError, match="filters of 50 pixels are too large for images of 16"):
        padnet(size=16)
    with pytest.raises(UnknownNameError, match="Did you mean 'padnet'"):
        build_pattern_network("padnett", {})
    with pytest.raises(DiffractionSettingsError, match="'padnet' cannot be built from"):
        build_pattern_network("padnet", {"width": 3})
