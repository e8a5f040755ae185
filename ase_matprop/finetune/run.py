"""Fine-tuning a model on a laboratory's own calculations, with an honest report of whether it helped."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from ase_matprop.finetune import report
from ase_matprop.finetune.adapt import Adapted, adapt, moved
from ase_matprop.finetune.data import Progress, read_data
from ase_matprop.finetune.division import Part, divisions, part_of, sha256_of, undivided
from ase_matprop.finetune.evaluation import SCRATCH, SHIFTED, SOURCE, TUNED, Errors, measure
from ase_matprop.finetune.prepared import prepare, through_database
from ase_matprop.finetune.result_card import make_card
from ase_matprop.finetune.schemes import get_scheme
from ase_matprop.finetune.starting import (
    check_free,
    check_name,
    claim,
    load_source,
    training_settings,
)
from ase_matprop.finetune.targets import ReferencesLike
from ase_matprop.finetune.writing import write_text
from ase_matprop.models import artefact, load_model
from ase_matprop.models.atomistic import AtomisticPredictor
from ase_matprop.models.card import ModelCard
from ase_matprop.models.reach import Reach
from ase_matprop.properties import get_property
from ase_matprop.training.metrics import summarize
from ase_matprop.training.reach import add_reach
from ase_matprop.training.trainer import HISTORY, check_device

logger = logging.getLogger(__name__)

DATABASE_FILE, SETTINGS_FILE, SPLIT_FILE, PREDICTIONS_FILE = "runs.db", "finetune.json", "split.json", "predictions.csv"
_WORK = "work"  # checkpoints


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
        cautions: what limits the verdict, in sentences.
        n_used: number of rows that were learnt from or held out.
        rejected: name -> reason, for the rows that could not be used.
    """

    output: Path
    card: ModelCard
    errors: dict[str, Errors]
    improved: bool
    saved: bool
    predictions: pd.DataFrame
    cautions: list[str]
    n_used: int = 0
    rejected: dict[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """Whether the model became better, and what became of it, in one sentence."""
        return report.verdict(self)


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
    progress: Progress | None = None,
) -> FinetuneResult:
    """Adapt a model to a laboratory's own calculations, and measure on held-out rows whether that helped.

    Rows are divided by reduced formula, so that frames of one run and polymorphs never sit on both sides.  With fewer
    than five formulas whole runs are held out, together with near duplicates, or as a last resort single rows; the
    report says so.  The folder ``output`` becomes a model folder that every interface takes: ``MatProp("my_oxides")``.

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
        progress: called with the numbers of done and of all VASP runs, while they are read.

    Raises:
        FinetuneError: if model, data and settings do not go together, or ``output`` is in use.
        MatPropError: for data that cannot be read, missing references, runs with different settings.
    """
    folder = Path(output)
    check_name(folder)
    check_device(device)
    check_free(folder, file=SETTINGS_FILE, what="fine-tuning", resume=resume, data=data)
    predictor, source = load_source(model)
    chosen = get_scheme(scheme, source.card)
    lab = read_data(
        data,
        property=property or source.card.property,
        column=column,
        references=references,
        forces=forces,
        steps=steps,
        allow_mixed=allow_mixed,
        needs_structure=predictor.needs_structure,
        progress=progress,
    )
    prepared = prepare(lab, predictor)
    settings = {
        kind: training_settings(
            source.card,
            learning_rate=learning_rate,
            epochs=epochs,
            batch_size=batch_size,
            l2=l2,
            from_scratch=kind == SCRATCH,
        )
        for kind in (TUNED, SCRATCH)
    }
    splits = divisions(prepared, test=test, validation=validation, folds=folds, seed=seed)
    # after a cross-validation, the model that is saved learns from all rows
    whole = [] if folds is None else [undivided(prepared, validation=validation, seed=seed)]
    divided = [part_of(prepared, split) for split in [*splits, *whole]]
    identity = {
        "model": source.card.name,
        "weights": source.card.weights.sha256,
        "scheme": chosen.name,
        "property": lab.property,
        "forces": forces,
        "folds": folds,
        "shares": [test, validation],
        "seed": seed,
        "training": {kind: section.model_dump(mode="json") for kind, section in settings.items()},
        "n_rows": len(prepared),
        "sha256": sha256_of(prepared, splits),
    }
    claim(folder, identity, file=SETTINGS_FILE, what="fine-tuning", resume=resume)
    if isinstance(predictor, AtomisticPredictor):
        graphs = through_database(prepared, lab, predictor.cutoff, splits[0], folder / DATABASE_FILE)
        prepared = prepared.with_features(graphs)
        divided = [replace(part, rows=part.rows.with_features(graphs)) for part in divided]
    parts = divided[: len(splits)]
    named = [json.loads(part.split.to_json(prepared.table.ids)) for part in parts]
    write_text(folder / SPLIT_FILE, json.dumps(named, indent=0) + "\n")
    # energies above references of their own are another property for each fit
    same = lab.property == source.card.property and not lab.fit_references

    def run(part: Part, kind: str, name: str) -> Adapted:
        _announce(kind, name, folds, part, settings[kind].max_epochs, progress_bar=progress_bar)
        return adapt(
            source,
            part.rows,
            part.split.train,
            part.split.validation,
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
    models[SHIFTED] = [moved(source, part.rows, part.split.train) for part in parts]
    models |= {kind: [result.artefact for result in results] for kind, results in made.items()}
    errors, table = measure(models, parts, get_property(lab.property))
    write_text(folder / PREDICTIONS_FILE, table.to_csv(index=False, lineterminator="\n"))
    rejected = {name: reason for each in parts for name, reason in each.rows.rejected.items()}
    final, part = made[TUNED][0], parts[0]
    if whole:
        part = divided[-1]
        final = run(part, TUNED, "all")
    before = errors.get(SOURCE, errors[SHIFTED])
    improved = errors[TUNED].score < before.score
    division = {
        "method": f"random by {prepared.grouping}" + (f", {folds}-fold cross-validation" if folds else ""),
        "seed": seed,
        "test": test if folds is None else 1.0 / folds,
        "validation": validation,
    } | ({"folds": folds} if folds else {})
    card = make_card(
        folder.resolve().name,
        source,
        final,
        lab,
        part,
        scheme=chosen,
        settings=settings[TUNED],
        division=division,
        rejected=rejected,
        test=summarize(table[TUNED].to_numpy(), table["reference"].to_numpy()),
    )
    saved = improved or force
    if saved:
        parts_of_model = (final.artefact.network, final.artefact.scaler, final.artefact.target)
        artefact.save(folder, card, *parts_of_model)
        # a source of unknown reach may have seen anything; the distance is to the rows of the user
        known = Reach() if source.reach is None else source.reach
        card = add_reach(folder, load_model(folder), part.rows.table, part.split, known)
    cautions = report.write(
        folder,
        report.Content(
            card=card,
            source=source.card,
            scheme=chosen,
            errors=errors,
            predictions=table,
            rejected=rejected,
            improved=improved,
            saved=saved,
            settings={kind: settings[kind].model_dump(mode="json") for kind in kinds},
            references=None if part.rows.references is None else part.rows.references.to_dict(),
            histories={kind: folder / _WORK / f"{kind.replace(' ', '_')}_0" / "member_0" / HISTORY for kind in kinds},
        ),
    )
    if not saved:
        logger.warning(
            "%s is not better than %s on the held-out rows (MAE %.4f against %.4f %s) and was not saved; see %s, or "
            "save it with force=True",
            card.name,
            source.card.name,
            errors[TUNED].mae,
            before.mae,
            card.unit,
            folder / report.HTML_FILE,
        )
    return FinetuneResult(
        folder, card, errors, improved, saved, table, cautions, len(set(prepared.table.ids) - rejected.keys()), rejected
    )


def _announce(kind: str, name: str, folds: int | None, part: Part, epochs: int, *, progress_bar: bool) -> None:
    """Say which network is trained now: the progress bars, and the lines of the log, do not."""
    split = part.split
    place = f", part {int(name) + 1} of {folds}" if folds is not None and name.isdigit() else ""
    rows = f"{len(split.train)} rows, {len(split.validation)} for validation"
    line = f"training {kind}{place}: {rows}, up to {epochs} epochs"
    if progress_bar:
        Console(stderr=True, highlight=False).print(f"{line} (the bar counts from 0)", soft_wrap=True)
    else:
        logger.info(line)
