"""What a process needs to score shards: space, model and hull, built once from the settings."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ase_matprop.errors import MatPropError, UnknownElementError
from ase_matprop.models import Predictor
from ase_matprop.models.card import ModelCard
from ase_matprop.models.registry import find_model
from ase_matprop.models.sharing import shared_model
from ase_matprop.screening import settings as sections
from ase_matprop.screening.hull.facets import ReferenceHull
from ase_matprop.screening.hull.origins import functional_warning
from ase_matprop.screening.hull.references import References, read_references
from ase_matprop.screening.scoring import MARGIN_RULE, FormulaScorer, sieve_margin
from ase_matprop.screening.settings import ScreeningSettings
from ase_matprop.screening.spaces.base import FormulaBlock, Space
from ase_matprop.screening.spaces.formulas import FormulaSpace
from ase_matprop.screening.spaces.lists import FormulaList, StructureList
from ase_matprop.screening.spaces.prototypes import PrototypeSpace
from ase_matprop.screening.spaces.substitutions import SubstitutionSpace

ENERGY = "formation_energy_per_atom"

#: results that were made by code that gives other ones are not mixed
_VERSION = 2

_FORMULAS_COMPARED = 8192  # for the margin of the sieve
_FEWEST_COMPARED = 1024
_SIZES_OF_LISTS = (1, 2, 3, 4, 5)


@dataclass(frozen=True, eq=False)
class Engine:
    """Space, model and hull of a screening run.

    Attributes:
        settings: the settings.
        space: the candidates.
        predictor: the model, in float32.
        hull: the reference hull, or None.
        precision: in which formulas are sieved.
        known_margin: the :attr:`margin` of the run, None where it is not known yet.
    """

    settings: ScreeningSettings
    space: Space
    predictor: Predictor
    hull: ReferenceHull | None
    precision: str
    known_margin: float | None = None

    @classmethod
    def build(cls, settings: ScreeningSettings, device: str = "cpu") -> Engine:
        """Load and check everything.

        Args:
            settings: the settings.
            device: torch device of the network; ``"auto"`` for a GPU where there is one.

        Raises:
            MatPropError: if the parts cannot be had, or do not go together.
        """
        _check_cut(settings)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        predictor = shared_model(
            model_path(settings, settings.model), device, [model_path(settings, n) for n in settings.compare_with]
        )
        if predictor.card.material_property.classes:
            raise MatPropError(
                f"the model {predictor.card.name} predicts classes, and nothing can be cut by these; take another model"
            )
        if settings.hull is not None and predictor.card.property != ENERGY:
            raise MatPropError(
                f"a hull is one of formation energies, and the model {predictor.card.name} predicts "
                f"{predictor.card.property}; take another model, or leave [hull] out"
            )
        known = sorted(predictor.elements)
        space = build_space(settings, [chemical_symbols[number] for number in known])
        if predictor.needs_structure and not space.needs_structure:
            raise MatPropError(
                f"the model {predictor.card.name} needs structures, and the space has formulas; take a space of "
                "prototypes, or a model such as elemnet-mp"
            )
        unknown = predictor.unknown_elements(space.elements)
        if unknown and (not space.is_list or len(unknown) == len(space.elements)):
            raise UnknownElementError(
                f"the model {predictor.card.name} never saw {', '.join(unknown)} in training; take "
                f"{'it' if len(unknown) == 1 else 'them'} out of the space, or another model"
            )
        hull = None
        if settings.hull is not None:
            elements = space.elements & predictor.elements
            references = load_references(settings, elements)
            references.check_covers(elements)
            hull = ReferenceHull(references)
        return cls(settings, space, predictor, hull, _precision(settings.precision, predictor, space))

    @cached_property
    def scorer(self) -> FormulaScorer:
        """What sieves formulas."""
        return FormulaScorer(self.predictor, self.precision)

    @cached_property
    def exact_scorer(self) -> FormulaScorer:
        """What scores formulas in float32."""
        return FormulaScorer(self.predictor)

    @cached_property
    def margin(self) -> float:
        """How far the values of the sieve may be from the true ones, in the unit of the property.

        A run finds it once, when it begins, and keeps it in ``run.json``.
        """
        if self.known_margin is not None:
            return self.known_margin
        return self.margin_of(self.precision)

    @cached_property
    def exact_margin(self) -> float:
        """The same for values in float32."""
        return self.margin if self.precision == "float32" else self.margin_of("float32")

    def margin_of(self, precision: str) -> float:
        """Return the margin of a precision."""
        if self.space.needs_structure:
            return 0.0  # there is no sieve: each value is the true one
        sizes: Iterable[int] = self.space.describe().get("n_elements", _SIZES_OF_LISTS)
        n = min(_FORMULAS_COMPARED, max(_FEWEST_COMPARED, self.space.n_candidates))
        n = _FEWEST_COMPARED if precision == "float32" else n
        return sieve_margin(self.predictor, precision, self.space.elements & self.predictor.elements, sizes, n)

    @cached_property
    def end_energies(self) -> NDArray[np.float64]:
        """Energy of the elements by atomic number, above which the hull is nowhere, shape (256,)."""
        assert self.hull is not None
        energies = np.zeros(256)
        references = self.hull.references
        for number, row in references.end_members().items():
            energies[number] = references.energies[row]
        return energies

    @cached_property
    def warnings(self) -> list[str]:
        """What fails, and why distances to the hull may be off."""
        found = []
        if unknown := self.predictor.unknown_elements(self.space.elements):
            found.append(
                f"the model {self.predictor.card.name} never saw {', '.join(unknown)} in training; what has "
                f"{'it' if len(unknown) == 1 else 'one of them'} fails"
            )
        if self.hull is None:
            return found
        if (functional := functional_warning(self.predictor.card, self.hull.references)) is not None:
            found.append(functional)
        if bare := self.hull.references.without_compounds(self.space.elements & self.predictor.elements):
            found.append(
                f"the references have no compound of {', '.join(bare)} with other elements of the space: distances of "
                "candidates with them are relative to the bare elements, and too low where such compounds exist"
            )
        return found

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything on which results depend, in JSON's types."""
        card = self.predictor.card
        return {
            "version": _VERSION,
            "space": self.space.describe(),
            "model": {"name": card.name, "sha256": card.weights.sha256},
            "compare_with": [
                ModelCard.read(find_model(model_path(self.settings, name))).weights.sha256
                for name in self.settings.compare_with
            ],
            "references": None if self.hull is None else self.hull.references.fingerprint(),
            "keep": self.settings.keep.model_dump(),
            "precision": self.precision,
            "margin_rule": MARGIN_RULE,
        }

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of :attr:`identity`."""
        return sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    def is_known(self, block: FormulaBlock) -> NDArray[np.bool_]:
        """Return which formulas have no other elements than the model saw in training, shape (n,)."""
        return np.asarray(self._known[block.numbers].all(axis=1))

    @cached_property
    def _known(self) -> NDArray[np.bool_]:
        known = np.zeros(256, dtype=bool)
        known[[0, *self.predictor.elements]] = True
        return known

    def upper_bound(self, block: FormulaBlock) -> NDArray[np.float64]:
        """Return energies that the hull is nowhere above, shape (n,): those of the mixtures of the elements."""
        shares = block.amounts / block.amounts.sum(axis=1, keepdims=True)
        return np.asarray((shares * self.end_energies[block.numbers]).sum(axis=1))


def _check_cut(settings: ScreeningSettings) -> None:
    keep = settings.keep
    if keep.highest_distance is None and keep.maximum is None and keep.minimum is None:
        what = "e_above_hull = 0.05, or below_hull = 0.2" if settings.hull is not None else "maximum = -0.5"
        raise MatPropError(f"nothing says which candidates are kept; add to the file a table [keep] with {what}")


def build_space(settings: ScreeningSettings, known: list[str]) -> Space:
    """Return the search space of some settings.

    Args:
        settings: the settings.
        known: symbols of the elements that ``elements = "all"`` stands for.
    """
    section = settings.space
    if isinstance(section, sections.Formulas):
        return FormulaSpace(
            _elements(section.elements, section.exclude_elements, known),
            section.n_elements, section.max_atoms, section.charge_balanced, section.shard_size, section.required,
        )  # fmt: skip
    if isinstance(section, sections.Prototypes):
        elements = section.elements
        return PrototypeSpace(
            section.prototypes, None if elements is None else _elements(elements, section.exclude_elements, known),
            section.sites, section.volume, section.volume_factor, section.shard_size, section.charge_balanced,
        )  # fmt: skip
    if isinstance(section, sections.Substitutions):
        return SubstitutionSpace(
            _paths(settings, section.files), section.rules, section.keep_original, section.partial, section.volume,
            section.volume_factor, section.shard_size,
        )  # fmt: skip
    if isinstance(section, sections.FormulaTable):
        return FormulaList(settings.path(section.file), section.column, section.shard_size)
    return StructureList(_paths(settings, section.files), section.shard_size)


def load_references(settings: ScreeningSettings, elements: frozenset[int]) -> References:
    """Read the references of some settings; those of the Materials Project come over the network."""
    section = settings.hull
    assert section is not None
    if section.materials_project:
        references = References.from_materials_project([chemical_symbols[number] for number in sorted(elements)])
    else:
        assert section.file is not None
        references = read_references(settings.path(section.file), section.functional, section.skip_bad_rows)
    return references.with_elements_at_zero(elements) if section.elements_at_zero else references


def _precision(wanted: str, predictor: Predictor, space: Space) -> str:
    if space.needs_structure or wanted == "float32":
        return "float32"
    if wanted == "bfloat16":
        return wanted
    return "bfloat16" if predictor.device.type == "cuda" or has_bfloat16() else "float32"


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 numbers in hardware."""
    if torch.backends.cpu.get_cpu_capability() == "NO AVX":
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and _has_flag(("avx512_bf16", "amx_bf16", "bf16"))


def _has_flag(flags: tuple[str, ...]) -> bool:
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return any(flag in words for flag in flags)


def _elements(wanted: sections.Symbols, excluded: list[str], known: list[str]) -> list[str]:
    symbols = known if wanted == "all" else list(wanted)
    absent = [symbol for symbol in excluded if symbol not in symbols]
    if absent:
        raise MatPropError(
            f"exclude_elements has {', '.join(absent)}, which the elements of the space do not have; correct the list"
        )
    return [symbol for symbol in symbols if symbol not in excluded]


def _paths(settings: ScreeningSettings, files: str | list[str]) -> list[str]:
    return [settings.path(name) for name in ([files] if isinstance(files, str) else files)]


def model_path(settings: ScreeningSettings, model: str) -> str:
    """Return the name of a model, or its folder as an absolute path where that exists."""
    folder = settings.folder / Path(model).expanduser()
    return str(folder) if folder.is_dir() else model
