"""Going on with what was interrupted: only with the same data and settings, and nothing is left half written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from ase_matprop import load_model
from ase_matprop.errors import FinetuneError
from ase_matprop.finetune import finetune, learning_curve
from ase_matprop.finetune.data import read_data
from ase_matprop.finetune.division import divide
from ase_matprop.finetune.prepared import prepare
from ase_matprop.finetune.starting import claim
from ase_matprop.finetune.writing import write_text
from tests.finetune.alloys import alloys

FEW = {"references": "none", "epochs": 1, "from_scratch": False, "force": True}


def stretched(atoms: Atoms) -> Atoms:
    """Another structure with the same energy and forces."""
    copy = atoms.copy()
    copy.set_cell(copy.cell * 1.02, scale_atoms=True)
    copy.calc = SinglePointCalculator(copy, **atoms.calc.results)
    return copy


def others(data: list[Atoms]) -> dict[str, list[Atoms]]:
    """Data whose targets are those of ``data``, and which are not the same."""
    named = [atoms.copy() for atoms in data]
    for number, (copy, atoms) in enumerate(zip(named, data, strict=True)):
        copy.info["name"] = f"run {number}"
        copy.calc = atoms.calc
    return {"structures": [stretched(atoms) for atoms in data], "names": named}


def test_other_inputs_are_refused(metal_schnet: Path, tmp_path: Path) -> None:
    data, output = alloys(12), tmp_path / "out"
    first = finetune(metal_schnet, data, output=output, **FEW)
    with pytest.raises(FinetuneError, match="made of other data or settings"):
        finetune(metal_schnet, data, output=output, forces=True, resume=True, **FEW)
    for other in others(data).values():
        with pytest.raises(FinetuneError, match="made of other data or settings"):
            finetune(metal_schnet, other, output=output, resume=True, **FEW)
    again = finetune(metal_schnet, data, output=output, resume=True, **FEW)
    assert again.errors == first.errors


def test_other_inputs_of_a_learning_curve_are_refused(metal_schnet: Path, tmp_path: Path) -> None:
    data, output = alloys(12), tmp_path / "curve"
    options = {"references": "none", "sizes": [8], "rounds": [1], "repeats": 1}
    learning_curve(metal_schnet, data, output, **options)
    for other in others(data).values():
        with pytest.raises(FinetuneError, match="made of other data or settings"):
            learning_curve(metal_schnet, other, output, resume=True, **options)
    runs = [atoms.copy() for atoms in data]  # the same rows, in other groups
    for copy, atoms in zip(runs, data, strict=True):
        copy.calc = atoms.calc
    learning_curve(metal_schnet, runs, output, resume=True, **options)


def test_groups_are_part_of_what_is_resumed(metal_schnet: Path, tmp_path: Path) -> None:
    """The same rows as frames of other runs are divided otherwise."""
    data = alloys(12, elements=("Cu", "Au"))
    for number, atoms in enumerate(data):
        atoms.symbols = "Cu3Au"
        atoms.set_cell(atoms.cell * (1.0 + 0.08 * (number // 3)), scale_atoms=True)
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
        atoms.info["run"] = f"run {number // 3}"
    finetune(metal_schnet, data, output=tmp_path / "out", **FEW)
    for number, atoms in enumerate(data):
        atoms.info["run"] = f"run {number % 6}"
    with pytest.raises(FinetuneError, match="made of other data or settings"):
        finetune(metal_schnet, data, output=tmp_path / "out", resume=True, **FEW)


def test_an_interruption_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "finetune.json"
    claim(tmp_path, {"a": 1}, file=path.name, what="fine-tuning", resume=False)
    before = path.stat().st_mtime_ns
    claim(tmp_path, {"a": 1}, file=path.name, what="fine-tuning", resume=True)
    assert path.stat().st_mtime_ns == before  # what is the same is not written again

    def stop(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "half")
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize("name", ["schnet-mp", "deeper/irnet17-mp"])
def test_names_of_shipped_models_are_refused(metal_schnet: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(FinetuneError, match="has the name of a shipped model"):
        finetune(metal_schnet, alloys(12), output=tmp_path / name, **FEW)
    assert not (tmp_path / name).exists()


def test_elements_are_those_that_were_learnt_from(metal_schnet: Path, labelled: list[Atoms], tmp_path: Path) -> None:
    """An element of held-out rows only is none that the model knows."""
    data = [atoms for atoms in labelled if "Pt" not in atoms.symbols]
    for n in (1, 2):
        atoms = bulk("Pt", cubic=True)
        atoms.symbols[:n] = "Cu"
        atoms.info["formation_energy_per_atom"] = -0.1
        data.append(atoms)
    prepared = prepare(read_data(data), load_model(metal_schnet))
    last = {len(data) - 2, len(data) - 1}
    seed = next(s for s in range(200) if last <= set(divide(prepared, test=0.2, validation=0.1, seed=s).test))
    options = {"epochs": 1, "from_scratch": False, "force": True, "seed": seed}
    result = finetune(metal_schnet, data, output=tmp_path / "out", **options)
    assert "Pt" not in result.card.elements and "Cu" in result.card.elements
    assert "Pt" in load_model(tmp_path / "out").predict([data[-1]]).errors[0]
