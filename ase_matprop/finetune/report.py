"""What a fine-tuning brought, as a page to read (HTML) and as numbers to go on with (JSON)."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from ase_matprop import plots
from ase_matprop.compositions.formulas import parse_formula
from ase_matprop.finetune.evaluation import CHEMICAL_ACCURACY, SCRATCH, SHIFTED, SOURCE, TUNED, Errors
from ase_matprop.finetune.schemes import Scheme
from ase_matprop.finetune.writing import write_text
from ase_matprop.models.card import ModelCard
from ase_matprop.plots.files import image
from ase_matprop.training import figures

HTML_FILE, JSON_FILE = "report.html", "report.json"

_FEW_ROWS = 30  # held-out rows
_FEW_GROUPS = 5  # compositions, for a bootstrap over them
_FEW_PER_REFERENCE = 5  # rows for each reference energy that is fitted
_CLEARLY = 0.95  # a smaller error than this part of another one is better, and not as good
_RESAMPLED = 10_000
_LARGEST = 15
_SHOWN_ROWS = 200  # rejected rows in the page; the JSON has all

_TEMPLATES = Environment(
    loader=PackageLoader("ase_matprop.finetune"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True, eq=False)
class Content:
    """What a report is about.

    Attributes:
        card: of the fine-tuned model; it has the split, the notes and the name.
        source: card of the model it was made from.
        scheme: which weights were trained.
        errors: errors on the held-out rows, by what made the predictions.
        predictions: the held-out rows with the columns name, formula, n_atoms, reference and one of predictions for
            each entry of ``errors``.
        rejected: name -> reason, for what could not be used.
        improved: whether the fine-tuned model is better than the source on the held-out rows.
        saved: whether it was saved.
        settings: of the training, by what was trained.
        references: what made the property of total energies, None where the data had the property.
        histories: tables of errors by epoch, by what was trained; files that are not there are left out.
    """

    card: ModelCard
    source: ModelCard
    scheme: Scheme
    errors: Mapping[str, Errors]
    predictions: pd.DataFrame
    rejected: Mapping[str, str]
    improved: bool
    saved: bool
    settings: Mapping[str, Mapping[str, Any]]
    references: Mapping[str, Any] | None = None
    histories: Mapping[str, Path] = field(default_factory=dict)


class Outcome(Protocol):
    """What :func:`verdict` needs to know: a :class:`Content`, or the result of a fine-tuning."""

    @property
    def card(self) -> ModelCard:
        """Card of the fine-tuned model."""

    @property
    def errors(self) -> Mapping[str, Errors]:
        """Errors on the held-out rows."""

    @property
    def improved(self) -> bool:
        """Whether the model is better than its source."""

    @property
    def saved(self) -> bool:
        """Whether the model was saved."""


@dataclass(frozen=True)
class Interval:
    """Change of the mean absolute error and what chance in the choice of the held-out rows makes of it.

    Attributes:
        change: mean of the absolute errors afterwards minus those before, negative where the model became better.
        low: lower end of the 95% interval.
        high: upper end.
        over: what was drawn with replacement, ``"compositions"`` or ``"rows"``.
        n: how many of these there are.
    """

    change: float
    low: float
    high: float
    over: str
    n: int

    @property
    def includes_zero(self) -> bool:
        """Whether no change at all is within the interval."""
        return self.low <= 0.0 <= self.high


def write(folder: Path, content: Content) -> list[str]:
    """Write ``report.html`` and ``report.json`` into a folder, and return what limits the verdict, in sentences."""
    interval = change_of_error(content)
    warnings = cautions(content, interval)
    values = _json(content, interval, warnings)
    write_text(folder / JSON_FILE, json.dumps(values, indent=1, allow_nan=False) + "\n")
    page = _TEMPLATES.get_template("report.html").render(
        content=content,
        verdict=verdict(content),
        cautions=warnings,
        interval=interval,
        columns=error_columns(content.errors, content.card.unit),
        figures=_figures(content),
        largest=_largest_errors(content),
        settings=_settings_rows(content),
        rejected=list(content.rejected.items())[:_SHOWN_ROWS],
        before=before(content.errors),
        tuned=TUNED,
        chemical_accuracy=CHEMICAL_ACCURACY,
    )
    write_text(folder / HTML_FILE, page)
    return warnings


def before(errors: Mapping[str, Errors]) -> str:
    """Return what the fine-tuned model is compared with: the source, or the shifted source if that alone can be."""
    return SOURCE if SOURCE in errors else SHIFTED


def verdict(outcome: Outcome) -> str:
    """Return in one sentence whether the fine-tuned model is better than its source, and what became of it."""
    card, source = outcome.card, outcome.card.recipe["finetune"]["source"]
    start = before(outcome.errors)
    old, new = outcome.errors[start], outcome.errors[TUNED]
    original = source if start == SOURCE else f"{source} with offsets fitted to the training rows"
    numbers = f"mean absolute error {old.mae:.4f} -> {new.mae:.4f} {card.unit}"
    if old.forces_mae is not None and new.forces_mae is not None:
        numbers += f", of the forces {old.forces_mae:.4f} -> {new.forces_mae:.4f} eV/Angstrom"
    rows = f"{new.n} held-out row{'s' if new.n > 1 else ''}"
    if outcome.improved:
        return f"{card.name} is better than {original} on the {rows}: {numbers}{_but_scratch(outcome)}."
    end = "it was saved only because that was forced" if outcome.saved else "it was not saved"
    return f"{card.name} is NOT better than {original} on the {rows}: {numbers}; {end}{_but_scratch(outcome)}."


def _scratch_is_better(errors: Mapping[str, Errors]) -> bool:
    return SCRATCH in errors and errors[SCRATCH].score < _CLEARLY * errors[TUNED].score


def _but_scratch(outcome: Outcome) -> str:
    """Return what the headline must not leave out: that the source was not needed at all."""
    if not _scratch_is_better(outcome.errors):
        return ""
    scratch, unit = outcome.errors[SCRATCH], outcome.card.unit
    start, word = ("; but", "better still") if outcome.improved else (";", "better than it")
    return f"{start} the same network trained from random weights is {word}: {scratch.mae:.4f} {unit}"


def change_of_error(content: Content) -> Interval:
    """Return the change of the mean absolute error with its 95% interval.

    A bootstrap, paired by row: what is drawn with replacement are the compositions, whose rows err together, or the
    rows where there are fewer than five compositions.
    """
    table = content.predictions
    reference = table["reference"].to_numpy()
    old, new = (np.abs(table[name].to_numpy() - reference) for name in (before(content.errors), TUNED))
    groups, over = _compositions(table["formula"]), "compositions"
    if groups.max() + 1 < _FEW_GROUPS:
        groups, over = np.arange(len(table)), "rows"
    n = int(groups.max()) + 1
    sums, counts = np.bincount(groups, weights=new - old), np.bincount(groups)
    rng = np.random.default_rng(0)
    means = []
    for _ in range(_RESAMPLED):
        drawn = rng.integers(n, size=n)
        means.append(sums[drawn].sum() / counts[drawn].sum())
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float((new - old).mean()), float(low), float(high), over, n)


def cautions(content: Content, interval: Interval) -> list[str]:
    """Return what limits the verdict, in sentences."""
    errors, unit, source = content.errors, content.card.unit, content.source.name
    new = errors[TUNED]
    found = []
    if new.n < _FEW_ROWS:
        found.append(
            f"Only {new.n} row{'s were' if new.n > 1 else ' was'} held out: another choice of them may give another "
            "verdict. Measure with more rows, or with cross-validation (folds=5, --folds 5)."
        )
    found += _cautions_of_division(content)
    if interval.includes_zero:
        found.append(
            f"The change of the mean absolute error is {interval.change:+.4f} {unit} with a 95% interval from "
            f"{interval.low:+.4f} to {interval.high:+.4f} (bootstrap over {interval.n} {interval.over}), which "
            "includes zero: it may be chance."
        )
    if SOURCE in errors and errors[SHIFTED].score <= new.score:
        found.append(
            f"To move the offsets of {source} alone does as well ({SHIFTED}: {errors[SHIFTED].mae:.4f} {unit}): what "
            "differs between the data sets depends mostly on the composition."
        )
    if _scratch_is_better(errors):
        found.append(
            f"The same network trained on these rows from random weights is better ({errors[SCRATCH].mae:.4f} against "
            f"{new.mae:.4f} {unit}): what {source} knew stands in the way here. Train on these rows alone, or with a "
            "higher learning rate or a scheme that leaves fewer weights as they were."
        )
    elif SCRATCH in errors and errors[SCRATCH].score <= new.score:
        found.append(
            f"The same network trained on these rows from random weights is as good ({errors[SCRATCH].mae:.4f} {unit})"
            f": what {source} knew does not help here."
        )
    return found


def _cautions_of_division(content: Content) -> list[str]:
    """Return what the way in which the rows were divided, and references were fitted, means for the errors."""
    found = []
    method = content.card.training_set.split["method"]
    few = "There are too few compositions to divide the rows by them: "
    if method.startswith("random by row"):
        found.append(
            f"{few}structures that are nearly the same, such as frames of one run, may be on both sides, and the "
            "errors are those of such structures."
        )
    elif not method.startswith("random by reduced formula"):
        whole = "whole runs" if method.startswith("random by run") else "structures"
        caution = (
            f"{few}{whole} were held out, and others of the same composition were learnt from. The errors are those of "
            "further structures of these compositions; for another composition they say nothing."
        )
        if "near duplicates" not in method:
            caution += " Nearly the same structures may be on both sides: there are too few others."
        found.append(caution)
    references = content.references or {}
    n_fitted, rank = references.get("n_fitted", 0), references.get("rank", 0)
    if references.get("kind") == "fitted" and 0 < n_fitted < _FEW_PER_REFERENCE * rank:
        found.append(
            f"{rank} reference energies were fitted to {n_fitted} rows: the fit takes much of what there is to learn "
            "out of these, and the held-out rows have the error of the fit besides. Calculated references have none."
        )
    return found


def _compositions(formulas: pd.Series) -> NDArray[np.int64]:
    """Return the number of the composition of each row, shape (n,)."""
    keys = []
    for formula in formulas:
        amounts = parse_formula(formula)
        total = sum(amounts.values())
        keys.append(str([(element, round(amounts[element] / total, 6)) for element in sorted(amounts)]))
    return pd.factorize(np.array(keys, dtype=object))[0].astype(np.int64)


def _json(content: Content, interval: Interval, warnings: list[str]) -> dict[str, Any]:
    card = content.card
    return {
        "verdict": verdict(content),
        "cautions": warnings,
        "name": card.name,
        "source": content.source.name,
        "improved": content.improved,
        "saved": content.saved,
        "property": card.property,
        "unit": card.unit,
        "scheme": {"name": content.scheme.name, "description": content.scheme.description},
        "errors": {name: errors.to_dict() for name, errors in content.errors.items()},
        "chemical_accuracy_eV": CHEMICAL_ACCURACY,
        "change_of_mae": {
            "before": before(content.errors),
            "change": interval.change,
            "interval_95": [interval.low, interval.high],
            "includes_zero": interval.includes_zero,
            "resampled": interval.over,
            "n": interval.n,
        },
        "rows": card.training_set.rows,
        "split": card.training_set.split,
        "data": card.training_set.source,
        "settings": {name: dict(values) for name, values in content.settings.items()},
        "references": content.references,
        "notes": card.notes,
        "rejected": dict(content.rejected),
        "predictions": json.loads(content.predictions.to_json(orient="records", double_precision=12)),
    }


def error_columns(errors: Mapping[str, Errors], unit: str) -> list[tuple[str, dict[str, str]]]:
    """Return the columns of the table of errors that anything was measured of: title, and text by model."""
    columns: list[tuple[str, Callable[[Errors], str]]] = [
        (f"MAE ({unit})", lambda e: f"{e.mae:.4f}"),
        (f"RMSE ({unit})", lambda e: f"{e.rmse:.4f}"),
        (f"median ({unit})", lambda e: f"{e.median:.4f}"),
        (f"largest ({unit})", lambda e: f"{e.largest:.4f}"),
        ("within 1 kcal/mol per atom", lambda e: _share(e.within_chemical_accuracy_per_atom)),
        ("within 1 kcal/mol per cell", lambda e: _share(e.within_chemical_accuracy_per_cell)),
        ("forces MAE (eV/Angstrom)", lambda e: "" if e.forces_mae is None else f"{e.forces_mae:.4f}"),
    ]
    texts = [(title, {name: text(each) for name, each in errors.items()}) for title, text in columns]
    return [(title, cells) for title, cells in texts if any(cells.values())]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _largest_errors(content: Content) -> list[dict[str, Any]]:
    table = content.predictions
    start = before(content.errors)
    chosen = table.assign(
        source=table[start],
        tuned=table[TUNED],
        error_before=table[start] - table["reference"],
        error=table[TUNED] - table["reference"],
    ).sort_values("error", key=np.abs, ascending=False, kind="stable")
    return chosen.head(_LARGEST).to_dict("records")  # type: ignore[return-value]


def _settings_rows(content: Content) -> list[tuple[str, list[str]]]:
    keys = dict.fromkeys(key for values in content.settings.values() for key in values)
    return [
        (key.replace("_", " "), [str(values.get(key)) for values in content.settings.values()])
        for key in keys
        if any(values.get(key) is not None for values in content.settings.values())
    ]


def _figures(content: Content) -> dict[str, str]:
    """Return the figures by name, as text for the page."""
    table, card = content.predictions, content.card
    reference = table["reference"].to_numpy()
    predicted = {name: table[name].to_numpy() for name in content.errors}
    shown = {name: predicted[name] for name in (before(content.errors), TUNED)}
    parity = plots.parity(reference, shown, unit=card.unit, property_name=card.property)
    found = {"parity": _text(image(parity))}
    is_energy = content.errors[TUNED].within_chemical_accuracy_per_atom is not None
    marks = {"1 kcal/mol per atom": CHEMICAL_ACCURACY} if is_energy else None
    errors = {name: values - reference for name, values in predicted.items()}
    found["distribution"] = _text(image(plots.error_cdf(errors, unit=card.unit, marks=marks)))
    histories = {name: pd.read_csv(path) for name, path in content.histories.items() if path.is_file()}
    histories = {name: history for name, history in histories.items() if len(history)}
    if histories:
        tables, names = list(histories.values()), list(histories)
        file = io.BytesIO()
        figures.training_history(tables, "", card.unit, file, names)
        found["learning"] = _text(file.getvalue())
    return found


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
