"""What is refused is refused before anything is written, in words that say what to do on the command line too."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from ase import Atoms

from ase_matprop.errors import FinetuneError, MatPropError, UnknownNameError
from ase_matprop.finetune import finetune, learning_curve
from ase_matprop.finetune.data import read_data
from ase_matprop.finetune.reasons import grouped, used
from ase_matprop.finetune.schemes import get_scheme
from ase_matprop.finetune.starting import claim
from ase_matprop.training.trainer import check_device

FEW = {"epochs": 1, "from_scratch": False, "force": True}


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"test": 1.5},
        {"test": 0.0},
        {"folds": 1},
        {"folds": 1000},
        {"folds": 3, "validation": -1.0},
        {"device": "foo"},
        {"device": "cuda"},
    ],
)
def test_a_wrong_setting_leaves_no_folder(
    metal_schnet: Path, labelled: list[Atoms], tmp_path: Path, wrong: dict, no_gpu: None
) -> None:
    with pytest.raises(MatPropError, match="test|folds|validation|device"):
        finetune(metal_schnet, labelled, output=tmp_path / "out", **FEW, **wrong)
    assert not (tmp_path / "out").exists()
    if "folds" not in wrong:
        with pytest.raises(MatPropError, match="test|device"):
            learning_curve(metal_schnet, labelled, tmp_path / "out", sizes=[8], rounds=[1], repeats=1, **wrong)
    assert not (tmp_path / "out").exists()


def test_rows_that_cannot_be_divided_leave_no_folder(metal_schnet: Path, calculated: list[Atoms], tmp_path: Path):
    """Fitted references that the few rows of a small size do not determine are found before anything is trained."""
    with pytest.raises(FinetuneError, match="reference energies .* determine; give more rows.*--references table.csv"):
        learning_curve(metal_schnet, calculated, tmp_path / "out", sizes=[4, 20], rounds=[1], references="fitted")
    assert not (tmp_path / "out").exists()


def test_devices(no_gpu: None) -> None:
    check_device("cpu")
    check_device("auto")
    with pytest.raises(MatPropError, match="must be cpu, cuda or auto. Got 'foo'"):
        check_device("foo")
    with pytest.raises(MatPropError, match="finds no GPU; train with device='cpu' .--device cpu."):
        check_device("cuda")


def test_a_folder_in_which_nothing_was_made_is_free(tmp_path: Path) -> None:
    for number in range(2):
        claim(tmp_path / "out", {"a": number}, file="finetune.json", what="fine-tuning", resume=False)
    assert '"a": 1' in (tmp_path / "out" / "finetune.json").read_text()
    (tmp_path / "out" / "runs.db").touch()
    with pytest.raises(FinetuneError, match=r"not empty.*resume=True \(--resume\)"):
        claim(tmp_path / "out", {"a": 1}, file="finetune.json", what="fine-tuning", resume=False)


def test_outputs_that_cannot_be_written(labelled: list[Atoms], metal_schnet: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "deeper", Path("/proc/foo")):
        with pytest.raises(FinetuneError, match=f"the output {place} cannot be written .*; choose a folder"):
            finetune(metal_schnet, labelled, output=place, **FEW)
    with pytest.raises(FinetuneError, match="is a file; give the name of a folder"):
        learning_curve(metal_schnet, labelled, tmp_path / "file")


def test_output_inside_of_the_data(metal_schnet: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in (finetune, learning_curve):
        with pytest.raises(FinetuneError, match="lies in the folder of data .*; choose one beside it"):
            run(metal_schnet, str(project), output=project / "deeper" / "out")
    monkeypatch.chdir(project)
    with pytest.raises(FinetuneError, match="lies in the folder of data"):
        finetune(metal_schnet, [Path("elements"), Path()], output="out")
    assert not (project / "out").exists() and not (project / "deeper").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty; give a table"),
        (b"formula,e\n\xb5-FeO,-1.0\n", "is not encoded in UTF-8"),
        (b'formula,e\nFeO,-1.0\n"Fe2O3,1,2,3\nx', "cannot be read as a CSV table"),
        (b"formula,e\nFeO,-1.0\nFe2O3,-1.0,5,6\n", "cannot be read as a CSV table"),
        (b"material,e\nFeO,-1.0\n", "lab.csv needs a column named .* it has 'material', 'e'"),
    ],
)
def test_broken_tables(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "lab.csv").write_bytes(content)
    with pytest.raises(FinetuneError, match=f"lab.csv.*{words}" if "lab" not in words else words):
        read_data(tmp_path / "lab.csv", needs_structure=False)


def test_broken_compressed_table(tmp_path: Path) -> None:
    for ending in ("gz", "xz", "bz2"):
        (tmp_path / f"lab.csv.{ending}").write_bytes(b"no such thing")
        with pytest.raises(FinetuneError, match="lab.csv.* cannot be read as a CSV table"):
            read_data(tmp_path / f"lab.csv.{ending}", needs_structure=False)


def test_empty_frame() -> None:
    with pytest.raises(FinetuneError, match="it has no columns"):
        read_data(pd.DataFrame(), needs_structure=False)


def test_no_arbitrary_guess_of_a_scheme() -> None:
    for name in ("TL9", "3"):
        with pytest.raises(UnknownNameError) as caught:
            get_scheme(name)
        assert "Did you mean" not in str(caught.value) and "last_layers for TL3" in str(caught.value)


def test_reasons_are_grouped_and_counted() -> None:
    rejected = {
        f"structure {row}": f"structure {row}: an energy of -{row}e6 eV is wrong; correct it" for row in range(3)
    }
    rejected |= {"run a": "no number 'e_form'"} | {f"x{n}": f"other reason {'abc'[n]}" for n in range(3)}
    text = grouped(rejected)
    assert text.startswith("3 rows such as structure 0: an energy of -0e6 eV is wrong; correct it | run a: no number")
    assert text.endswith("1 more row for other reasons")
    assert "correct it" not in grouped(rejected, short=True)
    assert used(41, {"a": "cut off", "b": "cut off"}) == "41 of 43 rows used, 2 rejected: 2 rows such as a: cut off"
    assert used(1, {}) == "1 of 1 row used"


def test_too_few_rows_have_all_reasons(metal_schnet: Path, labelled: list[Atoms], tmp_path: Path) -> None:
    data = [atoms.copy() for atoms in labelled[:12]]
    for row, atoms in enumerate(data[:9]):
        if row < 4:
            atoms.info.clear()
        else:
            atoms.symbols[0] = "Na"
            atoms.symbols[1:] = "Na"
    with pytest.raises(FinetuneError, match="3 rows can be used.*9 were left out: 5 rows such as.*Na.*4 rows such as"):
        finetune(metal_schnet, data, output=tmp_path / "out")


def test_all_rows_without_references_have_all_reasons(calculated: list[Atoms]) -> None:
    with pytest.raises(MatPropError, match="Three remedies.*None of the 30 rows can be used: .* rows such as"):
        read_data(calculated, references={"Fe": -8.0})
