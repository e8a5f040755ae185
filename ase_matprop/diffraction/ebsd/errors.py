"""Exceptions of the EBSD part."""

from __future__ import annotations

from ase_matprop.errors import MatPropError


class OrientationError(MatPropError, ValueError):
    """Orientations are not of the shape or kind that is needed."""


class PatternError(MatPropError, ValueError):
    """Patterns, or a file of them, cannot be used as they are."""


class DetectorError(MatPropError, ValueError):
    """The geometry of a detector is impossible, or does not suit what it is needed for."""
