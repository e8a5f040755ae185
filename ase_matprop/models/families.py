"""Families of networks, and the model that stands for each: what calculators and featurizers of a family share."""

from __future__ import annotations

from dataclasses import dataclass

from ase_matprop.errors import MatPropError
from ase_matprop.models.card import ModelCard
from ase_matprop.networks import ATOMISTIC_NETWORKS


@dataclass(frozen=True)
class Family:
    """Networks of one kind.

    Attributes:
        name: as in the literature.
        networks: their names in cards and recipes.
        default_model: the shipped model that is taken if none is named.
    """

    name: str
    networks: frozenset[str]
    default_model: str

    def check(self, card: ModelCard, user: str, instead: str) -> None:
        """Refuse a model of another family.

        Args:
            card: the model's card.
            user: the class that takes only this family.
            instead: the class that takes every model.

        Raises:
            MatPropError: if the model's network is none of :attr:`networks`.
        """
        if card.network.name not in self.networks:
            raise MatPropError(
                f"the model {card.name} is a network of the kind {card.network.name!r}, "
                f"{user} takes {', '.join(sorted(self.networks))}; use {instead}({card.name!r})"
            )


SCHNET = Family("SchNet", ATOMISTIC_NETWORKS, "schnet-mp")
IRNET = Family("IRNet", frozenset({"irnet", "srnet", "plain"}), "irnet17-mp")
SIPFENN = Family("SIPFENN", frozenset({"nn9", "nn20", "nn24"}), "nn24-mp")
ELEMNET = Family("ElemNet", frozenset({"elemnet"}), "elemnet-mp")
