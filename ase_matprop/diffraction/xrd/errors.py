"""Errors of the XRD networks."""

from __future__ import annotations

from ase_matprop.errors import MatPropError


class DiffractionImageError(MatPropError, ValueError):
    """A diffraction image, or what must come with it, cannot be used as it is."""


class DiffractionSettingsError(MatPropError, ValueError):
    """A setting of the simulation, of a network or of its training cannot be used."""
