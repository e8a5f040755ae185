"""pySIPFENN's descriptor definitions without the rest of pySIPFENN, whose import loads torch and an ONNX runtime."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType


def find_pysipfenn() -> Path | None:
    """The folder of the package: next to MATPROP_PYSIPFENN (a site-packages folder) or where Python finds it."""
    named = os.environ.get("MATPROP_PYSIPFENN")
    if named is not None:
        return Path(named) / "pysipfenn"
    spec = importlib.util.find_spec("pysipfenn")
    return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None


def load(name: str) -> ModuleType:
    """The module KS2022, KS2022_dilute or KS2022_randomSolutions of pySIPFENN.

    Raises:
        ImportError: if there is no pySIPFENN.
    """
    folder = find_pysipfenn()
    if folder is None or not (folder / "descriptorDefinitions").is_dir():
        raise ImportError("pySIPFENN is not installed; MATPROP_PYSIPFENN may name a site-packages folder that has it")
    if "pysipfenn" not in sys.modules:
        package = ModuleType("pysipfenn")  # stands in for __init__.py, which imports everything
        package.__path__ = [str(folder)]
        package.__spec__ = importlib.machinery.ModuleSpec("pysipfenn", None, is_package=True)
        package.__spec__.submodule_search_locations = [str(folder)]
        sys.modules["pysipfenn"] = package
    return importlib.import_module(f"pysipfenn.descriptorDefinitions.{name}")
