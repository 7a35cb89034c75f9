"""The public names of radiobject.ml, with torch and without."""

from __future__ import annotations

import subprocess
import sys

import pytest

import radiobject.ml
from radiobject.errors import MovedImportError


def run(code: str) -> str:
    """What a new process prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_every_name_of_the_list_is_there() -> None:
    assert radiobject.ml.__all__ == sorted(radiobject.ml.__all__)
    assert all(hasattr(radiobject.ml, name) for name in radiobject.ml.__all__)
    assert dir(radiobject.ml) == radiobject.ml.__all__
    assert not hasattr(radiobject.ml, "Nothing")


def test_names_of_the_predecessor_say_what_to_use() -> None:
    with pytest.raises(MovedImportError, match="VolumeCollectionDataset"):
        from radiobject.ml import PatchVolumeDataset  # noqa: F401
    with pytest.raises(MovedImportError, match="labels="):
        from radiobject.ml.utils import load_labels  # noqa: F401


def test_importing_the_room_loads_no_torch() -> None:
    code = "import sys, radiobject.ml; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    assert run(code) == "[]"


def test_plans_need_no_torch_and_tensors_say_how_to_get_it() -> None:
    code = """
import sys
sys.modules["torch"] = None
from radiobject.examples import study
from radiobject.ml import Foreground, InMemory, PatchPlan, SampleSpec, Scratch
print(len(PatchPlan(SampleSpec("T1w", "seg", patch_size=8), study(2), Foreground())))
try:
    from radiobject.ml import create_training_dataloader
except ImportError as error:
    print(error)
"""
    count, error = run(code).splitlines()
    assert count == "3"
    assert 'pip install "radiobject-zarr[ml]"' in error
