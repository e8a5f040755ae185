"""Write .conda/recipe.yaml from pyproject.toml: the requirements with their names on conda-forge.

    python .conda/build_recipe.py

The recipe is in the format of rattler-build (schema 1), which conda-forge takes.  Packages of the extras are not
installed, but held to the versions that the extras ask for (``run_constraints``).
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECIPE = Path(__file__).with_name("recipe.yaml")

#: name on PyPI -> name on conda-forge, where it is another one
CONDA_NAMES = {
    "freud-analysis": "freud",
    "matplotlib": "matplotlib-base",
    "torch": "pytorch",
}
#: extras for people who work on the package
_INTERNAL_EXTRAS = ("dev", "docs")

_TEMPLATE = """\
# Written by .conda/build_recipe.py from pyproject.toml; do not edit.
#
# rattler-build build --recipe .conda/recipe.yaml --channel conda-forge
#
# conda-forge has no schnetpack 2.0.4, and 2.2 needs Python 3.12: that is what the solver takes.
# A feedstock would take the source archive of a release in place of the path, and add addresses under about.
schema_version: 1

context:
  version: "{version}"
  python_min: "{python_min}"

package:
  name: ase-matprop
  version: ${{{{ version }}}}

source:
  path: ..
  use_gitignore: true

build:
  number: 0
  noarch: python
  script: ${{{{ PYTHON }}}} -m pip install . -vv --no-deps --no-build-isolation
  python:
    entry_points:
{entry_points}

requirements:
  host:
    - python ${{{{ python_min }}}}.*
    - pip
{host}
  run:
    - python >=${{{{ python_min }}}}
{run}
  run_constraints:
{constraints}

tests:
  - python:
      imports:
        - ase_matprop
        - ase_matprop.cli
      pip_check: true
  - script:
      - matprop --version
      - matprop models verify
      - matprop predict MgO Fe2O3 --model elemnet-mp

about:
  summary: {summary}
  license: MIT
  license_file: LICENSE
"""


def conda_requirement(requirement: str) -> str:
    """Return a requirement of pyproject.toml as conda writes it: ``torch>=2.4`` becomes ``pytorch >=2.4``."""
    name, versions = re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?\s*([^;]*)(?:;.*)?", requirement).groups()
    return f"{CONDA_NAMES.get(name.lower(), name.lower())} {versions.replace(' ', '')}".strip()


def recipe() -> str:
    """Return the text of the recipe."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = settings["project"]
    version = re.search(r'^__version__ = "(.+)"', (ROOT / "ase_matprop" / "__init__.py").read_text("utf-8"), re.M)[1]
    optional = [
        requirement
        for extra, requirements in project["optional-dependencies"].items()
        if extra not in _INTERNAL_EXTRAS
        for requirement in requirements
        if not requirement.startswith(project["name"])  # an extra that stands for another one
    ]
    run = sorted(map(conda_requirement, project["dependencies"]))
    names = {requirement.split()[0] for requirement in run}
    constraints = sorted({each for each in map(conda_requirement, optional) if each.split()[0] not in names})

    def lines(items: list[str], indent: int) -> str:
        return "\n".join(f"{' ' * indent}- {item}" for item in items)

    return _TEMPLATE.format(
        version=version,
        python_min=project["requires-python"].removeprefix(">="),
        entry_points=lines([f"{name} = {target}" for name, target in project["scripts"].items()], 6),
        host=lines(sorted(map(conda_requirement, settings["build-system"]["requires"])), 4),
        run=lines(run, 4),
        constraints=lines(constraints, 4),
        summary=project["description"],
    )


if __name__ == "__main__":
    RECIPE.write_text(recipe(), encoding="utf-8")
