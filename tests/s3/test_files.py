"""Files where they lie in a bucket: registered by their headers, read by ranges, held against their ETags."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from radiobject import RadiObject, measure
from radiobject.backends.files import changed
from radiobject.backends.files.decoded import kept
from radiobject.errors import MissingObjectError, SourceChangedError
from radiobject.location import Location
from tests.conftest import NiftiMaker
from tests.s3.conftest import S3Path

ENGINES = ("tensorstore",)
SHAPE = (160, 160, 100)
RAMP = np.random.default_rng(0).integers(0, 999, SHAPE, "i2")


@pytest.fixture
def bucket(tmp_path: S3Path, make_nifti: NiftiMaker) -> S3Path:
    data = make_nifti(RAMP, tail=b"tail")
    put(tmp_path / "data" / "a.nii", data)
    put(tmp_path / "data" / "b.nii.gz", gzip.compress(data, 1))
    return tmp_path


def put(path: S3Path, data: bytes | None) -> None:
    fs, key = Location(path).filesystem()
    fs.rm_file(key) if data is None else fs.pipe_file(key, data)


def test_a_bucket_becomes_a_study_and_is_read_in_part(bucket: S3Path) -> None:
    images = {"T1w": [(str(bucket / "data" / name), name) for name in ("a.nii", "b.nii.gz")]}
    with measure() as made:
        RadiObject.from_niftis(bucket / "study", images, copy=False, progress=False)
    assert made["bytes_read"] < 500_000
    radi = RadiObject(bucket / "study")
    plain, packed = radi.T1w
    with measure() as first:
        part = plain[10:40, 20:50, 30:34]
    np.testing.assert_array_equal(part, RAMP[10:40, 20:50, 30:34])
    # a look at the object, and one range: planes of 51 kB are closer together than a request is worth
    assert (first["requests"], first["bytes_read"] < 4 * RAMP[..., 0].nbytes) == (2, True)
    with measure() as second:
        np.testing.assert_array_equal(plain[:, :, 50], RAMP[:, :, 50])
    assert second["requests"] == 1
    np.testing.assert_array_equal(packed[...], RAMP)
    with measure() as again:
        np.testing.assert_array_equal(packed[3:5], RAMP[3:5])
    assert again["requests"] == 0
    assert packed.extra("nifti_tail") == plain.extra("nifti_tail") == b"tail"


def test_an_object_that_is_another_is_an_error(bucket: S3Path, make_nifti: NiftiMaker) -> None:
    images = {"T1w": [(str(bucket / "data" / name), name) for name in ("a.nii", "b.nii.gz")]}
    radi = RadiObject.from_niftis(bucket / "study", images, copy=False, progress=False)
    for volume, name in zip(radi.T1w, ("a.nii", "b.nii.gz"), strict=True):
        other = make_nifti(RAMP[::-1], tail=b"tail")
        put(bucket / "data" / name, gzip.compress(other, 1) if name.endswith("gz") else other)
        changed._sound.clear()
        kept.clear()
        with pytest.raises(SourceChangedError, match=name):
            volume[0]
        put(bucket / "data" / name, None)
        with pytest.raises(MissingObjectError, match="source_root"):
            volume[0]
