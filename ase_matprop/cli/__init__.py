"""The command line, ``matprop``."""

from ase_matprop.cli.main import app

__all__ = ["app"]
