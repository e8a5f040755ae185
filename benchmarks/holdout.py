"""Hold-out of chemical systems, and what a model that never saw them would discover there.

    for name in elemnet-without-{ti-o,na-fe-mn-o,60-systems}; do
        matprop train recipes/holdout/$name.toml --data-dir ../shared/data --output runs/holdout-$name; done
    python benchmarks/holdout.py --data-dir ../shared/data
    python benchmarks/draw_holdout.py --data-dir ../shared/data

As section 3.3.7 and Figure 3.5 of the thesis of D. Jha (Northwestern University, 2020), on compounds of the Materials
Project.  RF-Comp and RF-Phys are random forests on element fractions and on the 145 composition features of Ward et
al., trained here on the training rows of the networks' recipes.  ``--choose`` prints the 60 systems of recipes/holdout.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import average_precision_score

from ase_matprop import load_model
from ase_matprop.compositions import as_amounts, reduced_formula
from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.screening.discovery import discovery_metrics
from ase_matprop.screening.hull.facets import ReferenceHull
from ase_matprop.screening.hull.references import References
from ase_matprop.screening.scoring import FormulaScorer
from ase_matprop.screening.spaces.base import FormulaBlock
from ase_matprop.screening.spaces.formulas import FormulaSpace
from ase_matprop.training.datasets import FeatureTable, load_feature_table
from ase_matprop.training.preparation import split_table
from ase_matprop.training.recipe import Recipe

ROOT = Path(__file__).parents[1]
FORESTS = {"RF-Comp": "fractions", "RF-Phys": "composition"}
FOREST = {"n_estimators": 100, "max_features": 0.33, "min_samples_split": 5, "random_state": 0}
NETWORKS = {"ElemNet": "elemnet", "IRNet-17": "irnet17-composition"}
#: formulas count as on the hull up to this distance, in eV/atom
ON_HULL = 1e-8
#: "near the predicted hull", in eV/atom
NEAR = 0.05
#: distance of compositions (l2 norm of the difference of atom fractions) up to which they are neighbours; the larger
#: one of the two tolerances in section 3.3.9 of the thesis
NEIGHBOUR = 0.1
#: the thesis looks for formulas that are predicted so far below the known hull, in eV/atom
BELOW = 0.2
#: all systems, or those with the most known compounds, that are screened: name -> (systems, most atoms)
SCREENED: dict[str, tuple[tuple[str, ...], int]] = {
    "ti-o": (("Ti-O",), 30),
    "na-fe-mn-o": (("Na-Mn-O", "Na-Fe-O", "Fe-Mn-O"), 20),
    "60-systems": ((), 12),  # those of the recipe
}
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A hold-out test: the recipe of ElemNet says what is held out.

    ``table`` has all rows, ``held_out`` says which of them no part of the training has seen, shape (n,).
    """

    name: str
    recipe: Recipe
    table: FeatureTable
    held_out: NDArray[np.bool_]
    parts: dict[str, NDArray[np.int64]]

    @classmethod
    def load(cls, name: str, data_dir: Path, cache_dir: Path) -> Case:
        recipe = Recipe.read(ROOT / "recipes" / "holdout" / f"elemnet-without-{name}.toml")
        whole = recipe.data.model_copy(update={"exclude_together": [], "exclude_systems": []})
        tables = [
            load_feature_table(data_dir, data, "composition+fractions", cache_dir=cache_dir)
            for data in (whole, recipe.data)
        ]
        place = {formula: row for row, formula in enumerate(tables[0].ids)}
        rows = np.array([place[formula] for formula in tables[1].ids])
        held_out = np.ones(len(tables[0]), dtype=bool)
        held_out[rows] = False
        split = split_table(recipe, tables[1], data_dir)
        parts = {part: rows[getattr(split, part)] for part in ("train", "validation", "test")}
        return cls(name, recipe, tables[0], held_out, parts)

    @property
    def systems(self) -> tuple[str, ...]:
        return SCREENED[self.name][0] or tuple(self.recipe.data.exclude_systems)

    @property
    def max_atoms(self) -> int:
        return SCREENED[self.name][1]

    @cached_property
    def references(self) -> References:
        """All rows, held-out ones among them, and the elements at zero."""
        table = self.table
        references = References(
            table.numbers.astype(np.uint8), table.amounts, table.targets[:, 0], table.ids, self.recipe.data.file
        )
        return references.with_elements_at_zero()

    def block(self, rows: NDArray[Any]) -> FormulaBlock:
        return FormulaBlock(self.table.numbers[rows].astype(np.uint8), self.table.amounts[rows])

    @cached_property
    def space(self) -> dict[str, FormulaBlock]:
        """All formulas of each screened system that have two or more elements."""
        return {system: enumerate_system(system, self.max_atoms) for system in self.systems}

    def candidates(self) -> dict[str, FormulaBlock]:
        return {"held out": self.block(self.held_out), "test": self.block(self.parts["test"]), **self.space}

    @cached_property
    def leave_one_out(self) -> Values:
        """Energy of the hull of all other known compounds at each held-out one, in eV/atom, shape (n_held_out,).

        Removing a compound that is above the hull does not change the hull.
        """
        block, energies = self.block(self.held_out), self.table.targets[self.held_out, 0]
        known = ReferenceHull(self.references).energies(block)
        rows = np.flatnonzero(self.held_out)
        for candidate in np.flatnonzero(energies - known < ON_HULL).tolist():
            inside = np.isin(self.references.numbers, [0, *self.references.numbers[rows[candidate]]]).all(axis=1)
            inside[rows[candidate]] = False
            others = ReferenceHull(self.references.take(np.flatnonzero(inside)))
            known[candidate] = others.energies(block.take(np.array([candidate])))[0]
        return known


