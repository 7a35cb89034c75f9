"""Random histories on every backend and engine. `RADIOBJECT_EXAMPLES` raises the number (`make chaos`)."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from radiobject.testing import StudyMachine

EXAMPLES = int(os.environ.get("RADIOBJECT_EXAMPLES", "20"))
SETTINGS = settings(
    max_examples=EXAMPLES, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
_folder = tempfile.mkdtemp(prefix="radiobject-machine-")


@pytest.fixture(autouse=True, scope="module")
def _remove_studies() -> Any:
    yield
    shutil.rmtree(_folder, ignore_errors=True)


class OnMemory(StudyMachine):
    backend = "memory"

    def place(self) -> str:
        return "memory://machine/memory"


class OnTensorstore(StudyMachine):
    backend = "zarr"

    def place(self) -> str:
        return f"{_folder}/study"


class OnZarrPython(StudyMachine):
    """zarr on an fsspec URL that tensorstore cannot express goes by zarr-python."""

    backend = "zarr"

    def place(self) -> str:
        return "memory://machine/zarr"


TestOnMemory = OnMemory.TestCase
TestOnTensorstore = OnTensorstore.TestCase
TestOnZarrPython = OnZarrPython.TestCase
for case in (TestOnMemory, TestOnTensorstore, TestOnZarrPython):
    case.settings = SETTINGS
del case
