"""What a bug report needs: versions, optional packages, devices, models and folders (``matprop info``)."""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ase_matprop
from ase_matprop.errors import MatPropError

DISTRIBUTION = "ase-matprop"
#: extras for people who work on the package, which say nothing to a user
_INTERNAL_EXTRAS = ("dev", "docs")
#: variables that decide where files are looked for and how many threads are used; no others are shown
_VARIABLES = (
    "MATPROP_DATA",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "PYTORCH_ENABLE_MPS_FALLBACK",
    "TMPDIR",
)


@dataclass(frozen=True)
class Library:
    """A package that is asked for.

    Attributes:
        name: name on PyPI.
        required: versions that are accepted, such as ``>=3.26``; empty for any.
        version: version that is installed, None where there is none.
        accepted: whether the installed version is one of the accepted.
    """

    name: str
    required: str
    version: str | None
    accepted: bool

    def __str__(self) -> str:
        if self.version is None:
            return f"{self.name} missing"
        return f"{self.name} {self.version}" + ("" if self.accepted else f" (needs {self.required})")


@dataclass(frozen=True)
class Device:
    """A device on which torch computes: its name in torch, and what it is."""

    name: str
    description: str


@dataclass(frozen=True)
class ShippedModel:
    """A model folder of the package.

    Attributes:
        name: name of the model.
        n_bytes: size of the folder in bytes.
        problem: why the model cannot be used, None where the card can be read and the weights have its SHA-256.
    """

    name: str
    n_bytes: int
    problem: str | None


@dataclass(frozen=True)
class Environment:
    """What this package runs on; see :func:`describe_environment`.

    Attributes:
        version: version of the imported package.
        installed_version: version that the installation gives; None where the package is only on the path.
        python: version and kind of the interpreter.
        executable: the interpreter's file.
        platform: operating system, release and processor.
        libraries: the packages that are always needed.
        extras: the packages of each optional extra.
        devices: what torch can compute on.
        threads: threads of torch, and cores of this machine and of this process.
        models: the shipped models.
        folders: where things are: package, models, the system's temporary folder.
        variables: environment variables that are set and that matter here.
        problems: what could not be found out, and why.
    """

    version: str
    installed_version: str | None
    python: str
    executable: str
    platform: str
    libraries: list[Library]
    extras: dict[str, list[Library]]
    devices: list[Device]
    threads: dict[str, int | None]
    models: list[ShippedModel]
    folders: dict[str, str]
    variables: dict[str, str]
    problems: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as lists, dictionaries, text and numbers, ready for JSON."""
        return asdict(self)


def describe_environment() -> Environment:
    """Return what this package runs on.

    Nothing of it raises: what is broken is the reason for asking, and stands in ``problems``.
    """
    problems: list[str] = []
    requirements = _requirements(problems)
    devices, threads = _torch(problems)
    package = Path(ase_matprop.__file__).parent
    zoos = [package / "models" / "zoo", package / "diffraction" / "zoo"]
    return Environment(
        version=ase_matprop.__version__,
        installed_version=_version(DISTRIBUTION),
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        executable=sys.executable,
        platform=f"{platform.platform()} ({platform.machine()})",
        libraries=_libraries(requirements.pop("", [])),
        extras={extra: _libraries(needed) for extra, needed in requirements.items()},
        devices=devices,
        threads=threads,
        models=[model for zoo in zoos for model in _models(zoo, problems)],
        folders={"package": str(package), "models": str(zoos[0]), "temporary files": tempfile.gettempdir()},
        variables={name: os.environ[name] for name in _VARIABLES if name in os.environ},
        problems=problems,
    )


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except Exception:  # not installed, or its metadata are damaged
        return None


def _requirements(problems: list[str]) -> dict[str, list[Requirement]]:
    """Return the requirements of this package by extra; those that are always needed have the key ``""``."""
    try:
        own = metadata.metadata(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        problems.append(f"{DISTRIBUTION} is not installed (it is only on the path): its requirements are not known")
        return {}
    extras = [name for name in own.get_all("Provides-Extra") or [] if name not in _INTERNAL_EXTRAS]
    lines = own.get_all("Requires-Dist") or []
    found: dict[str, list[Requirement]] = {"": [], **{extra: [] for extra in sorted(extras)}}
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found[""].append(requirement)
            continue
        for extra in extras:
            if requirement.marker.evaluate({"extra": extra}):
                found[extra].append(requirement)
    return {extra: _without_self_references(extra, found) for extra in found}


def _without_self_references(extra: str, found: dict[str, list[Requirement]]) -> list[Requirement]:
    """Return the requirements of an extra, with those of the extras of this package that it names."""
    result: list[Requirement] = []
    waiting, seen = [extra], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for requirement in found.get(name, []):
            if canonicalize_name(requirement.name) == DISTRIBUTION:
                waiting += sorted(requirement.extras - seen)
            else:
                result.append(requirement)
    return result


def _libraries(requirements: Iterable[Requirement]) -> list[Library]:
    libraries = {}
    for requirement in requirements:
        version = _version(requirement.name)
        accepted = version is not None and requirement.specifier.contains(version, prereleases=True)
        libraries[requirement.name] = Library(requirement.name, str(requirement.specifier), version, accepted)
    return sorted(libraries.values(), key=lambda library: library.name.lower())


def _torch(problems: list[str]) -> tuple[list[Device], dict[str, int | None]]:
    affinity = getattr(os, "sched_getaffinity", None)  # only Linux has it
    threads = {"cores": os.cpu_count(), "cores of this process": None if affinity is None else len(affinity(0))}
    try:
        torch = importlib.import_module("torch")
        devices = [Device("cpu", platform.processor() or platform.machine())]
        for number in range(torch.cuda.device_count()):
            found = torch.cuda.get_device_properties(number)
            memory = f"{found.total_memory / 2**30:.0f} GiB"
            devices.append(Device(f"cuda:{number}", f"{found.name}, {memory}, CUDA {torch.version.cuda}"))
        if torch.backends.mps.is_available():
            devices.append(Device("mps", "Apple GPU"))
        threads |= {"torch": torch.get_num_threads(), "torch, between operations": torch.get_num_interop_threads()}
    except Exception as error:  # a broken torch has many ways to fail, and is to be reported
        problems.append(f"torch cannot be used: {error!r}")
        return [], threads
    return devices, threads


def _models(zoo: Path, problems: list[str]) -> list[ShippedModel]:
    try:
        return [
            ShippedModel(folder.name, sum(file.stat().st_size for file in folder.iterdir()), _problem(folder))
            for folder in sorted(zoo.iterdir())
            if folder.is_dir() and not folder.name.startswith(("_", "."))
        ]
    except OSError as error:
        problems.append(f"the shipped models cannot be read: {error}")
        return []


def _problem(folder: Path) -> str | None:
    try:
        from ase_matprop.diffraction import shipped
        from ase_matprop.models.card import ModelCard

        card = ModelCard.read(folder) if shipped.find_model(folder) is None else shipped.read_card(folder)
        digest = hashlib.sha256((folder / card.weights.file).read_bytes()).hexdigest()
    except (MatPropError, OSError, ImportError) as error:
        return str(error)
    if digest != card.weights.sha256:
        return (
            f"the weights are altered: their SHA-256 is {digest[:12]}..., the card says {card.weights.sha256[:12]}..."
        )
    return None
