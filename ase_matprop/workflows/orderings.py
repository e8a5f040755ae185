"""Ordered structures of a disordered one, and what pymatgen's ordering transformations return, ranked by a model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ase_matprop.errors import MatPropError, StructureError
from ase_matprop.models import DEFAULT_MODEL
from ase_matprop.models.loading import Names
from ase_matprop.workflows.loading import Model, cached_model
from ase_matprop.workflows.ranking import ranked
from ase_matprop.workflows.streaming import received

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: of a composition times the number of sites, from an integer
_OCCUPANCY_TOLERANCE = 0.01

Labels = NDArray[np.int8]


def orderings(structure: Structure, *, symmetry: bool = True, most: int = 1_000_000) -> Iterator[Structure]:
    """Yield every ordered structure of a disordered cell, one at a time.

    Sites with the same occupancies are filled together: half Ni and half Al on four sites is two Ni and two Al on
    these four, in each way once.  The cell stays as it is; make a supercell first for larger orderings (icet's
    ``enumerate_structures`` and enumlib go through the shapes of supercells as well).  A site that is not fully
    occupied is empty in a part of the orderings.

    Args:
        structure: pymatgen ``Structure`` with partial occupancies; it is not changed.
        symmetry: give only one of several orderings that a symmetry operation of the disordered cell maps onto each
            other (found by spglib); their labels are remembered, a byte per site for each.  A supercell has fewer
            operations than its lattice: the three orientations of a layered ordering in a 2x1x1 cell stay.
        most: the largest number of orderings, before symmetry, that are gone through.

    Raises:
        StructureError: if the cell is ordered already, or too small for its composition.
        MatPropError: if there are more orderings than ``most``.
    """
    groups = _groups(structure)
    total = math.prod(_n_arrangements(counts) for _, counts in groups)
    if total > most:
        raise MatPropError(
            f"{structure.composition.formula} has {total:,} orderings in this cell, more than {most:,}; take a smaller "
            "cell, or an enumeration that goes through small supercells first (icet, enumlib), or raise the limit"
        )
    return _ordered(structure, groups, _permutations(structure) if symmetry else None)


def _ordered(
    structure: Structure, groups: list[tuple[list[int], dict[Any, int]]], permutations: NDArray[np.int64] | None
) -> Iterator[Structure]:
    species = [list(counts) for _, counts in groups]
    fractional = structure.frac_coords
    seen: set[bytes] = set()
    labels = np.zeros(len(structure), dtype=np.int8)
    for _ in _fill(labels, groups):
        if permutations is not None:
            images = labels[permutations]
            least = images[np.lexsort(images.T[::-1])[0]].tobytes()
            if least in seen:
                continue
            seen.add(least)
        kinds: list[Any] = [site.species for site in structure]
        for (sites, _), of_labels in zip(groups, species, strict=True):
            for number in sites:
                kinds[number] = of_labels[labels[number]]
        filled = [number for number, kind in enumerate(kinds) if kind is not None]
        properties = {key: [values[n] for n in filled] for key, values in structure.site_properties.items()}
        yield type(structure)(
            structure.lattice,
            [kinds[number] for number in filled],
            fractional[filled],
            site_properties=properties,
        )


def rank_orderings(
    source: Any,
    model: Model = DEFAULT_MODEL,
    *,
    keep: int | None = 100,
    property: str | None = None,
    highest_first: bool = False,
    symmetry: bool = True,
    batch_size: int | None = None,
    n_jobs: int = 1,
    device: str = "cpu",
    threads: int | None = None,
    compare_with: Names = (),
) -> list[dict[str, Any]]:
    """Rank what an ordering transformation of pymatgen returned, or all orderings of a disordered structure.

    ``rank_orderings(transformation.apply_transformation(structure, return_ranked_list=500), "irnet17-mp")`` does for
    OrderDisorderedStructureTransformation, which knows Ewald energies only, for SQSTransformation and for all others
    that return a ranked list, what ``sort_criteria`` does for EnumerateStructureTransformation, and in batches.

    Args:
        source: ranked list (dictionaries with a "structure"), iterable of structures, or one disordered pymatgen
            ``Structure``, whose orderings are then gone through (see :func:`orderings`).
        model: name of a shipped model, path of a model folder, or a predictor; one that needs the structure.
        keep: how many to return; None for all.
        property: by which to rank; the first of the model if that is an energy.
        highest_first: the highest values are the best, not the lowest.
        symmetry: for a disordered structure, see :func:`orderings`.
        batch_size: number of structures that are held and evaluated together.
        n_jobs: number of processes for the descriptor; -1 for one per core.
        device: torch device of the network.
        threads: threads of the network's evaluation.
        compare_with: other models of the same property, for the "disagreement" with them.

    Returns:
        New dictionaries, the best first, as pymatgen has them: "structure", "num_sites", the value under the name of
        the property, and for an energy per atom "energy" of the cell in eV and "energy_above_minimum" in eV/atom.
        Other entries of a given dictionary stay, and an "energy" that it had is "previous_energy".

    Raises:
        UnknownNameError: if there is no such model or property.
        StructureError: if one of the structures has no value: orderings that are left out in silence would be a wrong
            ground state.  The message names the first one.
        MatPropError: if the model sees nothing but the composition, or :func:`orderings` has too many of them.
    """
    predictor = cached_model(model, device, compare_with)
    if not predictor.needs_structure:
        raise MatPropError(
            f"the model {predictor.card.name} sees nothing but the composition, so all orderings have the same value; "
            "take a model that needs the structure, such as irnet17-mp"
        )
    if hasattr(source, "is_ordered"):
        source = [source] if source.is_ordered else orderings(source, symmetry=symmetry)
    if not isinstance(source, Iterable):
        raise StructureError(
            "structures must be a ranked list of pymatgen, an iterable, or one disordered Structure" + received(source)
        )
    extras: dict[int, dict[str, Any]] = {}  # of the batch in the making

    def plain(items: Iterable[Any]) -> Iterator[Any]:
        for index, item in enumerate(items):
            if isinstance(item, Mapping) and "structure" in item:
                extras[index] = {key: value for key, value in item.items() if key != "structure"}
                yield item["structure"]
            else:
                yield item

    ranking, beside = ranked(
        plain(source),
        predictor,
        (batch_size, n_jobs, threads),
        keep,
        property,
        highest_first,
        extra=lambda index: extras.pop(index, {}),  # those of rows that are not kept go
    )
    if ranking.failures:
        index, name, reason = ranking.failures[0]
        raise StructureError(
            f"{ranking.n_failed} of {ranking.n_seen} orderings have no value; number {index}, {name}: {reason}"
        )
    rows = []
    for number, (structure, value, row) in enumerate(
        zip(ranking.structures, ranking.values.tolist(), beside, strict=True)
    ):
        if "energy" in row:
            row["previous_energy"] = row.pop("energy")
        row.pop("energy_above_minimum", None)
        row |= {"structure": structure, "num_sites": len(structure), ranking.property: value}
        if ranking.unit == "eV/atom":
            row |= {"energy": value * len(structure), "energy_above_minimum": value - float(ranking.values.min())}
        if ranking.compared_with:
            row["disagreement"] = float(ranking.disagreement[number])
        rows.append(row)
    return rows


def _groups(structure: Structure) -> list[tuple[list[int], dict[Any, int]]]:
    """Return for each kind of disordered site its sites, and how many of them each species (None: empty) takes."""
    kinds: dict[Any, list[int]] = {}
    for number, site in enumerate(structure):
        if not site.is_ordered:
            key = tuple(sorted((str(entry), round(amount, 4)) for entry, amount in site.species.items()))
            kinds.setdefault(key, []).append(number)
    if not kinds:
        raise StructureError(
            f"{structure.composition.formula} has no disordered site; give partial occupancies, such as "
            "{'Ni': 0.5, 'Al': 0.5}, or rank the structure itself"
        )
    groups = []
    for sites in kinds.values():
        amounts = {entry: amount * len(sites) for entry, amount in structure[sites[0]].species.items()}
        for entry, amount in amounts.items():
            if abs(amount - round(amount)) > _OCCUPANCY_TOLERANCE:
                raise StructureError(
                    f"{structure.composition.formula} has {amount:.3g} {entry} on {len(sites)} equivalent sites; make "
                    "a supercell in which every species is there a whole number of times"
                )
        counts: dict[Any, int] = {entry: round(amount) for entry, amount in amounts.items() if round(amount)}
        if len(sites) > sum(counts.values()):
            counts[None] = len(sites) - sum(counts.values())
        groups.append((sites, counts))
    return groups


def _n_arrangements(counts: Mapping[Any, int]) -> int:
    return math.factorial(sum(counts.values())) // math.prod(math.factorial(count) for count in counts.values())


def _fill(labels: Labels, groups: Sequence[tuple[list[int], dict[Any, int]]]) -> Iterator[None]:
    """Set the labels of the sites of all groups to one arrangement after another; none is made before its turn."""
    if not groups:
        yield
        return
    (sites, counts), *others = groups
    for chosen in _arrangements(tuple(counts.values())):
        labels[sites] = chosen
        yield from _fill(labels, others)


def _arrangements(counts: Sequence[int]) -> Iterator[Labels]:
    """Yield every sequence with ``counts[k]`` times the label k."""
    labels = np.zeros(sum(counts), dtype=np.int8)

    def fill(free: tuple[int, ...], kind: int) -> Iterator[Labels]:
        if kind == 0:
            labels[list(free)] = 0
            yield labels.copy()
            return
        for chosen in itertools.combinations(free, counts[kind]):
            labels[list(chosen)] = kind
            yield from fill(tuple(site for site in free if site not in chosen), kind - 1)

    return fill(tuple(range(len(labels))), len(counts) - 1)


def _permutations(structure: Structure) -> NDArray[np.int64]:
    """Return onto which sites the symmetry operations of a cell map its sites, shape (n_operations, n_sites)."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
    from pymatgen.util.coord import pbc_diff

    fractional = structure.frac_coords
    permutations = []
    for operation in SpacegroupAnalyzer(structure).get_symmetry_operations():
        images = operation.operate_multi(fractional)
        distances = np.linalg.norm(pbc_diff(images[:, None], fractional[None]) @ structure.lattice.matrix, axis=-1)
        permutation = distances.argmin(axis=1)
        if distances.min(axis=1).max() < 0.1 and len(set(permutation.tolist())) == len(structure):
            permutations.append(permutation)
    return np.unique(permutations, axis=0)
