"""What the package is shipped as: metadata, files, CITATION.cff, Dockerfile, conda recipe.

That the wheel and the source archive build and work is checked in .ci/run, with .ci/check_distributions.py.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import re
import shlex
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

import ase_matprop
from ase_matprop.featurizers.citations import bibtex

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_entry_points() -> None:
    (script,) = [each for each in metadata.entry_points(group="console_scripts") if each.name == "matprop"]
    assert script.load() is ase_matprop.cli.app
    (plugin,) = [each for each in metadata.entry_points(group="ase.plugins") if each.name == "ase_matprop"]
    assert plugin.load().__name__ == "ase_matprop.ase_plugin"


def test_metadata() -> None:
    found = metadata.metadata("ase-matprop")
    assert found["Version"] == ase_matprop.__version__ and found["License-Expression"] == "MIT"
    assert found["Requires-Python"] == ">=3.11" and "Typing :: Typed" in found.get_all("Classifier")
    assert "Home-page" not in found and not found.get_all("Project-URL")  # there is no public address


def test_extras() -> None:
    assert {"export", "onnx", "screening"} <= EXTRAS.keys()
    assert EXTRAS["onnx"] == ["ase-matprop[export]"]
    # who works on the package has all that its tests use
    dev = {Requirement(line).name for line in EXTRAS["dev"]}
    for extra in ("export", "screening", "slurm", "workflows", "fast", "parquet"):
        assert {Requirement(line).name for line in EXTRAS[extra]} <= dev


def test_one_package_is_asked_for_in_one_version_range() -> None:
    ranges: dict[str, set[str]] = {}
    for line in [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]:
        requirement = Requirement(line)
        ranges.setdefault(requirement.name.lower(), set()).add(str(requirement.specifier))
    assert {name: each for name, each in ranges.items() if len(each) > 1} == {}


def test_data_files_are_packaged() -> None:
    """Every file below ase_matprop/ that is no module fits a pattern of package-data."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    patterns = [
        f"{package.replace('.', '/')}/{pattern}" for package, patterns in settings.items() for pattern in patterns
    ]
    try:
        listed = subprocess.run(
            ["git", "ls-files", "ase_matprop"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the git repository")
    data = [name for name in listed.stdout.splitlines() if not name.endswith(".py")]
    assert len(data) > 20
    assert [name for name in data if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)] == []


# CITATION.cff: the keys that the schema 1.2.0 asks for (citation-file-format, schema guide)


@pytest.fixture(scope="module")
def citation() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_citation_has_what_its_schema_asks_for(citation: dict[str, Any]) -> None:
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert all(citation[key] for key in ("authors", "message", "title"))
    assert str(citation["version"]) == ase_matprop.__version__ and citation["license"] == PROJECT["license"]
    for reference in citation["references"]:
        assert reference["type"] in ("article", "thesis") and reference["title"]
        assert all({"family-names", "given-names"} == set(author) for author in reference["authors"])
        assert isinstance(reference["year"], int)
        assert re.fullmatch(r"10\.\d{4,9}/\S+", reference.get("doi", "10.1234/none"))


def test_the_four_papers_are_cited(citation: dict[str, Any]) -> None:
    first = [(each["authors"][0]["family-names"], each["year"]) for each in citation["references"]]
    assert first[:4] == [("Jha", 2021), ("Krajewski", 2022), ("Jha", 2020), ("Krawczuk", 2020)]
    readme = (ROOT / "README.md").read_text()
    for reference in citation["references"]:
        assert reference.get("doi", "") in readme


def test_references_agree_with_the_bibliography(citation: dict[str, Any]) -> None:
    """The authors, titles and years are those that the featurizers cite."""
    with_doi = [reference for reference in citation["references"] if "doi" in reference]
    assert len(with_doi) == 4
    for reference in with_doi:
        entry = bibtex(reference["doi"]).replace("{", "").replace("}", "")
        authors = " and ".join(f"{each['family-names']}, {each['given-names']}" for each in reference["authors"])
        assert authors in entry and str(reference["year"]) in entry and reference["start"] in entry
        assert " ".join(reference["title"].split()).lower() in " ".join(entry.split()).lower()


# Dockerfile


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines()]


def test_dockerfile_copies_what_exists_and_is_sent(instructions: list[tuple[str, str]]) -> None:
    sent = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = [shlex.split(value) for kind, value in instructions if kind == "COPY" and not value.startswith("--from")]
    sources = [source for arguments in copied for source in arguments[:-1]]
    assert "ase_matprop" in sources and all((ROOT / source).exists() for source in sources)
    assert set(sources) <= sent
    # what the build of the package reads
    assert {"pyproject.toml", *PROJECT["license-files"], PROJECT["readme"]} <= set(sources)


def test_dockerfile_runs_as_somebody_and_installs_the_tested_versions(instructions: list[tuple[str, str]]) -> None:
    kinds = [kind for kind, _ in instructions]
    assert [value for kind, value in instructions if kind == "USER"] == ["1000"]
    assert kinds.index("USER") < kinds.index("ENTRYPOINT") and ("ENTRYPOINT", '["matprop"]') in instructions
    installs = [value for kind, value in instructions if kind == "RUN" and "pip install" in value]
    assert len(installs) == 2 and "-c constraints.txt" in installs[1] and "TORCH_INDEX" in installs[0]
    (torch,) = re.findall(r"^torch==.+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert Requirement(torch).name == "torch"  # what grep of the first one finds
    (default,) = [value for kind, value in instructions if kind == "ARG" and value.startswith("PYTHON=")]
    assert f"Programming Language :: Python :: {default.removeprefix('PYTHON=')}" in PROJECT["classifiers"]


# conda


def test_conda_recipe_is_that_of_the_project() -> None:
    tool = load(ROOT / ".conda" / "build_recipe.py")
    assert tool.RECIPE.read_text() == tool.recipe(), "run: python .conda/build_recipe.py"


def test_conda_recipe() -> None:
    text = (ROOT / ".conda" / "recipe.yaml").read_text()
    recipe = yaml.safe_load(text)
    assert recipe["context"]["version"] == ase_matprop.__version__
    run = [line.split()[0] for line in recipe["requirements"]["run"]]
    assert len(run) == len(PROJECT["dependencies"]) + 1  # and Python
    assert {"pytorch", "freud", "matplotlib-base"} <= set(run) and not {"torch", "freud-analysis"} & set(run)
    assert "schnetpack >=2.0.4,!=2.1.0,!=2.1.1" in recipe["requirements"]["run"]
    assert "plotly >=6.4,<7" in recipe["requirements"]["run_constraints"]
    assert not any("ase-matprop" in line for line in recipe["requirements"]["run_constraints"])


def test_conda_names() -> None:
    tool = load(ROOT / ".conda" / "build_recipe.py")
    assert tool.conda_requirement("torch>=2.4") == "pytorch >=2.4"
    assert tool.conda_requirement("pyFAI >= 2025.3, <2026") == "pyfai >=2025.3,<2026"
    assert tool.conda_requirement("dask[array]>=1; python_version > '3'") == "dask >=1"
    assert tool.conda_requirement("numba") == "numba"
