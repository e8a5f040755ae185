"""PADNet, the peak area detection network, and the plain convolutional network beside it.

D. Jha, Ph.D. thesis, Northwestern University (2020), chapter 7, Figures 7.3 to 7.5.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ase_matprop.diffraction.xrd.errors import DiffractionSettingsError
from ase_matprop.diffraction.xrd.slope_filters import FILTER_SIZE, slope_filters
from ase_matprop.errors import unknown_name

SOFTMAXES = ("channels", "space", "none")
#: output channels of the three convolutions of 5 x 5, halved where there are two frames
CHANNELS = (64, 96, 32)
#: their strides, for images of 2048 pixels; a pooling by 2 is behind each of them
STRIDES = (4, 2, 2)
DENSE = 512
_HIDDEN = 256


class PeakAreaDetection(nn.Module):
    """Slope filters, absolute value, maximum filter, batch normalisation and softmax: equations 7.5 to 7.8.

    Args:
        filter_size: f of the slope filters and of the maximum filter in pixels, even; the thesis has 50 for 2048.
        trainable: whether the slope filters are trained with everything else, or stay as they are.
        balanced: whether the diagonal filters remove a flat background, too (:func:`slope_filters`).
        softmax: ``"channels"``: over the four filters at each pixel; ``"space"``: over all pixels of each filter, as
            equation 7.8 can be read; ``"none"``.

    Images are continued by reflection at their borders, so that their edges are no slopes; the thesis does not say
    what it does there.  The normalisation makes the mean 0 and the variance 1, as the text has it, and has no scale and
    offset to train: training is a third faster so.

    Shape:
        input (n, 1, height, width), output (n, 4, height, width).

    Raises:
        UnknownNameError: for an unknown kind of softmax.
        DiffractionSettingsError: for a filter size that is odd or below 2.
    """

    def __init__(
        self,
        filter_size: int = FILTER_SIZE,
        *,
        trainable: bool = False,
        balanced: bool = False,
        softmax: str = "channels",
    ) -> None:
        super().__init__()
        if softmax not in SOFTMAXES:
            raise unknown_name("softmax of PADNet", softmax, SOFTMAXES)
        self.softmax = softmax
        self.filters = nn.Parameter(slope_filters(filter_size, balanced=balanced), requires_grad=trainable)
        self.norm = nn.BatchNorm2d(4, affine=False)

    def respond(self, images: Tensor) -> Tensor:
        """Return the maximum of the absolute slopes round each pixel (equations 7.5 to 7.7), shape (n, 4, h, w)."""
        half = self.filters.shape[-1] // 2
        padded = nn.functional.pad(images, (half, half - 1, half, half - 1), mode="reflect")
        slopes = nn.functional.conv2d(padded, self.filters).abs()
        window = 2 * half + 1  # -f/2 to f/2 with both ends; one axis after the other is the same and faster
        slopes = nn.functional.max_pool2d(slopes, (window, 1), stride=1, padding=(half, 0))
        return nn.functional.max_pool2d(slopes, (1, window), stride=1, padding=(0, half))

    def weigh(self, responses: Tensor) -> Tensor:
        """Return responses after normalisation and softmax (equation 7.8)."""
        normalised: Tensor = self.norm(responses)
        if self.softmax == "channels":
            return normalised.softmax(dim=1)
        if self.softmax == "space":
            return normalised.flatten(2).softmax(dim=2).view_as(normalised)
        return normalised

    def forward(self, images: Tensor) -> Tensor:
        return self.weigh(self.respond(images))


class _PlainInput(nn.Module):
    """What the plain network has in place of the peak area detection: nothing but batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1, affine=False)

    def respond(self, images: Tensor) -> Tensor:
        return images

    def weigh(self, responses: Tensor) -> Tensor:
        normalised: Tensor = self.norm(responses)
        return normalised

    def forward(self, images: Tensor) -> Tensor:
        return self.weigh(self.respond(images))


