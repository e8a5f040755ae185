"""What reading and writing have in common: optional packages, hashes, and outputs that are complete or not there."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ase_matprop.errors import ArtefactError, missing_dependency


def optional_module(name: str, purpose: str) -> Any:
    """Return the module of a package that only the extra ``export`` installs.

    Raises:
        MissingDependencyError: if it is not installed; the message has the pip line.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise missing_dependency(name, purpose, "export") from None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_new(output: Path) -> None:
    """Raise :class:`ArtefactError` if something with the name of an output exists already."""
    if output.exists():
        raise ArtefactError(f"the output {output} exists already; choose another one with --output")


@contextlib.contextmanager
def new_output(output: Path) -> Iterator[Path]:
    """Yield a path to write to, in a temporary folder beside ``output``; without an error, it becomes ``output``.

    Raises:
        ArtefactError: if ``output`` exists already.
    """
    check_new(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".matprop-") as scratch:
        path = Path(scratch) / output.name
        yield path
        check_new(output)
        path.rename(output)
