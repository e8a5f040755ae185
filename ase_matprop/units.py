"""Units of predicted values, and conversion between the energy units that users of DFT tables need."""

from __future__ import annotations

from ase import units as _ase

from ase_matprop.errors import UnknownNameError, unknown_name

#: energy of one unit of each name, in eV (per atom units share one table: the "per atom" cancels)
_ENERGY_IN_EV: dict[str, float] = {
    "eV/atom": 1.0,
    "meV/atom": 1e-3,
    "kJ/mol-atom": _ase.kJ / _ase.mol,
    "kcal/mol-atom": _ase.kcal / _ase.mol,
    "Ry/atom": _ase.Ry,
    "Ha/atom": _ase.Ha,
}


def conversion_factor(source: str, target: str) -> float:
    """Return the number that turns a value in unit ``source`` into one in unit ``target``.

    Args:
        source: a unit such as ``"eV/atom"``.
        target: a unit of the same dimension, such as ``"kJ/mol-atom"`` (kJ per mole of atoms).

    Raises:
        UnknownNameError: if one of the units is not known, or the two are of different dimension.
    """
    if source == target:
        return 1.0
    if source not in _ENERGY_IN_EV:
        raise UnknownNameError(
            f"values in {source or 'no unit'} cannot be converted to {target!r}; only energies per atom can"
        )
    if target not in _ENERGY_IN_EV:
        raise unknown_name("energy unit", target, _ENERGY_IN_EV)
    return _ENERGY_IN_EV[source] / _ENERGY_IN_EV[target]
