"""Train the variants of a comparison, and write their errors as a table and figures.

    python benchmarks/compare.py benchmarks/comparisons/depth.toml --data-dir ../shared/data --output runs/comparisons

A comparison is a TOML file: ``recipe`` (relative to the repository), ``[fixed]`` (changes of the recipe, by dotted key)
and ``[[variant]]`` tables with a ``name`` and ``changes``, or a ``recipe`` of their own.  What is finished is not
trained again, so the command goes on where it was stopped.  The table is printed and written to results.csv.
"""

from __future__ import annotations

import argparse
import copy
import json
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd

from ase_matprop.models.card import ModelCard
from ase_matprop.models.folder import CARD_FILE
from ase_matprop.training.recipe import Recipe
from ase_matprop.training.run import train

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("comparison", type=Path, nargs="+")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "comparisons")
    options = parser.parse_args()
    for path in options.comparison:
        compare(path, options.data_dir, options.output)


def compare(path: Path, data_dir: Path, output: Path) -> pd.DataFrame:
    content = tomllib.loads(path.read_text())
    folder = output / path.stem
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for variant in content["variant"]:
        base = ROOT / variant.get("recipe", content.get("recipe", ""))
        recipe = changed(tomllib.loads(base.read_text()), content.get("fixed", {}) | variant.get("changes", {}))
        recipe["name"] = slug(variant["name"])
        rows.append(row(variant["name"], trained(recipe, data_dir, folder)))
        frame = pd.DataFrame(rows)
        frame.to_csv(folder / "results.csv", index=False, float_format="%.6g")
    print(f"\n{content['title']}\n\n{frame.to_markdown(index=False, floatfmt='.4f')}")
    return frame


def changed(recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe with values replaced by dotted key; a value of "" removes the key."""
    recipe = copy.deepcopy(recipe)
    for dotted, value in changes.items():
        *parents, key = dotted.split(".")
        section = recipe
        for name in parents:
            section = section.setdefault(name, {})
        section.pop(key, None) if value == "" else section.update({key: value})
    return recipe


def slug(name: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in name.lower()).strip("-")


def trained(recipe: dict[str, Any], data_dir: Path, folder: Path) -> ModelCard:

    run = folder / recipe["name"]
    model = run / recipe["name"]
    if (model / CARD_FILE).is_file() and "test" in (card := ModelCard.read(model)).errors:
        if card.recipe != Recipe.model_validate(recipe).model_dump(mode="json"):
            raise SystemExit(f"{run} holds a variant of another recipe; remove it, or choose another --output")
        return card
    path = folder / f"{recipe['name']}.toml"
    path.write_text(as_toml(recipe))
    print(f"training {recipe['name']}", flush=True)
    return train(
        path, data_dir=data_dir, output=run, cache_dir=ROOT / "runs" / "cache", resume=run.is_dir(), progress_bar=False
    ).card


def as_toml(recipe: dict[str, Any]) -> str:
    """Return a recipe as TOML: a name, and sections of plain values."""
    lines = [f"name = {json.dumps(recipe['name'])}"]
    for section, values in recipe.items():
        if section != "name":
            lines += [f"[{section}]", *(f"{key} = {value_as_toml(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def value_as_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {value_as_toml(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(value_as_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def row(name: str, card: ModelCard) -> dict[str, Any]:
    return {
        "variant": name,
        "parameters": card.network.n_parameters,
        "training rows": card.training_set.rows["train"],
        "train MAE": card.errors["train"].mae,
        "validation MAE": card.errors["validation"].mae,
        "test MAE": card.errors["test"].mae,
        "median": card.errors["test"].median,
        "90th percentile": card.errors["test"].percentile_90,
    }


if __name__ == "__main__":
    main()
