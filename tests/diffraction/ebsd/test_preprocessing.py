from __future__ import annotations

import numpy as np
import pytest
import torch

from ase_matprop.diffraction.ebsd.errors import PatternError
from ase_matprop.diffraction.ebsd.preprocessing import Preprocessing, check_patterns, remove_static_background


def test_output_is_pooled_and_scaled() -> None:
    patterns = 100.0 + 20.0 * torch.randn(4, 60, 60, generator=torch.Generator().manual_seed(0))
    prepared = Preprocessing((60, 60), sigma=6.0, pool=2)(patterns)
    assert prepared.shape == (4, 1, 30, 30)
    assert torch.allclose(prepared.mean(dim=(1, 2, 3)), torch.zeros(4), atol=1e-5)
    assert torch.allclose(prepared.square().mean(dim=(1, 2, 3)), torch.ones(4), atol=1e-4)
    assert torch.allclose(Preprocessing()(3.0 * patterns + 5.0), Preprocessing()(patterns), atol=1e-3)
    plain = Preprocessing(sigma=0.0, pool=1)(patterns)
    assert plain.shape == (4, 1, 60, 60)


def test_dynamic_background_is_a_fitted_parabola() -> None:
    values = np.random.default_rng(0).normal(size=40)
    smooth = (Preprocessing((40, 40), sigma=4.0).smooth_rows @ torch.tensor(values).float()).numpy()
    for point in (0, 3, 20, 39):
        weights = np.exp(-0.25 * ((np.arange(40) - point) / 4.0) ** 2)  # polyfit squares them
        assert smooth[point] == pytest.approx(
            np.polyval(np.polyfit(np.arange(40), values, 2, w=weights), point), abs=1e-5
        )
    y, x = np.mgrid[:60, :60] / 60.0
    parabola = torch.tensor(100.0 + 50.0 * x - 80.0 * y**2 + 30.0 * x * y).float()
    module = Preprocessing(sigma=8.0)
    assert (module.smooth_rows @ parabola @ module.smooth_columns - parabola).abs().max() < 1e-3


def test_a_smooth_background_goes() -> None:
    y, x = np.mgrid[:60, :60] / 60.0
    background = 200.0 * np.exp(-((x - 0.4) ** 2 + (y - 0.6) ** 2))
    signal = np.random.default_rng(0).normal(size=(60, 60))
    both = torch.tensor(np.stack([signal, signal + background]), dtype=torch.float32)
    first, second = Preprocessing()(both).flatten(1)
    assert float((first * second).mean()) > 0.85


def test_static_background() -> None:
    static = np.full((6, 6), 50.0)
    static[3:] = 100.0
    signal = np.random.default_rng(0).normal(size=(2, 6, 6))
    corrected = remove_static_background(2.0 * static + signal, static)
    assert np.abs(corrected - signal).max() < 2.0
    with pytest.raises(PatternError, match=r"static background has the shape \(5, 6\)"):
        remove_static_background(np.ones((2, 6, 6)), np.ones((5, 6)))
    with pytest.raises(PatternError, match="positive mean"):
        remove_static_background(np.ones((2, 6, 6)), np.zeros((6, 6)))


def test_wrong_squares() -> None:
    with pytest.raises(PatternError, match="61 x 60"):
        Preprocessing((61, 60))


def test_patterns_that_cannot_be_read() -> None:
    random = np.random.default_rng(0)
    good = random.integers(20, 230, (60, 60), dtype=np.uint8)
    saturated = good.copy()
    saturated[:10] = 255
    y, x = np.mgrid[:60, :60]
    smooth = (x + y).astype(np.uint8)
    stack = np.stack([good, np.zeros_like(good), np.full_like(good, 255), saturated, smooth])
    reasons = check_patterns(stack, (60, 60))
    assert reasons[0] is None
    assert reasons[1] == "the pattern is empty: all its pixels are 0"
    assert reasons[2] == "the pattern is empty: all its pixels are 255"
    assert reasons[3] is not None
    assert "saturated: 17%" in reasons[3]
    assert reasons[4] is not None
    assert "no contrast" in reasons[4]
    wrong = check_patterns(good[None, :50], (60, 60))
    assert wrong[0] is not None
    assert "50 x 60 pixels, 60 x 60 are needed" in wrong[0]
    bad = good.astype(np.float32)
    bad[3, 3] = np.nan
    assert "not finite" in str(check_patterns(bad[None])[0])


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_depths_in_sixteen_bits(bits: int) -> None:
    random = np.random.default_rng(0)
    full = 2**bits - 1
    good = random.integers(full // 8, int(0.9 * full), (60, 60)).astype(np.uint16)
    assert check_patterns(good[None]) == [None]
    saturated = good.copy()
    saturated[:10] = full
    assert "saturated" in str(check_patterns(saturated[None])[0])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_saturation_below_the_full_scale(kind: type) -> None:
    """Twelve bits that were shifted to sixteen end at 65520; patterns of floating-point numbers often at 1."""
    random = np.random.default_rng(0)
    good = random.uniform(0.1, 0.8, (60, 60))
    good[:20] = 1.0
    full = {np.uint8: 200.0, np.uint16: 65520.0, np.float32: 1.0}[kind]
    assert "saturated: 33%" in str(check_patterns((full * good).astype(kind)[None])[0])


def test_division_by_the_full_range() -> None:
    patterns = torch.full((2, 6, 4), 51.0)
    prepared = Preprocessing((6, 4), sigma=0.0, pool=1, scale="full_range")(patterns)
    assert torch.equal(prepared, torch.full((2, 1, 6, 4), 0.2))
    with pytest.raises(PatternError, match="sigma must be 0"):
        Preprocessing((6, 4), sigma=4.0, scale="full_range")


def test_no_patterns_at_all() -> None:
    with pytest.raises(PatternError, match=r"shape \(n, rows, columns\)"):
        check_patterns(np.zeros((60, 60)))
    with pytest.raises(PatternError, match="dtype complex128"):
        check_patterns(np.zeros((1, 60, 60), dtype=complex))
    assert check_patterns(np.zeros((0, 60, 60))) == []
