"""Networks: tensors in, tensors out.  Nothing in this layer knows structures, scalers or units."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ase_matprop.errors import unknown_name
from ase_matprop.networks.irnet import IRNet

#: name in cards and recipes -> class; adding a network is one file in this folder and one line here
NETWORKS: dict[str, Callable[..., nn.Module]] = {"irnet": IRNet}


def resolve_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a network with the defaults filled in, so that a card stays true if a default changes."""
    parameters = inspect.signature(NETWORKS[name]).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not None}
    return {**defaults, **settings}


def build_network(name: str, n_inputs: int, n_outputs: int, settings: Mapping[str, Any]) -> nn.Module:
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
