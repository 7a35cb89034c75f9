"""What tests of the format share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.format.purged import grow


@pytest.fixture
def local(tmp_path: Path) -> str:
    """A study on a local disk in which two subjects have left traces wherever a study keeps any."""
    place = str(tmp_path / "study")
    grow(place, tmp_path)
    return place
