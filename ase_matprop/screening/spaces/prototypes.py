"""Search spaces of prototypes: every crystal that some elements make on the sublattices of some structure types.

>>> from ase_matprop.screening.spaces.prototypes import PrototypeSpace
>>> PrototypeSpace(["B2", "L1_0", "perovskite"], elements=["Li", "Fe", "Ni", "O"]).n_candidates
36
>>> oxides = PrototypeSpace("orthorhombic perovskite", sites={"A": ["Gd", "La"], "B": ["Fe", "Mn"], "C": ["O"]})
>>> [entry.name for entry in oxides.entries(0)][0]
'orthorhombic perovskite A=La B=Mn C=O'

With "aflow" all prototypes of AFLOW are had.
"""

from __future__ import annotations

import bisect
import itertools
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ase_matprop.errors import MatPropError, UnknownNameError, unknown_name
from ase_matprop.screening.arguments import element_numbers, positive
from ase_matprop.screening.spaces.aflow import aflow_prototypes, get_aflow_prototype
from ase_matprop.screening.spaces.base import FormulaBlock, Space
from ase_matprop.screening.spaces.charges import ChargeRules
from ase_matprop.screening.spaces.decorations import MOST_SPECIES, Decorations, Template, find_equivalences
from ase_matprop.screening.spaces.formulas import charge_rules
from ase_matprop.screening.spaces.volumes import VolumeModel
from ase_matprop.structures import StructureEntry
from ase_matprop.structures.prototypes import Prototype, PrototypeLibrary, get_prototype, list_prototypes

logger = logging.getLogger(__name__)

__all__ = ["PROTOTYPE_GROUPS", "PrototypeSpace", "select_prototypes"]

#: structures that are generated at once
_AT_ONCE = 4096

#: names that stand for several prototypes: all shipped ones, pymatgen's of AFLOW, the shipped ones with so many species
PROTOTYPE_GROUPS: dict[str, tuple[str, ...]] = {
    "all": (),
    "aflow": (),
    "unary": (),
    "binary": (),
    "ternary": (),
    "quaternary": (),
    "Heuslers": ("L2_1", "inverse Heusler", "C1_b"),
    "Laves phases": ("C14", "C15", "C36"),
    "perovskites": ("perovskite", "orthorhombic perovskite", "double perovskite"),
}
_ARITIES = ("unary", "binary", "ternary", "quaternary")

#: prototypes of one shape: StructureMatcher's tolerances of lengths, positions (fractions) and angles (degrees)
_SAME_SHAPE = {"ltol": 0.05, "stol": 0.05, "angle_tol": 1.5}


class _MisfitError(MatPropError):
    """A prototype has other sublattices than those that elements were given for."""


