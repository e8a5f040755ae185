"""The parts of a recipe that a scikit-learn regressor uses: network, preparation of its inputs, training loop."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from ase_matprop.descriptors.neighbors import NAME as NEIGHBORS
from ase_matprop.errors import RecipeError, UnknownNameError
from ase_matprop.models.folder import describe_validation
from ase_matprop.models.registry import read_card
from ase_matprop.networks import ATOMISTIC_NETWORKS, resolve_settings
from ase_matprop.training.recipe import DescriptorSection, ExclusionSection, NetworkSection, Section, TrainingSection

#: sections of a recipe that say which rows there are and what the model is called; here the caller decides
_OF_DATA = frozenset({"name", "data", "split", "output"})


class RegressorSettings(Section):
    """The sections of a recipe without those of its data."""

    network: NetworkSection
    descriptor: DescriptorSection = DescriptorSection()
    training: TrainingSection = TrainingSection()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.descriptor.name == NEIGHBORS) != self.takes_graphs:
            raise ValueError(
                f"descriptor.name: the networks {' and '.join(sorted(ATOMISTIC_NETWORKS))}, and only these, take the "
                f"descriptor {NEIGHBORS!r}"
            )
        if self.training.loss == "cross_entropy":
            raise ValueError("training.loss: 'cross_entropy' is for classes, and a regressor learns numbers")
        return self

    @property
    def takes_graphs(self) -> bool:
        """Whether the network takes neighbour graphs instead of feature vectors."""
        return self.network.name in ATOMISTIC_NETWORKS

    @property
    def cutoff(self) -> float:
        """Cutoff of the neighbour graphs in Angstrom."""
        return float(resolve_settings(self.network.name, self.network.settings)["cutoff"])


def read_settings(
    recipe: str | os.PathLike[str] | Mapping[str, Any],
    *,
    settings: Mapping[str, Any] | None = None,
    members: int | None = None,
    **training: Any,
) -> RegressorSettings:
    """Return the settings of a recipe.

    Args:
        recipe: name of a shipped model or path of a model folder (the recipe in its card), path of a TOML file, or the
            sections ``network``, ``descriptor`` and ``training`` as a dictionary.
        settings: further settings of the network.
        members: number of networks in place of the recipe's.
        training: values for the section ``training`` in place of the recipe's; None is no value.

    Raises:
        RecipeError: if the recipe cannot be read, or has something that is not allowed.
        UnknownNameError: if there is no such model.
    """
    sections, name = _read(recipe)
    unknown = sorted(set(sections) - _OF_DATA - set(RegressorSettings.model_fields))
    if unknown:
        raise RecipeError(f"{name} has the unknown section {unknown[0]!r}; use network, descriptor and training")
    kept = {key: dict(_mapping(sections[key], key, name)) for key in RegressorSettings.model_fields if key in sections}
    if "network" not in kept:
        raise RecipeError(f"{name} has no section 'network'; name one, for example {{'network': {{'name': 'irnet'}}}}")
    network = kept["network"]
    if settings is not None:
        network["settings"] = {**network.get("settings", {}), **settings}
    if members is not None:
        network["members"] = members
    if network.get("name") in ATOMISTIC_NETWORKS:
        kept.setdefault("descriptor", {"name": NEIGHBORS})
    of_rows = ExclusionSection.model_fields.keys()
    section = {key: value for key, value in kept.get("training", {}).items() if key not in of_rows}
    kept["training"] = section | {key: value for key, value in training.items() if value is not None}
    try:
        return RegressorSettings.model_validate(kept)
    except ValidationError as error:
        raise RecipeError(f"{name} cannot be used: {describe_validation(error)}") from None
    except UnknownNameError as error:
        raise RecipeError(f"{name} cannot be used: {error}") from None


def _read(recipe: Any) -> tuple[Mapping[str, Any], str]:
    """Return the sections of a recipe, and what to call it."""
    if isinstance(recipe, Mapping):
        sections, name = recipe, "the recipe"
    elif not isinstance(recipe, str | os.PathLike):
        got = "None was given" if recipe is None else f"Got {type(recipe).__name__}"
        raise RecipeError(f"the recipe must be the name of a model, a path or a dictionary. {got}.")
    elif Path(recipe).suffix == ".toml":
        sections, name = _read_toml(Path(recipe)), f"the recipe {recipe}"
    else:
        card = read_card(recipe)
        if not card.recipe:
            raise RecipeError(f"the model {card.name} has no recipe in its card; give one as a TOML file or dictionary")
        network = {key: value for key, value in card.recipe["network"].items() if key != "initial_model"}
        return {**card.recipe, "network": network}, f"the recipe of the model {card.name}"
    if isinstance(sections.get("network"), Mapping) and sections["network"].get("initial_model") is not None:
        raise RecipeError(
            f"{name} begins with the weights of {sections['network']['initial_model']}; remove initial_model, or use "
            "ase_matprop.finetune"
        )
    return sections, name


def _mapping(section: Any, key: str, name: str) -> Mapping[str, Any]:
    if not isinstance(section, Mapping):
        raise RecipeError(f"{name} cannot be used: the section {key!r} must be a dictionary. Got {section!r}.")
    return section


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"the recipe {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe {path} is no valid TOML: {error}") from None
