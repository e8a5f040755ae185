"""What a training run says of its model: measured errors and their figures, and the texts of the card."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from ase_matprop import plots
from ase_matprop.descriptors.neighbors import Graphs
from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.models.artefact import Artefact
from ase_matprop.models.atomistic import AtomisticPredictor
from ase_matprop.models.card import (
    DescriptorSpec,
    ErrorSummary,
)
from ase_matprop.models.predictor import Predictor
from ase_matprop.properties import get_property
from ase_matprop.training import figures
from ase_matprop.training.datasets import FeatureTable
from ase_matprop.training.metrics import summarize, summarize_classes, summarize_groups
from ase_matprop.training.recipe import Recipe
from ase_matprop.training.splits import Split


def measure(predictor: Predictor, table: FeatureTable, split: Split, output: Path) -> dict[str, Any]:
    """Return the card's fields of measured errors, and draw them."""
    card = predictor.card
    predicted = _predict_rows(predictor, table)
    covered = [0, *(atomic_numbers[symbol] for symbol in card.elements)]
    known = np.asarray(np.isin(table.numbers, covered).all(axis=1))
    sets = {"train": split.train, "validation": split.validation, "test": split.test}
    sets = {name: rows[known[rows]] for name, rows in sets.items()}  # those that the model does not refuse
    title = f"{card.name}\n{len(sets['test'])} test rows, "
    if card.material_property.classes:
        reference = table.targets[:, 0].astype(np.int64)
        quality = {name: summarize_classes(predicted[rows], reference[rows]) for name, rows in sets.items()}
        title += f"accuracy {quality['test'].accuracy:.4f}"
        figures.confusion(
            quality["test"].confusion, card.material_property.classes, title, output / "confusion_test.png"
        )
        return {"classification": quality}
    errors: dict[str, dict[str, ErrorSummary]] = {}
    for column, name in enumerate(card.properties):
        with_target = {part: rows[np.isfinite(table.targets[rows, column])] for part, rows in sets.items()}
        errors[name] = {
            part: summarize(predicted[rows, column], table.targets[rows, column])
            for part, rows in with_target.items()
            if len(rows)
        }
        entry = get_property(name)
        test = with_target["test"]
        if not len(test):
            continue
        figure = plots.parity(
            table.targets[test, column],
            predicted[test, column],
            unit=entry.unit,
            title=f"{card.name}: test rows",
            property_name=name,
        )
        plots.save(figure, output / ("parity_test.png" if column == 0 else f"parity_test_{name}.png"))
    test = sets["test"][np.isfinite(table.targets[sets["test"], 0])]
    formulas = table.reduced_formulas()
    new_formula = ~np.isin(formulas[test], formulas[split.train])
    by_group = summarize_groups(predicted[test, 0], table.targets[test, 0], table.numbers[test], new_formula)
    first, *further = card.properties
    return {
        "errors": errors[first],
        "test_errors_by_group": by_group,
        "further_errors": {name: errors[name] for name in further},
    }


def _predict_rows(predictor: Predictor, table: FeatureTable) -> np.ndarray:
    if isinstance(table.features, Graphs):
        assert isinstance(predictor, AtomisticPredictor)
        return np.asarray(predictor.predict_graphs(table.features).mean(axis=0))
    blocks = [
        predictor.predict_features(table.features[start : start + 4096]).mean(axis=0)
        for start in range(0, len(table), 4096)
    ]
    return np.concatenate(blocks)


def describe_split(recipe: Recipe) -> dict[str, Any]:
    if recipe.data.held_out_file is not None:
        method = f"training rows as published, {recipe.data.held_out_file} divided at random"
    else:
        method = "random by reduced formula" if recipe.split.grouped else "random by row"
    return {
        "method": method,
        "seed": recipe.split.seed,
        "test": recipe.split.test,
        "validation": recipe.split.validation,
    }


def notes_on_initial_model(initial: Artefact | None) -> list[str]:
    """Say on which data the initial weights were trained, and what that means for the errors."""
    if initial is None:
        return []
    card, data = initial.card, initial.card.training_set
    return [
        f"pre-trained: the weights are those of {card.name} (SHA-256 {card.weights.sha256}), trained further; it was "
        f"trained on {data.rows.get('train', 0)} rows of {data.name} ({data.licence}; {data.citation})",
        "formulas that are not in the training rows may be among those of the pre-training",
    ]


def first_rows(rows: dict[str, str], n_listed: int) -> dict[str, str]:
    """Return the first rows, and how many more there are."""
    listed = dict(islice(rows.items(), n_listed))
    return listed if len(rows) <= n_listed else listed | {"further rows": str(len(rows) - n_listed)}


def error_unit(recipe: Recipe) -> str:
    if recipe.data.classes:
        return "nats"
    return get_property(recipe.data.property).unit if len(recipe.data.properties) == 1 else "standard deviations"


def describe_descriptor(recipe: Recipe) -> DescriptorSpec:
    descriptor = get_descriptor(recipe.descriptor.name)
    return DescriptorSpec(
        name=descriptor.name,
        version=descriptor.version,
        labels=list(descriptor.labels),
        clip=recipe.descriptor.clip,
    )
