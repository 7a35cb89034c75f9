"""A read that fails keeps nothing: no circle of frames and errors holds what its caller had in hand."""

from __future__ import annotations

import gc
from pathlib import Path

import nibabel
import numpy as np
import pytest

from radiobject import RadiObject, Volume
from radiobject.errors import RadiObjectError

ARRAY = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)


def circles_of_a_failure(volume: Volume) -> int:
    """How many objects only garbage collection can free once the second failing read is over."""
    for _ in range(2):
        gc.collect()
        gc.disable()
        try:
            with pytest.raises(RadiObjectError):
                volume[:3]
            found = gc.collect()
        finally:
            gc.enable()
    return found


@pytest.mark.only("tensorstore", "zarr-python", "tiledb", reason="no object to take away")
def test_a_read_without_its_objects_leaves_no_circle(tmp_path: Path) -> None:
    radi = RadiObject.from_niftis(tmp_path / "study", {"CT": [((ARRAY, np.eye(4)), "a")]}, progress=False)
    volume = radi.CT.iloc[0]
    for path in (tmp_path / "study" / "collections").rglob("*"):
        if path.is_file() and ({"c", "__fragments"} & set(path.parts)):
            path.unlink()
    assert circles_of_a_failure(volume) == 0


@pytest.mark.only("tensorstore", reason="voxels lie in files")
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_read_without_its_file_leaves_no_circle(tmp_path: Path, name: str) -> None:
    nibabel.save(nibabel.Nifti1Image(ARRAY, np.eye(4)), tmp_path / name)
    radi = RadiObject.from_niftis(tmp_path / "study", {"CT": [tmp_path / name]}, copy=False, progress=False)
    volume = radi.CT.iloc[0]
    (tmp_path / name).unlink()
    assert circles_of_a_failure(volume) == 0
