"""Equations 7.9 and 7.10 of Jha (2020), against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from ase_matprop.diffraction.xrd.background import (
    minimum_background,
    remove_background,
    scaled_filter_size,
    smooth_background,
)
from ase_matprop.diffraction.xrd.errors import DiffractionImageError, DiffractionSettingsError


def literal(image: np.ndarray, f: int, reduce) -> np.ndarray:
    """The equations as they are printed, pixel by pixel; the window ends where the image ends."""
    result = np.empty(image.shape)
    reach = f // 2
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            rows = [i + x for x in range(-reach, reach + 1) if 0 <= i + x < image.shape[0]]
            columns = [j + y for y in range(-reach, reach + 1) if 0 <= j + y < image.shape[1]]
            result[i, j] = reduce([image[row, column] for row in rows for column in columns])
    return result


@pytest.mark.parametrize("shape", [(23, 31), (16, 16)])
@pytest.mark.parametrize("f", [1, 2, 5, 8, 20])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float64])
def test_identical_to_plain_loops(shape: tuple[int, int], f: int, dtype: type) -> None:
    rng = np.random.default_rng(f)
    image = rng.poisson(400.0 + 300.0 * np.sin(np.arange(shape[1]) / 5.0), shape).astype(dtype)
    before = image.copy()
    minimum = literal(image, f, min)
    assert np.array_equal(minimum_background(image, f), minimum)
    smooth = literal(minimum, f, lambda window: sum(window) / len(window))
    assert np.allclose(smooth_background(image, f), smooth, rtol=1e-13, atol=0.0)
    assert np.array_equal(image, before)


def test_a_flat_background_with_peaks_is_removed() -> None:
    image = np.full((60, 60), 1000.0)
    image[20:23, 40:44] += 500.0
    for method in ("minimum", "minimum_mean"):
        peaks, background = remove_background(image, method, 10)
        assert np.allclose(background, 1000.0)
        assert peaks.max() == pytest.approx(500.0) and np.count_nonzero(np.abs(peaks) > 1e-6) == 12
    assert np.array_equal(remove_background(image, "none")[0], image)


def test_several_images_are_filtered_one_by_one() -> None:
    images = np.random.default_rng(0).poisson(50.0, (3, 2, 20, 24))
    together = smooth_background(images, 6)
    assert np.allclose(together[1, 1], smooth_background(images[1, 1], 6), rtol=1e-13)


def test_default_size_is_that_of_the_thesis() -> None:
    assert scaled_filter_size((2048, 2048)) == 200
    assert scaled_filter_size((128, 128)) == 12 and scaled_filter_size((4, 4)) == 2


def test_bad_input() -> None:
    with pytest.raises(DiffractionImageError, match="shape \\(5,\\)"):
        minimum_background(np.ones(5), 3)
    with pytest.raises(DiffractionImageError, match="no array of numbers"):
        minimum_background("image.tif")
    with pytest.raises(DiffractionImageError, match="1 counts that are not finite; replace masked pixels"):
        smooth_background([[1.0, np.nan], [0.0, 1.0]], 1)
    with pytest.raises(DiffractionImageError, match="shape \\(0, 5\\)"):
        minimum_background(np.ones((0, 5)))
    with pytest.raises(DiffractionSettingsError, match=r"between 1 and 16, twice the image \(8 x 8\). Got 17."):
        minimum_background(np.ones((8, 8)), 17)
    with pytest.raises(DiffractionSettingsError, match="one of none, minimum, minimum_mean. Got 'mean'."):
        remove_background(np.ones((8, 8)), "mean", 2)
