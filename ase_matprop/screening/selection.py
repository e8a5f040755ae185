"""Which of the kept candidates are meant: patterns of chemical systems, as conditions on the columns of a part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import Any

from ase_matprop.compositions.formulas import ELEMENTS
from ase_matprop.errors import MatPropError


@dataclass(frozen=True)
class SystemPattern:
    """Which chemical systems are meant.

    Attributes:
        elements: symbols that a system must have.
        n_others: how many other elements it must have besides.
        more: whether it may have more than these.
    """

    elements: frozenset[str]
    n_others: int = 0
    more: bool = False

    @classmethod
    def parse(cls, text: str) -> SystemPattern:
        """Read a pattern: symbols and wildcards, separated by ``-``, in any order.

        ``*`` stands for exactly one other element and ``**`` for any number of other elements, none included:
        ``Fe-O`` are the binaries of Fe and O, ``Li-*-O`` all ternaries with Li and O, ``Li-O-**`` everything that has
        Li and O, ``Li-O-*-**`` the same without the Li-O binaries, and ``*-*`` all binaries.

        Raises:
            MatPropError: for a symbol that is no element, or one that is there twice.
        """
        parts = [part.strip() for part in text.split("-")]
        symbols = [part for part in parts if part not in ("*", "**")]
        for symbol in symbols:
            if symbol not in ELEMENTS or symbol in ("D", "T"):
                right = symbol.capitalize()
                hint = f" (did you mean {right}?)" if right in ELEMENTS else ""
                raise MatPropError(
                    f"the system {text!r} has {symbol!r}, which is no element{hint}; write it as in Li-*-O"
                )
        if len(set(symbols)) < len(symbols):
            raise MatPropError(f"the system {text!r} names an element twice; name each once, as in Li-*-O")
        return cls(frozenset(symbols), parts.count("*"), "**" in parts)

    def expression(self) -> Any:
        """Return the condition on the columns of a part, for pyarrow."""
        import pyarrow.compute as pc

        size = len(self.elements) + self.n_others
        if not self.n_others and not self.more:
            return pc.field("system") == "-".join(sorted(self.elements))
        conditions = [pc.field("n_elements") >= size if self.more else pc.field("n_elements") == size]
        for symbol in sorted(self.elements):
            conditions.append(pc.match_substring_regex(pc.field("system"), f"(^|-){symbol}(-|$)"))
        return reduce(and_, conditions)


def selection(
    system: str | Iterable[str] | None,
    min_elements: int | None = None,
    max_elements: int | None = None,
    without: Iterable[str] = (),
) -> Any:
    """Return the condition on the columns of a part that :meth:`Results.top` describes, for pyarrow.

    Raises:
        MatPropError: for a pattern or a symbol that is none.
    """
    import pyarrow.compute as pc

    chosen = pc.scalar(True)
    if system is not None:
        patterns = [system] if isinstance(system, str) else list(system)
        chosen = reduce(or_, [SystemPattern.parse(pattern).expression() for pattern in patterns], pc.scalar(False))
    if min_elements is not None:
        chosen &= pc.field("n_elements") >= min_elements
    if max_elements is not None:
        chosen &= pc.field("n_elements") <= max_elements
    for symbol in [without] if isinstance(without, str) else without:
        if symbol not in ELEMENTS:
            raise MatPropError(f"{symbol!r} is to be left out and is no element; give symbols such as 'Pb'")
        chosen &= ~pc.match_substring_regex(pc.field("system"), f"(^|-){symbol}(-|$)")
    return chosen
