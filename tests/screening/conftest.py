"""A small run, and one that was not stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from ase_matprop.screening.run import screen
from ase_matprop.screening.settings import ScreeningSettings
from tests.screening.small_runs import settings_of


@pytest.fixture
def settings(tmp_path: Path) -> ScreeningSettings:
    return settings_of(tmp_path)


@pytest.fixture
def whole(settings: ScreeningSettings, tmp_path: Path) -> Path:
    """A run that was not stopped."""
    screen(settings, tmp_path / "whole")
    return tmp_path / "whole"
