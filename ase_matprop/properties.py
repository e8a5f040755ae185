"""The properties that models predict: names, units and sign conventions in one table."""

from __future__ import annotations

from dataclasses import dataclass

from ase_matprop.errors import unknown_name


@dataclass(frozen=True)
class MaterialProperty:
    """What a predicted number means.

    Attributes:
        name: identifier used in cards, tables and data files.
        long_name: name as it is written in text and on the axes of plots.
        unit: unit of the stored and predicted values.
        per_atom: whether a value is per atom, so that the value of a cell is the number of atoms times it.
        is_energy: whether an ASE calculator may report it as ``energy``.
        convention: sign convention and reference states.
        classes: for a property that is a class and no number, the names of the classes.
        minimum: the smallest value that is possible, None for none; predictions below are raised to it.
    """

    name: str
    long_name: str
    unit: str
    per_atom: bool
    is_energy: bool
    convention: str
    classes: tuple[str, ...] = ()
    minimum: float | None = None


_TABLE = (
    MaterialProperty(
        name="formation_energy_per_atom",
        long_name="formation energy",
        unit="eV/atom",
        per_atom=True,
        is_energy=True,
        convention="energy of the compound minus that of the elements in their reference states at 0 K, per atom; "
        "negative: stable against decomposition into the elements",
    ),
    MaterialProperty(
        name="energy_per_atom",
        long_name="total energy",
        unit="eV/atom",
        per_atom=True,
        is_energy=True,
        convention="total energy of the electronic structure calculation per atom, on the scale of its "
        "pseudopotentials; only differences between calculations with the same settings mean something",
    ),
    MaterialProperty(
        name="energy_above_fitted_references_per_atom",
        long_name="energy above fitted references",
        unit="eV/atom",
        per_atom=True,
        is_energy=True,
        convention="total energy minus the energies of the elements that a least-squares fit to the same "
        "calculations gave, per atom; not a formation energy: the fitted energies are those of no element, so zero "
        "and sign mean nothing",
    ),
    MaterialProperty(
        name="formation_energy_per_cation",
        long_name="formation energy per cation",
        unit="eV/cation",
        per_atom=False,
        is_energy=False,  # the energy of a cell takes the number of its cations, which is a matter of definition
        convention="energy of an alloy of oxides minus that of the binary oxides it consists of, per cation, as the "
        "NOMAD2018 challenge has it (C. Sutton et al., npj Comput. Mater. 5, 111 (2019), "
        "doi:10.1038/s41524-019-0239-3)",
    ),
    MaterialProperty(
        name="band_gap",
        long_name="band gap",
        unit="eV",
        per_atom=False,
        is_energy=False,
        convention="Kohn-Sham gap between the highest occupied and the lowest empty band; zero for metals",
        minimum=0.0,
    ),
    MaterialProperty(
        name="metallicity",
        long_name="metal or non-metal",
        unit="",
        per_atom=False,
        is_energy=False,
        convention="metal: no Kohn-Sham band gap",
        classes=("metal", "non-metal"),
    ),
)

PROPERTIES: dict[str, MaterialProperty] = {entry.name: entry for entry in _TABLE}


def get_property(name: str) -> MaterialProperty:
    """Return the entry of the property table called ``name``.

    Raises:
        UnknownNameError: if there is no such property; the message names the closest one.
    """
    try:
        return PROPERTIES[name]
    except KeyError:
        raise unknown_name("property", name, PROPERTIES) from None
