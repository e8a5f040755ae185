"""Background removal of one image: separable filters against the algorithm as the thesis counts it, O(h w f^2).

    python benchmarks/xrd_background.py
    python benchmarks/xrd_background.py --literal-size 2048        # the literal algorithm in full, not extrapolated

The literal algorithm compares (equation 7.9) and then adds (equation 7.10) the pixels of the window one offset after
the other, each offset for the whole image at once in NumPy: its time is proportional to the number of pixels.
Measured on a smaller image with the same filter, it is multiplied by the ratio of the numbers of pixels; the larger
image does not fit the caches as well, so that the product is rather too small.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from ase_matprop.diffraction.xrd.background import FILTER_SIZE, minimum_background, smooth_background


def literal(image: np.ndarray, f: int) -> np.ndarray:
    """Equations 7.9 and 7.10, with the window cut off at the border of the image."""
    reach = f // 2
    height, width = image.shape
    padded = np.pad(image, reach, constant_values=np.inf)
    minimum = np.full(image.shape, np.inf)
    for x in range(2 * reach + 1):
        for y in range(2 * reach + 1):
            np.minimum(minimum, padded[x : x + height, y : y + width], out=minimum)
    padded, inside = np.pad(minimum, reach), np.pad(np.ones_like(minimum), reach)
    total, count = np.zeros(image.shape), np.zeros(image.shape)
    for x in range(2 * reach + 1):
        for y in range(2 * reach + 1):
            total += padded[x : x + height, y : y + width]
            count += inside[x : x + height, y : y + width]
    return total / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048, help="height and width of the image")
    parser.add_argument("--filter-size", type=int, default=FILTER_SIZE)
    parser.add_argument("--literal-size", type=int, default=256, help="height and width for the literal algorithm")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    image = rng.poisson(2000.0, (options.size, options.size)).astype(np.float64)
    times = {}
    for name, function in (("minimum", minimum_background), ("minimum and mean", smooth_background)):
        start = time.perf_counter()
        for _ in range(3):
            function(image, options.filter_size)
        times[name] = (time.perf_counter() - start) / 3
        print(f"{name}: {times[name]:.3f} s for {options.size} x {options.size}, f = {options.filter_size}")
    small = image[: options.literal_size, : options.literal_size]
    start = time.perf_counter()
    expected = literal(small, options.filter_size)
    measured = time.perf_counter() - start
    error = np.abs(smooth_background(small, options.filter_size) / expected - 1.0).max()
    whole = measured * (options.size / options.literal_size) ** 2
    print(
        f"literal: {measured:.1f} s for {options.literal_size} x {options.literal_size}, so {whole:.0f} s for the "
        f"whole image; largest relative difference {error:.1e}"
    )
    print(f"the separable filters are {whole / times['minimum and mean']:.0f} times faster")


if __name__ == "__main__":
    main()
