"""A featurizer of each kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from matminer.featurizers.base import BaseFeaturizer

from ase_matprop.featurizers import (
    KS2022,
    ElementFractions,
    IRNetFeaturizer,
    MagpieComposition,
    NetworkFeaturizer,
    SchNetFeaturizer,
    Ward2017,
    clear_cache,
)

Maker = Callable[[], BaseFeaturizer]


@pytest.fixture(
    params=[
        "Ward2017",
        "KS2022",
        "MagpieComposition",
        "ElementFractions",
        "prediction",
        "layer of structures",
        "layer",
        "classes",
        "graphs",
        "family",
    ]
)
def make(
    request: pytest.FixtureRequest,
    small_model: Path,
    structure_model: Path,
    two_property_model: Path,
    classifier_model: Path,
    schnet_model: Path,
) -> Maker:
    """What makes a featurizer of each kind."""
    makers: dict[str, Maker] = {
        "Ward2017": Ward2017,
        "KS2022": KS2022,
        "MagpieComposition": MagpieComposition,
        "ElementFractions": ElementFractions,
        "prediction": lambda: NetworkFeaturizer(two_property_model),
        "layer of structures": lambda: NetworkFeaturizer(str(structure_model), layer=0),
        "layer": lambda: NetworkFeaturizer(small_model, layer=-1),
        "classes": lambda: NetworkFeaturizer(classifier_model),
        "graphs": lambda: SchNetFeaturizer(schnet_model, output="representation"),
        "family": lambda: IRNetFeaturizer(structure_model),
    }
    clear_cache()
    return makers[request.param]