def enumerate_system(system: str, max_atoms: int) -> FormulaBlock:
    elements = system.split("-")
    space = FormulaSpace(elements, n_elements=range(2, len(elements) + 1), max_atoms=max_atoms)
    blocks = [block for shard in range(space.n_shards) for block in space.blocks(shard)]
    padding = [(0, len(elements) - block.numbers.shape[1]) for block in blocks]
    numbers, amounts = (
        np.concatenate([np.pad(getattr(b, name), ((0, 0), p)) for b, p in zip(blocks, padding, strict=True)])
        for name in ("numbers", "amounts")
    )
    return FormulaBlock(numbers, amounts)


def forest(case: Case, name: str, jobs: int) -> Callable[[FormulaBlock], Values]:
    """Return the predictions of a random forest that is trained on the training rows of a case."""
    descriptor = get_descriptor(FORESTS[name])
    n_composition = len(get_descriptor("composition").labels)
    columns = slice(None, n_composition) if descriptor.name == "composition" else slice(n_composition, None)
    features = case.table.features
    assert isinstance(features, np.ndarray)
    train = case.parts["train"]
    model = RandomForestRegressor(**FOREST, n_jobs=jobs)
    model.fit(features[train][:, columns].astype(np.float32), case.table.targets[train, 0])
    return lambda block: np.asarray(model.predict(descriptor.compute(block.compositions())[0].astype(np.float32)))


def predictions(case: Case, model: str, options: argparse.Namespace) -> dict[str, Values] | None:
    """Return predicted energies of all candidates of a case, from a file if they were computed before."""
    path = options.output / f"{case.name}-{model}.npz"
    candidates = case.candidates()
    if path.is_file():
        with np.load(path) as stored:
            if {name: len(block) for name, block in candidates.items()} == {k: len(v) for k, v in stored.items()}:
                return dict(stored)
    started = time.perf_counter()
    if model in FORESTS:
        predict = forest(case, model, options.jobs)
    else:
        name = f"{NETWORKS[model]}-without-{case.name}"
        run = options.runs / f"holdout-{name}"
        if not (run / name / "card.json").is_file():
            print(f"left out: {run / name} is no model")
            return None
        used = json.loads((run / "split.json").read_text())
        forbidden = {case.table.ids[row] for row in np.flatnonzero(case.held_out)}
        assert not forbidden & {formula for part in used.values() for formula in part}
        assert set(used["train"]) == {case.table.ids[row] for row in case.parts["train"]}
        predict = FormulaScorer(load_model(run / name)).values
    values = {name: predict(block) for name, block in candidates.items()}
    np.savez(path, **values)
    print(f"{case.name}, {model}: {time.perf_counter() - started:.0f} s")
    return values


def mean_absolute_error(first: Values, second: Values) -> float:
    return float(np.abs(first - second).mean())


def errors(case: Case, found: dict[str, dict[str, Values]]) -> dict[str, Any]:
    """Return mean absolute errors of held-out rows, by number of elements, and of ordinary test rows."""
    held_out = case.table.targets[case.held_out, 0]
    counts = case.table.n_elements[case.held_out]
    inside = np.isin(case.table.numbers[case.held_out], [0, *map(atomic_numbers.get, case.systems[0].split("-"))])
    groups = {"all": np.ones(len(held_out), dtype=bool)} | {
        f"{n} elements": counts == n for n in np.unique(counts).tolist()
    }
    if len(case.systems) == 1:
        groups[case.systems[0]] = inside.all(axis=1)
    test = case.table.targets[case.parts["test"], 0]
    return {
        "mean absolute deviation": mean_absolute_error(held_out, held_out.mean()),
        "groups": {
            name: {"n": int(rows.sum())}
            | {model: mean_absolute_error(values["held out"][rows], held_out[rows]) for model, values in found.items()}
            for name, rows in groups.items()
        },
        "test": {"n": len(test)}
        | {model: mean_absolute_error(values["test"], test) for model, values in found.items()},
    }


