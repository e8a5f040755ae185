"""A screening run as a TOML file: the search space, the model, the reference hull, and what is kept."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ase_matprop.errors import MatPropError

Symbols = list[str] | Literal["all"]


class Section(BaseModel):
    """A table of the file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Formulas(Section):
    """All formulas over a list of elements: see :class:`ase_matprop.screening.FormulaSpace`.

    ``elements = "all"`` are those that the model saw in training.
    """

    kind: Literal["formulas"]
    elements: Symbols
    exclude_elements: list[str] = Field(default_factory=list)
    required: list[str] = Field(default_factory=list)
    n_elements: int | list[int] = Field(default_factory=lambda: [2, 3, 4])
    max_atoms: int = 10
    charge_balanced: bool | dict[str, Any] = False
    shard_size: int = Field(default=1_000_000, ge=1)


class Prototypes(Section):
    """Decorations of prototypes: see :class:`ase_matprop.screening.PrototypeSpace`."""

    kind: Literal["prototypes"]
    prototypes: str | list[str]
    elements: Symbols | None = None
    exclude_elements: list[str] = Field(default_factory=list)
    sites: dict[str, list[str]] | None = None
    volume: str | dict[str, float] = "combined"
    volume_factor: float = 1.0
    charge_balanced: bool | dict[str, Any] = False
    shard_size: int = Field(default=20_000, ge=1)


class Substitutions(Section):
    """Structures of one's own with elements replaced: see :class:`ase_matprop.screening.SubstitutionSpace`."""

    kind: Literal["substitutions"]
    files: str | list[str]
    rules: dict[str, list[str]]
    keep_original: bool = False
    partial: bool = True
    volume: str | dict[str, float] = "combined"
    volume_factor: float = 1.0
    shard_size: int = Field(default=20_000, ge=1)


class FormulaTable(Section):
    """Formulas of a table: see :class:`ase_matprop.screening.FormulaList`."""

    kind: Literal["formula-list"]
    file: str
    column: str | None = None
    shard_size: int = Field(default=100_000, ge=1)


class StructureFiles(Section):
    """Structures of files, folders and ASE databases: see :class:`ase_matprop.screening.StructureList`."""

    kind: Literal["structure-list"]
    files: str | list[str]
    shard_size: int = Field(default=2_000, ge=1)


SpaceSection = Annotated[
    Formulas | Prototypes | Substitutions | FormulaTable | StructureFiles, Field(discriminator="kind")
]


class HullSection(Section):
    """The reference hull: a table of formulas and formation energies, entries of pymatgen, or the Materials Project.

    ``elements_at_zero`` adds the elements, whose formation energy is zero by definition, where the table has none.
    """

    file: str | None = None
    materials_project: bool = False
    functional: str | None = None
    elements_at_zero: bool = False
    skip_bad_rows: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) != self.materials_project:
            raise ValueError("give either 'file' or 'materials_project = true', and not both")
        return self


class KeepSection(Section):
    """Which candidates are kept; the others are counted.

    ``e_above_hull``: at most so many eV/atom above the reference hull.  ``below_hull``: at least so many below it, as
    in the thesis of D. Jha, section 3.3.9 (0.2).  ``maximum`` and ``minimum``: of the model's property.
    """

    e_above_hull: float | None = None
    below_hull: float | None = None
    maximum: float | None = None
    minimum: float | None = None

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.e_above_hull is not None and self.below_hull is not None:
            raise ValueError("give either 'e_above_hull' or 'below_hull', and not both")
        if self.below_hull is not None and self.below_hull < 0:
            raise ValueError("'below_hull' is a depth, 0.2 for example, and not negative")
        if None not in (self.minimum, self.maximum) and self.minimum > self.maximum:  # type: ignore[operator]
            raise ValueError("'minimum' is above 'maximum'")
        return self

    def mask(
        self, values: NDArray[np.float64], distances: NDArray[np.float64], margin: float = 0.0
    ) -> NDArray[np.bool_]:
        """Return which candidates are kept, shape (n,).

        Args:
            values: of the model's property, shape (n,).
            distances: to the hull, shape (n,); they count only where a distance is asked for.
            margin: how much worse a candidate may be.
        """
        chosen = np.isfinite(values)
        if self.highest_distance is not None:
            chosen &= distances <= self.highest_distance + margin
        if self.maximum is not None:
            chosen &= values <= self.maximum + margin
        if self.minimum is not None:
            chosen &= values >= self.minimum - margin
        return chosen

    @property
    def highest_distance(self) -> float | None:
        """The largest distance to the hull that is kept, negative below it."""
        return -self.below_hull if self.below_hull is not None else self.e_above_hull