class PatternNetwork(nn.Module):
    """Diffraction images and compositions to scores of phase regions; see :func:`padnet` and :func:`plain_cnn`.

    Args:
        inputs: what is in front of the convolutions, one module per frame.
        input_channels: channels that it gives.
        size: height and width of the images in pixels.
        n_classes: number of phase regions.
        n_composition: number of cation fractions; 0 for a network on images alone.
        strides: of the three convolutions.

    Shape:
        images (n, frames, size, size), divided by what the model folder stores as ``image_scale``; composition
        (n, n_composition); output (n, n_classes), before softmax.

    Raises:
        DiffractionSettingsError: if the images are too small for the strides.
    """

    def __init__(
        self,
        inputs: Sequence[PeakAreaDetection | _PlainInput],
        input_channels: int,
        *,
        size: int,
        n_classes: int,
        n_composition: int,
        strides: Sequence[int],
    ) -> None:
        super().__init__()
        if len(strides) != len(CHANNELS):
            raise DiffractionSettingsError(f"strides must be {len(CHANNELS)} numbers. Got {list(strides)}.")
        side = size
        for stride in strides:
            side = -(-side // stride) // 2
        if side < 1:
            raise DiffractionSettingsError(
                f"images of {size} pixels are too small for strides of {list(strides)}; give smaller strides"
            )
        self.size, self.n_frames, self.n_classes, self.n_composition = size, len(inputs), n_classes, n_composition
        channels = [each // self.n_frames for each in CHANNELS]
        dense = DENSE // self.n_frames
        self.inputs = nn.ModuleList(inputs)
        self.graphs = nn.ModuleList(
            nn.Sequential(
                _convolution(input_channels, channels[0], strides[0]),
                nn.MaxPool2d(2),
                _convolution(channels[0], channels[1], strides[1]),
                nn.MaxPool2d(2),
                _convolution(channels[1], channels[2], strides[2]),
                nn.MaxPool2d(2),
                nn.Flatten(),
                _dense(channels[2] * side * side, dense),
            )
            for _ in inputs
        )
        width = dense * self.n_frames
        self.composition = None
        if n_composition:
            self.composition = nn.Sequential(_dense(n_composition, _HIDDEN), _dense(_HIDDEN, _HIDDEN))
            width += _HIDDEN
        self.head = nn.Sequential(_dense(width, _HIDDEN), nn.Linear(_HIDDEN, n_classes))

    def forward(self, images: Tensor, composition: Tensor | None = None) -> Tensor:
        return self.classify(self.respond(images), composition)

    def respond(self, images: Tensor) -> Tensor:
        """Return what the input modules make of the images before anything is normalised.

        Does not change in training where the slope filters are fixed.  Shape (n, frames, channels, size, size).
        """
        parts = [module.respond(images[:, [frame]]) for frame, module in enumerate(self._input_modules())]
        return torch.stack(parts, dim=1)

    def classify(self, responses: Tensor, composition: Tensor | None = None) -> Tensor:
        """Return the scores from what :meth:`respond` returned, shape (n, n_classes)."""
        parts = [
            graph(module.weigh(responses[:, frame]))
            for frame, (module, graph) in enumerate(zip(self._input_modules(), self.graphs, strict=True))
        ]
        if self.composition is not None:
            if composition is None:
                raise DiffractionSettingsError("the network needs a composition beside the images")
            parts.append(self.composition(composition))
        scores: Tensor = self.head(torch.cat(parts, dim=1))
        return scores

    @property
    def fixed_inputs(self) -> bool:
        """Whether nothing before the first normalisation is trained."""
        return not any(
            isinstance(module, PeakAreaDetection) and module.filters.requires_grad for module in self._input_modules()
        )

    def _input_modules(self) -> list[PeakAreaDetection | _PlainInput]:
        return [module for module in self.inputs if isinstance(module, PeakAreaDetection | _PlainInput)]


def padnet(
    *,
    size: int = 2048,
    n_frames: int = 1,
    n_classes: int = 8,
    n_composition: int = 3,
    filter_size: int = FILTER_SIZE,
    trainable: bool = False,
    balanced: bool = False,
    softmax: str = "channels",
    strides: Sequence[int] = STRIDES,
) -> PatternNetwork:
    """Return PADNet; two frames have a graph each with half the widths, and about as many parameters as one frame.

    Args:
        size: height and width of the images in pixels.
        n_frames: number of images of a sample.
        n_classes: number of phase regions.
        n_composition: number of cation fractions; 0 for none.
        filter_size: of the slope filters in pixels.
        trainable: whether the slope filters are trained.
        balanced: whether the diagonal filters remove a flat background, too; for filters of few pixels.
        softmax: ``"channels"``, ``"space"`` or ``"none"``.
        strides: of the three convolutions; smaller ones keep more of small images.

    Raises:
        UnknownNameError: for an unknown kind of softmax.
        DiffractionSettingsError: for sizes that do not go together.
    """
    _check_frames(n_frames)
    if filter_size // 2 >= size:
        raise DiffractionSettingsError(f"filters of {filter_size} pixels are too large for images of {size}")
    inputs = [
        PeakAreaDetection(filter_size, trainable=trainable, balanced=balanced, softmax=softmax) for _ in range(n_frames)
    ]
    return PatternNetwork(inputs, 4, size=size, n_classes=n_classes, n_composition=n_composition, strides=strides)


def plain_cnn(
    *,
    size: int = 2048,
    n_frames: int = 1,
    n_classes: int = 8,
    n_composition: int = 3,
    strides: Sequence[int] = STRIDES,
) -> PatternNetwork:
    """Return the same network without the peak area detection: the convolutions see the normalised image.

    Arguments and errors as for :func:`padnet`.
    """
    _check_frames(n_frames)
    inputs = [_PlainInput() for _ in range(n_frames)]
    return PatternNetwork(inputs, 1, size=size, n_classes=n_classes, n_composition=n_composition, strides=strides)


NETWORKS = {"padnet": padnet, "plain-cnn": plain_cnn}


def build_pattern_network(name: str, settings: dict[str, object]) -> PatternNetwork:
    """Return a fresh network by name.

    Raises:
        UnknownNameError: for an unknown name.
        DiffractionSettingsError: for settings that the network does not have, or that do not go together.
    """
    if name not in NETWORKS:
        raise unknown_name("XRD network", name, NETWORKS)
    try:
        return NETWORKS[name](**settings)  # type: ignore[arg-type]
    except TypeError as error:
        raise DiffractionSettingsError(f"the network {name!r} cannot be built from {settings}: {error}") from None


def _check_frames(n_frames: int) -> None:
    if n_frames not in (1, 2):
        raise DiffractionSettingsError(f"the number of frames must be 1 or 2. Got {n_frames}.")


def _convolution(n_in: int, n_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(n_in, n_out, 5, stride, padding=2), nn.BatchNorm2d(n_out), nn.ReLU())


def _dense(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU())