def of_seen(case: Case, data_dir: Path) -> dict[str, Any]:
    """Return the error of elemnet-mp, which saw the systems, on those held-out rows that were its test rows."""
    shipped = Recipe.read(ROOT / "recipes" / "elemnet-mp.toml")
    rows = split_table(shipped, case.table, data_dir).test
    rows = rows[case.held_out[rows]]
    values = FormulaScorer(load_model("elemnet-mp")).values(case.block(rows))
    return {
        "n": len(rows),
        "elemnet-mp": mean_absolute_error(values, case.table.targets[rows, 0]),
        "rows": rows.tolist(),
    }


def screen(case: Case, system: str, predicted: Values) -> dict[str, set[str]]:
    """Compare the hull of predictions for all formulas of a system with the known one; return formulas of each kind."""
    block = case.space[system]
    numbers = [atomic_numbers[symbol] for symbol in system.split("-")]
    known = case.references.restrict(numbers)
    known_hull = ReferenceHull(known)
    data = {reduced_formula(amounts) for amounts in known.block.compositions() if len(amounts) > 1}
    stable = {known_hull.formula(row) for row in known_hull.vertices(numbers)} & data
    names = np.array([reduced_formula(amounts) for amounts in block.compositions()])
    ids = [f"candidate {row}" for row in range(len(names))]
    candidates = References(block.numbers, block.amounts.astype(float), predicted, ids, "predictions")
    hull = ReferenceHull(candidates.with_elements_at_zero(numbers))
    vertices = {hull.formula(row) for row in hull.vertices(numbers) if row < len(names)}
    near = set(names[hull.e_above_hull(block, predicted) <= NEAR].tolist())
    below = known_hull.energies(block) - predicted
    alone = {name for name, apart in nearest(vertices, data, numbers).items() if apart > NEIGHBOUR}
    reached = {name for name, apart in nearest(stable, vertices, numbers).items() if apart <= NEIGHBOUR}
    return {
        "formulas": set(names.tolist()),
        "of these in the data": data & set(names.tolist()),
        "known stable": stable,
        "of these among the formulas": stable & set(names.tolist()),
        "known stable that are vertices": vertices & stable,
        "other known ones that are vertices": (vertices & data) - stable,
        "vertices not in the data": vertices - data,
        f"vertices with no known compound within {NEIGHBOUR}": alone,
        f"known stable with a vertex within {NEIGHBOUR}": reached,
        f"known stable within {NEAR} eV/atom of the predicted hull": stable & near,
        f"all formulas within {NEAR} eV/atom of the predicted hull": near,
        "not in the data, predicted below the known hull": set(names[below > 0.0].tolist()) - data,
        f"not in the data, predicted {BELOW} eV/atom below the known hull": set(names[below > BELOW].tolist()) - data,
    }


def nearest(formulas: set[str], others: set[str], numbers: list[int]) -> dict[str, float]:
    """Return the distance from each formula to the nearest one of ``others`` in atom fractions."""
    names = sorted(formulas)
    apart = np.linalg.norm(fractions(names, numbers)[:, None] - fractions(sorted(others), numbers)[None], axis=2)
    return dict(zip(names, apart.min(axis=1, initial=np.inf).tolist(), strict=True))


def fractions(formulas: list[str], numbers: list[int]) -> Values:
    """Return atom fractions, shape (n, d)."""
    found = [as_amounts(formula) for formula in formulas]
    amounts = np.array([[entry.get(number, 0.0) for number in numbers] for entry in found]).reshape(-1, len(numbers))
    return np.asarray(amounts / amounts.sum(axis=1, keepdims=True))


def total(rows: list[dict[str, set[str]]]) -> dict[str, int]:
    """Return how many formulas there are in all systems; a binary may belong to two of these, and counts once."""
    return {key: len(set().union(*(row[key] for row in rows))) for key in rows[0]}


def listed(found: dict[str, set[str]]) -> dict[str, Any]:
    """Return short sets as lists, and of long ones their sizes."""
    return {
        key: sorted(names) if "vertices" in key or key == "known stable" else len(names) for key, names in found.items()
    }


