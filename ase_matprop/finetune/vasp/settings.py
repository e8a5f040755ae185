"""The settings of a run, and which runs go together; private part of :mod:`ase_matprop.finetune.vasp`."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from ase import Atoms

from ase_matprop.errors import CalculationError
from ase_matprop.finetune.vasp.functional import Values, functional_name, hubbard_values, is_true, number, numbers

#: two cutoff energies are one if they differ by less, eV
_SAME_ENCUT = 0.1
#: charge of a cell below which it is neutral, electrons
_NEUTRAL = 0.01


class AtomType(NamedTuple):
    """One POTCAR of a run: element, number of atoms, title ("" if unknown), valence electrons (NaN if unknown)."""

    symbol: str
    n_atoms: int
    title: str
    valence: float


@dataclass(frozen=True)
class VaspSettings:
    """What decides whether two energies can be compared, and what is worth knowing besides.

    Attributes:
        functional: such as PBE, HSE06 or r2SCAN, with dispersion and spin-orbit coupling, without U.
        hubbard_u: element -> U - J, eV; elements without U are left out.
        potcars: element -> title of its POTCAR; elements whose title the file does not give are left out.
        elements: all elements.
        encut: cutoff energy, eV; NaN if unknown.
        kpoints: the mesh, as in ``3x3x3``, or the number of points of a list.
        kpoint_density: number of k-points in the full mesh times number of atoms (pymatgen's "per reciprocal atom");
            NaN for a list.
        kpoint_spacing: the largest distance of two neighbouring points of the mesh, 1/Angstrom with the factor 2 pi, as
            VASP's KSPACING; NaN for a list.
        spin: ``none``, ``collinear`` or ``non-collinear``.
        charge: charge of the cell, elementary charges; NaN if unknown.
        magmom: initial magnetic moments (MAGMOM), Bohr magnetons; empty if unknown.
        version: version of VASP.
        aspherical: whether gradient corrections are aspherical within the PAW spheres (LASPH); None if unknown.
    """

    functional: str
    hubbard_u: dict[str, float]
    potcars: dict[str, str]
    elements: frozenset[str]
    encut: float
    kpoints: str = ""
    kpoint_density: float = math.nan
    kpoint_spacing: float = math.nan
    spin: str = "none"
    charge: float = math.nan
    magmom: tuple[float, ...] = ()
    version: str = ""
    aspherical: bool | None = None

    @property
    def label(self) -> str:
        """The functional with ``+U`` where an element has a U."""
        return f"{self.functional}+U" if self.hubbard_u else self.functional

    @property
    def is_charged(self) -> bool:
        """Whether the cell is known to have a charge."""
        return abs(self.charge) > _NEUTRAL

    def u_of(self, element: str) -> tuple[float, ...]:
        """Return the U - J values of an element, eV; ``(0.0,)`` for none."""
        return tuple(value for key, value in self.hubbard_u.items() if key.partition("#")[0] == element) or (0.0,)


@dataclass
class SettingsSet:
    """Settings that go together.

    Two runs go together if they have the same functional, cutoff energy and LASPH, and for every element that both have
    the same U and the same POTCAR.  Spin polarisation and k-points may differ: what they should be depends on the
    compound.  So may PREC, LREAL and ISMEAR, whose effect is small where they were chosen well.
    """

    functional: str
    encut: float
    u: dict[str, tuple[float, ...]] = field(default_factory=dict)
    potcars: dict[str, str] = field(default_factory=dict)
    aspherical: bool | None = None

    @classmethod
    def of(cls, settings: VaspSettings) -> SettingsSet:
        """Return the set that begins with one run."""
        first = cls(settings.functional, settings.encut)
        first.add(settings)
        return first

    def differences(self, settings: VaspSettings) -> list[str]:
        """Return what keeps ``settings`` from belonging here, in words; empty if nothing does."""
        result = []
        if settings.functional != self.functional:
            result.append("functional")
        if (
            not (math.isnan(settings.encut) or math.isnan(self.encut))
            and abs(settings.encut - self.encut) > _SAME_ENCUT
        ):
            result.append("ENCUT")
        if None not in (settings.aspherical, self.aspherical) and settings.aspherical != self.aspherical:
            result.append("LASPH")  # tens of meV/atom with d and f electrons
        for element in sorted(settings.elements):
            if settings.u_of(element) != self.u.get(element, settings.u_of(element)):
                result.append(f"U of {element}")
            title = settings.potcars.get(element)
            if title is not None and title != self.potcars.get(element, title):
                result.append(f"POTCAR of {element}")
        return result

    def add(self, settings: VaspSettings) -> None:
        """Take in the settings of a run that has no difference."""
        self.encut = settings.encut if math.isnan(self.encut) else self.encut
        self.aspherical = settings.aspherical if self.aspherical is None else self.aspherical
        for element in settings.elements:
            self.u.setdefault(element, settings.u_of(element))
        for element, title in settings.potcars.items():
            self.potcars.setdefault(element, title)

    def describe(self, different: Collection[str] = ()) -> str:
        """Return the set in words; ``different`` are the words of :meth:`differences` that matter here."""
        values = {element: "/".join(f"{v:g}" for v in u) for element, u in sorted(self.u.items())}
        u_values = [
            f"U of {element} {u} eV" for element, u in values.items() if u != "0" or f"U of {element}" in different
        ]
        potcars = [title for element, title in sorted(self.potcars.items()) if f"POTCAR of {element}" in different]
        aspherical = [f"LASPH {'on' if self.aspherical else 'off'}"] if "LASPH" in different else []
        return ", ".join([self.functional, f"ENCUT {self.encut:g} eV", *aspherical, *u_values, *potcars])


def settings_from(
    tags: Values, types: Sequence[AtomType], mesh: Sequence[int] | None, n_kpoints: int, atoms: Atoms, version: str
) -> VaspSettings:
    """Return the settings of a run.

    Args:
        tags: VASP's tags (capitals) and their values.
        types: the POTCARs in order.
        mesh: divisions of the k-point mesh, or None for a list.
        n_kpoints: number of k-points that were calculated.
        atoms: a structure of the run.
        version: version of VASP.

    Raises:
        CalculationError: if the tags contradict one another.
    """
    potcars: dict[str, str] = {}
    for each in types:
        if each.title and each.title not in potcars.get(each.symbol, "").split(" and "):
            known = potcars.get(each.symbol)
            potcars[each.symbol] = f"{known} and {each.title}" if known else each.title
    density = spacing = math.nan
    if mesh is not None:
        reciprocal = 2 * np.pi * np.linalg.norm(atoms.cell.reciprocal().array, axis=1)
        density, spacing = float(np.prod(mesh) * len(atoms)), float((reciprocal / np.array(mesh)).max())
    electrons, valence = number(tags.get("NELECT"), math.nan), sum(each.n_atoms * each.valence for each in types)
    spin = "collinear" if int(number(tags.get("ISPIN"), 1)) == 2 else "none"
    if is_true(tags.get("LNONCOLLINEAR")) or is_true(tags.get("LSORBIT")):
        spin = "non-collinear"
    encut = number(tags.get("ENMAX"), number(tags.get("ENCUT"), math.nan))
    if not types:
        raise CalculationError("the file does not say which elements its atoms are; check the file")
    return VaspSettings(
        functional=functional_name(tags, [each.title for each in types]),
        hubbard_u=hubbard_values(tags, [each.symbol for each in types]),
        potcars=potcars,
        elements=frozenset(each.symbol for each in types),
        encut=round(encut, 3),
        kpoints="x".join(map(str, mesh)) if mesh is not None else f"{n_kpoints} points",
        kpoint_density=density,
        kpoint_spacing=spacing,
        spin=spin,
        charge=valence - electrons,
        magmom=tuple(numbers(tags.get("MAGMOM"))) if spin != "none" else (),
        version=version,
        aspherical=is_true(tags["LASPH"]) if tags.get("LASPH") is not None else None,
    )
