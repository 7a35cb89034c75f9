"""Each bad input is an error of ours that says which, what was expected, what came and what to do.

And nothing half-visible is left: whoever opens the place afterwards finds no study, or the one before.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest

from radiobject import RadiObject
from radiobject.errors import (
    AlignmentError,
    DuplicateIdError,
    IngestError,
    MetadataError,
    RadiObjectError,
    SourceError,
    SourceNotFoundError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
    StudyExistsError,
    StudyNotFoundError,
)

SMALL = np.arange(60, dtype="i2").reshape(3, 4, 5)


def scan(value: int = 1) -> tuple[np.ndarray, np.ndarray]:
    return np.full((4, 4, 4), value, "i2"), np.eye(4)


def no_study(uri: Any) -> None:
    with pytest.raises(StudyNotFoundError):
        RadiObject(uri)


def refused(
    uri: Path, images: dict[str, Any], kind: type[RadiObjectError], words: str, **options: Any
) -> str:
    """The message of the error, which must be of that kind; no study is there afterwards."""
    with pytest.raises(kind, match=words) as caught:
        RadiObject.from_niftis(uri, images, **options)
    assert caught.value.hint or isinstance(caught.value, IngestError), f"no hint in: {caught.value}"
    no_study(uri)
    return str(caught.value)


@pytest.fixture
def good(tmp_path: Path, make_nifti) -> Path:
    path = tmp_path / "sub-1_T1w.nii.gz"
    path.write_bytes(gzip.compress(make_nifti(SMALL)))
    return path


def changed_crc(data: bytes) -> bytes:
    return data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]


@pytest.mark.parametrize(
    ("name", "change", "error", "words"),
    [
        ("b.nii.gz", lambda c: b"<html>Please log in</html>", "SourceCorruptError", "a web page"),
        ("b.nii.gz", lambda c: b"", "SourceCorruptError", "0 bytes"),
        ("b.nii", lambda c: b"", "SourceCorruptError", "0 bytes"),
        ("b.nii.gz", lambda c: gzip.compress(c)[:-20], "SourceCorruptError", "damaged"),
        ("b.nii.gz", lambda c: changed_crc(gzip.compress(c)), "SourceCorruptError", "damaged"),
        ("b.nii", lambda c: c[:-1], "SourceCorruptError", "truncated"),
        ("b.nii", lambda c: c[:70] + b"\x20\x00" + c[72:], "SourceUnsupportedError", "complex64"),
        ("b.nii", lambda c: c[:70] + b"\x00\x06" + c[72:], "SourceUnsupportedError", "float128"),
        ("b.nii", lambda c: c[:70] + b"\x80\x00" + c[72:], "SourceUnsupportedError", "RGB24 colour"),
        ("b.nii", lambda c: c[:70] + b"\x00\x09" + c[72:], "SourceUnsupportedError", "RGBA32 colour"),
        ("b.hdr", lambda c: c[:344] + b"ni1\0" + c[348:], "SourceNotFoundError", "b.img"),
    ],
)
def test_a_bad_file_is_named_with_its_trouble(tmp_path, good, make_nifti, name, change, error, words) -> None:
    bad = tmp_path / name
    bad.write_bytes(change(make_nifti(SMALL)))
    with pytest.raises(IngestError, match="1 of 2 sources failed") as caught:
        RadiObject.from_niftis(tmp_path / "study", {"T1w": [good, bad]})
    no_study(tmp_path / "study")
    (line,) = caught.value.report
    assert (line["source"], line["error"]) == (str(bad), error)
    for part in (str(bad), words, "expected", "got"):
        assert part in line["message"]
        assert part in str(caught.value)


def test_cifti_is_refused_by_name(tmp_path, good, nibabel_data) -> None:
    cifti = nibabel_data / "row_major.dconn.nii"
    message = refused(tmp_path / "study", {"T1w": [good, cifti]}, IngestError, "CIFTI-2")
    assert str(cifti) in message
    assert "Only volumes are stored" in message
    refused(tmp_path / "study2", {"T1w": [nibabel.load(cifti)]}, SourceError, "Cifti2Image")


@pytest.mark.parametrize("dtype", ["c8", "c16", "f16", [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_arrays_and_images_of_types_that_are_not_stored(tmp_path, dtype) -> None:
    array = np.zeros((3, 3, 3), dtype)
    refused(tmp_path / "a", {"T1w": [(array, np.eye(4))]}, IngestError, "SourceUnsupportedError")
    if dtype == "f16":
        return  # nibabel makes no such image either
    image = nibabel.Nifti1Image(array, np.eye(4))
    refused(tmp_path / "b", {"T1w": [image]}, IngestError, "SourceUnsupportedError")


def test_affines_that_span_no_space(tmp_path) -> None:
    for affine in (np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan), [["a"]]):
        message = refused(tmp_path / "s", {"T1w": [(SMALL, affine), scan()]}, IngestError, "affine")
        assert "T1w[0]" in message
    for source in (SMALL, (SMALL, "RAS")):
        refused(tmp_path / "s", {"T1w": [source]}, SourceError, "needs its 4x4 affine")
    assert RadiObject.from_niftis(tmp_path / "s", {"T1w": [(SMALL, None)]}).T1w.iloc[0].spacing == (1, 1, 1)


def test_a_missing_file_is_seen_before_anything_is_written(tmp_path, good) -> None:
    message = refused(tmp_path / "s", {"T1w": [good, tmp_path / "gone.nii"]}, SourceNotFoundError, "gone.nii")
    assert "nothing was written" in message
    assert not (tmp_path / "s").exists()
    refused(tmp_path / "s", {"T1w": f"{tmp_path}/*.mgz"}, SourceNotFoundError, "at least one NIfTI")
    assert not (tmp_path / "s").exists()


def test_a_file_that_goes_away_meanwhile(tmp_path, good) -> None:
    other = tmp_path / "sub-2_T1w.nii.gz"
    shutil.copy(good, other)

    def remove(done: int, total: int) -> None:
        other.unlink(missing_ok=True)

    refused(
        tmp_path / "s", {"T1w": [good, other]}, IngestError, "SourceNotFoundError",
        executor="serial", progress=remove,
    )  # fmt: skip


def test_a_file_listed_twice(tmp_path, good) -> None:
    with pytest.raises(DuplicateIdError, match=r"sub-1_T1w\.nii\.gz.*each file once"):
        RadiObject.from_niftis(tmp_path / "s", {"T1w": [good, (good, "sub-2")]})
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("meta", "kind", "words"),
    [
        ({"obs_subject_id": ["a", "b", "a"]}, DuplicateIdError, "'a'"),
        ({"obs_subject_id": ["a"]}, MetadataError, "'b'.*a row for every subject"),
        ({"obs_subject_id": ["a", ""]}, MetadataError, "an id in every row"),
        ({"obs_subject_id": ["a", None]}, MetadataError, "an id in every row"),
        ({"obs_subject_id": [1, 2]}, MetadataError, "text.*astype"),
        ({"subject": ["a", "b"]}, MetadataError, "obs_subject_id"),
        ({"obs_subject_id": ["a", "b"], "age": [40, "forty"]}, MetadataError, "'age'.*one type"),
        ({"obs_subject_id": ["a", "b"], "x": [{1, 2}, 3j]}, MetadataError, "'x'"),
        ({"obs_subject_id": ["a", "b"], "_x": [1, 2]}, MetadataError, "leading _"),
        ({"obs_subject_id": ["a", "b"], "obs_ids": [1, 2]}, MetadataError, "obs_ids"),
        ({"obs_subject_id": ["a", "b"], 7: [1, 2]}, MetadataError, "column names as text"),
        ({"obs_subject_id": ["a", "b"], "age": [1]}, MetadataError, "one length"),
        ([["a"], ["b"]], MetadataError, "DataFrame"),
        ("meta.csv", MetadataError, "DataFrame"),
    ],
)
def test_subject_tables_that_do_not_fit(tmp_path, meta, kind, words) -> None:
    with pytest.raises(kind, match=words):
        RadiObject.from_niftis(tmp_path / "s", {"T1w": [(scan(), "a"), (scan(), "b")]}, meta)
    assert not (tmp_path / "s").exists()


def test_a_column_that_stands_twice_in_the_table(tmp_path) -> None:
    meta = pd.DataFrame([["a", 1, 2]], columns=["obs_subject_id", "age", "age"])
    with pytest.raises(MetadataError, match=r"'age'.*twice"):
        RadiObject.from_niftis(tmp_path / "s", {"T1w": [(scan(), "a")]}, meta)


def test_subjects_that_do_not_match_between_collections(tmp_path) -> None:
    images = {"T1w": [(scan(), "a"), (scan(), "b")], "seg": [(scan(), "a"), (scan(), "c")]}
    message = refused(tmp_path / "s", images, AlignmentError, "the same subjects", validate_alignment=True)
    for part in ("'T1w'", "'seg'", "['b']", "['c']"):
        assert part in message
    assert not (tmp_path / "s").exists()


def test_an_unknown_axis(tmp_path, make_nifti) -> None:
    path = tmp_path / "sub-1.nii"
    path.write_bytes(make_nifti(np.zeros((3, 3, 3, 4), "i2")))
    for source in (path, (np.zeros((3, 3, 3, 4)), np.eye(4))):
        message = refused(tmp_path / "s", {"T1w": [source]}, IngestError, "AxisAmbiguousError")
        assert "axis4='time'" in message or 'axis4="time"' in message


def test_a_study_that_is_there_already_stays_as_it_is(tmp_path) -> None:
    radi = RadiObject.from_niftis(tmp_path / "s", {"T1w": [(scan(7), "a")]})
    before = {p: p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file()}
    with pytest.raises(StudyExistsError, match="append") as caught:
        RadiObject.from_niftis(tmp_path / "s", {"T1w": [(scan(8), "a")]})
    assert isinstance(caught.value, FileExistsError)
    assert {p: p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file()} == before
    assert radi.T1w.iloc[0][0, 0, 0] == 7


def test_a_place_that_holds_something_else_is_not_written_to(tmp_path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    with pytest.raises(StudyExistsError, match="no radiobject study"):
        RadiObject.from_niftis(tmp_path / "full", {"T1w": [(scan(), "a")]})
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StudyExistsError, match="file"):
        RadiObject.from_niftis(tmp_path / "file", {"T1w": [(scan(), "a")]})
    assert (tmp_path / "file").read_text() == "not a folder"
    no_study(tmp_path / "full")
    no_study(tmp_path / "file")


def test_an_empty_folder_will_do(tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    assert len(RadiObject.from_niftis(tmp_path / "empty", {"T1w": [(scan(), "a")]})) == 1


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[Path]:
    """A tmpfs of its own, where this user may mount one."""
    place.mkdir(exist_ok=True)
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_read_only_place(tmp_path) -> None:
    with mounted(tmp_path / "ro", "ro,size=1m") as place:
        with pytest.raises(StorageReadOnlyError, match=str(place)) as caught:
            RadiObject.from_niftis(place / "study", {"T1w": [(scan(), "a")]})
        assert isinstance(caught.value, PermissionError)
        assert caught.value.hint
        no_study(place / "study")


def test_a_place_without_rights(tmp_path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(StorageReadOnlyError):
        RadiObject.from_niftis(tmp_path / "locked" / "study", {"T1w": [(scan(), "a")]})


def test_a_study_on_a_read_only_place_can_be_read_and_not_changed(tmp_path) -> None:
    with mounted(tmp_path / "m", "size=4m") as place:
        RadiObject.from_niftis(place / "study", {"T1w": [(scan(3), "a")]})
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        radi = RadiObject(place / "study")
        assert radi.T1w.iloc[0][0, 0, 0] == 3
        assert radi.validate("full").ok
        for change in (
            lambda: radi.append({"T1w": [(scan(), "b")]}, {"obs_subject_id": ["b"]}),
            lambda: radi.delete(subjects="a"),
            lambda: radi.tag("x"),
        ):
            with pytest.raises(StorageReadOnlyError):
                change()
        assert RadiObject(place / "study").version == 1


def noisy(seed: int) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(seed).integers(-(2**15), 2**15, (40, 40, 40), "i2"), np.eye(4)


def test_a_full_disk_while_creating(tmp_path) -> None:
    with mounted(tmp_path / "m", "size=1m") as place:
        images = {"T1w": [(noisy(n), f"s{n}") for n in range(20)]}
        with pytest.raises(StorageFullError, match=str(place)) as caught:
            RadiObject.from_niftis(place / "study", images)
        assert isinstance(caught.value, OSError)
        assert "Free some space" in str(caught.value)
        no_study(place / "study")
        subprocess.run(["mount", "-o", "remount,size=8m", str(place)], check=True)
        radi = RadiObject.from_niftis(place / "study", images, resume=True)
        assert len(radi.T1w) == 20
        np.testing.assert_array_equal(radi.T1w.iloc[19][...], noisy(19)[0])
        assert radi.validate("full").ok


def test_a_full_disk_while_appending_leaves_the_version_before(tmp_path) -> None:
    with mounted(tmp_path / "m", "size=1m") as place:
        radi = RadiObject.from_niftis(place / "study", {"T1w": [(noisy(0), "s0")]})
        more = {"T1w": [(noisy(n), f"s{n}") for n in range(1, 20)]}
        with pytest.raises(StorageFullError):
            radi.append(more, {"obs_subject_id": [f"s{n}" for n in range(1, 20)]})
        for one in (radi, RadiObject(place / "study")):
            assert one.version == 1
            np.testing.assert_array_equal(one.T1w.iloc[0][...], noisy(0)[0])
        assert RadiObject(place / "study").validate("full").ok


@pytest.mark.parametrize("kilobytes", [40, 90, 160])
def test_a_disk_that_fills_at_any_point_is_an_error_of_ours(tmp_path, kilobytes) -> None:
    with mounted(tmp_path / "m", f"size={kilobytes}k") as place:
        with pytest.raises(StorageError):
            RadiObject.from_niftis(place / "study", {"T1w": [(noisy(0), "a")], "seg": [(scan(), "a")]})
        no_study(place / "study")
