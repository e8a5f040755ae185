"""The card of a fine-tuned model: what it is made of, and what was measured."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import ase_matprop
from ase_matprop.finetune.adapt import Adapted
from ase_matprop.finetune.data import LabData
from ase_matprop.finetune.division import Part
from ase_matprop.finetune.schemes import Scheme
from ase_matprop.models.artefact import Artefact
from ase_matprop.models.card import ErrorSummary, ModelCard, TrainingSet
from ase_matprop.models.folder import WeightsSpec
from ase_matprop.properties import get_property
from ase_matprop.training.metrics import summarize
from ase_matprop.training.recipe import TrainingSection
from ase_matprop.training.report import first_rows, notes_on_initial_model

_LISTED = 20


def make_card(
    name: str,
    source: Artefact,
    adapted: Adapted,
    data: LabData,
    part: Part,
    *,
    scheme: Scheme,
    settings: TrainingSection,
    division: dict[str, Any],
    rejected: Mapping[str, str],
    test: ErrorSummary,
) -> ModelCard:
    """Return the card of a fine-tuned model.

    Args:
        name: of the model.
        source: the model it was made from.
        adapted: the result of the training.
        data: where the rows came from.
        part: the rows and the division from which the model learnt.
        scheme: which weights were trained.
        settings: of the training.
        division: how the rows were divided, in words and numbers.
        rejected: name -> reason, for the rows that could not be used.
        test: errors on held-out rows.
    """
    entry = get_property(data.property)
    card, prepared, split = adapted.artefact.card, part.rows, part.split
    errors = {
        name: summarize(adapted.predicted[rows], prepared.targets[rows])
        for name, rows in (("train", split.train), ("validation", split.validation))
    }
    references = prepared.references
    notes = [f"scheme {scheme.name}: {scheme.description}", *notes_on_initial_model(source), *data.notes]
    if prepared.fit_references and references is not None:
        notes += [references.description, *references.undetermined]
    if adapted.kept_start:
        notes.append(
            "no epoch was better than the start on the validation rows: only the offsets were adapted, if anything"
        )
    n_members = len(adapted.artefact.network.members)
    return card.model_copy(
        update={
            "name": name,
            "description": f"{source.card.name}, fine-tuned on {data.source}",
            "property": entry.name,
            "unit": entry.unit,
            "per_atom": entry.per_atom,
            "network": card.network.model_copy(update={"n_members": n_members}),
            "elements": prepared.table.elements(split.train),
            "training_set": TrainingSet(
                name=data.source,
                licence="licence not stated",
                citation="",
                source=data.source,
                source_sha256=prepared.table.source_sha256,
                rows={"train": len(split.train), "validation": len(split.validation), "test": test.n},
                split=division,
                rows_without_features=first_rows(dict(rejected), _LISTED),
            ),
            "errors": {**errors, "test": test},
            "test_errors_by_group": {},
            "notes": notes,
            "recipe": {
                "finetune": {
                    "source": source.card.name,
                    "scheme": scheme.name,
                    "references": None if references is None else references.to_dict(),
                },
                # what a further fine-tuning needs to know of the features
                "descriptor": source.card.recipe.get("descriptor", {}),
                "training": settings.model_dump(mode="json"),
            },
            "code_version": ase_matprop.__version__,
            "created": datetime.date.today().isoformat(),
            "weights": WeightsSpec(sha256="", dtype="float32"),
        }
    )