class PrototypeSpace(Space):
    """Prototypes x all ways to put elements on their sublattices, each different crystal once.

    Sublattices with the same element in the prototype's representative (the two oxygen positions of GdFeO3) are
    decorated together, as one *species*; different species get different elements.  Of decorations that an isometry of
    the prototype makes one another (B2 AB = BA, the two equivalent sites of a full Heusler) one is given.  Of two
    prototypes of the same space group and shape, such as fluorite and antifluorite or B2 and its AFLOW entry, that
    would be decorated with the same elements only the first is used (:attr:`merged`).

    Candidates are numbered: a shard is made from its number, and nothing is held in memory.  The names are like
    ``"perovskite A=Sr B=Ti C=O"``.

    Args:
        prototypes: one or a list of: names of the shipped library, names of AFLOW, names of :data:`PROTOTYPE_GROUPS`
            ("all", "aflow", "perovskites", "binary" ...), :class:`~ase_matprop.structures.prototypes.Prototype` objects
            and libraries of them.
        elements: symbols for all species that ``sites`` does not have.
        sites: symbols for single species: name of a sublattice in the library ("A"), or the element that the
            representative has there ("Ti") -> symbols.  Every prototype must have it; those of a group that do not
            are passed over.
        volume: "combined" (the default), "dls", "elements", "radii" or volumes per atom of the elements; see
            :class:`~ase_matprop.screening.spaces.volumes.VolumeModel`.  The default was off by 7 percent in the median
            and by 17 percent at the 90th percentile, on 3,792 relaxed structures of 15 prototypes (Materials Project).
        volume_factor: multiplies all volumes.
        shard_size: number of candidates of a shard.
        charge_balanced: whether candidates without balanced charges are passed over; or the settings of
            :class:`~ase_matprop.screening.spaces.charges.ChargeRules`.  ``n_candidates`` counts them.

    Attributes:
        prototypes: names of the prototypes that have candidates.
        merged: names of prototypes that are left out -> the prototype of the same shape.

    Raises:
        MatPropError: if a sublattice does not exist or has no elements, an element has no volume, or there is no
            candidate at all.
        UnknownNameError: for an unknown prototype or volume method.
        UnknownElementError: for what is no element.
    """

    needs_structure = True

    def __init__(
        self,
        prototypes: object,
        elements: Iterable[str | int] | None = None,
        sites: Mapping[str, Iterable[str]] | None = None,
        volume: str | Mapping[str, float] = "combined",
        volume_factor: float = 1.0,
        shard_size: int = 20_000,
        charge_balanced: bool | ChargeRules | Mapping[str, Any] = False,
    ) -> None:
        self._per_shard = positive("shard_size", shard_size)
        self._rules = charge_rules(charge_balanced)
        self._volumes = VolumeModel(volume, volume_factor)
        everywhere = None if elements is None else element_numbers(elements)
        if sites is not None and not isinstance(sites, Mapping):
            raise MatPropError(f"sites must map sublattices to symbols, for example {{'A': ['Sr']}}. Got {sites!r}.")
        chosen = {
            str(label): element_numbers([given] if isinstance(given, str) else given)
            for label, given in (sites or {}).items()
        }
        if everywhere is None and not chosen:
            raise MatPropError("a space of prototypes needs elements, or sites with symbols for each sublattice")
        candidates = list(_fitting(prototypes, everywhere, chosen))
        self._parts, self.merged = _without_repeats([entry for entry in candidates if entry.decorations.count])
        self.prototypes = [part.name for part in self._parts]
        self._starts = [0, *itertools.accumulate(part.decorations.count for part in self._parts)]
        self.n_candidates = self._starts[-1]
        self.n_shards = -(-self.n_candidates // self._per_shard)
        self.elements = frozenset(number for part in self._parts for number in part.elements)
        if not self.n_candidates:
            fewest = min((len(entry.labels) for entry in candidates), default=0)
            raise MatPropError(
                f"the space has no candidate: the prototypes have {fewest} or more species, each with an element of "
                "its own; give more elements, or other prototypes"
            )
        self._volumes.check(self.elements)

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "prototypes",
            "prototypes": [part.describe() for part in self._parts],
            "volume": self._volumes.describe(),
            "charge_balanced": self._rules.describe(self.elements) if self._rules else False,
            "shard_size": self._per_shard,
        }

    def entries(self, shard: int) -> Iterator[StructureEntry]:
        for part, start, stop in self._pieces(shard):
            yield from self._made(part, self._numbers(part, start, stop))

    def pick(self, shard: int, rows: Collection[int]) -> dict[int, StructureEntry]:
        """As for all spaces; no other structures are made."""
        wanted, first = np.unique(np.array(list(rows), dtype=np.int64)), 0
        found: dict[int, StructureEntry] = {}
        for part, start, stop in self._pieces(shard):
            if self._rules is None and not ((wanted >= first) & (wanted < first + stop - start)).any():
                first += stop - start
                continue
            numbers = self._numbers(part, start, stop)
            here = wanted[(wanted >= first) & (wanted < first + len(numbers))]
            if len(here):
                found.update(zip(here.tolist(), self._made(part, numbers[here - first]), strict=True))
            first += len(numbers)
        return found

    def _pieces(self, shard: int) -> Iterator[tuple[_Decorated, int, int]]:
        """Yield the prototypes of a shard, with first and last decoration of those that are made at once."""
        first = shard * self._per_shard
        last = first + self.shard_size(shard)
        index = bisect.bisect_right(self._starts, first) - 1
        while first < last:
            start = self._starts[index]
            stop = min(last, first + _AT_ONCE, self._starts[index + 1])
            yield self._parts[index], first - start, stop - start
            first = stop
            index += first == self._starts[index + 1]

    def _numbers(self, part: _Decorated, start: int, stop: int) -> NDArray[np.int64]:
        """Return decorations as atomic numbers, without those that the charge rules take out."""
        numbers = part.decorations.numbers(start, stop)
        return numbers if self._rules is None else numbers[self._rules.mask(part.block(numbers))]

    def _made(self, part: _Decorated, numbers: NDArray[np.int64]) -> Iterator[StructureEntry]:
        return part.template.entries(part.names(numbers), numbers, self._volumes(part.template.geometry, numbers))


