"""The documentation quotes what the cards say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from ase_matprop.models import list_models
from ase_matprop.models.registry import read_card

ROOT = Path(__file__).parents[1]


def test_models_page_is_that_of_the_cards() -> None:
    spec = importlib.util.spec_from_file_location("build_models_page", ROOT / "docs" / "build_models_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "models.md").read_text() == module.page(), "run: python docs/build_models_page.py"


def test_readme_quotes_the_measured_errors() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in list_models():
        card = read_card(name)
        assert f"`{name}`" in readme and f"{card.errors['test'].mae:.4f}" in readme


def test_python_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert len(blocks) == 2 and names["result"].n_failed == 0
