"""Featurizers of the KS2022 family of pySIPFENN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ase_matprop.compositions import as_amounts, composition_entries
from ase_matprop.descriptors import ks2022
from ase_matprop.descriptors.ks2022.random_solutions import check_options, lattice_cell
from ase_matprop.descriptors.registry import check_n_jobs
from ase_matprop.errors import CompositionError, DescriptorError, MatPropError, StructureError
from ase_matprop.featurizers.base import BatchFeaturizer, Errors, Features
from ase_matprop.featurizers.citations import WARD_2016, WARD_2017, bibtex_of_all
from ase_matprop.featurizers.descriptors import DescriptorFeaturizer
from ase_matprop.structures import as_atoms, one_entry_each

KRAJEWSKI_2022 = "10.1016/j.commatsci.2022.111254"
KRAJEWSKI_2025 = "10.1016/j.commatsci.2024.113495"  # pySIPFENN

_PAPERS = (KRAJEWSKI_2022, KRAJEWSKI_2025, WARD_2017, WARD_2016)


class KS2022(DescriptorFeaturizer):
    """The 256 features KS2022 of pySIPFENN of a structure.

    Those of :class:`~ase_matprop.featurizers.Ward2017` without the redundant ones; see
    :mod:`ase_matprop.descriptors.ks2022.features` for the differences.  Takes what ``Ward2017`` takes.

    Features:
        118 features of the structure and 138 of the composition; :meth:`feature_labels` names them.

    References:
        Krajewski et al., Comput. Mater. Sci. 208, 111254 (2022), doi:10.1016/j.commatsci.2022.111254
        Krajewski et al., Comput. Mater. Sci. 247, 113495 (2025), doi:10.1016/j.commatsci.2024.113495
    """

    descriptor = "ks2022"
    papers = _PAPERS

    def precheck(self, entry: Any) -> bool:
        """Whether a structure can be featurized, as far as a look at it without a tessellation tells."""
        return _is_structure(entry)


class KS2022Dilute(BatchFeaturizer):
    """The 256 features KS2022 of a structure with one foreign atom.

    The same numbers as :class:`KS2022`, from the tessellation of the host, which structures that differ in nothing but
    the foreign atom share.

    Args:
        host: the structure without the foreign atom, with the same cell and sites in the same order; None for hosts of
            a single element, which need not be given.

    Features:
        those of :class:`KS2022`.

    References:
        Krajewski et al., Comput. Mater. Sci. 208, 111254 (2022), doi:10.1016/j.commatsci.2022.111254
        Krajewski et al., Comput. Mater. Sci. 247, 113495 (2025), doi:10.1016/j.commatsci.2024.113495
    """

    def __init__(self, host: Any = None) -> None:
        self.host = host

    def compute(self, rows: Sequence[Any], n_jobs: int) -> tuple[Features, Errors]:
        """Return the features of ``rows`` and None or an error for each; in one process, whatever ``n_jobs`` is."""
        check_n_jobs(n_jobs)
        host = None if self.host is None else as_atoms(self.host, name="host")
        entries = list(one_entry_each(rows))
        features = np.full((len(entries), ks2022.N_FEATURES), np.nan)
        errors: Errors = [None if entry.error is None else StructureError(entry.error) for entry in entries]
        sound = [row for row, entry in enumerate(entries) if entry.atoms is not None]
        structures = [entry.atoms for entry in entries if entry.atoms is not None]
        features[sound], reasons = ks2022.compute_dilute(structures, host)
        for row, reason in zip(sound, reasons, strict=True):
            errors[row] = None if reason is None else DescriptorError(reason)
        return features, errors

    def precheck(self, entry: Any) -> bool:
        """Whether this is a structure of elements with data; only :meth:`featurize` tells whether it is dilute."""
        return _is_structure(entry)

    def feature_labels(self) -> list[str]:
        """Return the names of the features, a fresh list."""
        return ks2022.feature_labels()

    def citations(self) -> list[str]:
        """Return the BibTeX entries of the descriptor and of the elemental data."""
        return bibtex_of_all(_PAPERS)


class KS2022RandomSolution(BatchFeaturizer):
    """The 256 features KS2022 of a composition that is spread at random over a lattice.

    Takes compositions: formulas, pymatgen ``Composition``, and what else
    :func:`ase_matprop.compositions.composition_entries` takes.  Each composition is drawn with the same
    seed, whatever the other rows are.  The convergence record comes from
    :func:`ase_matprop.descriptors.ks2022.random_solution`.

    Args:
        prototype: name of a shipped prototype, a :class:`~ase_matprop.structures.prototypes.Prototype`, or a structure,
            whose elements do not count.
        min_atoms: smallest number of atoms of a cell.
        max_cells: limit on the cells drawn; a composition that has not converged then fails.
        tolerance: limit on the changes of features, see
            :func:`ase_matprop.descriptors.ks2022.random_solutions.feature_scale`.
        composition_tolerance: limit on the mean absolute deviation from the wanted element fractions.
        min_occurrences: how often each element has to occur.
        window: how many earlier cells the features are compared with.
        seed: of the random numbers.

    Features:
        those of :class:`KS2022`.

    Raises:
        UnknownNameError: at the first use, if there is no such prototype.
        DescriptorError: at the first use, if an option is out of range.

    References:
        Krajewski et al., Comput. Mater. Sci. 208, 111254 (2022), doi:10.1016/j.commatsci.2022.111254
        Krajewski et al., Comput. Mater. Sci. 247, 113495 (2025), doi:10.1016/j.commatsci.2024.113495
    """

    rows_at_once = 16

    def __init__(
        self,
        prototype: Any = "FCC",
        min_atoms: int = 64,
        max_cells: int = 1000,
        tolerance: float = 0.002,
        composition_tolerance: float = 0.01,
        min_occurrences: int = 10,
        window: int = 4,
        seed: int = 0,
    ) -> None:
        self.prototype = prototype
        self.min_atoms = min_atoms
        self.max_cells = max_cells
        self.tolerance = tolerance
        self.composition_tolerance = composition_tolerance
        self.min_occurrences = min_occurrences
        self.window = window
        self.seed = seed

    def compute(self, rows: Sequence[Any], n_jobs: int) -> tuple[Features, Errors]:
        """Return the features of ``rows`` and None or an error for each."""
        check_n_jobs(n_jobs)
        options = {name: value for name, value in self.get_params(deep=False).items() if name != "prototype"}
        check_options(**options)
        lattice_cell(self.prototype, self.min_atoms)  # what is wrong with it is wrong with all rows
        entries = list(composition_entries(rows))
        arguments = [(entry.amounts, entry.error, self.prototype, options) for entry in entries]
        if n_jobs == 1 or len(entries) < 2:
            results = [_random_solution(*each) for each in arguments]
        else:
            import joblib

            results = joblib.Parallel(n_jobs=n_jobs)(joblib.delayed(_random_solution)(*each) for each in arguments)
        features = np.full((len(entries), ks2022.N_FEATURES), np.nan)
        for row, (values, _) in enumerate(results):
            if values is not None:
                features[row] = values
        return features, [error for _, error in results]

    def precheck(self, entry: Any) -> bool:
        """Whether this is a composition of elements with data; only :meth:`featurize` tells whether it converges."""
        try:
            amounts = as_amounts(entry)
        except MatPropError:
            return False
        return ks2022.element_error(amounts) is None

    def feature_labels(self) -> list[str]:
        """Return the names of the features, a fresh list."""
        return ks2022.feature_labels()

    def citations(self) -> list[str]:
        """Return the BibTeX entries of the descriptor and of the elemental data."""
        return bibtex_of_all(_PAPERS)


def _random_solution(
    amounts: Any, error: str | None, prototype: Any, options: dict[str, Any]
) -> tuple[Features | None, MatPropError | None]:
    if error is not None:
        return None, CompositionError(error)
    try:
        return ks2022.random_solution(amounts, prototype, **options).features, None
    except MatPropError as failure:
        return None, failure


def _is_structure(entry: Any) -> bool:
    try:
        atoms = as_atoms(entry)
    except MatPropError:
        return False
    return ks2022.atoms_error(atoms) is None
