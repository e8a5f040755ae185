"""Networks: tensors in, tensors out.  Nothing in this layer knows structures, scalers or units."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ase_matprop.errors import unknown_name
from ase_matprop.networks.elemnet import ElemNet
from ase_matprop.networks.irnet import IRNet, plain_network, srnet
from ase_matprop.networks.schnet import AtomisticNetwork, PaiNN, SchNet
from ase_matprop.networks.sipfenn import NN9, NN20, NN24
from ase_matprop.networks.vector import VectorNetwork

#: name in cards and recipes -> class; adding a network is one file in this folder and one line here
NETWORKS: dict[str, Callable[..., VectorNetwork | AtomisticNetwork]] = {
    "irnet": IRNet,
    "srnet": srnet,
    "plain": plain_network,
    "elemnet": ElemNet,
    "nn9": NN9,
    "nn20": NN20,
    "nn24": NN24,
    "schnet": SchNet,
    "painn": PaiNN,
}

#: those that take neighbour graphs instead of feature vectors
ATOMISTIC_NETWORKS = frozenset({"schnet", "painn"})


def resolve_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a network with the defaults filled in, so that a card stays true if a default changes."""
    parameters = inspect.signature(NETWORKS[name]).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not None}
    return {**defaults, **settings}


def build_network(
    name: str, n_inputs: int, n_outputs: int, settings: Mapping[str, Any]
) -> VectorNetwork | AtomisticNetwork:
    """Return a freshly initialised network.

    Args:
        name: a key of :data:`NETWORKS`.
        n_inputs: number of input features.
        n_outputs: number of predicted values.
        settings: further keyword arguments of the network's class.

    Raises:
        UnknownNameError: if there is no such network.
        ValueError: if the settings do not suit the network.
    """
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    try:
        return NETWORKS[name](n_inputs, n_outputs, **settings)
    except TypeError as error:
        raise ValueError(f"settings {dict(settings)} do not suit the network {name!r}: {error}") from None
