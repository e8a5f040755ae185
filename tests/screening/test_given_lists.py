"""Runs over candidates that were given one by one: a bad one costs its own row only."""

from __future__ import annotations

from pathlib import Path

import pytest

from ase_matprop.errors import UnknownElementError
from ase_matprop.screening.run import screen
from ase_matprop.screening.settings import ScreeningSettings


def test_a_row_of_a_list_with_an_unknown_element_costs_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "formulas.csv").write_text("formula\nFe4O6\nHeO\nnonsense\nNaCl\n")
    content = {"space": {"kind": "formula-list", "file": "formulas.csv"}, "keep": {"maximum": 0.0}}
    results = screen(ScreeningSettings.of(content, folder=tmp_path), tmp_path / "out")
    frame = results.to_frame()
    assert frame["formula"].tolist() == ["Fe2O3", "NaCl"] and frame["row"].tolist() == [0, 3]
    assert frame["name"].tolist() == ["formulas.csv#0", "formulas.csv#3"]
    summary = results.summary()
    assert (summary.n_candidates, summary.n_scored, summary.n_failed, summary.n_filtered) == (4, 2, 2, 0)
    reasons = dict(summary.failures)
    assert "never saw He in training" in reasons["HeO"] and "never saw He in training" in caplog.text
    (tmp_path / "formulas.csv").write_text("formula\nHe\n")
    with pytest.raises(UnknownElementError, match="never saw He"):
        screen(ScreeningSettings.of(content, folder=tmp_path), tmp_path / "other")
