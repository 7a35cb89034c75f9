"""What NIfTI reading refuses: each bad or foreign file by its own error, which names the file."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiobject.errors import (
    ConfigError,
    SourceCorruptError,
    SourceError,
    SourceNotFoundError,
    SourceUnsupportedError,
)
from radiobject.ingest.nifti import peek_nifti, read_nifti

SMALL = np.arange(60, dtype="i2").reshape(3, 4, 5)


def _corrupted_crc(data: bytes) -> bytes:
    return data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]


def _with_dim(content: bytes, *dims: int) -> bytes:
    return content[:40] + struct.pack(f"<{len(dims)}h", *dims) + content[40 + 2 * len(dims) :]


@pytest.mark.parametrize(
    ("name", "change", "kind", "words"),
    [
        ("a.nii", lambda c: b"", SourceCorruptError, "0 bytes"),
        ("a.nii.gz", lambda c: b"", SourceCorruptError, "0 bytes"),
        ("a.nii.gz", lambda c: b"<!DOCTYPE html><html>no</html>", SourceCorruptError, "web page"),
        ("a.nii", lambda c: b"\n<html>no</html>", SourceCorruptError, "web page"),
        ("a.nii.gz", lambda c: b"version https://git-lfs.github.com/", SourceCorruptError, "git lfs"),
        ("a.nii.gz", lambda c: b"../.git/annex/objects/a/b/MD5E-s1--1.nii.gz", SourceCorruptError, "datalad"),
        ("a.nii.gz", lambda c: c, SourceCorruptError, "rename it"),
        ("a.nii.gz", lambda c: gzip.compress(c)[:-12], SourceCorruptError, "damaged"),
        ("a.nii.gz", lambda c: gzip.compress(c)[:-4], SourceCorruptError, "damaged"),
        ("a.nii.gz", lambda c: _corrupted_crc(gzip.compress(c)), SourceCorruptError, "damaged"),
        ("a.nii.gz", lambda c: gzip.compress(c) + b"junk", SourceCorruptError, "damaged"),
        ("a.nii.gz", lambda c: gzip.compress(c[:-1]), SourceCorruptError, "expected 472 bytes"),
        ("a.nii.gz", lambda c: gzip.compress(c[:100]), SourceCorruptError, "magic"),
        ("a.nii", lambda c: c[:-1], SourceCorruptError, "expected 472 bytes"),
        ("a.nii", lambda c: c[:200], SourceCorruptError, "magic"),
        ("a.nii", lambda c: bytes(1000), SourceCorruptError, "zeros"),
        ("a.nii", lambda c: bytes(128) + b"DICM" + bytes(900), SourceUnsupportedError, "DICOM"),
        ("a.nii", lambda c: c[:344] + bytes(4) + c[348:], SourceUnsupportedError, "Analyze"),
        ("a.nii", lambda c: c[:344] + b"ni1\0" + c[348:], SourceCorruptError, "magic"),
        ("a.nii", lambda c: _with_dim(c, 9), SourceCorruptError, "dimensions"),
        ("a.nii", lambda c: _with_dim(c, 3, 0, 4, 5), SourceCorruptError, "1 or more"),
        ("a.nii", lambda c: _with_dim(c, 3, -3, 4, 5), SourceCorruptError, "1 or more"),
        ("a.nii", lambda c: _with_dim(c, 5, *[32767] * 5), SourceCorruptError, "bytes"),
        ("a.nii.gz", lambda c: gzip.compress(_with_dim(c, 5, *[32767] * 5)), SourceCorruptError, "so many"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_by_name(make_nifti, tmp_path, name, change, kind, words) -> None:
    path = tmp_path / name
    path.write_bytes(change(make_nifti(SMALL)))
    with pytest.raises(kind, match=words) as caught:
        read_nifti(path, axis4="time")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"datatype": 1}, SourceUnsupportedError, "binary"),
        ({"datatype": 32}, SourceUnsupportedError, "complex64"),
        ({"datatype": 128}, SourceUnsupportedError, "RGB24"),
        ({"datatype": 1536}, SourceUnsupportedError, "float128"),
        ({"datatype": 2304}, SourceUnsupportedError, "RGBA32"),
        ({"datatype": 0}, SourceCorruptError, "datatype"),
        ({"datatype": 7777}, SourceCorruptError, "datatype"),
        ({"vox_offset": 0}, SourceCorruptError, "vox_offset"),
        ({"vox_offset": np.nan}, SourceCorruptError, "vox_offset|NaN"),
        ({"vox_offset": 1e30}, SourceCorruptError, "vox_offset"),
        ({"scl_slope": 2, "scl_inter": np.inf}, SourceCorruptError, "intercept"),
        ({"srow_x": [0, 0, 0, 0]}, SourceUnsupportedError, "sform"),
        ({"srow_x": [np.nan, 0, 0, 0]}, SourceUnsupportedError, "sform"),
        ({"sform_code": 0, "qform_code": 1, "quatern_b": 9}, SourceCorruptError, "header"),
    ],
)
def test_bad_headers_are_refused_by_name(make_nifti, tmp_path, fields, kind, words) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(make_nifti(SMALL, fields=fields))
    for look in (read_nifti, peek_nifti):
        with pytest.raises(kind, match=words) as caught:
            look(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("kwargs", [{"fields": {"intent_code": 3002}}, {"extensions": [(32, b"<CIFTI/>")]}])
def test_cifti_is_refused(make_nifti, tmp_path, kwargs) -> None:
    (tmp_path / "a.nii").write_bytes(make_nifti(np.zeros((1, 1, 1, 1, 4, 5), "f4"), version=2, **kwargs))
    with pytest.raises(SourceUnsupportedError, match="CIFTI-2"):
        read_nifti(tmp_path / "a.nii")


def test_a_missing_file_and_a_folder_are_source_errors(tmp_path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"none\.nii\.gz"):
        read_nifti(tmp_path / "none.nii.gz")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(SourceError, match=r"folder\.nii.*IsADirectoryError"):
        read_nifti(tmp_path / "folder.nii")


@pytest.mark.parametrize("shape", [(2, 3, 4, 5, 1, 2), (2, 3), (7,)])
def test_ranks_that_are_no_volume_are_refused(make_nifti, tmp_path, shape) -> None:
    (tmp_path / "a.nii").write_bytes(make_nifti(np.zeros(shape, "u1")))
    with pytest.raises(SourceUnsupportedError, match=r"a\.nii"):
        read_nifti(tmp_path / "a.nii", axis4="time")


def test_two_channel_axes_are_refused(make_nifti, tmp_path) -> None:
    (tmp_path / "a.nii").write_bytes(make_nifti(np.zeros((2, 3, 4, 5, 6), "u1")))
    with pytest.raises(SourceUnsupportedError, match="one channel axis"):
        read_nifti(tmp_path / "a.nii", axis4="channel")


def test_an_unknown_word_for_the_fourth_axis_is_a_config_error(make_nifti, tmp_path) -> None:
    (tmp_path / "a.nii").write_bytes(make_nifti(SMALL))
    with pytest.raises(ConfigError, match="axis4"):
        read_nifti(tmp_path / "a.nii", axis4="echo")


@pytest.mark.parametrize("name", ["a.hdr", "a.img"])
def test_a_missing_half_is_named(make_nifti, tmp_path, name) -> None:
    header, image = make_nifti(SMALL, pair=True)
    (tmp_path / name).write_bytes(header if name == "a.hdr" else image)
    with pytest.raises(SourceNotFoundError, match=r"a\.img" if name == "a.hdr" else r"a\.hdr"):
        read_nifti(tmp_path / name)


def test_a_real_file_cut_anywhere_is_an_error(nibabel_data: Path, tmp_path) -> None:
    whole = (nibabel_data / "example_nifti2.nii.gz").read_bytes()
    for size in range(0, len(whole), 997):
        (tmp_path / "a.nii.gz").write_bytes(whole[:size])
        with pytest.raises(SourceCorruptError):
            read_nifti(tmp_path / "a.nii.gz")
    shutil.copy(nibabel_data / "example_nifti2.nii.gz", tmp_path / "a.nii.gz")
    assert read_nifti(tmp_path / "a.nii.gz").source.format == "nifti2"


@given(data=st.data())
def test_no_damage_to_a_header_escapes_the_error_tree(make_nifti, data) -> None:
    content = bytearray(
        make_nifti(SMALL, version=data.draw(st.sampled_from([1, 2])), extensions=[(0, b"<a/>")])
    )
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(SourceError):
        image = read_nifti("a.nii", reader=lambda name: bytes(content))
        assert image.voxels.shape == image.shape
        assert image.header + image.voxels.astype(
            image.dtype.newbyteorder(image.source.byteorder)
        ).tobytes() + image.tail == bytes(content)