@dataclass(frozen=True, eq=False)
class _Decorated:
    """A prototype with the elements of its species.

    Attributes:
        name: of the prototype.
        space_group: of the prototype.
        labels: name of each species, that of its first sublattice.
        allowed: atomic numbers that each may have.
        template: its shape.
        decorations: the different ways to decorate it.
    """

    name: str
    space_group: int | None
    labels: tuple[str, ...]
    allowed: tuple[tuple[int, ...], ...]
    template: Template
    decorations: Decorations

    @classmethod
    def of(
        cls, prototype: Prototype, everywhere: tuple[int, ...] | None, chosen: Mapping[str, tuple[int, ...]]
    ) -> _Decorated:
        members: dict[str, list[str]] = {}
        for sublattice in prototype.sublattices:
            members.setdefault(sublattice.element, []).append(sublattice.name)
        if len(members) > MOST_SPECIES:
            raise _MisfitError(
                f"prototype {prototype.name} has {len(members)} species; at most {MOST_SPECIES} can be decorated"
            )
        labels = tuple(names[0] for names in members.values())
        keys = {key: index for index, element in enumerate(members) for key in (element, *members[element])}
        # the name of a sublattice wins over an element: C is the third sublattice, and carbon only where there is none
        keys |= {name: index for index, names in enumerate(members.values()) for name in names}
        allowed: list[tuple[int, ...] | None] = [everywhere] * len(labels)
        owners: dict[int, str] = {}
        for key, numbers in chosen.items():
            if key not in keys:
                raise _MisfitError(
                    f"sites: prototype {prototype.name} has no sublattice {key!r}; it has {_listed(members)}"
                )
            if keys[key] in owners and allowed[keys[key]] != numbers:
                raise _MisfitError(
                    f"sites: {owners[keys[key]]} and {key} of prototype {prototype.name} are one species and get the "
                    f"same element, but have other lists; it has {_listed(members)}"
                )
            owners[keys[key]], allowed[keys[key]] = key, numbers
        for label, entry in zip(labels, allowed, strict=True):
            if entry is None:
                raise _MisfitError(
                    f"sublattice {label} of prototype {prototype.name} has no elements; give elements for all, or "
                    f"sites for each of {_listed(members)}"
                )
        atoms = prototype.atoms()
        of_sublattice = np.array([keys[sublattice.name] for sublattice in prototype.sublattices])
        template = Template.of(atoms, of_sublattice[atoms.arrays["sublattice"]])
        complete = tuple(entry for entry in allowed if entry is not None)
        equivalences = find_equivalences(atoms, template.species)
        decorations = Decorations(complete, equivalences)
        return cls(prototype.name, prototype.space_group, labels, complete, template, decorations)

    @property
    def elements(self) -> set[int]:
        return set().union(*self.allowed)

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "shape": self.template.fingerprint(),
            "elements": [list(entry) for entry in self.allowed],
        }

    def names(self, numbers: NDArray[np.int64]) -> list[str]:
        """Return the names of decorations, shape (n, m)."""
        columns = [[f" {label}={symbol}" for symbol in chemical_symbols] for label in self.labels]
        return [
            self.name + "".join(column[number] for column, number in zip(columns, row, strict=True))
            for row in numbers.tolist()
        ]

    def block(self, numbers: NDArray[np.int64]) -> FormulaBlock:
        """Return the formulas of decorations, shape (n, m)."""
        order = np.argsort(numbers, axis=1)
        amounts = self.template.geometry.counts // np.gcd.reduce(self.template.geometry.counts)
        return FormulaBlock(np.take_along_axis(numbers, order, axis=1).astype(np.uint8), amounts[order])


def _fitting(
    prototypes: object, everywhere: tuple[int, ...] | None, chosen: Mapping[str, tuple[int, ...]]
) -> Iterator[_Decorated]:
    """Yield the chosen prototypes with their elements, without those of groups that have other sublattices."""
    selected = _select(prototypes)
    problems = []
    for prototype, of_group in selected:
        try:
            yield _Decorated.of(prototype, everywhere, chosen)
        except _MisfitError as error:
            if not of_group:
                raise
            problems.append(error)
    if len(problems) == len(selected):
        raise problems[0]
    if problems:
        logger.info("%d prototypes have other sublattices and are passed over", len(problems))


def select_prototypes(prototypes: object) -> list[Prototype]:
    """Return the prototypes that names, groups, objects and libraries stand for, each once.

    Raises:
        UnknownNameError: for a name that is neither that of a prototype nor of a group.
        MatPropError: if there is none, or it is something else.
    """
    return [prototype for prototype, _ in _select(prototypes)]


