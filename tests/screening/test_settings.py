"""Settings of a screening: what a TOML file may have, and one line with the remedy where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from ase_matprop.errors import MatPropError
from ase_matprop.screening.settings import Formulas, Prototypes, ScreeningSettings

FORMULAS = '[space]\nkind = "formulas"\nelements = ["Na", "Cl"]\n'
HULL = '[hull]\nfile = "known.csv"\n'
KEEP = "[keep]\ne_above_hull = 0.05\n"


def read(folder: Path, text: str) -> ScreeningSettings:
    path = folder / "space.toml"
    path.write_text(text, encoding="utf-8")
    return ScreeningSettings.read(path)


def test_defaults(tmp_path: Path) -> None:
    settings = read(tmp_path, FORMULAS + HULL + KEEP)
    assert settings.space == Formulas(kind="formulas", elements=["Na", "Cl"])
    assert settings.space.n_elements == [2, 3, 4] and settings.space.max_atoms == 10
    assert settings.model == "elemnet-mp" and settings.precision == "auto"
    assert settings.keep.highest_distance == 0.05
    assert settings.slurm == {}


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "files").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "files" / "space.toml").write_text(FORMULAS + HULL + KEEP)
    settings = ScreeningSettings.read("../files/space.toml")
    monkeypatch.chdir(tmp_path)
    assert settings.path("known.csv") == str(tmp_path / "files" / "known.csv")
    assert settings.path("/data/known.csv") == "/data/known.csv"
    assert settings.path("~/known.csv") == str(Path.home() / "known.csv")


def test_depth_below_the_hull_is_a_negative_distance(tmp_path: Path) -> None:
    assert read(tmp_path, FORMULAS + HULL + "[keep]\nbelow_hull = 0.2").keep.highest_distance == -0.2


def test_whole_numbers_are_numbers(tmp_path: Path) -> None:
    settings = read(tmp_path, FORMULAS + "n_elements = 3\n" + HULL + "[keep]\ne_above_hull = 0\nmaximum = -1\n")
    assert settings.space.n_elements == 3  # type: ignore[union-attr]
    assert settings.keep.highest_distance == 0.0


def test_sites_and_volumes_of_prototypes(tmp_path: Path) -> None:
    text = '[space]\nkind = "prototypes"\nprototypes = "B2"\nsites = {A = ["Na"], B = ["Cl"]}\nvolume = {Na = 30.0}\n'
    space = read(tmp_path, text + "[keep]\nmaximum = 0.0").space
    assert isinstance(space, Prototypes)
    assert space.sites == {"A": ["Na"], "B": ["Cl"]} and space.volume == {"Na": 30.0}


def test_settings_survive_their_way_through_json(tmp_path: Path) -> None:
    text = FORMULAS + HULL + "[keep]\nbelow_hull = 0.2\n" + '[slurm]\ncores = 4\nmemory = "8GB"\n'
    settings = read(tmp_path, text)
    content = settings.model_dump(mode="json", exclude_none=True)
    assert ScreeningSettings.of(content, folder=tmp_path) == settings
    assert settings.slurm == {"cores": 4, "memory": "8GB"}


WRONG = {
    "no space": (HULL, "space: is missing; add it"),
    "no kind": ('[space]\nelements = ["Na"]', "space: its 'kind' is missing; it must be one of formulas, prototypes"),
    "unknown kind": ('[space]\nkind = "formula"', "space: its 'kind' is 'formula'; it must be one of formulas,"),
    "misspelt key": (FORMULAS + "max_atom = 3", "space.max_atom: unknown key; did you mean 'max_atoms'? there"),
    "misspelt table": (FORMULAS + "[hul]\nfile = 'a'", "hul: unknown key; did you mean 'hull'? there are space, model"),
    "misspelt cut": (FORMULAS + HULL + "[keep]\nabove_hull = 1", "keep.above_hull: unknown key; did you mean"),
    "text for a number": (FORMULAS + 'max_atoms = "ten"', "space.max_atoms: input should be a valid integer, not '"),
    "number in text": (FORMULAS + HULL + '[keep]\ne_above_hull = "0.05"', "should be a valid number, not '0.05'"),
    "truth for a number": (FORMULAS + "max_atoms = true", "space.max_atoms: input should be a valid integer, not True"),
    "word for elements": ('[space]\nkind = "formulas"\nelements = "oxides"', "space.elements: input should be a valid "
                          "list, not 'oxides', or input should be 'all', not 'oxides'"),
    "not a number": (FORMULAS + HULL + "[keep]\ne_above_hull = nan", "keep.e_above_hull: input should be a finite"),
    "infinite": (FORMULAS + HULL + "[keep]\ne_above_hull = inf", "keep.e_above_hull: input should be a finite number"),
    "missing elements": ('[space]\nkind = "formulas"', "space.elements: is missing; add it"),
    "empty shards": (FORMULAS + "shard_size = 0", "space.shard_size: input should be greater than or equal to 1"),
    "two distances": (FORMULAS + HULL + "[keep]\ne_above_hull = 0.1\nbelow_hull = 0.2",
                      "keep: give either 'e_above_hull' or 'below_hull', and not both"),
    "negative depth": (FORMULAS + HULL + "[keep]\nbelow_hull = -0.2", "keep: 'below_hull' is a depth, 0.2 for example"),
    "no hull": (FORMULAS + KEEP, "[keep] has a distance to the hull, and there is none; add a table [hull]"),
    "two sources": (FORMULAS + HULL + "materials_project = true\n" + KEEP, "hull: give either 'file' or 'materials"),
    "no source": (FORMULAS + "[hull]\n" + KEEP, "hull: give either 'file' or 'materials_project = true', and not both"),
    "upside down": (FORMULAS + "[keep]\nminimum = 1.0\nmaximum = 0.0", "keep: 'minimum' is above 'maximum'"),
    "precision": ('precision = "float16"\n' + FORMULAS, "precision: input should be 'auto', 'float32' or 'bfloat16'"),
    "folder": ('folder = "/tmp"\n' + FORMULAS, "'folder' is not a key of the file; paths are relative to it"),
    "a table is a number": ("space = 3", "space: input should be a valid dictionary"),
    "keep is a number": ("keep = 3\n" + FORMULAS, "keep: input should be a valid dictionary"),
    "no TOML": ("[space\n", "is no TOML: "),
    "key twice": (FORMULAS + 'elements = ["Na"]', "is no TOML: Cannot overwrite a value"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), WRONG.values(), ids=WRONG)
def test_wrong_files(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(MatPropError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert reason in message
    assert "space.toml" in message and "\n" not in message
    assert "alue error" not in message and "document:" not in message and "pydantic" not in message


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(MatPropError, match=r"space\.max_atoms: .*; keep\.below_hull: "):
        read(tmp_path, FORMULAS + 'max_atoms = "ten"\n' + HULL + '[keep]\nbelow_hull = "deep"')


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(
        MatPropError, match=r"nowhere\.toml cannot be read \(No such file or directory\); check the path"
    ):
        ScreeningSettings.read(tmp_path / "nowhere.toml")
    with pytest.raises(MatPropError, match=r"cannot be read \(Is a directory\)"):
        ScreeningSettings.read(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MatPropError, match="is no TOML"):
        ScreeningSettings.read(tmp_path / "binary.toml")
