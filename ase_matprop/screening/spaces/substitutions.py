"""Search spaces by substitution: known crystals with other elements in the place of some.

>>> from ase_matprop.screening.spaces.substitutions import SubstitutionSpace
>>> space = SubstitutionSpace("cifs/", {"Fe": ["Co", "Ni"], "O": ["S", "Se"]})    # doctest: +SKIP
>>> [entry.name for entry in space.entries(0)]                                    # doctest: +SKIP
['cifs/Fe2O3.cif Fe=Co O=O', 'cifs/Fe2O3.cif Fe=Ni O=O', 'cifs/Fe2O3.cif Fe=Fe O=S', ...]

No crystal is given twice.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ase_matprop.errors import MatPropError, StructureError
from ase_matprop.screening.arguments import element_numbers, positive
from ase_matprop.screening.spaces.base import Space
from ase_matprop.screening.spaces.decorations import MOST_SPECIES, Template, find_equivalences
from ase_matprop.screening.spaces.listed_files import given_place, name_from
from ase_matprop.screening.spaces.volumes import VolumeModel, positive_number
from ase_matprop.structures import StructureEntry, iter_structures
from ase_matprop.structures.objects import is_single

__all__ = ["SubstitutionSpace"]

#: candidates of one file
_MOST_COMBINATIONS = 1_000_000

#: what counts as one crystal: StructureMatcher's tolerances of lengths, positions (fractions) and angles (degrees)
_SAME = {"ltol": 0.1, "stol": 0.1, "angle_tol": 3.0}


class SubstitutionSpace(Space):
    """Crystals of files x all ways to replace elements by rules, each crystal once.

    A rule replaces all atoms of an element by one other.  Of the elements of a file that have a rule each is kept or
    replaced by any of its list, in every combination; two may become the same element.  Rules for elements that a file
    does not have say nothing about it; a file without any element that has a rule is a failure.  A candidate that is
    the same crystal as one before is left out: by symmetry within a file exactly, between files by pymatgen's
    StructureMatcher (lengths within 10 percent, atoms within a tenth of the mean distance, angles within 3 degrees, any
    volume).

    Names are those of the files with what each ruled element has become: ``"Fe2O3.cif Fe=Co O=O"``.

    Args:
        files: whatever :func:`ase_matprop.structures.iter_structures` reads: files, folders, patterns, objects.  They
            are not changed.
        rules: symbol -> symbols that may take its place, ``{"Fe": ["Co", "Ni"], "O": ["S", "Se"]}``.
        keep_original: give the files' own crystals as well.
        partial: give candidates in which some ruled elements are as they were.
        volume: "keep" for the file's own; otherwise a method of
            :class:`~ase_matprop.screening.spaces.volumes.VolumeModel`, which gives the ratio of the new to the old
            volume: its error for the new crystal is in part that for the old one, and cancels.
            One element replaced, on pairs of the relaxed structures that :mod:`volumes` was measured on: median 5, 90th
            percentile 17 percent of the volume with the default, 12 and 36 with "keep"; but Fe2O3 -> Al2O3 comes out
            30 percent too large, as aluminium is so much larger than iron in the metals.
        volume_factor: multiplies all volumes.
        shard_size: number of candidates of a shard.

    Attributes:
        failures: names of files that cannot be used -> what is wrong; each is also an entry with that error, and
            counts as one candidate.

    Raises:
        MatPropError: if the rules are no rules, an element has no volume, a file has more than a million candidates, or
            none of the files can be used.
        UnknownElementError: for what is no element.
    """

    needs_structure = True

    def __init__(
        self,
        files: object,
        rules: Mapping[str, Iterable[str]],
        keep_original: bool = False,
        partial: bool = True,
        volume: str | Mapping[str, float] = "combined",
        volume_factor: float = 1.0,
        shard_size: int = 20_000,
    ) -> None:
        self._per_shard = positive("shard_size", shard_size)
        self._volumes = None if volume == "keep" else VolumeModel(volume)
        self._factor = positive_number(volume_factor, "volume_factor")
        self._rules = _checked(rules)
        if self._volumes is not None:
            self._volumes.check({number for choices in self._rules.values() for number in choices})
        self._sources: list[_Source] = []
        self.failures: dict[str, str] = {}
        given, bases = _with_bases(files)
        for entry in iter_structures(given):
            try:
                source = self._source(entry, keep_original, partial)
            except StructureError as error:
                source = _Source(entry.name, str(error))
                self.failures[entry.name] = str(error)
            base = next((base for base in Path(entry.name).parents if base in bases), None)
            source.place = "" if base is None else name_from(base, entry.name)
            self._sources.append(source)
        if len(self.failures) == len(self._sources):
            first = next(iter(self.failures.items()), ("", "no structure was given"))
            raise MatPropError(f"none of the structures can be substituted; {': '.join(filter(None, first))}")
        _drop_repeats(self._sources)
        self._starts = [0, *itertools.accumulate(source.count for source in self._sources)]
        self.n_candidates = self._starts[-1]
        self.n_shards = -(-self.n_candidates // self._per_shard)
        self.elements = frozenset(number for source in self._sources for number in np.unique(source.numbers).tolist())
        if self.n_candidates == len(self.failures):
            raise MatPropError("the rules give no new crystal; add other elements to them, or keep_original=True")

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "substitutions",
            "sources": [source.describe() for source in self._sources],
            "volume": "keep" if self._volumes is None else self._volumes.describe(),
            "volume_factor": self._factor,
            "shard_size": self._per_shard,
        }

    def entries(self, shard: int) -> Iterator[StructureEntry]:
        first = shard * self._per_shard
        last = first + self.shard_size(shard)
        for source, start in zip(self._sources, self._starts, strict=False):
            low, high = max(first - start, 0), min(last - start, source.count)
            if low >= high:
                continue
            if source.template is None:
                yield StructureEntry(source.name, None, source.error)
                continue
            numbers = source.numbers[low:high]
            volumes = self._volume(source, numbers)
            yield from source.template.entries(source.names(numbers), numbers, volumes)

    def _source(self, entry: StructureEntry, keep_original: bool, partial: bool) -> _Source:
        if entry.atoms is None:
            raise StructureError(entry.error or "cannot be read")
        original, species = np.unique(entry.atoms.numbers, return_inverse=True)
        ruled = [number for number in self._rules if number in original]
        if not ruled:
            raise StructureError(
                f"has {_symbols(original.tolist())}, and none of {_symbols(self._rules)}, the elements that have a "
                "rule; leave it out, or add a rule"
            )
        if self._volumes is not None:
            try:
                self._volumes.check(original.tolist())
            except MatPropError as error:
                raise StructureError(f"{error}; or give volume='keep'") from None
        choices: list[list[int]] = []
        for number in original.tolist():
            own = [number] if partial or keep_original or number not in self._rules else []
            choices.append([*own, *(other for other in self._rules.get(number, ()) if other != number)])
        if math.prod(map(len, choices)) > _MOST_COMBINATIONS:
            raise StructureError(f"has more than {_MOST_COMBINATIONS:,} candidates; give fewer elements in the rules")
        numbers = np.array(list(itertools.product(*choices)), dtype=np.int64).reshape(-1, len(original))
        columns = np.searchsorted(original, ruled)
        unchanged = (numbers == original)[:, columns]
        keep = ~unchanged.all(axis=1) if partial else ~unchanged.any(axis=1)
        if keep_original:
            keep |= unchanged.all(axis=1)
        atoms = Atoms(entry.atoms.numbers, entry.atoms.positions, cell=entry.atoms.cell, pbc=True)
        return _Source(entry.name, None, Template.of(atoms, species), original, columns, numbers[keep])

    def _volume(self, source: _Source, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        assert source.template is not None
        geometry = source.template.geometry
        if self._volumes is None:
            return np.full(len(numbers), geometry.volume * self._factor)
        ratios = self._volumes(geometry, numbers) / self._volumes(geometry, source.original[None])
        return geometry.volume * ratios * self._factor


def _no_numbers() -> NDArray[np.int64]:
    return np.empty((0, 0), dtype=np.int64)


@dataclass(eq=False)
class _Source:
    """A structure of the input with its candidates.

    Attributes:
        name: of the structure.
        error: why it cannot be used, or None.
        template: its shape.
        original: atomic number of each species, shape (m,).
        ruled: indices of the species that have a rule, in the order of the rules.
        numbers: atomic numbers of the candidates, shape (n, m).
        place: the name from the folder on that was given; empty if that is all of it.
    """

    name: str
    error: str | None
    template: Template | None = None
    original: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    ruled: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    numbers: NDArray[np.int64] = field(default_factory=_no_numbers)
    place: str = ""

    @property
    def count(self) -> int:
        return 1 if self.template is None else len(self.numbers)

    def describe(self) -> dict[str, Any]:
        """Return what the candidates are, without the folder, which may be moved."""
        name = self.place or self.name
        if self.template is None:
            return {"name": name, "usable": False}
        candidates = hashlib.sha256(np.ascontiguousarray(self.numbers).tobytes()).hexdigest()[:16]
        return {
            "name": name,
            "shape": self.template.fingerprint(),
            "elements": self.original.tolist(),
            "candidates": candidates,
        }

    def names(self, numbers: NDArray[np.int64]) -> list[str]:
        columns = self.ruled.tolist()
        symbols = [chemical_symbols[self.original[column]] for column in columns]
        return [
            self.name
            + "".join(f" {old}={chemical_symbols[row[column]]}" for old, column in zip(symbols, columns, strict=True))
            for row in numbers.tolist()
        ]

    def formula(self, row: Iterable[int]) -> tuple[tuple[int, int], ...]:
        """Return the reduced formula of a candidate as sorted pairs."""
        assert self.template is not None
        amounts: Counter[int] = Counter()
        for number, count in zip(row, self.template.geometry.counts.tolist(), strict=True):
            amounts[number] += count
        divisor = math.gcd(*amounts.values())
        return tuple(sorted((number, amount // divisor) for number, amount in amounts.items()))


def _checked(rules: object) -> dict[int, tuple[int, ...]]:
    """Return the rules by atomic number."""
    if not isinstance(rules, Mapping) or not rules:
        raise MatPropError(
            f"rules must map symbols to lists of symbols, such as {{'Fe': ['Co', 'Ni']}}. Got {rules!r}."
        )
    checked = {}
    for old, new in rules.items():
        number = element_numbers([old])[0]
        checked[number] = element_numbers([new] if isinstance(new, str) else new)
        if checked[number] == (number,):
            raise MatPropError(f"the rule for {old} replaces it by itself; give other elements")
    return checked


def _with_bases(files: object) -> tuple[object, set[Path]]:
    """Return files to read, and the folders of the paths and patterns among them."""
    if not is_single(files) and isinstance(files, Iterable) and not hasattr(files, "columns"):
        files = list(files)
    items = files if isinstance(files, list) else [files]
    return files, {given_place(item)[0] for item in items if isinstance(item, (str, os.PathLike)) and item != ""}


def _symbols(numbers: Iterable[int]) -> str:
    return ", ".join(chemical_symbols[number] for number in numbers)


def _drop_repeats(sources: list[_Source]) -> None:
    """Take those candidates out that are the crystal of one before."""
    first_of: dict[tuple[tuple[int, int], ...], list[tuple[int, tuple[int, ...]]]] = {}
    matches: dict[tuple[Any, ...], bool] = {}
    shapes: dict[tuple[int, tuple[int, ...]], _Shape] = {}

    def shape_of(source: int, row: tuple[int, ...]) -> _Shape:
        if (source, row) not in shapes:
            shapes[source, row] = _Shape(sources[source], row)
        return shapes[source, row]

    for index, source in enumerate(sources):
        if source.template is None:
            continue
        template = source.template
        shape = Atoms(np.ones(len(template.species)), template.positions, cell=template.cell, pbc=True)
        equivalences = find_equivalences(shape, template.species) if len(source.original) <= MOST_SPECIES else []
        rows = [tuple(row) for row in source.numbers.tolist()]
        given: set[tuple[int, ...]] = set()
        keep = []
        for row in rows:
            repeated = any(tuple(row[site] for site in permutation) in given for permutation in equivalences)
            known = first_of.setdefault(source.formula(row), [])
            for other, other_row in known:
                if repeated:
                    break
                if other != index or len(set(row)) < len(row):
                    # what is the same structure depends on which species are alike, whatever elements they have
                    alike = tuple(tuple(a == b for b in other_row) for a in row)
                    if (index, other, alike) not in matches:
                        matches[index, other, alike] = _match(shape_of(index, row), shape_of(other, other_row))
                    repeated = matches[index, other, alike]
            keep.append(not repeated)
            if not repeated:
                given.add(row)
                known.append((index, row))
        source.numbers = source.numbers[np.array(keep, dtype=bool)]


def _match(first: _Shape, second: _Shape) -> bool:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    if not first.may_be(second):
        return False
    matcher = StructureMatcher(**_SAME, primitive_cell=True, scale=True)
    return bool(matcher.fit(first.structure, second.structure, skip_structure_reduction=True))


class _Shape:
    """A candidate at the volume of its file, as StructureMatcher compares it: in its reduced primitive cell."""

    def __init__(self, source: _Source, row: tuple[int, ...]) -> None:
        from pymatgen.core import Structure

        template = source.template
        assert template is not None
        numbers = np.array(row)[template.species].tolist()
        structure = Structure(template.cell, numbers, template.positions, coords_are_cartesian=True)
        self.structure = structure.get_reduced_structure("niggli").get_primitive_structure()
        self._lengths = np.sort(self.structure.lattice.abc) / np.cbrt(self.structure.volume)

    def may_be(self, other: _Shape) -> bool:
        """Return whether StructureMatcher could find the two alike; False is certain and costs next to nothing.

        It compares primitive cells of equally many atoms, and looks for a cell of the one lattice with about the
        lengths of the other's reduced cell, which are the least that a cell of that lattice can have.
        """
        if len(self.structure) != len(other.structure):
            return False
        largest = 1.0 + _SAME["ltol"] + 1e-6
        ratios = self._lengths / other._lengths
        return bool((ratios <= largest).all() or (ratios >= 1.0 / largest).all())
