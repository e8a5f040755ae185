"""Write docs/models.md from the cards of the shipped models: python docs/build_models_page.py"""

from __future__ import annotations

from pathlib import Path

from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.models import ModelCard, list_models
from ase_matprop.models.registry import read_card
from ase_matprop.networks import ATOMISTIC_NETWORKS
from ase_matprop.properties import get_property

PAGE = Path(__file__).with_name("models.md")
_INTRODUCTION = """# Models

Written by `docs/build_models_page.py` from the model cards; `matprop models info NAME` shows the same on a terminal.

Errors are measured through the stored weights. Test rows were never used in training or tuning, and no outlier was
removed from them. "Formulas not in training" are the test rows whose reduced formula no training row has, a harder
figure. Each card says when not to use the model; where it names kinds of compounds, these are those whose error on
the test rows is more than one and a half times that of all of them. [What a number means](explanation.md) and
[how far to trust it](uncertainty.md) hold for every model.

"""
_WORSE = 1.5  # times the error of all test rows: a group that the page warns of
_FEW = 20  # test rows; the error of fewer is chance


def page() -> str:
    cards = [read_card(name) for name in list_models()]
    columns = ("model", "property", "network", "inputs", "on test rows", "median", "90th percentile", "test rows", "MB")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for card in cards:
        test = card.errors.get("test")
        size = (list_models()[card.name] / card.weights.file).stat().st_size / 1e6
        cells = (
            f"[{card.name}](#{card.name})",
            ", ".join(get_property(name).long_name for name in card.properties),
            f"{card.network.n_members} x {card.network.name}",
            card.descriptor.name,
            card.headline(),
            f"{test.median:.4f}" if test else "",
            f"{test.percentile_90:.4f}" if test else "",
            str(card.training_set.rows["test"]),
            f"{size:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return _INTRODUCTION + "\n".join(lines) + "\n" + "".join(section(card) for card in cards)


def section(card: ModelCard) -> str:
    training = card.training_set
    settings = ", ".join(f"{key} = {value}" for key, value in card.network.settings.items())
    split = ", ".join(f"{key} {value}" for key, value in training.split.items())
    rows = ", ".join(f"{n} {name}" for name, n in training.rows.items())
    clipped = "" if card.descriptor.clip is None else f", clipped at +-{card.descriptor.clip:g}"
    removed = {"outliers, or rows far above the hull, in training and validation": training.outliers_removed}
    removed |= training.rows_removed
    facts = [
        *(
            f"**Property**: {entry.long_name}{f' in {entry.unit}' if entry.unit else ''}: {entry.convention}."
            for entry in map(get_property, card.properties)
        ),
        f"**Network**: {card.network.n_members} x {card.network.name} ({settings}), "
        f"{card.network.n_parameters:,} parameters in all, stored as {card.weights.dtype}.",
        f"**Inputs**: {card.descriptor.name}, {card.network.n_inputs} features{clipped}.",
        f"**Data**: {training.name} ({training.licence}); {training.citation}.",
        f"**Rows**: {rows}; split {split}.",
        *(f"**Removed**: {n} rows: {rule}." for rule, n in removed.items() if n),
        f"**Elements** ({len(card.elements)}): {' '.join(card.elements)}.",
        *(f"**Note**: {note}." for note in card.notes),
        *(f"**Left out**: {name}: {reason}." for name, reason in training.rows_without_features.items()),
        "**Cite**: " + "; ".join(card.citation) + ".",
    ]
    table: list[str] = []
    if card.errors:
        table += [f"| errors in {card.unit} on | rows | MAE | median | 90th percentile | RMSE |", "|---" * 6 + "|"]
    for name, s in card.all_errors().items():
        table.append(f"| {name} | {s.n} | {s.mae:.4f} | {s.median:.4f} | {s.percentile_90:.4f} | {s.rmse:.4f} |")
    if card.classification:
        table += ["| quality on | rows | accuracy | balanced accuracy | ROC AUC | log loss |", "|---" * 6 + "|"]
    for name, q in card.classification.items():
        area = "" if q.roc_auc is None else f"{q.roc_auc:.4f}"
        table.append(f"| {name} | {q.n} | {q.accuracy:.4f} | {q.balanced_accuracy:.4f} | {area} | {q.log_loss:.4f} |")
    facts.append(f"**When not to use it**: {'; '.join(_limits(card))}.")
    bullets = "\n".join(f"* {fact}" for fact in facts)
    return f"\n## {card.name}\n\n{card.description}.\n\n{bullets}\n\n" + "\n".join(table) + "\n"


def _limits(card: ModelCard) -> list[str]:
    """Return in words for what the model is no good, from its card."""
    entry = card.material_property
    limits = [f"for compounds with other elements than its {len(card.elements)} (they are refused)"]
    if not get_descriptor(card.descriptor.name).needs_structure:
        limits.append("to tell structures of one composition apart")
    elif card.network.name in ATOMISTIC_NETWORKS:
        limits.append("for cells far from their relaxed volume, and for dynamics: it learnt relaxed structures")
    else:
        limits.append("for forces, stress, relaxation, or energies along a path of distortions")
    limits.append("for slabs, molecules, defects and disorder")
    if entry.is_energy:
        limits.append("as total energies, or beside formation energies with other references")
    elif entry.name == "band_gap":
        limits.append("as optical or measured gaps, which are larger")
    if test := card.errors.get("test"):
        worse = {
            name: group
            for name, group in card.test_errors_by_group.items()
            if group.mae > _WORSE * test.mae and group.n >= _FEW
        }
        if worse:
            named = ", ".join(f"{name} (MAE {group.mae:.3f} on {group.n} rows)" for name, group in worse.items())
            limits.append(f"without care for {named}; all test rows have {test.mae:.3f} {card.unit}")
    return limits


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