def _select(prototypes: object) -> list[tuple[Prototype, bool]]:
    """Return the prototypes, and whether each came with a group."""
    single = isinstance(prototypes, (str, Prototype, PrototypeLibrary))
    if not single and not isinstance(prototypes, Iterable):
        raise MatPropError(f"prototypes must be names such as 'B2', or a list of them, and not {prototypes!r}")
    found: dict[int, tuple[Prototype, bool]] = {}
    for item in [prototypes] if single else prototypes:  # type: ignore[attr-defined]
        chosen, of_group = _selected(item)
        for prototype in chosen:
            found.setdefault(id(prototype), (prototype, of_group))
    if not found:
        raise MatPropError(f"the list of prototypes is empty; give names, or groups: {', '.join(PROTOTYPE_GROUPS)}")
    return list(found.values())


def _selected(item: object) -> tuple[list[Prototype], bool]:
    if isinstance(item, Prototype):
        return [item], False
    if isinstance(item, PrototypeLibrary):
        return list(item.values()), True
    if not isinstance(item, str):
        raise MatPropError(f"a prototype must be given by its name, for example 'B2', and not as {item!r}")
    group = {name.casefold(): name for name in PROTOTYPE_GROUPS}.get(item.strip().casefold())
    return ([_named(item)], False) if group is None else (_group(group), True)


def _group(group: str) -> list[Prototype]:
    if group == "aflow":
        return list(aflow_prototypes().values())
    prototypes = [get_prototype(name) for name in PROTOTYPE_GROUPS[group] or list_prototypes()]
    if group in _ARITIES:
        n_species = _ARITIES.index(group) + 1
        return [entry for entry in prototypes if len({part.element for part in entry.sublattices}) == n_species]
    return prototypes


def _named(name: str) -> Prototype:
    with suppress(UnknownNameError):
        return get_prototype(name)
    if name in aflow_prototypes() or any(known.split(":")[0] == name for known in aflow_prototypes()):
        return get_aflow_prototype(name)
    known = [alias for shipped in list_prototypes() for alias in (shipped, *get_prototype(shipped).aliases)]
    error = unknown_name("prototype", name, [*PROTOTYPE_GROUPS, *known])
    raise UnknownNameError(f"{error} AFLOW's labels, minerals and Strukturbericht symbols are known as well.")


def _listed(members: Mapping[str, list[str]]) -> str:
    return ", ".join(f"{' and '.join(names)} ({element})" for element, names in members.items())


def _without_repeats(parts: list[_Decorated]) -> tuple[list[_Decorated], dict[str, str]]:
    """Return the prototypes without those that have the shape of one before and would get the same elements."""
    kept: dict[tuple[Any, ...], list[_Decorated]] = {}
    ordered, merged = [], {}
    for part in parts:
        alike = kept.setdefault((len(part.template.species), *sorted(part.template.geometry.counts.tolist())), [])
        same = next((entry for entry in alike if _is_repeat(entry, part)), None)
        if same is None:
            alike.append(part)
            ordered.append(part)
        else:
            merged[part.name] = same.name
            logger.info("prototype %s has the shape of %s and is left out", part.name, same.name)
    return ordered, merged


def _is_repeat(first: _Decorated, second: _Decorated) -> bool:
    """Return whether the second makes crystals that the first makes: same shape, same elements on the same species."""
    if first.space_group != second.space_group or sorted(first.allowed) != sorted(second.allowed):
        return False
    scaled = [
        np.sort(entry.template.geometry.distances, axis=None) / np.cbrt(entry.template.geometry.volume)
        for entry in (first, second)
    ]
    finite = np.isfinite(scaled[0])
    if (finite != np.isfinite(scaled[1])).any() or not np.allclose(scaled[0][finite], scaled[1][finite], rtol=0.05):
        return False
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher = StructureMatcher(**_SAME_SHAPE, primitive_cell=False, scale=True)
    structures = [_with_stand_ins(entry.template) for entry in (first, second)]
    mappings = matcher.get_all_anonymous_mappings(*structures, include_dist=False) or []
    for mapping in mappings:
        pairs = [(source.Z - 1, target.Z - 1) for source, target in mapping.items()]
        if all(first.allowed[source] == second.allowed[target] for source, target in pairs):
            return True
    return False


def _with_stand_ins(template: Template) -> Any:
    """Return the shape as pymatgen ``Structure`` with hydrogen for the first species, helium for the second ..."""
    from pymatgen.core import Structure

    numbers = (template.species + 1).tolist()
    return Structure(template.cell, numbers, template.positions, coords_are_cartesian=True)
