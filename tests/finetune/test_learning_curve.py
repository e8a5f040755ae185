"""Errors on the same held-out rows against the number of rows that were learnt from."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase import Atoms

from ase_matprop import load_model
from ase_matprop.errors import FinetuneError, UnknownNameError
from ase_matprop.finetune import finetune, learning_curve
from ase_matprop.finetune.curve_summary import KEYS, MEASURED, outlook, summarize
from ase_matprop.finetune.curves import choose
from ase_matprop.finetune.data import read_data
from ase_matprop.finetune.division import divide
from ase_matprop.finetune.evaluation import SHIFTED, SOURCE
from ase_matprop.finetune.prepared import prepare


def test_table_and_files(metal_schnet: Path, labelled: list[Atoms], tmp_path: Path) -> None:
    done: list[tuple[int, int | None]] = []
    result = learning_curve(
        metal_schnet,
        labelled,
        tmp_path / "curve",
        sizes=[8, 16],
        schemes=("TL3", "scratch"),
        learning_rate_fractions=(0.1, 1),
        rounds=[1, 2],
        repeats=2,
        progress=lambda n, total=None: done.append((n, total)),
    )
    n_trainings = (2 * 2 + 2) * 2 * 2  # scheme x rate x rounds, sizes, repeats; no rate from scratch
    assert done == [(n, n_trainings) for n in range(1, n_trainings + 1)]
    runs = result.runs
    assert len(runs) == n_trainings + 4 + 1  # shifted, and the source as it is
    assert not runs.duplicated(list(KEYS)).any()
    assert runs["mae"].notna().all() and (runs.loc[runs["rows"] > 0, "validation_rows"] > 0).all()
    trained = runs[runs["rows"] > 0]
    assert (trained["train_rows"] + trained["validation_rows"] == trained["rows"]).all()
    assert set(runs["scheme"]) == {"TL3", "scratch", "shifted", "source"}
    rates = runs[runs["scheme"] == "TL3"].groupby("learning_rate_fraction")["learning_rate"].first()
    assert rates.to_dict() == pytest.approx({0.1: 1e-4, 1.0: 1e-3})
    # what is not trained is what finetune measures of it, on the same rows
    reference = finetune(metal_schnet, labelled, output=tmp_path / "out", epochs=1, from_scratch=False, force=True)
    assert runs.loc[runs["scheme"] == "source", "mae"].item() == pytest.approx(reference.errors[SOURCE].mae)
    assert reference.errors[SHIFTED].mae > 0
    summary = result.summary
    one = summary[(summary["scheme"] == "TL3") & (summary["rows"] == 16) & (summary["learning_rate_fraction"] == 0.1)]
    of_runs = runs[(runs["scheme"] == "TL3") & (runs["rows"] == 16) & (runs["learning_rate_fraction"] == 0.1)]
    for rounds, part in of_runs.groupby("rounds"):
        row = one[one["rounds"] == rounds].iloc[0]
        assert row["repeats"] == 2 and row["mae"] == pytest.approx(part["mae"].mean())
        assert row["mae_std"] == pytest.approx(part["mae"].std())
    folder = result.output
    assert {path.name for path in folder.iterdir()} == {
        "learning_curve.csv",
        "learning_curve.json",
        "learning_curve.png",
        "learning_curve_settings.json",
    }
    content = json.loads((folder / "learning_curve.json").read_text())
    assert content["outlook"] == result.outlook and len(content["summary"]) == len(summary)
    assert content["held_out_rows"] + content["rows"] == 30


def test_resume(metal_schnet: Path, labelled: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"sizes": [8, 16], "rounds": [2], "schemes": ["TL3"], "repeats": 1}
    whole = learning_curve(metal_schnet, labelled, tmp_path / "whole", **options)

    class Stopped(Exception):
        pass

    def stop(done: int, total: int | None = None) -> None:
        raise Stopped

    output = tmp_path / "curve"
    with pytest.raises(Stopped):
        learning_curve(metal_schnet, labelled, output, progress=stop, **options)
    table = output / "learning_curve.csv"
    assert len(pd.read_csv(table)) == 4  # the source, two shifted, one trained
    with table.open("a") as stream:
        stream.write("TL3,0.1,2,16")  # cut off
    trained = []
    import ase_matprop.finetune.curves as module

    original = module.adapt
    monkeypatch.setattr(module, "adapt", lambda *a, **k: trained.append(1) or original(*a, **k))
    resumed = learning_curve(metal_schnet, labelled, output, resume=True, **options)
    assert len(trained) == 1
    pd.testing.assert_frame_equal(resumed.runs, whole.runs)
    # more can be added; what is there is not repeated
    more = learning_curve(metal_schnet, labelled, output, resume=True, **{**options, "repeats": 2})
    assert len(trained) == 3 and len(more.runs) == len(whole.runs) + 4


def test_folder_in_use(metal_schnet: Path, labelled: list[Atoms], tmp_path: Path) -> None:
    output = tmp_path / "curve"
    options = {"sizes": [8], "rounds": [1], "schemes": ["TL3"], "repeats": 1}
    learning_curve(metal_schnet, labelled, output, **options)
    with pytest.raises(FinetuneError, match="is not empty"):
        learning_curve(metal_schnet, labelled, output, **options)
    with pytest.raises(FinetuneError, match="something else than this learning curve"):
        learning_curve(metal_schnet, labelled[:-1], output, resume=True, **options)
    with pytest.raises(FinetuneError, match="something else than this learning curve"):
        learning_curve(metal_schnet, labelled, output, resume=True, seed=1, **options)


def test_choice_of_rows(metal_schnet: Path, labelled: list[Atoms]) -> None:
    prepared = prepare(read_data(labelled), load_model(metal_schnet))
    part = divide(prepared, test=0.2, validation=0.1, seed=0)
    pool = np.sort(np.concatenate([part.train, part.validation]))
    choices = [choose(prepared, pool, size, 5) for size in (4, 9, 17, len(pool))]
    for smaller, larger in itertools.pairwise(choices):
        assert set(smaller) < set(larger)
    assert choices[-1].tolist() == pool.tolist()
    assert set(choose(prepared, pool, 9, 5)) != set(choose(prepared, pool, 9, 6))
    for chosen in choices:  # at most one group is cut
        cut = [g for g in np.unique(prepared.groups[chosen]) if (prepared.groups[pool] == g).sum() != (
            prepared.groups[chosen] == g
        ).sum()]  # fmt: skip
        assert len(cut) <= 1
        assert set(prepared.groups[chosen]).isdisjoint(prepared.groups[part.test])


def test_default_sizes_are_halves(small_model: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        [(f"{m}{a}O{b}", -0.1 * b) for m in ("Fe", "Mg", "Na") for a in range(1, 6) for b in range(1, 6)],
        columns=["formula", "formation_energy_per_atom"],
    )
    result = learning_curve(small_model, frame, tmp_path / "curve", rounds=[1], repeats=1, schemes=["TL3"])
    sizes = result.summary.loc[result.summary["scheme"] == "TL3", "rows"].tolist()
    assert len(sizes) > 2 and all(larger // 2 == smaller for smaller, larger in itertools.pairwise(sizes))
    assert min(sizes) >= 8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sizes": [8, 1000]}, "the sizes must be whole numbers from 4 to"),
        ({"sizes": []}, "no size was given"),
        ({"repeats": 0}, "repeats must be positive"),
        ({"rounds": [0]}, "max_epochs"),
        ({"learning_rate_fractions": [-1.0]}, "learning_rate"),
        ({"schemes": []}, "no scheme was given"),
    ],
)
def test_wrong_options(small_model: Path, tmp_path: Path, options: dict, words: str) -> None:
    frame = pd.DataFrame(
        [(f"Fe{a}O{b}", -0.1 * b) for a in range(1, 6) for b in range(1, 6)],
        columns=["formula", "formation_energy_per_atom"],
    )
    with pytest.raises(FinetuneError, match=words):
        learning_curve(small_model, frame, tmp_path / "curve", **options)
    with pytest.raises(UnknownNameError, match="TL9"):
        learning_curve(small_model, frame, tmp_path / "curve", schemes=["TL9"])
    assert not (tmp_path / "curve").exists()


def table(errors: dict[int, list[float]], *, source: float = 1.0, shifted: float = 0.9) -> pd.DataFrame:
    """A table of trainings with the given errors by number of rows and repeat."""
    entries = [("TL1", 0.1, n, repeat, e) for n, many in errors.items() for repeat, e in enumerate(many)]
    entries += [("shifted", np.nan, n, repeat, shifted) for n, many in errors.items() for repeat in range(len(many))]
    entries.append(("source", np.nan, 0, 0, source))
    rows = [
        dict.fromkeys(MEASURED, np.nan)
        | {"scheme": s, "learning_rate_fraction": f, "rounds": np.nan, "rows": n, "repeat": r, "mae": e, "median": e}
        for s, f, n, r, e in entries
    ]
    return pd.DataFrame(rows)


def said(runs: pd.DataFrame) -> str:
    return " ".join(outlook(runs, summarize(runs), "eV/atom"))


def test_outlook_of_a_power_law() -> None:
    """Error 0.8 / sqrt(rows): each doubling takes off 1 - 1 / sqrt(2) = 29%."""
    runs = table({n: [0.8 / n**0.5] * 2 for n in (25, 50, 100, 200)})
    text = said(runs)
    assert "Each doubling of the rows lowered the error by 29% (from 0.1600 with 25 to 0.0566 eV/atom with 200)" in text
    assert "to 400 rows, would bring 0.0400 eV/atom (0.0400 to 0.0400 by the single repeats)" in text
    assert "extrapolation" in text and "sizes only" not in text
    assert "below that of the source as it is, 1.0000 eV/atom" in text


def test_outlook_of_little() -> None:
    assert "One number of rows says nothing" in said(table({25: [0.5]}))
    assert "rests on 2 sizes only" in said(table({25: [0.5], 50: [0.4]}))
    assert "no reason to expect that more rows" in said(table({25: [0.4], 50: [0.5]}))
    assert "NOT below that of the source" in said(table({25: [0.4], 50: [0.3]}, source=0.1))
    assert "training its weights brought nothing" in said(table({25: [0.4], 50: [0.3]}, shifted=0.2))


def test_outlook_says_that_the_best_was_chosen() -> None:
    one = table({25: [0.4], 50: [0.3]})
    assert "It was chosen out of" not in said(one)
    other = one.assign(scheme=one["scheme"].replace("TL1", "TL3"), mae=one["mae"] + 0.1)
    both = pd.concat([one, other[other["scheme"] == "TL3"]], ignore_index=True)
    assert "It was chosen out of 2 by this same error on the held-out rows" in said(both)


def test_outlook_leaves_out_where_the_start_was_kept() -> None:
    """The error of the untrained start, 1.0, at 10 rows; then 0.8 / sqrt(rows)."""
    runs = table({n: [0.8 / n**0.5] * 2 for n in (10, 25, 50, 100, 200)})
    at_start = (runs["scheme"] == "TL1") & (runs["rows"] == 10)
    runs = runs.assign(mae=runs["mae"].mask(at_start, 1.0), kept_start=at_start.astype(float))
    assert "With 10 rows no epoch was better than the untrained start" in said(runs)
    assert "by 29% (from 0.1600 with 25 to 0.0566 eV/atom with 200)" in said(runs)
    assert "would bring 0.0400 eV/atom (0.0400 to 0.0400 by" in said(runs)
    assert "No size is left" in said(runs.assign(kept_start=1.0))
    assert "by 29%" not in said(runs.drop(columns="kept_start")) and "no epoch" not in said(runs.assign(kept_start=0.0))


def test_kept_start_is_in_the_table(metal_schnet: Path, labelled: list[Atoms], tmp_path: Path) -> None:
    data = [atoms.copy() for atoms in labelled]
    for atoms, value in zip(data, load_model(metal_schnet).predict(data).values, strict=True):
        atoms.info = {"formation_energy_per_atom": float(value)}
    options = {"sizes": [8, 16], "rounds": [1], "repeats": 1}
    result = learning_curve(metal_schnet, data, tmp_path / "curve", **options)
    assert result.runs.loc[result.runs["scheme"] == "TL1", "kept_start"].tolist() == [1, 1]
    assert "With 8 and 16 rows no epoch was better" in " ".join(result.outlook)
    path = tmp_path / "curve" / "learning_curve.csv"
    whole = path.read_text()
    path.write_text("\n".join(line.rpartition(",")[0] for line in whole.splitlines()) + "\n")  # of an older version
    again = learning_curve(metal_schnet, data, tmp_path / "curve", resume=True, **{**options, "repeats": 2})
    assert len(again.runs) == len(result.runs) + 4 and again.runs["kept_start"].sum() == 2
