"""Functionals and databases that are recognised in texts."""

from __future__ import annotations

import pytest

from ase_matprop.screening.hull.origins import functional_warning
from tests.screening.hull.examples import references_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SCAN", "SCAN energies"),
        ("r2SCAN", "r2SCAN energies"),
        ("SCAN_rVV10", "SCAN energies"),
        ("HSE06", "HSE06 energies"),
        ("my_hse_run", "HSE06 energies"),
        ("scandium oxides", None),
        ("Chsevsky et al.", None),
        ("scanned from a book, PBE", "PBE(+U) energies"),
    ],
)
def test_functionals_are_words(text: str, expected: str | None) -> None:
    references = references_of({"Li": 0.0, "O2": 0.0})
    warning = functional_warning(text, references)
    assert warning is not None
    if expected is None:
        assert "not known which functional" in warning
    else:
        assert f"the model learnt {expected}" in warning
