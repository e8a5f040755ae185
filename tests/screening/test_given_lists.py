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
    assert sorted(results.to_frame()["formula"]) == ["Fe2O3", "NaCl"]
    summary = results.summary()
    assert (summary.n_candidates, summary.n_scored, summary.n_failed, summary.n_filtered) == (4, 2, 2, 0)
    reasons = dict(summary.failures)
    assert "never saw He in training" in reasons["HeO"] and "never saw He in training" in caplog.text
    (tmp_path / "formulas.csv").write_text("formula\nHe\n")
    with pytest.raises(UnknownElementError, match="never saw He"):
        screen(ScreeningSettings.of(content, folder=tmp_path), tmp_path / "other")
