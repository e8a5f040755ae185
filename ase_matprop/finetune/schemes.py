"""Which weights are trained on a laboratory's own data, and how.

TL1, TL2 and TL3 are the schemes of S. Krawczuk and D. Venturi, J. Mach. Learn. Model. Comput. 1 (2020), section 4.2 and
Figure 7.  For networks on feature vectors, all weights at a tenth of the learning rate for 25 rounds is the way of
SIPFENN (A. M. Krajewski et al., Comput. Mater. Sci. 208, 111254 (2022), section 3.4,
doi:10.1016/j.commatsci.2022.111254).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from ase_matprop.errors import FinetuneError, UnknownNameError
from ase_matprop.models.card import ModelCard
from ase_matprop.networks import ATOMISTIC_NETWORKS
from ase_matprop.networks.ensemble import Network
from ase_matprop.training.recipe import TrainingSection


@dataclass(frozen=True)
class Scheme:
    """A choice of the weights that are trained.

    Attributes:
        name: as it is given to ``finetune``.
        description: what is trained and what stays.
        frozen: returns the parts of a network that stay as they are.
        graphs_only: whether it needs a network on neighbour graphs.
    """

    name: str
    description: str
    frozen: Callable[[Network], Iterable[nn.Module]]
    graphs_only: bool = False


def _embedding(network: Network) -> Iterable[nn.Module]:
    return [cast(Any, network).representation.embedding]


def _all_but_output(network: Network) -> Iterable[nn.Module]:
    return [module for name, module in network.named_children() if name != "output"]


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("TL1", "all weights are trained", lambda network: ()),
        Scheme("TL2", "the embedding of the elements stays, everything else is trained", _embedding, graphs_only=True),
        Scheme("TL3", "only the output layers are trained", _all_but_output),
    )
}

#: other names of the same, as they are used for networks on feature vectors
_ALIASES = {"all": "TL1", "last_layers": "TL3"}

#: SIPFENN's fine-tuning of networks on feature vectors
ROUNDS = 25
LEARNING_RATE_FRACTION = 0.1


def get_scheme(name: str, card: ModelCard | None = None) -> Scheme:
    """Return a scheme by its name: TL1 (or ``"all"``), TL2, TL3 (or ``"last_layers"``).

    Raises:
        UnknownNameError: if there is no such scheme.
        FinetuneError: if the network of the model has no such weights.
    """
    wanted = _ALIASES.get(name, str(name).upper())
    if wanted not in SCHEMES:
        known = ", ".join(SCHEMES) + "; " + ", ".join(f"{alias} for {each}" for alias, each in _ALIASES.items())
        # no guess: of names as short as these, each is as near as the other
        raise UnknownNameError(f"unknown fine-tuning scheme {name!r}. Known: {known}.")
    scheme = SCHEMES[wanted]
    if card is not None and scheme.graphs_only and card.network.name not in ATOMISTIC_NETWORKS:
        raise FinetuneError(
            f"the scheme {scheme.name} freezes the embedding of the elements, and the network {card.network.name!r} of "
            f"{card.name} has none; use TL1 (all weights) or TL3 (output layer only)"
        )
    return scheme


def freeze(network: Network, scheme: Scheme) -> None:
    """Take the weights that a scheme leaves alone out of the training, and the statistics of normalisations.

    A batch of a small data set says less of the means and widths inside of a network than all of its first training.
    """
    for module in scheme.frozen(network):
        module.requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.requires_grad_(False)


def default_training(card: ModelCard, *, from_scratch: bool = False) -> TrainingSection:
    """Return the settings of the training, for a model of the kind of ``card``.

    SchNet and PaiNN: Adam, learning rate 1e-4, lowered by a factor of 0.8 down to 1e-6 whenever 25 epochs brought
    nothing (the paper's section 3.1), early stopping.  Networks on feature vectors: a tenth of the learning rate of
    their own training, 25 rounds.  From scratch, both have ten times that learning rate, and networks on feature
    vectors 100 rounds.
    """
    graphs = card.network.name in ATOMISTIC_NETWORKS
    shared: dict[str, Any] = {"loss": "mae", "optimizer": "adam", "weight_decay": 0.0, "outlier_sigma": None}
    if graphs:
        return TrainingSection(
            **shared,
            learning_rate=1e-3 if from_scratch else 1e-4,
            schedule="plateau",
            batch_size=16,
            max_epochs=200,
            early_stopping_patience=60,
        )
    own = float(card.recipe.get("training", {}).get("learning_rate", 1e-3))
    return TrainingSection(
        **shared,
        learning_rate=own * (1.0 if from_scratch else LEARNING_RATE_FRACTION),
        schedule="constant",
        batch_size=32,
        max_epochs=100 if from_scratch else ROUNDS,
    )
