"""Real files, registered and then stored: they read as before, and their rows are those of an ingest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from radiobject import RadiObject

from .test_materialize import fresh, sound, voxels

pytestmark = pytest.mark.only("tensorstore", reason="one engine that stores voxels stands for all")


def becomes(radi: RadiObject, ingested: RadiObject) -> None:
    seen = voxels(radi)
    radi.materialize()
    assert voxels(fresh(radi)) == seen
    assert radi.collection_names == ingested.collection_names
    for name in ingested.collection_names:
        expected = ingested.collection(name).obs.read()
        assert radi.collection(name).obs.read()[expected.columns].map(str).equals(expected.map(str))
    assert sound(radi)


@pytest.mark.parametrize("part", ["dcmqi", "dcm_qa_ct", "dicom2nifti"])
def test_series(real_data: Path, tmp_path: Path, part: str) -> None:
    options: dict[str, Any] = {
        "irregular": "keep", "errors": "collect", "deidentify": False, "progress": False,
    }  # fmt: skip
    ingested = RadiObject.from_dicoms(tmp_path / "ingested", real_data / part, **options)
    becomes(
        RadiObject.from_dicoms(
            tmp_path / "study", real_data / part, copy=False, source_root=real_data, **options
        ),
        ingested,
    )


@pytest.mark.parametrize("part", ["niivue", "totalsegmentator"])
def test_nifti(real_data: Path, tmp_path: Path, part: str) -> None:
    found = sorted(p for p in (real_data / part).rglob("*") if p.name.endswith((".nii", ".nii.gz")))
    images = {"all": [(str(p), "s", f"v{n}") for n, p in enumerate(found)]}
    options: dict[str, Any] = {"axis4": "time", "errors": "collect", "progress": False, "labels": []}
    ingested = RadiObject.from_niftis(tmp_path / "ingested", images, **options)
    registered = RadiObject.from_niftis(
        tmp_path / "study", images, copy=False, source_root=real_data, **options
    )
    becomes(registered, ingested)
