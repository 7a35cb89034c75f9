"""Fixtures of the training tests."""

from __future__ import annotations

import pytest

from radiobject import RadiObject
from tests.ml.ground import make_study


@pytest.fixture(scope="session")
def coded_study(tmp_path_factory: pytest.TempPathFactory) -> RadiObject:
    """`make_study`, which nobody changes."""
    return make_study(tmp_path_factory.mktemp("coded"))
