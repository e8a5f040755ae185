"""Hold-out of chemical systems: data.exclude_together and data.exclude_systems."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import pytest
from pymatgen.core import Composition

from ase_matprop.errors import RecipeError
from ase_matprop.models.card import ModelCard
from ase_matprop.training.baseline_recipe import BaselineRecipe
from ase_matprop.training.datasets import FeatureTable, load_feature_table
from ase_matprop.training.recipe import DataSection, Recipe
from ase_matprop.training.run import train

ROOT = Path(__file__).parents[2]
RECIPE = """
name = "toy"
[data]
file = "toy.csv.gz"
held_out_file = "held.csv.gz"
property = "formation_energy_per_atom"
exclude_together = ["Ti-O"]
exclude_systems = ["Na-Fe-O", "Li-S"]
name = "made in the test"
licence = "none"
citation = "none"
[descriptor]
name = "fractions"
scaling = "none"
[network]
name = "irnet"
settings = { stacks = [[16, 1], [8, 1]] }
[training]
max_epochs = 1
batch_size = 16
[output]
description = "a toy"
citation = ["none"]
"""
HEADER = "formula,formation_energy_per_atom\n"
ROWS = HEADER + "TiO2,-3\nBaTiO3,-3\nTiN,-2\nBaO,-3\nFe,0\nO2,0\nFe2O3,-2\nNaFe,0\nNaFeO2,-2\nNaFeMnO4,-2\nNaCl,-2\n"


def load(folder: Path, **settings: list[str]) -> FeatureTable:
    (folder / "a.csv").write_text(ROWS)
    fixed = {"property": "formation_energy_per_atom", "name": "", "licence": "", "citation": ""}
    data = DataSection(file="a.csv", **fixed, **settings)
    return load_feature_table(folder, data, "fractions", cache_dir=folder / "cache")


@pytest.mark.parametrize(
    ("settings", "gone", "removed"),
    [
        ({}, "", {}),
        ({"exclude_together": ["Ti-O"]}, "TiO2 BaTiO3", {"with all elements of Ti-O": 2}),
        ({"exclude_together": ["O-Ti-Ba"]}, "BaTiO3", {"with all elements of O-Ti-Ba": 1}),
        ({"exclude_together": ["Ti-O", "Na-Cl"]}, "TiO2 BaTiO3 NaCl", {"with all elements of Ti-O or Na-Cl": 3}),
        ({"exclude_systems": ["Ti-O"]}, "TiO2", {"compounds of Ti-O": 1}),
        ({"exclude_systems": ["Na-Fe-O"]}, "Fe2O3 NaFe NaFeO2", {"compounds of Na-Fe-O": 3}),
        ({"exclude_systems": ["Na-Fe-Mn-O"]}, "Fe2O3 NaFe NaFeO2 NaFeMnO4", {"compounds of Na-Fe-Mn-O": 4}),
        ({"exclude_systems": ["Fe-O", "Na-Fe"]}, "Fe2O3 NaFe", {"compounds of Fe-O or Na-Fe": 2}),
        ({"exclude_systems": ["K-Cl"]}, "", {"compounds of K-Cl": 0}),
        (
            {"exclude_systems": ["Fe-O", "Na-Fe", "K-Cl", "Li-F"]},
            "Fe2O3 NaFe",
            {"compounds of one of 4 systems": 2},
        ),
        (
            {"exclude_elements": ["Ba"], "exclude_together": ["Ti-O"], "exclude_systems": ["Ti-Ba-O"]},
            "BaTiO3 BaO TiO2",
            {"with Ba": 2, "with all elements of Ti-O": 1, "compounds of Ti-Ba-O": 0},
        ),
    ],
    ids=str,
)
def test_rows_of_systems_are_removed(tmp_path: Path, settings, gone: str, removed: dict[str, int]) -> None:
    """Pure elements stay; a row that two rules meet counts once; the cached table serves every choice."""
    whole = load(tmp_path)
    for _ in range(2):
        table = load(tmp_path, **settings)
        assert table.ids == [name for name in whole.ids if name not in gone.split()]
        assert table.removed == removed
        assert len(table.features) == len(table.targets) == len(table.numbers) == len(table.held_out) == len(table)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_removed_rows_are_in_no_part_and_in_the_card(tmp_path: Path) -> None:
    def pairs(elements: str, *amounts: int) -> list[str]:
        return [f"{a}{n}{b}" for a, b in itertools.combinations(elements.split(), 2) for n in amounts]

    files = {
        "toy": [*pairs("Li Na K Ti Fe O S Cl", 1, 2, 3), "NaFeO2", "BaTiO3"],
        "held": pairs("Mg Ca Ti Na Fe O F", 4, 5, 6),
    }
    for name, formulas in files.items():
        with gzip.open(tmp_path / f"{name}.csv.gz", "wt") as stream:
            stream.write(HEADER + "".join(f"{formula},{-index % 7 / 10}\n" for index, formula in enumerate(formulas)))
    (tmp_path / "toy.toml").write_text(RECIPE)
    run = tmp_path / "runs" / "toy"
    card = train(tmp_path / "toy.toml", data_dir=tmp_path, output=run, progress_bar=False).card
    parts = json.loads((run / "split.json").read_text())
    formulas = [formula for part in parts.values() for formula in part]
    assert {"Ti1S", "Li1O", "Fe2Cl"} <= set(formulas)
    for formula in formulas:
        elements = {element.symbol for element in Composition(formula)}
        assert not {"Ti", "O"} <= elements, formula
        assert not elements <= {"Na", "Fe", "O"} and not elements <= {"Li", "S"}, formula
    assert card.training_set.rows_removed == {"with all elements of Ti-O": 7, "compounds of Na-Fe-O or Li-S": 22}
    assert sum(card.training_set.rows.values()) == len(formulas) == 86 + 63 - 29
    stored = ModelCard.read(run / "toy")
    assert stored.recipe["data"]["exclude_systems"] == ["Na-Fe-O", "Li-S"]
    assert stored.recipe["data"]["exclude_together"] == ["Ti-O"]


@pytest.mark.parametrize("key", ["exclude_together", "exclude_systems"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('["Na-Xx"]', "'Xx' in 'Na-Xx' is no element"),
        ('["X-O"]', "'X' in 'X-O' is no element"),
        ('["NaO"]', "'NaO' in 'NaO' is no element; write a system like 'Na-Fe-Mn-O'"),
        ('["Na-O-"]', "'' in 'Na-O-' is no element"),
        ('[""]', "'' in '' is no element"),
        ('["Ti-O", "Na"]', "'Na' is a single element; name two or more, or use exclude_elements"),
        ('["Na-O-Na"]', "'Na-O-Na' names an element twice"),
        ('"Ti-O"', "valid list"),
    ],
)
def test_bad_systems_are_one_clear_error(tmp_path: Path, key: str, value: str, message: str) -> None:
    old = {
        "exclude_together": 'exclude_together = ["Ti-O"]',
        "exclude_systems": 'exclude_systems = ["Na-Fe-O", "Li-S"]',
    }
    (tmp_path / "toy.toml").write_text(RECIPE.replace(old[key], f"{key} = {value}"))
    with pytest.raises(RecipeError, match=message) as error:
        Recipe.read(tmp_path / "toy.toml")
    assert key in str(error.value) and "\n" not in str(error.value)


def test_placeholder_is_no_element() -> None:
    with pytest.raises(ValueError, match="'X' is no element"):
        DataSection(file="", property="band_gap", name="", licence="", citation="", exclude_elements=["X"])


def test_recipes_of_the_hold_out_tests() -> None:
    """They are those of the shipped models but for the systems; the baselines have the same rows."""
    recipes = {path.stem: path for path in sorted((ROOT / "recipes" / "holdout").glob("*.toml"))}
    networks = [name for name in recipes if not name.startswith("forest")]
    assert len(networks) >= 3
    for name in networks:
        recipe = Recipe.read(recipes[name])
        original, _, held_out = name.partition("-without-")
        shipped = Recipe.read(ROOT / "recipes" / f"{original}-mp.toml")
        assert recipe.name == name
        same = {"exclude_together", "exclude_systems"}
        assert recipe.data.model_dump(exclude=same) == shipped.data.model_dump(exclude=same)
        for part in ("split", "descriptor", "network", "training"):
            assert getattr(recipe, part) == getattr(shipped, part)
        elemnet = Recipe.read(recipes[f"elemnet-without-{held_out}"])
        assert recipe.data.exclude_systems == elemnet.data.exclude_systems
        assert recipe.data.exclude_together == elemnet.data.exclude_together
    for name in set(recipes) - set(networks):
        BaselineRecipe.read(recipes[name])
