"""The name of the functional and the Hubbard U values of a run; private part of :mod:`ase_matprop.finetune.vasp`.

pymatgen's ``run_type`` calls one functional by several names (``GGA = PE`` is "PBE", the same functional from the
POTCAR is "GGA") and LDA potentials without a GGA tag "GGA", so that runs which go together would seem not to.  Here the
name says what was calculated: the tags that VASP itself reports decide, and the titles of the POTCARs where there is no
tag.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ase_matprop.errors import CalculationError

_GGA = {
    "91": "PW91", "PE": "PBE", "PS": "PBEsol", "RP": "RPBE", "RE": "revPBE", "AM": "AM05", "CA": "LDA", "PZ": "LDA",
    "B3": "B3LYP", "B5": "B3LYP", "OR": "optPBE", "BO": "optB88", "MK": "optB86b", "ML": "rPW86", "CX": "cx13",
    "BF": "BEEF", "CO": "no correlation", "LI": "libxc",
}  # fmt: skip
#: by the beginning of the tag, of which VASP itself prints five letters
_METAGGA = {
    "R2SC": "r2SCAN", "RSCA": "rSCAN", "SCAN": "SCAN", "RTPS": "revTPSS", "TPSS": "TPSS", "M06L": "M06-L", "MBJ": "mBJ",
    "LMBJ": "local mBJ", "MS0": "MS0", "MS1": "MS1", "MS2": "MS2", "LIBX": "libxc meta-GGA",
}  # fmt: skip
#: what GGA stands for together with LUSE_VDW = .TRUE.
_VDW_DF = {
    "RE": "vdW-DF", "OR": "optPBE-vdW", "BO": "optB88-vdW", "MK": "optB86b-vdW", "ML": "vdW-DF2", "CX": "vdW-DF-cx",
}  # fmt: skip
_IVDW = {
    1: "D2", 10: "D2", 11: "D3", 12: "D3(BJ)", 13: "D4", 2: "TS", 20: "TS", 21: "TS(HI)", 202: "MBD", 263: "MBD(FI)",
    4: "dDsC",
}  # fmt: skip
_NOTHING = ("", "--", "NONE", "NO", "F", "FALSE", ".FALSE.", "T", "TRUE")
_POTCAR_FUNCTIONAL = {"PAW_PBE": "PBE", "PBE": "PBE", "PAW_GGA": "PW91", "PAW": "LDA", "US": "LDA", "NC": "LDA"}

Values = Mapping[str, Any]


def functional_name(tags: Values, titles: Sequence[str]) -> str:
    """Return the functional, with dispersion correction and spin-orbit coupling, without Hubbard U.

    Args:
        tags: VASP's tags (capitals) and their values.
        titles: titles of the POTCARs, such as ``"PAW_PBE Zr_sv 04Jan2005"``.
    """
    gga, meta = _word(tags.get("GGA")), _word(tags.get("METAGGA"))
    if meta:
        base = next((name for start, name in _METAGGA.items() if meta.startswith(start)), meta)
    elif gga:
        base = _GGA.get(gga, f"GGA = {gga}")
    else:
        base = _from_potcars(titles)
    if is_true(tags.get("LHFCALC")):
        base = _hybrid(base, tags)
    if is_true(tags.get("LUSE_VDW")):
        base = f"{base}+rVV10" if meta else _VDW_DF.get(gga, f"{base}+vdW-DF")
    ivdw = int(number(tags.get("IVDW"), 0))
    if ivdw:
        base = f"{base}+{_IVDW.get(ivdw, f'IVDW{ivdw}')}"
    elif is_true(tags.get("LVDW")):
        base = f"{base}+D2"
    if is_true(tags.get("LSORBIT")):
        base = f"{base}+SOC"
    if is_true(tags.get("LDAU")) and int(number(tags.get("LDAUTYPE"), 2)) != 2:
        base = f"{base} (LDAUTYPE {int(number(tags['LDAUTYPE'], 2))})"
    return base


def hubbard_values(tags: Values, symbols: Sequence[str]) -> dict[str, float]:
    """Return U - J in eV for each element that has one other than zero.

    Args:
        tags: VASP's tags and their values.
        symbols: the element of each POTCAR, in order.  An element with two POTCARs and two values has a second entry,
            ``"Fe#2"``.

    Raises:
        CalculationError: if the values are not one per POTCAR.
    """
    if not is_true(tags.get("LDAU")):
        return {}
    u, j, angular = (numbers(tags.get(name)) for name in ("LDAUU", "LDAUJ", "LDAUL"))
    j = j or [0.0] * len(u)
    angular = angular or [2.0] * len(u)
    if not len(u) == len(j) == len(angular) == len(symbols):
        raise CalculationError(
            f"LDAU is on, but LDAUU, LDAUJ and LDAUL have {len(u)}, {len(j)} and {len(angular)} values for "
            f"{len(symbols)} POTCARs; check the INCAR"
        )
    result: dict[str, float] = {}
    for symbol, *values in zip(symbols, u, j, angular, strict=True):
        value = round(values[0] - values[1], 4) if values[2] >= 0 else 0.0
        known = [result[key] for key in result if key.partition("#")[0] == symbol]
        if value and value not in known:
            result[f"{symbol}#{len(known) + 1}" if known else symbol] = value
    return result


def _hybrid(base: str, tags: Values) -> str:
    exchange, screening = number(tags.get("AEXX"), 0.25), number(tags.get("HFSCREEN"), 0.0)
    usual = 0.25
    if is_true(tags.get("LMODELHF")):
        return f"{base} with model-dielectric exchange (AEXX {exchange:g}, HFSCREEN {screening:g})"
    if base == "B3LYP":
        name, usual = "B3LYP", 0.2
    elif math.isclose(exchange, 1.0) and not screening:
        name, usual = "HF", 1.0
    elif 0.2 <= screening <= 0.21 and base in ("PBE", "PBEsol"):
        name = "HSE06" if base == "PBE" else "HSEsol"
    elif math.isclose(screening, 0.3) and base == "PBE":
        name = "HSE03"
    elif not screening:
        name = "PBE0" if base == "PBE" else f"{base} hybrid"
    else:
        name = f"{base} hybrid (HFSCREEN {screening:g})"
    return name if math.isclose(exchange, usual) else f"{name} (AEXX {exchange:g})"


def _from_potcars(titles: Sequence[str]) -> str:
    kinds = {
        _POTCAR_FUNCTIONAL.get(title.split()[0].upper(), "unknown") if title.split() else "unknown" for title in titles
    }
    return "/".join(sorted(kinds)) or "unknown"


def is_true(value: object) -> bool:
    """Return whether a tag of VASP is on, however the file spells it."""
    return value is True or str(value).strip().strip(".").upper()[:1] == "T"


def number(value: object, default: float) -> float:
    """Return the number of a tag; what follows it (a unit, a comment) does not count."""
    values = numbers(value)
    return values[0] if values else default


def numbers(value: object) -> list[float]:
    """Return the numbers of a tag with several, up to the first word that is none."""
    if value is None or isinstance(value, bool):
        return []
    words: list[Any] = [value]
    if isinstance(value, str):
        words = value.replace(",", " ").split()
    elif isinstance(value, (list, tuple)):
        words = list(value)
    result = []
    for word in words:
        try:
            result.append(float(word))
        except (TypeError, ValueError):
            break
    return result


def _word(value: object) -> str:
    words = str(value or "").upper().split()
    return "" if not words or words[0] in _NOTHING else words[0]
