"""The notebooks of examples/notebooks: their stored outputs are clean, and they still say the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")

FOLDER = Path(__file__).parents[1] / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_is_one_for_each_use() -> None:
    readme = (FOLDER.parents[1] / "README.md").read_text()
    assert len(NOTEBOOKS) == 5
    assert all(f"examples/notebooks/{path.name}" in readme for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_clean(path: Path, tool: ModuleType) -> None:
    assert tool.problems(path) == []
    assert any(tool.printed(cell) for cell in nbformat.read(path, as_version=4).cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_execution_gives_what_is_stored(path: Path, tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes(), sorted(file.name for file in FOLDER.iterdir())
    assert tool.changes(path) == [], "if that is right: python examples/notebooks/execute.py --write"
    assert before == (path.read_bytes(), sorted(file.name for file in FOLDER.iterdir()))


def notebook(path: Path, *sources: str) -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_what_does_not_belong_into_outputs_is_found(tmp_path: Path, tool: ModuleType) -> None:
    path = notebook(tmp_path / "a.ipynb", "print('/home/somebody/a.cif')", "import sys; print(1, file=sys.stderr)")
    assert tool.problems(path) == ["its cells were not executed once, from the first to the last"]
    assert tool.main(["--write", str(path)]) == 1
    found = " ".join(tool.problems(path))
    assert "cell 1 shows '/home/somebody/a.cif'" in found and "cell 2 failed or warned: 1" in found


def test_other_words_are_changes_and_other_numbers_are_not(tmp_path: Path, tool: ModuleType) -> None:
    path = notebook(tmp_path / "a.ipynb", "print('MAE', 0.123, '-> better')")
    assert tool.main(["--write", str(path)]) == 0 and tool.changes(path) == []
    stored = nbformat.read(path, as_version=4)
    stored.cells[0].outputs[0].text = "MAE -0.12 -> better\n"
    nbformat.write(stored, path)
    assert tool.changes(path) == []
    stored.cells[0].outputs[0].text = "MAE 0.123 -> not better\n"
    nbformat.write(stored, path)
    assert "-> better" in tool.changes(path)[0] and tool.main([str(path)]) == 1
