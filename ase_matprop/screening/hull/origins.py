"""Whether the energies of a model and of the references come from the same kind of calculation."""

from __future__ import annotations

import re

from ase_matprop.models.card import ModelCard
from ase_matprop.screening.hull.references import References

#: database -> how it is recognised, and the functional of its energies
_DATABASES: dict[str, tuple[str, str]] = {
    "Materials Project": (r"materials[\s_-]*project|\bmp-\d|(?:^|[\W_])mp(?:$|[\W_])", "PBE(+U)"),
    "OQMD": (r"oqmd", "PBE(+U)"),
    "JARVIS-DFT": (r"jarvis|jvasp", "OptB88vdW"),
    "Alexandria": (r"alexandria|\bagm\d", "PBE(+U)"),
    "experiment": (r"measured|experiment", "measured"),
}

#: functional -> how it is recognised; the first that is found counts
_FUNCTIONALS: dict[str, str] = {
    "r2SCAN": r"r2scan|r²scan",
    "SCAN": r"(?<![^\W_])scan(?![^\W_])",  # and not scandium
    "HSE06": r"(?<![^\W_])hse(?:0?[36])?(?![^\W_])",
    "OptB88vdW": r"optb88",
    "PBEsol": r"pbesol|\bps\b",
    "PBE(+U)": r"\bpbe|\bgga",
    "LDA": r"\blda\b",
    "measured": r"measured|experiment",
}


def functional_warning(model: ModelCard | str, references: References) -> str | None:
    """Return a warning if a model learnt other energies than those of the references, None if the same.

    Hull distances mix the two, so that a constant difference between functionals, or between the corrections of two
    databases, goes into every one of them (up to some 0.1 eV/atom).  What is not known is said, too.

    Args:
        model: the card of the model, or a text on its training set.
        references: the references, recognised by functional, source and ids.
    """
    text = f"{model.training_set.name} {model.training_set.source}" if isinstance(model, ModelCard) else model
    ours_from, ours = _recognise(text)
    stated = references.functional or ""
    theirs_from, theirs = _recognise(f"{stated} {references.source.rpartition('/')[2]} {' '.join(references.ids[:20])}")
    theirs = _first(_FUNCTIONALS, stated) or theirs
    if ours is None:
        return "it is not known which functional the model's training set was calculated with; compare with care"
    if theirs is None:
        return (
            f"it is not known how the energies of {references.source} were calculated, while the model learnt "
            f"{_described(ours_from, ours)}; name their functional if it is the same"
        )
    if ours == theirs and (ours_from == theirs_from or None in (ours_from, theirs_from)):
        return None
    return (
        f"the model learnt {_described(ours_from, ours)}, and the references are {_described(theirs_from, theirs)}: "
        "distances to the hull are off by what these differ in; use references of the model's own kind"
    )


def _recognise(text: str) -> tuple[str | None, str | None]:
    """Return the database that a text speaks of, and its functional."""
    database = _first({name: pattern for name, (pattern, _) in _DATABASES.items()}, text)
    functional = _first(_FUNCTIONALS, text)
    return database, functional or (_DATABASES[database][1] if database else None)


def _first(patterns: dict[str, str], text: str) -> str | None:
    return next((name for name, pattern in patterns.items() if re.search(pattern, text, re.IGNORECASE)), None)


def _described(database: str | None, functional: str) -> str:
    if database == "experiment":
        return "measured energies"
    return f"{functional} energies" + (f" of {database}" if database else "")
