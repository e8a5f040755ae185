"""Figures of diffraction images: pattern, background, and what the slope filters make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ase_matprop.diffraction.xrd.background import minimum_background, smooth_background
from ase_matprop.diffraction.xrd.geometry import DetectorGeometry
from ase_matprop.diffraction.xrd.networks import PeakAreaDetection
from ase_matprop.diffraction.xrd.slope_filters import NAMES

_WIDEST = 512  # pixels that are drawn along an edge


def background_figure(
    image: NDArray[np.float64], path: Path, *, size: int | None = None, geometry: DetectorGeometry | None = None
) -> None:
    """Draw an image, its two backgrounds and what remains without them, like Figure 7.6 of the thesis.

    Args:
        image: counts, shape (height, width).
        path: PNG file to write.
        size: filter size in pixels; by default what covers as much of the image as 200 of 2048 pixels.
        geometry: adds lines of equal 2 theta.

    Raises:
        DiffractionImageError: if the image cannot be used.
    """
    minimum, smooth = minimum_background(image, size), smooth_background(image, size)
    figure = Figure(figsize=(11.0, 6.8), layout="constrained")
    panels = figure.subplots(2, 3)
    entries = {
        (0, 0): ("I", image),
        (0, 1): ("MF: minimum filter", minimum),
        (0, 2): ("CS: minimum and mean filter", smooth),
        (1, 1): ("I - MF", image - minimum),
        (1, 2): ("I - CS", image - smooth),
    }
    for place, (title, values) in entries.items():
        _draw(figure, panels[place], values, title, geometry if place == (0, 0) else None)
    profile: Axes = panels[1, 0]
    middle = image.shape[1] // 2
    for (title, values), colour in zip(list(entries.values())[:3], ("C0", "C1", "C2"), strict=True):
        profile.plot(values[:, middle], np.arange(len(values)), color=colour, lw=0.9, label=title.split(":")[0])
    profile.set(xlabel="counts in the middle column", ylabel="row", ylim=(0, len(image) - 1))
    profile.legend(fontsize="small")
    profile.grid(alpha=0.3)
    _save(figure, path)


def filter_response_figure(image: NDArray[np.float64], detection: PeakAreaDetection, path: Path) -> None:
    """Draw an image, the slope filters, and the maximum of absolute slopes that each of them finds in the image.

    Row 0 is at the bottom of images and filters alike; Figure 7.4 of the thesis has it at the top of the filters.

    Args:
        image: counts, shape (height, width).
        detection: input module of a network; its normalisation is not used.
        path: PNG file to write.
    """
    with torch.no_grad():
        responses = detection.respond(torch.from_numpy(image.astype(np.float32))[None, None])[0].numpy()
    figure = Figure(figsize=(15.0, 6.0), layout="constrained")
    panels = figure.subplots(2, len(NAMES) + 1)
    _draw(figure, panels[0, 0], image, "I")
    strongest = responses.argmax(axis=0).astype(np.float64)
    drawn = panels[1, 0].imshow(strongest, origin="lower", cmap="tab10", vmin=0, vmax=9)
    panels[1, 0].set(title="strongest filter", xticks=[], yticks=[])
    for number, name in enumerate(NAMES):
        axes: Axes = panels[0, number + 1]
        kernel = detection.filters[number, 0].detach().numpy()
        limit = max(float(np.abs(kernel).max()), 1e-12)
        axes.imshow(kernel, origin="lower", cmap="coolwarm", vmin=-limit, vmax=limit)
        colour = drawn.cmap(drawn.norm(number))
        axes.set(title=f"{name} ({kernel.shape[0]} x {kernel.shape[1]})", xticks=[], yticks=[])
        axes.title.set_color(colour)
        _draw(figure, panels[1, number + 1], responses[number], f"response to {name}")
    _save(figure, path)


def _draw(
    figure: Figure, axes: Axes, values: NDArray[np.float64], title: str, geometry: DetectorGeometry | None = None
) -> None:
    step = max(1, values.shape[0] // _WIDEST)
    low, high = np.percentile(values, [0.5, 99.7])
    extent = (0, values.shape[1], 0, values.shape[0])
    drawn = axes.imshow(
        values[::step, ::step], origin="lower", cmap="viridis", vmin=low, vmax=max(high, low + 1e-9), extent=extent
    )
    figure.colorbar(drawn, ax=axes, shrink=0.8)
    axes.set(title=title, xticks=[], yticks=[])
    if geometry is not None:
        two_theta = geometry.two_theta()
        lines = axes.contour(two_theta, levels=np.arange(10, 90, 10), colors="white", linewidths=0.5, extent=extent)
        axes.clabel(lines, fmt="%d°", fontsize=7)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110)