class ScreeningSettings(Section):
    """All of a screening run but where it is computed.

    Attributes:
        space: the candidates.
        model: name of a shipped model, or path of a model folder.
        compare_with: other models of the same property, for the disagreement of those that are kept.
        precision: in which formulas are sieved: ``"bfloat16"``, ``"float32"``, or ``"auto"`` for bfloat16 where the
            machine multiplies it faster.  What is kept is always decided, and written, in float32.
        hull: the reference hull, if there is one.
        keep: what is kept.
        slurm: keyword arguments of ``dask_jobqueue.SLURMCluster`` for ``--slurm``, such as ``cores``, ``memory``,
            ``queue`` and ``walltime``; results do not depend on them.
        folder: where relative paths begin; the folder of the file.
    """

    space: SpaceSection
    model: str = "elemnet-mp"
    compare_with: list[str] = Field(default_factory=list)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    hull: HullSection | None = None
    keep: KeepSection = Field(default_factory=KeepSection)
    slurm: dict[str, Any] = Field(default_factory=dict)
    folder: Path = Field(default=Path(), exclude=True)

    @field_validator("folder")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        return folder.resolve()

    @model_validator(mode="after")
    def _hull_for_distances(self) -> Self:
        if self.hull is None and self.keep.highest_distance is not None:
            raise ValueError("[keep] has a distance to the hull, and there is none; add a table [hull] with its 'file'")
        return self

    @classmethod
    def read(cls, path: str | Path) -> ScreeningSettings:
        """Read a TOML file; paths in it are relative to its folder.

        Raises:
            MatPropError: if the file cannot be read, is no TOML, or has an unknown, missing or wrong key.
        """
        path = Path(path)
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise MatPropError(f"the space file {path} cannot be read ({error.strerror}); check the path") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise MatPropError(
                f"the space file {path} is no TOML: {' '.join(str(error).split())}; correct it"
            ) from None
        return cls.of(content, folder=path.parent, name=str(path))

    @classmethod
    def of(cls, content: dict[str, Any], *, folder: str | Path = ".", name: str = "the settings") -> ScreeningSettings:
        """Return the settings of a dictionary with the content of such a file.

        Raises:
            MatPropError: if a key is unknown, missing or has a wrong value.
        """
        if "folder" in content:
            raise MatPropError(f"{name}: 'folder' is not a key of the file; paths are relative to it")
        try:
            return cls(**content, folder=Path(folder))
        except ValidationError as error:
            raise MatPropError(f"{name}: {_described(error)}") from None

    def path(self, name: str) -> str:
        """Return a path of the file as an absolute one."""
        return str(self.folder / Path(name).expanduser())


_KINDS: dict[str, type[Section]] = {
    "formulas": Formulas, "prototypes": Prototypes, "substitutions": Substitutions, "formula-list": FormulaTable,
    "structure-list": StructureFiles,
}  # fmt: skip
_TABLES: dict[str, type[Section]] = {"": ScreeningSettings, "hull": HullSection, "keep": KeepSection}

#: what pydantic calls the alternatives of a key, in the place of an error
_ALTERNATIVE = re.compile(r"(list|dict|literal|tuple)\[.*\]|str|int|float|bool")


def _described(error: ValidationError) -> str:
    """Return what is wrong in one line, each finding once, with the keys as they are in the file."""
    findings: dict[str, list[str]] = {}
    for entry in error.errors():
        where, table = _place([str(part) for part in entry["loc"]])
        reasons = findings.setdefault(where, [])
        if (reason := _reason(dict(entry), where, table)) not in reasons:
            reasons.append(reason)
    return "; ".join(
        f"{where}: {', or '.join(reasons)}" if where else reasons[0] for where, reasons in findings.items()
    )


def _place(loc: list[str]) -> tuple[str, type[Section] | None]:
    """Return where in the file an error is, and the table with that key."""
    if loc[:1] == ["space"] and loc[1:2] and loc[1] in _KINDS:
        table: type[Section] | None = _KINDS[loc[1]]
        loc = ["space", *loc[2:]]
    else:
        table = _TABLES.get(".".join(loc[:-1]))
    return ".".join(part for part in loc if not _ALTERNATIVE.fullmatch(part)), table


def _reason(entry: dict[str, Any], where: str, table: type[Section] | None) -> str:
    kind, message = entry["type"], entry["msg"]
    if kind == "extra_forbidden" and table is not None:
        known = [name for name in table.model_fields if (table, name) != (ScreeningSettings, "folder")]
        close = difflib.get_close_matches(where.rpartition(".")[2], known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"unknown key; {hint}there are {', '.join(known)}"
    if kind == "value_error":
        return str(entry["ctx"]["error"])
    if kind == "missing":
        return "is missing; add it"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        given = "is missing" if kind == "union_tag_not_found" else f"is {entry['ctx']['tag']!r}"
        return f"its 'kind' {given}; it must be one of {', '.join(_KINDS)}"
    text = message[0].lower() + message[1:]
    return text if isinstance(entry["input"], dict) else f"{text}, not {entry['input']!r}"
