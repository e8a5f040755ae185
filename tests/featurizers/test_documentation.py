"""The page on featurizers: its code runs, and its output is that of the example."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ase_matprop import featurizers

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "featurizers.md").read_text()


def test_code_runs() -> None:
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(block, "featurizers.md", "exec"), names)
    assert names["df"].shape == (2, 1 + 272 + 2) and np.isfinite(names["df"].iloc[0, 1:272].astype(float)).all()
    assert 0.0 < names["network"].predict(["Fe3Ni"])[0] < 1.0


def test_all_classes_are_there() -> None:
    for name in featurizers.__all__:
        assert f"`{name}" in PAGE


def test_quoted_reasons_are_those_of_the_example() -> None:
    """The numbers come from a run of the example; that it still has these rows and models can be seen from here."""
    example = (ROOT / "examples" / "matminer_pipeline.py").read_text()
    (output,) = re.findall(r"```\n(60 rows.*?)```", PAGE, flags=re.DOTALL)
    rows = re.findall(r"^  ([a-z ]+?)  +\w+Error: row", output, flags=re.MULTILINE)
    assert len(rows) == 10 and all(f'"{name}":' in example for name in rows)
    models = re.findall(r"^  (.*?)  +\d\.\d{3}$", output, flags=re.MULTILINE)
    assert len(models) == 5 and all(f'"  {name} ' in example for name in models)
