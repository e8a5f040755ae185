"""Featurizers around the descriptors of this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ase_matprop.compositions import composition_entries, is_formula
from ase_matprop.descriptors import ward2017
from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.errors import CompositionError, DescriptorError, MatPropError, StructureError
from ase_matprop.featurizers.base import BatchFeaturizer, Errors, Features
from ase_matprop.featurizers.cache import RememberingDescriptor
from ase_matprop.featurizers.citations import JHA_2018, WARD_2016, WARD_2017, bibtex_of_all
from ase_matprop.structures import as_atoms, one_entry_each


class DescriptorFeaturizer(BatchFeaturizer):
    """Base class of the featurizers that compute one descriptor."""

    #: name of the descriptor in :data:`ase_matprop.descriptors.registry.DESCRIPTORS`
    descriptor: ClassVar[str]
    #: DOIs of the papers
    papers: ClassVar[tuple[str, ...]]

    def compute(self, rows: Sequence[Any], n_jobs: int) -> tuple[Features, Errors]:
        """Return the features of ``rows`` and None or an error for each."""
        descriptor = RememberingDescriptor.of(get_descriptor(self.descriptor))
        entries: list[Any] = list((one_entry_each if descriptor.needs_structure else composition_entries)(rows))
        input_error = StructureError if descriptor.needs_structure else CompositionError
        features, reasons = descriptor.compute_sound(
            [entry.item for entry in entries], [self._input_error(entry) for entry in entries], n_jobs=n_jobs
        )
        return features, [
            None if reason is None else (input_error if entry.error else DescriptorError)(reason)
            for entry, reason in zip(entries, reasons, strict=True)
        ]

    @staticmethod
    def _input_error(entry: Any) -> str | None:
        error: str | None = entry.error
        if error is not None and error.startswith("does not exist") and is_formula(entry.name):
            return "is a formula, and these features need the structure; give an object or a file"
        return error

    def feature_labels(self) -> list[str]:
        """Return the names of the features, a fresh list."""
        return list(get_descriptor(self.descriptor).labels)

    def citations(self) -> list[str]:
        """Return the BibTeX entries of the descriptor and of the elemental data."""
        return bibtex_of_all(self.papers)


class Ward2017(DescriptorFeaturizer):
    """The 271 features of Ward et al. (2017) of a structure.

    One Voronoi tessellation per structure serves all features.  Order and names are those of Table 1 of Krajewski et
    al. (2022); see :mod:`ase_matprop.descriptors.ward2017` for the definitions.  Takes pymatgen ``Structure`` and ASE
    ``Atoms``, and what else :func:`ase_matprop.structures.as_atoms` takes.

    Features:
        126 features of the structure and 145 of the composition; :meth:`feature_labels` names them.

    References:
        Ward et al., Phys. Rev. B 96, 024104 (2017), doi:10.1103/PhysRevB.96.024104
    """

    descriptor = "ward2017"
    papers = (WARD_2017, WARD_2016)

    def precheck(self, entry: Any) -> bool:
        """Whether a structure can be featurized, as far as a look at it without a tessellation tells."""
        try:
            atoms = as_atoms(entry)
        except MatPropError:
            return False
        return ward2017.element_error(atoms) is None


class MagpieComposition(DescriptorFeaturizer):
    """The 145 composition features of Ward et al. (2016).

    Order and names are those of Table 1 of Krajewski et al. (2022), where they are the features 127 to 271; see
    :mod:`ase_matprop.descriptors.composition` for the definitions.  Takes pymatgen ``Composition``, formulas,
    structures, and what else :func:`ase_matprop.compositions.composition_entries` takes.

    Features:
        stoichiometry, statistics of 22 elemental properties, valence orbitals, ionic character;
        :meth:`feature_labels` names them.

    References:
        Ward et al., npj Comput. Mater. 2, 16028 (2016), doi:10.1038/npjcompumats.2016.28
    """

    descriptor = "composition"
    rows_at_once = 4096
    papers = (WARD_2016,)


class ElementFractions(DescriptorFeaturizer):
    """The fractions of 86 elements in a composition, the input of ElemNet.

    The elements are H to Pu without He, Ne, Ar, Po, At, Rn, Fr and Ra; a composition with another one fails.  Takes
    what :class:`MagpieComposition` takes.

    Features:
        "fraction of H" to "fraction of Pu", which add up to one.

    References:
        Jha et al., Sci. Rep. 8, 17593 (2018), doi:10.1038/s41598-018-35934-y
    """

    descriptor = "fractions"
    rows_at_once = 4096
    papers = (JHA_2018,)
