"""Between S3 and a disk: copies both ways, a volume by its own URL, training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject, Volume, measure
from radiobject.errors import ConflictError, MissingObjectError
from tests.s3.conftest import S3Path

ENGINES = ("tensorstore",)
ARRAYS = {f"sub-{n}": np.random.default_rng(n).integers(0, 99, (40, 33, 21), "i2") for n in (2, 1)}
IMAGES = {
    "T1w": [((array, np.diag([2, 1, 1, 1.0])), subject) for subject, array in ARRAYS.items()],
    "seg": [((np.uint8(array > 50), np.diag([2, 1, 1, 1.0])), subject) for subject, array in ARRAYS.items()],
}


@pytest.fixture
def disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def checked(radi: RadiObject) -> RadiObject:
    """The study, its voxels compared."""
    for volume in radi.T1w:
        np.testing.assert_array_equal(volume[...], ARRAYS[volume.obs_subject_id])
    report = radi.validate("full")
    assert report.ok, report
    return radi


def test_up_and_down_is_the_same_bytes(disk: Path, tmp_path: S3Path) -> None:
    local = RadiObject.from_niftis(disk / "study", IMAGES, progress=False)
    there = checked(local.write(tmp_path / "study"))
    back = checked(there.write(disk / "back"))
    checked(there.write(tmp_path / "again"))
    objects = [radi.T1w.obs.to_arrow(["_objects"])["_objects"].to_pylist() for radi in (local, there, back)]
    assert objects[0] == objects[1] == objects[2]


def test_volumes_that_come_by_url_and_go_into_another_study(disk: Path, tmp_path: S3Path) -> None:
    there = RadiObject.from_niftis(tmp_path / "study", IMAGES, progress=False)
    path = there.T1w.obs.to_arrow(["_path"])["_path"][0].as_py()
    volume = Volume(f"{tmp_path / 'study'}/{path}")
    np.testing.assert_array_equal(volume[...], ARRAYS["sub-2"])
    other = RadiObject.from_niftis(disk / "other", {"CT": [(volume, "sub-9")]}, progress=False)
    np.testing.assert_array_equal(other.CT.iloc[0][...], ARRAYS["sub-2"])


def test_a_loader_trains_from_the_server(tmp_path: S3Path) -> None:
    pytest.importorskip("torch")
    from radiobject.ml import create_segmentation_dataloader

    there = RadiObject.from_niftis(tmp_path / "study", IMAGES, progress=False)
    loader = create_segmentation_dataloader(
        there.T1w, there.seg, batch_size=2, patch_size=16, patches_per_volume=2, seed=1
    )
    batches = list(loader)
    assert len(batches) == 2
    for batch in batches:
        for image, subject, start in zip(
            batch["image"], batch["obs_subject_id"], batch["start"], strict=True
        ):
            box = tuple(slice(int(a), int(a) + 16) for a in start)
            np.testing.assert_array_equal(image[0].numpy(), ARRAYS[subject][box])


def test_two_writers_of_one_study_are_told_apart(tmp_path: S3Path) -> None:
    RadiObject.from_niftis(tmp_path / "study", IMAGES, progress=False)
    one, other = RadiObject(tmp_path / "study"), RadiObject(tmp_path / "study")
    one.append({"T1w": [((ARRAYS["sub-1"], np.eye(4)), "sub-7")]}, {"obs_subject_id": ["sub-7"]})
    other.delete(obs_ids="sub-1_seg")
    assert (other.version, len(other.T1w), len(other.seg)) == (3, 3, 1)
    with pytest.raises(ConflictError):
        one.delete(obs_ids="sub-1_seg")


def test_a_lost_object_is_an_error_that_names_it(tmp_path: S3Path, server: dict[str, Any]) -> None:
    there = RadiObject.from_niftis(tmp_path / "study", IMAGES, progress=False)
    storage = there._study.snapshot.storage
    path = there.T1w.obs.to_arrow(["_path"])["_path"][0].as_py()
    storage.delete(f"{path}/0/c/0/0/0")
    with pytest.raises(MissingObjectError, match=path):
        there.T1w.iloc[0][1, 1, 1]
    assert there.T1w.iloc[1][1, 1, 1] == ARRAYS["sub-1"][1, 1, 1]


def test_a_part_of_a_volume_costs_a_part_of_its_bytes(tmp_path: S3Path) -> None:
    noise = np.random.default_rng(0).integers(-(2**15), 2**15, (128, 96, 96), "i2")
    there = RadiObject.from_niftis(tmp_path / "study", {"T1w": [((noise, np.eye(4)), "a")]}, progress=False)
    volume = there.T1w.iloc[0]
    with measure() as cost:
        np.testing.assert_array_equal(volume[:8, :8, :8], noise[:8, :8, :8])
    assert 0 < cost["bytes_read"] < noise.nbytes / 10
