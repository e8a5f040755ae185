"""The slope filters of PADNet, equations 7.1 to 7.4."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_matprop.diffraction.xrd.errors import DiffractionSettingsError

#: size of the filters in the thesis, for images of 2048 x 2048 pixels
FILTER_SIZE = 50
NAMES = ("F1", "F2", "VF", "HF")


def slope_filters(size: int = FILTER_SIZE, *, balanced: bool = False) -> Tensor:
    """Return F1, F2, VF and HF: filters of +1 and -1 on the two sides of a line.

    D. Jha, Ph.D. thesis, Northwestern University (2020), equations 7.1 to 7.4::

        F1 = -1 if i < j,      else 1        the sign changes across the diagonal
        F2 = -1 if i + j > f,  else 1        the sign changes across the anti-diagonal
        VF = -1 if i < f/2,    else 1        between upper and lower half
        HF = -1 if j < f/2,    else 1        between left and right half

    The text does not say whether i and j count from 0 or 1.  Here they count so that each filter changes sign where the
    text and Figure 7.4 have it: from 1 in F2 (the anti-diagonal, i + j = f + 1, is the first that is -1, and F2 is
    -F1 mirrored), from 0 in VF and HF (both halves are f/2 wide).  F1 does not depend on it.  The diagonal itself makes
    the sum of F1 f and that of F2 -f, so that 1/f of a flat background stays; VF and HF remove it all.

    Args:
        size: f, even.
        balanced: whether the diagonal of F1 and the anti-diagonal of F2 are 0, so that these remove a flat background,
            too.  Not in the thesis, where it is 2 % of the background that stays (f = 50); of filters of 4 pixels for
            small images it would be 25 %, and more than the peaks.

    Returns:
        Shape (4, 1, size, size), float32.

    Raises:
        DiffractionSettingsError: if the size is odd or below 2.
    """
    if size < 2 or size % 2:
        raise DiffractionSettingsError(f"the size of slope filters must be even and at least 2. Got {size}.")
    i, j = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    negative = torch.stack([i < j, (i + 1) + (j + 1) > size, i < size // 2, j < size // 2])
    filters = torch.where(negative, -1.0, 1.0)
    if balanced:
        filters[0][i == j] = 0.0
        filters[1][i + j == size - 1] = 0.0
    return filters[:, None]
