"""The report says first what counts, and its numbers are those of the predictions."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ase_matprop.finetune.evaluation import SCRATCH, SHIFTED, SOURCE, TUNED, Errors
from ase_matprop.finetune.report import HTML_FILE, JSON_FILE, Content, before, cautions, change_of_error, verdict, write
from ase_matprop.finetune.schemes import SCHEMES
from ase_matprop.models.card import ModelCard


@pytest.fixture
def card(small_model: Path) -> ModelCard:
    card = ModelCard.read(small_model)
    training_set = card.training_set.model_copy(
        update={"rows": {"train": 80, "validation": 10, "test": 40}, "split": {"method": "random by reduced formula"}}
    )
    recipe = {"finetune": {"source": "small", "scheme": "TL1", "references": None}}
    return card.model_copy(update={"name": "my_oxides", "training_set": training_set, "recipe": recipe})


def make_content(card: ModelCard, source: ModelCard, n: int = 40, *, tuned: float = 0.02, **changes: object) -> Content:
    """Rows of ten formulas; the errors of the source are ten times 0.01 eV/atom."""
    rng = np.random.default_rng(0)
    reference = rng.uniform(-3.0, 0.0, n)
    sizes = {SOURCE: 0.1, SHIFTED: 0.08, TUNED: tuned, SCRATCH: 0.3}
    predicted = {name: reference + size * rng.choice([-1.0, 1.0], n) for name, size in sizes.items()}
    table = pd.DataFrame(
        {
            "name": [f"run <{row}>" for row in range(n)],
            "formula": [f"Fe{row % 10 + 1}O11" for row in range(n)],
            "n_atoms": np.full(n, 4.0),
            "reference": reference,
            **predicted,
        }
    )
    errors = {name: Errors.of(values, reference, np.full(n, 4.0)) for name, values in predicted.items()}
    improved = errors[TUNED].mae < errors[SOURCE].mae
    content = Content(
        card=card,
        source=source,
        scheme=SCHEMES["TL1"],
        errors=errors,
        predictions=table,
        rejected={"bad <run>": "unconverged & truncated"},
        improved=improved,
        saved=improved,
        settings={TUNED: {"learning_rate": 1e-4}, SCRATCH: {"learning_rate": 1e-3}},
        references={"kind": "table", "description": "of the user", "energies": {"Fe": -8.4}, "sources": {}},
    )
    return dataclasses.replace(content, **changes)


@pytest.fixture
def content(card: ModelCard, small_model: Path) -> Content:
    return make_content(card, ModelCard.read(small_model))


def test_verdict_comes_first(content: Content, tmp_path: Path) -> None:
    write(tmp_path, content)
    page = (tmp_path / HTML_FILE).read_text()
    body = page[page.index("<body>") + len("<body>") :].lstrip()
    words = re.sub(r"<[^>]*>", "", body.splitlines()[0])
    assert words == (
        "my_oxides is better than small on the 40 held-out rows: mean absolute error 0.1000 -&gt; 0.0200 eV/atom."
    )
    assert {path.name for path in tmp_path.iterdir()} == {HTML_FILE, JSON_FILE}


def test_not_better(content: Content) -> None:
    worse = make_content(content.card, content.source, tuned=0.2)
    assert not worse.improved
    assert verdict(worse) == (
        "my_oxides is NOT better than small on the 40 held-out rows: mean absolute error 0.1000 -> 0.2000 eV/atom; "
        "it was not saved."
    )
    assert verdict(dataclasses.replace(worse, saved=True)).endswith("it was saved only because that was forced.")
    found = cautions(worse, change_of_error(worse))
    assert any("move the offsets of small alone does as well" in caution for caution in found)


def test_source_of_another_property(content: Content) -> None:
    errors = {name: errors for name, errors in content.errors.items() if name != SOURCE}
    assert before(errors) == SHIFTED
    other = dataclasses.replace(content, errors=errors)
    assert "better than small with offsets fitted to the training rows" in verdict(other)
    assert "0.0800 -> 0.0200" in verdict(other)
    assert change_of_error(other).change == pytest.approx(-0.06)


def test_forces_are_told(content: Content) -> None:
    errors = {name: dataclasses.replace(each, forces_mae=0.5 * each.mae) for name, each in content.errors.items()}
    assert "of the forces 0.0500 -> 0.0100 eV/Angstrom" in verdict(dataclasses.replace(content, errors=errors))


def test_page(content: Content, tmp_path: Path) -> None:
    history = tmp_path / "history.csv"
    history.write_text("epoch,learning_rate,train_mae,validation_mae\n0,0.1,0.5,0.6\n1,0.1,0.4,0.5\n")
    missing = tmp_path / "missing.csv"
    write(tmp_path, dataclasses.replace(content, histories={TUNED: history, SCRATCH: missing}))
    page = (tmp_path / HTML_FILE).read_text()
    for words in (
        "within 1 kcal/mol per atom",
        "within 1 kcal/mol per cell",
        "source, shifted",
        "0.0434 eV",
        "Largest errors",
        "Reference energies",
        "of the user",
        "1 rejected",
        "unconverged &amp; truncated",
        "bad &lt;run&gt;",
        "learning rate",
    ):
        assert words in page, words
    assert page.count("data:image/png;base64,") == 3
    assert "<run>" not in page and "http" not in re.sub(r"base64,[^\"]*", "", page)  # escaped, and self-contained
    no_history = tmp_path / "other"
    no_history.mkdir()
    write(no_history, content)
    assert (no_history / HTML_FILE).read_text().count("data:image/png;base64,") == 2


def test_json(content: Content, tmp_path: Path) -> None:
    warnings = write(tmp_path, content)
    values = json.loads((tmp_path / JSON_FILE).read_text())
    assert values["verdict"] == verdict(content) and values["cautions"] == warnings
    assert values["improved"] is True and values["saved"] is True
    assert values["errors"][TUNED]["mae"] == pytest.approx(0.02)
    assert values["errors"][TUNED]["within_chemical_accuracy_per_atom"] == 1.0
    assert values["rejected"] == dict(content.rejected) and values["references"]["energies"] == {"Fe": -8.4}
    assert values["rows"] == {"train": 80, "validation": 10, "test": 40}
    assert len(values["predictions"]) == 40
    row = values["predictions"][7]
    assert row["name"] == "run <7>"
    assert row[TUNED] == pytest.approx(content.predictions[TUNED][7], abs=1e-9)


def test_interval(content: Content) -> None:
    clear = change_of_error(content)
    assert clear.over == "compositions" and clear.n == 10
    assert clear.change == pytest.approx(-0.08) and clear.low <= clear.change <= clear.high < 0.0
    assert cautions(content, clear) == []
    # half of the compositions became better by as much as the others became worse
    table = content.predictions.copy()
    sign = np.where(np.arange(40) % 10 < 5, 1.0, -1.0)
    table[TUNED] = table["reference"] + 0.1 + 0.05 * sign
    table[SOURCE] = table["reference"] + 0.1
    unclear = dataclasses.replace(content, predictions=table)
    interval = change_of_error(unclear)
    assert interval.includes_zero and abs(interval.change) < 1e-12
    # ten compositions with a change of +-0.05: the standard error is 0.05 / sqrt(10)
    assert interval.high == pytest.approx(1.96 * 0.05 / np.sqrt(10), rel=0.15)
    assert any("includes zero: it may be chance" in caution for caution in cautions(unclear, interval))


def test_interval_over_rows_where_there_are_few_compositions(content: Content) -> None:
    few = dataclasses.replace(content, predictions=content.predictions.assign(formula="Fe2O3"))
    assert change_of_error(few).over == "rows" and change_of_error(few).n == 40
    cells = content.predictions.assign(formula=[f"Fe{2 * (row % 3 + 1)}O{3 * (row % 3 + 1)}" for row in range(40)])
    assert change_of_error(dataclasses.replace(content, predictions=cells)).over == "rows"  # one composition in cells


def test_few_rows(content: Content) -> None:
    few = make_content(content.card, content.source, n=8)
    assert "Only 8 rows were held out" in cautions(few, change_of_error(few))[0]


def test_scratch_as_good(content: Content) -> None:
    errors = {**content.errors, SCRATCH: content.errors[TUNED]}
    same = dataclasses.replace(content, errors=errors)
    assert any("from random weights is as good" in caution for caution in cautions(same, change_of_error(same)))


def test_rows_divided_one_by_one(content: Content) -> None:
    training_set = content.card.training_set.model_copy(update={"split": {"method": "random by row, since ..."}})
    single = dataclasses.replace(content, card=content.card.model_copy(update={"training_set": training_set}))
    assert any("frames of one run, may be on both sides" in c for c in cautions(single, change_of_error(single)))


@pytest.mark.parametrize(
    ("method", "words", "near"),
    [
        ("random by run with its near duplicates, since ...", "whole runs were held out", False),
        ("random by structure with its near duplicates, since ...", "structures were held out", False),
        ("random by run, since ...", "whole runs were held out", True),
    ],
)
def test_rows_divided_by_run(content: Content, method: str, words: str, near: bool) -> None:
    training_set = content.card.training_set.model_copy(update={"split": {"method": method}})
    by_run = dataclasses.replace(content, card=content.card.model_copy(update={"training_set": training_set}))
    (caution,) = cautions(by_run, change_of_error(by_run))
    assert words in caution and "for another composition they say nothing" in caution
    assert ("Nearly the same structures may be on both sides" in caution) == near


def test_few_rows_to_each_fitted_reference(content: Content) -> None:
    for n_fitted, expected in ((12, True), (50, False)):
        references = {"kind": "fitted", "n_fitted": n_fitted, "rank": 4, "energies": {}}
        of_fit = dataclasses.replace(content, references=references)
        found = cautions(of_fit, change_of_error(of_fit))
        assert any("4 reference energies were fitted to 12 rows" in caution for caution in found) == expected


def test_parts_of_a_cross_validation_are_told(content: Content, tmp_path: Path) -> None:
    history = tmp_path / "history.csv"
    history.write_text("epoch,learning_rate,train_mae,validation_mae\n0,0.1,0.5,0.6\n")
    for folds in (None, 4):
        split = {"method": "random by reduced formula"} | ({"folds": folds} if folds else {})
        training_set = content.card.training_set.model_copy(update={"split": split})
        card = content.card.model_copy(update={"training_set": training_set})
        write(tmp_path, dataclasses.replace(content, card=card, histories={TUNED: history}))
        page = (tmp_path / HTML_FILE).read_text()
        assert ("in the first part of the cross-validation" in page) == bool(folds)


def test_property_that_is_no_energy(content: Content, tmp_path: Path) -> None:
    errors = {
        name: dataclasses.replace(each, within_chemical_accuracy_per_atom=None, within_chemical_accuracy_per_cell=None)
        for name, each in content.errors.items()
    }
    gap = content.card.model_copy(update={"property": "band_gap", "unit": "eV", "per_atom": False})
    write(tmp_path, dataclasses.replace(content, card=gap, errors=errors))
    assert "kcal/mol" not in (tmp_path / HTML_FILE).read_text()


def test_headline_says_that_scratch_is_better(content: Content) -> None:
    assert "random weights" not in verdict(content)
    n_atoms, reference = np.full(40, 4.0), np.zeros(40)
    for scratch, words in ((0.0195, "is as good (0.0195"), (0.005, "is better (0.0050 against 0.0200 eV/atom)")):
        errors = {**content.errors, SCRATCH: Errors.of(reference + scratch, reference, n_atoms)}
        other = dataclasses.replace(content, errors=errors)
        text = " ".join(cautions(other, change_of_error(other)))
        assert f"from random weights {words}" in text
        assert ("from random weights is better still: 0.0050 eV/atom." in verdict(other)) is (scratch < 0.01)