def run(case: Case, options: argparse.Namespace) -> None:
    models = [*FORESTS, *NETWORKS]
    found = {model: values for model in models if (values := predictions(case, model, options)) is not None}
    energies, others = case.table.targets[case.held_out, 0], case.leave_one_out
    frame = pd.DataFrame(
        {
            "formula": [case.table.ids[row] for row in np.flatnonzero(case.held_out)],
            "n_elements": case.table.n_elements[case.held_out],
            "energy": energies,
            "hull of the others": others,
            "e_above_hull": energies - others,
            **{f"{model} energy": values["held out"] for model, values in found.items()},
            **{f"{model} e_above_hull": values["held out"] - others for model, values in found.items()},
        }
    )
    frame.to_csv(options.output / f"{case.name}-held-out.csv", index=False)
    discovery = {
        model: {
            f"cut {cut:g}": asdict(discovery_metrics(frame["e_above_hull"], frame[f"{model} e_above_hull"], 0.0, cut))
            for cut in (0.0, 0.05, 0.1)
        }
        for model in found
    }
    screened = {
        model: {system: screen(case, system, values[system]) for system in case.systems}
        for model, values in found.items()
    }
    document = {
        "case": case.name,
        "recipe": case.recipe.model_dump(mode="json"),
        "source_sha256": case.table.source_sha256,
        "rows": {part: len(rows) for part, rows in case.parts.items()} | {"held out": int(case.held_out.sum())},
        "forest": FOREST,
        "max_atoms": case.max_atoms,
        "errors": errors(case, found),
        "seen": of_seen(case, options.data_dir),
        "mean error": {model: float((values["held out"] - energies).mean()) for model, values in found.items()},
        "average precision": {
            model: float(average_precision_score(energies - others <= 0.0, others - values["held out"]))
            for model, values in found.items()
        },
        "discovery": discovery,
        "screened": {
            model: {system: listed(names) for system, names in rows.items()} for model, rows in screened.items()
        },
        "screened in all": {model: total(list(rows.values())) for model, rows in screened.items()},
    }
    (options.output / f"{case.name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(summary(document))


def summary(document: dict[str, Any]) -> str:
    """Return the tables as Markdown."""
    measured = document["errors"]
    models = list(document["discovery"])
    lines = [
        f"\n## {document['case']}\n",
        f"rows: {document['rows']}",
        f"seen: {document['seen']['n']} rows, MAE {document['seen']['elemnet-mp']:.4f}",
        f"mean absolute deviation {measured['mean absolute deviation']:.4f}\n",
    ]
    lines += [f"| MAE (eV/atom) | rows | {' | '.join(models)} |", "|---" * (len(models) + 2) + "|"]
    for name, row in [*measured["groups"].items(), ("ordinary test rows", measured["test"])]:
        lines.append(f"| {name} | {row['n']} | {' | '.join(f'{row[model]:.3f}' for model in models)} |")
    for name in ("mean error", "average precision"):
        lines.append(f"| {name} | | {' | '.join(f'{document[name][model]:.3f}' for model in models)} |")
    keys = ["n", "prevalence", "precision", "recall", "f1", "daf", "fpr", "true_positives", "false_positives", "mae"]
    lines += ["", f"| model | cut | {' | '.join(keys)} |", "|---" * (len(keys) + 2) + "|"]
    for model in models:
        for cut, row in document["discovery"][model].items():
            lines.append(f"| {model} | {cut} | {' | '.join(f'{row[key]:.3g}' for key in keys)} |")
    totals = document["screened in all"]
    lines += ["", f"| screened | {' | '.join(models)} |", "|---" * (len(models) + 1) + "|"]
    for key in totals[models[0]]:
        lines.append(f"| {key} | {' | '.join(str(totals[model][key]) for model in models)} |")
    return "\n".join(lines)


def choose(data_dir: Path, cache_dir: Path, n: int = 60, least: int = 3) -> list[str]:
    """Return systems at random among those with so many ternary compounds."""
    recipe = Recipe.read(ROOT / "recipes" / "irnet17-composition-mp.toml")
    table = load_feature_table(data_dir, recipe.data, recipe.descriptor.name, cache_dir=cache_dir)
    ternary = table.numbers[table.n_elements == 3]
    systems = Counter("-".join(sorted(chemical_symbols[z] for z in row if z)) for row in ternary.tolist())
    return sorted(random.Random(0).sample(sorted(name for name, count in systems.items() if count >= least), n))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs holdout-<recipe>")
    parser.add_argument("--output", type=Path, default=Path("runs/holdout-results"))
    parser.add_argument("--cases", nargs="+", choices=list(SCREENED), default=list(SCREENED))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--choose", action="store_true")
    options = parser.parse_args()
    if options.choose:
        print(*choose(options.data_dir, options.runs / "cache"), sep="\n")
        return
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.cases:
        run(Case.load(name, options.data_dir, options.runs / "cache"), options)


if __name__ == "__main__":
    main()
