from __future__ import annotations

import json
from pathlib import Path

import pytest

from ase_matprop.diffraction import shipped
from ase_matprop.errors import UnknownNameError


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, kind in (("b", "ebsd"), ("a", "ebsd"), ("c", "xrd-phase-regions"), ("d", "other")):
        folder = tmp_path / "zoo" / name
        folder.mkdir(parents=True)
        (folder / "card.json").write_text(json.dumps({"kind": kind}))
    (tmp_path / "zoo" / "broken").mkdir()
    (tmp_path / "zoo" / "broken" / "card.json").write_text("[")
    monkeypatch.setattr(shipped, "ZOO", tmp_path / "zoo")
    return tmp_path / "zoo"


def test_names_and_paths(zoo: Path, tmp_path: Path) -> None:
    assert shipped.names("ebsd") == ["a", "b"]
    assert shipped.names("xrd") == ["c"]
    assert shipped.model_path("a", "ebsd") == zoo / "a"
    assert shipped.model_path(tmp_path, "xrd") == tmp_path


def test_unknown_names(zoo: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"model folder\) 'c'.*Known: a, b"):
        shipped.model_path("c", "ebsd")
    with pytest.raises(UnknownNameError, match="Did you mean 'c'"):
        shipped.model_path("cc", "xrd")


def test_no_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "ZOO", tmp_path / "none")
    assert shipped.names("ebsd") == []
    with pytest.raises(UnknownNameError, match="Known: none"):
        shipped.model_path("x", "ebsd")


def test_a_folder_of_the_working_directory_gives_way_to_a_shipped_name(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    assert shipped.model_path("a", "ebsd") == zoo / "a"
    assert shipped.model_path("./a", "ebsd") == Path("a")
