"""The card of a fine-tuned model: what it is made of, and what was measured."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np

import ase_matprop
from ase_matprop.descriptors.neighbors import Graphs
from ase_matprop.finetune.adapt import Adapted
from ase_matprop.finetune.data import LabData
from ase_matprop.finetune.prepared import Prepared, elements_of
from ase_matprop.finetune.schemes import Scheme
from ase_matprop.models.artefact import Artefact
from ase_matprop.models.card import ErrorSummary, ModelCard, TrainingSet, WeightsSpec
from ase_matprop.models.reach import Reach
from ase_matprop.properties import get_property
from ase_matprop.training.metrics import summarize
from ase_matprop.training.recipe import TrainingSection
from ase_matprop.training.report import first_rows, notes_on_initial_model
from ase_matprop.training.splits import Split

_LISTED = 20


def make_card(
    name: str,
    source: Artefact,
    adapted: Adapted,
    prepared: Prepared,
    data: LabData,
    part: Split,
    *,
    scheme: Scheme,
    settings: TrainingSection,
    split: dict[str, Any],
    test: ErrorSummary,
) -> ModelCard:
    """Return the card of a fine-tuned model.

    Args:
        name: of the model.
        source: the model it was made from.
        adapted: the result of the training.
        prepared: all rows.
        data: where they came from.
        part: the division of the rows from which the model learnt.
        scheme: which weights were trained.
        settings: of the training.
        split: how the rows were divided, in words and numbers.
        test: errors on held-out rows.
    """
    entry = get_property(data.property)
    card = adapted.artefact.card
    errors = {
        name: summarize(adapted.predicted[rows], prepared.targets[rows])
        for name, rows in (("train", part.train), ("validation", part.validation))
    }
    notes = [f"scheme {scheme.name}: {scheme.description}", *notes_on_initial_model(source), *data.notes]
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
            "elements": elements_of(prepared),
            "training_set": TrainingSet(
                name=data.source,
                licence="that of the data",
                citation="",
                source=data.source,
                rows={"train": len(part.train), "validation": len(part.validation), "test": test.n},
                split=split,
                rows_without_features=first_rows(prepared.rejected, _LISTED),
            ),
            "errors": {**errors, "test": test},
            "test_errors_by_group": {},
            "notes": notes,
            "recipe": {
                "finetune": {
                    "source": source.card.name,
                    "scheme": scheme.name,
                    "references": None if data.references is None else data.references.to_dict(),
                },
                "training": settings.model_dump(mode="json"),
            },
            "code_version": ase_matprop.__version__,
            "created": datetime.date.today().isoformat(),
            "weights": WeightsSpec(sha256="", dtype="float32"),
        }
    )


def joined_reach(source: Artefact, prepared: Prepared, rows: np.ndarray) -> Reach | None:
    """Return what the source and the rows together have seen, for a network on graphs."""
    graphs = prepared.table.features
    if not isinstance(graphs, Graphs):
        return None
    seen = Reach.of(graphs[rows])
    return seen if source.reach is None else seen.joined(source.reach)
