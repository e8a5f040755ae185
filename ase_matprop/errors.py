"""Exceptions of ase_matprop.

Every error that this package raises on purpose is a :class:`MatPropError`: its message names the input that
is wrong and says what to do about it.  The subclasses also derive from the built-in exception that a caller
would expect (``ValueError``, ``KeyError`` ...), so that existing ``except`` clauses keep working.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MatPropError(Exception):
    """Base class of all errors raised by ase_matprop."""


class StructureError(MatPropError, ValueError):
    """A structure, or a file with structures, cannot be used as it is."""


class CompositionError(MatPropError, ValueError):
    """A formula or composition cannot be used as it is."""


class DescriptorError(MatPropError, ValueError):
    """A descriptor cannot be computed for a structure that is otherwise valid."""


class UnknownElementError(MatPropError, ValueError):
    """A structure has an element that the model, or the table of elemental data, does not know."""


class UnknownNameError(MatPropError, LookupError):
    """A model, network, descriptor or property was asked for by a name that does not exist."""


class ArtefactError(MatPropError, ValueError):
    """A model folder is incomplete, was altered, or was written by an incompatible version."""


class RecipeError(MatPropError, ValueError):
    """A training recipe, or the data it points to, cannot be used."""


class CalculationError(MatPropError, ValueError):
    """A folder of calculations, or a run in it, cannot be used."""


class IncompatibleRunsError(CalculationError):
    """Calculations were made with settings whose energies cannot be compared."""


class ReferenceEnergyError(MatPropError, ValueError):
    """The reference energy of an element is missing, or a table of them cannot be used."""


class FinetuneError(MatPropError, ValueError):
    """A model cannot be fine-tuned on the data, or with the settings, that were given."""


class FeaturizerError(MatPropError, ValueError):
    """A featurizer was asked for something that it cannot do."""


class FeaturizerInputError(FeaturizerError, TypeError):
    """A featurizer was given something else than a table or list of inputs."""


class ColumnError(FeaturizerError, KeyError):
    """A DataFrame has not the columns that it needs."""

    def __str__(self) -> str:  # KeyError would put the message into quotation marks
        return Exception.__str__(self)


class MissingDependencyError(MatPropError, ImportError):
    """An optional package is needed for what was asked."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """Return the error for an unknown ``name`` of a ``kind``, with the closest known name as a suggestion."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UnknownNameError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known) or 'none'}.")


def missing_dependency(package: str, purpose: str, extra: str | None = None) -> MissingDependencyError:
    """Return the error for a missing optional ``package``, with the pip line that installs it."""
    target = f"ase-matprop[{extra}]" if extra else package
    return MissingDependencyError(
        f"{purpose} needs the package {package!r}, which is not installed. Install it with: pip install '{target}'"
    )
