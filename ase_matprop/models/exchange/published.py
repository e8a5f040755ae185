"""The networks whose authors published weights, and what is known of these weights from the papers.

Nothing here was measured by this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from ase.data import chemical_symbols

from ase_matprop.descriptors.elements import load_element_table
from ase_matprop.descriptors.fractions import ELEMENTS
from ase_matprop.models.card import TrainingSet

_HEAVIEST = chemical_symbols.index("Pu")
_NOT_STATED = "licence not stated in the paper, and not verified by this package"


@dataclass(frozen=True)
class PublishedNetwork:
    """A network with published weights.

    Attributes:
        network: its name in :data:`ase_matprop.networks.NETWORKS`.
        descriptor: name of its features; all of these networks predict the formation energy per atom.
        description: one sentence for the card.
        training_set: what the authors trained it on.
        citation: what to cite.
        notes: what a user must know of weights of this origin.
        published_error: what the authors say of its error.
        feature_factors: factors between this package's features and those of the authors, by label, where they differ.
    """

    network: str
    descriptor: str
    description: str
    training_set: TrainingSet
    citation: tuple[str, ...]
    notes: tuple[str, ...]
    published_error: str
    feature_factors: Mapping[str, float] = field(default_factory=dict)

    @property
    def elements(self) -> list[str]:
        """Symbols of the elements for which the features can be those of the authors."""
        if self.descriptor == "fractions":
            return [chemical_symbols[number] for number in ELEMENTS]
        imputed = load_element_table().imputed
        return [chemical_symbols[number] for number in range(1, _HEAVIEST + 1) if not np.any(imputed[number])]


_KRAJEWSKI = (
    "A. M. Krajewski, J. W. Siegel, J. Xu, Z.-K. Liu, Comput. Mater. Sci. 208, 111254 (2022), "
    "doi:10.1016/j.commatsci.2022.111254"
)
_JHA = "D. Jha et al., Sci. Rep. 8, 17593 (2018), doi:10.1038/s41598-018-35934-y"
_OQMD = "S. Kirklin et al., npj Comput. Mater. 1, 15010 (2015), doi:10.1038/npjcompumats.2015.10"


def _sipfenn(network: str, description: str, published_error: str) -> PublishedNetwork:
    return PublishedNetwork(
        network=network,
        descriptor="ward2017",
        description=f"Formation energy of crystals from the 271 Ward-2017 features: {network.upper()} of SIPFENN, "
        f"{description}; weights of its authors",
        training_set=TrainingSet(
            name="OQMD, snapshot of 2017, as published by Krajewski et al. (2022)",
            licence=_NOT_STATED,
            citation=_OQMD,
            source="doi:10.1016/j.commatsci.2022.111254",
            rows={"published": 435_792},
            split={},
        ),
        citation=(_KRAJEWSKI, "L. Ward et al., Phys. Rev. B 96, 024104 (2017), doi:10.1103/PhysRevB.96.024104"),
        notes=(
            "the elements are those up to Pu for which Magpie has all properties; which of them are in the authors' "
            "training set was not verified",
            "the scaler doubles the mean Ionic Character, which the authors' programs sum over both orders of each "
            "pair of elements",
            "the features are this package's, which follow Magpie; the authors' own programs differ from it in details "
            "(pySIPFENN takes another mode where elements are equally frequent, say)",
        ),
        published_error=published_error,
        # Magpie and the authors' programs sum over both orders of each pair of elements, composition.py over one
        feature_factors={"mean Ionic Character": 2.0},
    )


#: what ``--as`` takes
PUBLISHED: dict[str, PublishedNetwork] = {
    "nn9": _sipfenn("nn9", "optimised for the OQMD", "0.028 eV/atom on a random 5% of the OQMD"),
    "nn20": _sipfenn("nn20", "optimised for new materials", "0.049 eV/atom on a random 5% of the OQMD"),
    "nn24": _sipfenn("nn24", "the small network", "0.042 eV/atom on a random 5% of the OQMD"),
    "elemnet": PublishedNetwork(
        network="elemnet",
        descriptor="fractions",
        description="Formation energy from the 86 element fractions: ElemNet; weights of its authors",
        training_set=TrainingSet(
            name="lowest formation energy of each composition in the OQMD, as published by Jha et al. (2018)",
            licence=_NOT_STATED,
            citation=_OQMD,
            source="doi:10.1038/s41598-018-35934-y",
            rows={"published": 256_622},
            split={},
        ),
        citation=(_JHA, "D. Jha et al., Nat. Commun. 10, 5316 (2019), doi:10.1038/s41467-019-13297-w"),
        notes=(
            "the inputs are taken to be the 86 elements in the order of their atomic numbers, as in the authors' list; "
            "the file itself does not name them",
            "weights that were trained further on other data have the same layout: that these are the authors' for the "
            "OQMD was not verified",
        ),
        published_error="0.050 eV/atom in ten-fold cross-validation on the OQMD",
    ),
}
