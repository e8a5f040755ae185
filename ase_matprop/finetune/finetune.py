"""Fine-tuning a model on a laboratory's own calculations, with an honest report of whether it helped."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from ase_matprop.errors import FinetuneError
from ase_matprop.finetune import report
from ase_matprop.finetune.adapt import Adapted, adapt, moved
from ase_matprop.finetune.data import ReferencesLike, read_data
from ase_matprop.finetune.evaluation import Errors, measure
from ase_matprop.finetune.prepared import divisions, prepare, through_database, undivided
from ase_matprop.finetune.result_card import joined_reach, make_card
from ase_matprop.finetune.schemes import default_training, get_scheme
from ase_matprop.models import artefact
from ase_matprop.models.atomistic import AtomisticPredictor
from ase_matprop.models.card import ModelCard, describe_validation
from ase_matprop.models.predictor import load_model
from ase_matprop.models.registry import find_model
from ase_matprop.properties import get_property
from ase_matprop.training.loop import HISTORY
from ase_matprop.training.metrics import summarize
from ase_matprop.training.recipe import TrainingSection
from ase_matprop.training.splits import Split

logger = logging.getLogger(__name__)

DATABASE_FILE, SETTINGS_FILE, SPLIT_FILE, PREDICTIONS_FILE = "runs.db", "finetune.json", "split.json", "predictions.csv"
_WORK = "work"  # checkpoints
#: what made the predictions
SOURCE, SHIFTED, TUNED, SCRATCH = "source", "source, shifted", "fine-tuned", "from scratch"


@dataclass(frozen=True, eq=False)
class FinetuneResult:
    """What a fine-tuning gives.

    Attributes:
        output: folder with ``report.html``, ``report.json``, ``predictions.csv`` and, if it was saved, the model.
        card: card of the fine-tuned model.
        errors: errors on the held-out rows, by what made the predictions: ``"source"`` (if it predicts the property),
            ``"source, shifted"``, ``"fine-tuned"`` and ``"from scratch"``.
        improved: whether the fine-tuned model is better than the source on the held-out rows.
        saved: whether the model was saved.
        predictions: one row per held-out row with the reference and all predictions.
    """

    output: Path
    card: ModelCard
    errors: dict[str, Errors]
    improved: bool
    saved: bool
    predictions: pd.DataFrame


def finetune(
    model: str | os.PathLike[str],
    data: Any,
    scheme: str = "TL1",
    output: str | os.PathLike[str] = "finetuned",
    *,
    property: str | None = None,
    column: str | None = None,
    references: ReferencesLike = None,
    forces: bool = False,
    steps: str | None = None,
    allow_mixed: bool = False,
    test: float = 0.2,
    validation: float = 0.1,
    folds: int | None = None,
    seed: int = 0,
    learning_rate: float | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    l2: float = 0.0,
    from_scratch: bool = True,
    force: bool = False,
    resume: bool = False,
    device: str = "cpu",
    progress_bar: bool = False,
) -> FinetuneResult:
    """Adapt a model to a laboratory's own calculations, and measure on held-out rows whether that helped.

    Rows are divided by reduced formula, so that frames of one run and polymorphs never sit on both sides.  The folder
    ``output`` becomes a model folder that every interface takes: ``MatProp("my_oxides")``.

    Args:
        model: name or folder of the model to start from.
        data: folder of VASP runs, ASE database, extended XYZ or CSV file, DataFrame, list of ``Atoms``; see
            :func:`ase_matprop.finetune.data.read_data`.
        scheme: which weights are trained: ``"TL1"`` all, ``"TL2"`` all but the embedding, ``"TL3"`` the output layers.
        output: folder of the result; its name becomes the name of the model.
        property: what is learnt; the property of the model by default.
        column: name under which the property stands in the data.
        references: what makes formation energies of total energies; see ``read_data``.
        forces: whether forces are learnt besides (SchNet and PaiNN, with total energies).
        steps: ``"last"`` or ``"all"`` ionic steps of VASP runs.
        allow_mixed: whether VASP runs with incompatible settings may come together.
        test: share of the groups that is held out.
        validation: share that chooses the epoch.
        folds: measure by cross-validation with so many parts; the model that is saved then learns from all rows.
        seed: of the division and of the training.
        learning_rate: default by the kind of network, see :mod:`ase_matprop.finetune.schemes`.
        epochs: most rounds through the rows.
        batch_size: rows per step.
        l2: weight of an l2 penalty on the weights.
        from_scratch: whether the same network is trained from random weights on the same rows, for comparison.
        force: save a model that is not better than the source.
        resume: go on with a fine-tuning that was interrupted.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        progress_bar: whether to draw progress bars.

    Raises:
        FinetuneError: if model, data and settings do not go together, or ``output`` is in use.
        MatPropError: for data that cannot be read, missing references, runs with different settings.
    """
    predictor = load_model(model)
    source = artefact.load(find_model(model))
    chosen = get_scheme(scheme, source.card)
    if source.card.further_properties or source.card.material_property.classes:
        raise FinetuneError(f"the model {source.card.name} predicts several properties or a class; take one of one number")
    lab = read_data(
        data,
        property=property or source.card.property,
        column=column,
        references=references,
        forces=forces,
        steps=steps,
        allow_mixed=allow_mixed,
        needs_structure=predictor.needs_structure,
    )
    prepared = prepare(lab, predictor)
    settings = {
        kind: _settings(source.card, learning_rate, epochs, batch_size, l2, from_scratch=kind == SCRATCH)
        for kind in (TUNED, SCRATCH)
    }
    folder = Path(output)
    identity = {
        "model": source.card.name,
        "weights": source.card.weights.sha256,
        "scheme": chosen.name,
        "property": lab.property,
        "rows": len(prepared),
        "folds": folds,
        "shares": [test, validation],
        "seed": seed,
        "training": {kind: section.model_dump(mode="json") for kind, section in settings.items()},
        "targets": [round(float(value), 9) for value in prepared.targets],
    }
    _claim(folder, identity, resume)
    parts = divisions(prepared, test=test, validation=validation, folds=folds, seed=seed)
    if isinstance(predictor, AtomisticPredictor):
        prepared = through_database(prepared, lab, predictor.cutoff, parts[0], folder / DATABASE_FILE)
    splits = [json.loads(part.to_json(prepared.table.ids)) for part in parts]
    (folder / SPLIT_FILE).write_text(json.dumps(splits, indent=0) + "\n", encoding="utf-8")
    same = lab.property == source.card.property

    def run(part: Split, kind: str, name: str) -> Adapted:
        return adapt(
            source,
            prepared,
            part.train,
            part.validation,
            chosen if kind == TUNED else None,
            settings[kind],
            seed=seed,
            folder=folder / _WORK / f"{kind.replace(' ', '_')}_{name}",
            same_property=same,
            device=device,
            progress_bar=progress_bar,
        )

    kinds = [TUNED, SCRATCH] if from_scratch else [TUNED]
    made = {kind: [run(part, kind, str(number)) for number, part in enumerate(parts)] for kind in kinds}
    models = {SOURCE: [source] * len(parts)} if same else {}
    models[SHIFTED] = [moved(source, prepared, part.train) for part in parts]
    models |= {kind: [result.artefact for result in results] for kind, results in made.items()}
    errors, table = measure(models, prepared, parts, get_property(lab.property))
    table.to_csv(folder / PREDICTIONS_FILE, index=False)
    final, part = made[TUNED][0], parts[0]
    if folds is not None:  # the model that is saved learns from all rows
        part = undivided(prepared, validation=validation, seed=seed)
        final = run(part, TUNED, "all")
    before = errors.get(SOURCE, errors[SHIFTED])
    improved = errors[TUNED].score < before.score
    split = {
        "method": f"random by {prepared.grouping}" + (f", {folds}-fold cross-validation" if folds else ""),
        "seed": seed,
        "test": test if folds is None else 1.0 / folds,
        "validation": validation,
    }
    card = make_card(
        folder.name,
        source,
        final,
        prepared,
        lab,
        part,
        scheme=chosen,
        settings=settings[TUNED],
        split=split,
        test=summarize(table[TUNED].to_numpy(), table["reference"].to_numpy()),
    )
    saved = improved or force
    if saved:
        parts_of_model = (final.artefact.network, final.artefact.scaler, final.artefact.target)
        card = artefact.save(folder, card, *parts_of_model, joined_reach(source, prepared, part.train))
    report.write(
        folder,
        report.Content(
            card=card,
            source=source.card,
            scheme=chosen,
            errors=errors,
            predictions=table,
            rejected=prepared.rejected,
            improved=improved,
            saved=saved,
            settings={kind: settings[kind].model_dump(mode="json") for kind in kinds},
            references=None if lab.references is None else lab.references.to_dict(),
            histories={kind: folder / _WORK / f"{kind.replace(' ', '_')}_0" / "member_0" / HISTORY for kind in kinds},
        ),
    )
    if not saved:
        logger.warning(
            "%s is not better than %s on the held-out rows (MAE %.4f against %.4f %s) and was not saved; see %s, or save it "
            "with force=True",
            folder.name,
            source.card.name,
            errors[TUNED].mae,
            before.mae,
            card.unit,
            folder / report.HTML_FILE,
        )
    return FinetuneResult(folder, card, errors, improved, saved, table)


def _settings(
    card: ModelCard,
    learning_rate: float | None,
    epochs: int | None,
    batch_size: int | None,
    l2: float,
    *,
    from_scratch: bool,
) -> TrainingSection:
    """Return the settings of the training: the defaults with what the user gave."""
    settings = default_training(card, from_scratch=from_scratch)
    given = {"learning_rate": learning_rate, "max_epochs": epochs, "batch_size": batch_size}
    if from_scratch and learning_rate is not None:  # the user's rate is for weights that are nearly right
        given["learning_rate"] = max(learning_rate, settings.learning_rate)
    changes = {name: value for name, value in given.items() if value is not None} | {"weight_decay": l2}
    try:
        return TrainingSection.model_validate(settings.model_dump() | changes)
    except ValidationError as error:
        raise FinetuneError(f"the settings cannot be used: {describe_validation(error)}") from None


def _claim(folder: Path, identity: dict[str, Any], resume: bool) -> None:
    """Take a folder for this fine-tuning, or make sure that what is in it is the same one, interrupted."""
    stored = folder / SETTINGS_FILE
    content = json.dumps(identity, indent=1) + "\n"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not resume:
            raise FinetuneError(
                f"the output {folder} is not empty; choose another name, or go on with an interrupted fine-tuning with resume"
            )
        if not stored.is_file() or stored.read_text(encoding="utf-8") != content:
            raise FinetuneError(f"{folder} holds something else than this fine-tuning; choose another output")
    folder.mkdir(parents=True, exist_ok=True)
    stored.write_text(content, encoding="utf-8")


