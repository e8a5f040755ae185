"""matminer featurizers around the descriptors of this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matminer.featurizers.base import BaseFeaturizer

from ase_matprop.descriptors import ward2017
from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.errors import DescriptorError, MatPropError, StructureError
from ase_matprop.structures import as_atoms, one_entry_each


class Ward2017(BaseFeaturizer):
    """The 271 features of Ward et al. (2017) as a matminer featurizer.

    One Voronoi tessellation per structure serves all features, and :meth:`featurize_many` (which
    ``featurize_dataframe`` and ``transform`` call) runs as one batch.  Order and names are those of Table 1 of
    Krajewski et al. (2022); see :mod:`ase_matprop.descriptors.ward2017` for the definitions.

    Features:
        126 features of the structure and 145 of the composition; :meth:`feature_labels` names them.

    References:
        Ward et al., Phys. Rev. B 96, 024104 (2017), doi:10.1103/PhysRevB.96.024104
    """

    def featurize(self, structure: Any) -> list[float]:
        """Return the 271 features of a structure.

        Args:
            structure: pymatgen ``Structure`` or ASE ``Atoms``.

        Raises:
            StructureError: if the structure cannot be used; the message says why.
            DescriptorError: if it has no features, for an element without elemental data, say.
        """
        features, (error,) = get_descriptor("ward2017").compute([as_atoms(structure)])
        if error is not None:
            raise DescriptorError(error)
        values: list[float] = features[0].tolist()
        return values

    def featurize_many(
        self,
        entries: Sequence[Any] | np.ndarray | pd.Series | pd.DataFrame,
        ignore_errors: bool = False,
        return_errors: bool = False,
        pbar: bool | dict[str, Any] = True,
    ) -> list[list[Any]]:
        """Return the features of many structures, computed as one batch.

        Args:
            entries: structures, or rows with one structure each.
            ignore_errors: give NaN for structures that fail; the first one raises otherwise.
            return_errors: append the reason of a failure (or NaN) to each row; needs ``ignore_errors``.
            pbar: accepted for compatibility; a batch is one step.

        Raises:
            ValueError: for ``return_errors`` without ``ignore_errors``, and (as StructureError or DescriptorError) for
                a structure that fails.
            TypeError: if ``entries`` is not list-like.
        """
        if return_errors and not ignore_errors:
            raise ValueError("return_errors needs ignore_errors=True")
        rows = list(one_entry_each(_rows(entries)))
        # processes only where set_n_jobs asked for them: they cost seconds to start, and n_jobs is all cores by default
        n_jobs = getattr(self, "_n_jobs", None) or 1
        features, reasons = get_descriptor("ward2017").compute_sound(
            [row.atoms for row in rows], [row.error for row in rows], n_jobs=n_jobs
        )
        errors: list[MatPropError | None] = [
            None if reason is None else (StructureError if row.error else DescriptorError)(f"row {number}: {reason}")
            for number, (row, reason) in enumerate(zip(rows, reasons, strict=True))
        ]
        failure = next((failure for failure in errors if failure is not None), None)
        if failure is not None and not ignore_errors:
            raise type(failure)(f"{failure}. To skip such rows set ignore_errors=True.")
        table: list[list[Any]] = features.tolist()
        if return_errors:
            for values, failure in zip(table, errors, strict=True):
                values.append(float("nan") if failure is None else f"{type(failure).__name__}: {failure}")
        return table

    def precheck(self, structure: Any) -> bool:
        """Whether a structure can be featurized, as far as a quick look tells."""
        try:
            atoms = as_atoms(structure)
        except MatPropError:
            return False
        return ward2017.element_error(atoms) is None

    def feature_labels(self) -> list[str]:
        """Return the names of the 271 features, a fresh list."""
        return ward2017.feature_labels()

    def citations(self) -> list[str]:
        """Return the BibTeX entries of the descriptor and of the elemental data."""
        return [
            "@article{ward2017voronoi, author = {Ward, Logan and Liu, Ruoqian and Krishna, Amar and Hegde, Vinay I. "
            "and Agrawal, Ankit and Choudhary, Alok and Wolverton, Chris}, "
            "title = {Including crystal structure attributes in machine learning models of formation energies via "
            "Voronoi tessellations}, journal = {Phys. Rev. B}, "
            "volume = {96}, pages = {024104}, year = {2017}, doi = {10.1103/PhysRevB.96.024104}}",
            "@article{ward2016magpie, author = {Ward, Logan and Agrawal, Ankit and Choudhary, Alok and Wolverton, "
            "Christopher}, title = {A general-purpose machine learning framework for predicting properties of "
            "inorganic materials}, journal = {npj Comput. Mater.}, volume = {2}, pages = {16028}, year = {2016}, "
            "doi = {10.1038/npjcompumats.2016.28}}",
        ]

    def implementors(self) -> list[str]:
        """Return the authors of this implementation."""
        return ["The ase_matprop developers"]


def _rows(entries: Any) -> list[Any]:
    """Return the structures of a list-like object; a structure is itself iterable, so rows are looked at one by one."""
    if isinstance(entries, pd.DataFrame | pd.Series):
        entries = entries.to_numpy()
    if not isinstance(entries, list | tuple | np.ndarray):
        raise TypeError(f"entries must be list-like. Got {type(entries).__name__}.")
    return [row[0] if isinstance(row, list | tuple | np.ndarray) and len(row) == 1 else row for row in entries]
