"""Studies over DICOM files where they lie: they say and read what the ingested study does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from radiobject import RadiObject, Volume, measure, scan
from radiobject.errors import (
    ConfigError,
    IngestError,
    MetadataError,
    MissingObjectError,
    SourceChangedError,
)

from .dicom_series import enhanced, save, slices

UNREAD = ("intensity_", "nonzero_box", "n_nonfinite", "source_digest")
"""Columns that only voxels tell."""


def registered(at: Path, images: Any, name: str = "registered", **options: Any) -> RadiObject:
    return RadiObject.from_dicoms(
        at / name, images, copy=False, deidentify=False, source_root=at, progress=False, **options
    )


def ingested(at: Path, images: Any, **options: Any) -> RadiObject:
    return RadiObject.from_dicoms(at / "ingested", images, deidentify=False, progress=False, **options)


def same_volume(found: Volume, truth: Volume) -> None:
    """Equal in all that is said of them, and in every voxel, read whole, in planes and in boxes."""
    assert (found.shape, found.axes, found.stored_dtype) == (truth.shape, truth.axes, truth.stored_dtype)
    np.testing.assert_array_equal(found.affine, truth.affine)
    assert found.extra("dicom") == truth.extra("dicom")
    raw, scaled = truth.to_numpy(raw=True), truth.to_numpy()
    assert found.to_numpy(raw=True).dtype == raw.dtype
    np.testing.assert_array_equal(found.to_numpy(raw=True), raw)
    # the type of scaled integers holds what could be stored, where nobody has looked what is
    assert np.can_cast(scaled.dtype, found.dtype)
    np.testing.assert_array_equal(found.to_numpy(), scaled)
    rng = np.random.default_rng(2)
    for axis, size in enumerate(truth.shape):
        key = tuple(size // 2 if n == axis else slice(None) for n in range(len(truth.shape)))
        np.testing.assert_array_equal(found[key], scaled[key])
    for _ in range(4):
        low = [int(rng.integers(size)) for size in truth.shape]
        box = tuple(slice(a, int(rng.integers(a + 1, n + 1))) for a, n in zip(low, truth.shape, strict=True))
        np.testing.assert_array_equal(found[box], scaled[box])


def same_study(found: RadiObject, truth: RadiObject) -> None:
    assert found.collection_names == truth.collection_names
    assert found.obs_subject_ids == truth.obs_subject_ids
    for name in truth.collection_names:
        ours, theirs = found.collection(name), truth.collection(name)
        rows, expected = ours.obs.to_arrow(), theirs.obs.to_arrow()
        for column in expected.schema.names:
            if not column.startswith(UNREAD):
                assert rows[column].to_pylist() == expected[column].to_pylist(), column
            elif ours.kind == "image":
                assert rows[column].null_count == len(rows)
        for volume, other in zip(ours, theirs, strict=True):
            same_volume(volume, other)


def test_real_series_are_those_of_the_ingested_study(real_data: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"irregular": "keep", "errors": "collect"}
    for part in ("dicom2nifti", "dcmqi", "dcm_qa_ct"):
        at = tmp_path / part
        truth = ingested(at, real_data / part, **options)
        found = RadiObject.from_dicoms(
            at / "registered", real_data / part, copy=False, deidentify=False, source_root=real_data,
            progress=False, **options,
        )  # fmt: skip
        same_study(found, truth)
        # opened anew, it needs to be told where its files are
        same_study(RadiObject(at / "registered", source_root=real_data), truth)


def test_a_study_beside_its_files_needs_no_root(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", slices(RescaleSlope="2", RescaleIntercept="-10"))
    found = RadiObject.from_dicoms(tmp_path / "study", folder, copy=False, deidentify=False, progress=False)
    same_study(found, ingested(tmp_path, folder))
    same_study(RadiObject(tmp_path / "study"), ingested(tmp_path / "again", folder))


def test_only_the_bytes_of_frames_that_a_box_touches_are_read(tmp_path: Path) -> None:
    rows, columns, count = 96, 128, 7
    one_by_one = save(tmp_path / "a", slices(count, rows=rows, columns=columns))
    of_one_file = save(tmp_path / "b", [enhanced(count, rows=rows, columns=columns, PatientID="other")])
    radi = registered(tmp_path, [one_by_one, of_one_file])
    assert len(radi.MR) == 2
    for volume in radi.MR:
        volume[0, 0, 0]  # files are held against what was registered once
        for part, frames in ((slice(3, 4), 1), (slice(2, 5), 3)):
            with measure() as m:
                volume[:, :, part]
            assert m["bytes_read"] == frames * rows * columns * 2
        with measure() as m:
            volume[:, 40:48, 3]
        assert m["bytes_read"] == 8 * columns * 2


def test_names_in_headers_and_paths_cannot_stay_in_place(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", slices())
    for options in ({}, {"deidentify": True}):
        with pytest.raises(ConfigError, match="deidentify=False") as caught:
            RadiObject.from_dicoms(tmp_path / "study", folder, copy=False, progress=False, **options)
        assert "paths" in str(caught.value)
    with pytest.raises(ConfigError, match="deidentify=False"):
        RadiObject.from_images(tmp_path / "study", {"MR": str(folder)}, copy=False, progress=False)
    with pytest.raises(ConfigError, match="deidentify=False"):
        RadiObject.from_plan(tmp_path / "study", scan(folder, deid_key="00" * 32), copy=False, progress=False)
    assert not (tmp_path / "study").exists()


def test_a_plan_without_pseudonyms_is_registered(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", slices())
    plan = scan(folder, deidentify=False)
    radi = RadiObject.from_plan(tmp_path / "study", plan, copy=False, progress=False)
    same_study(radi, RadiObject.from_plan(tmp_path / "ingested", plan, progress=False))
    assert radi.MR.iloc[0].uri.endswith(".files")


def test_series_do_not_join_pseudonyms_in_place(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", slices())
    radi = RadiObject.from_dicoms(tmp_path / "study", folder, deid_key="00" * 32, progress=False)
    with pytest.raises(MetadataError, match="pseudonyms"):
        radi.append(dicom_dirs=folder, copy=False, deidentify=False, on_conflict="replace", progress=False)


def test_series_are_appended_in_place(tmp_path: Path) -> None:
    first, second = slices(), slices(SeriesInstanceUID="1.2.9", SOPInstanceUID=lambda n: f"1.2.9.{n}")
    folder = save(tmp_path / "in" / "a", first)
    radi, truth = registered(tmp_path, folder), ingested(tmp_path, folder)
    save(tmp_path / "in" / "b", second)
    radi.append(dicom_dirs=tmp_path / "in", copy=False, deidentify=False, on_conflict="skip", progress=False)
    truth.append(dicom_dirs=tmp_path / "in", deidentify=False, on_conflict="skip", progress=False)
    assert len(radi.MR) == 2
    same_study(radi, truth)


def rewrite(path: Path, **values: Any) -> None:
    ds = dcmread(path)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds.save_as(path)


def test_a_slice_that_changed_is_never_read(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", slices())
    radi = registered(tmp_path, folder)
    rewrite(folder / "3.dcm", PixelData=bytes(9 * 8 * 2))
    opened = RadiObject(radi.uri, source_root=tmp_path)
    with pytest.raises(SourceChangedError, match=r"in/3\.dcm"):
        opened.MR.iloc[0].to_numpy()
    # the others are as they were
    assert opened.MR.iloc[0][:, :, :2].shape == (8, 9, 2)


def test_another_slice_of_the_same_size_and_time_is_seen(
    tmp_path: Path,
) -> None:
    folder = save(tmp_path / "in", slices())
    radi = registered(tmp_path, folder)
    path = folder / "3.dcm"
    before = path.stat()
    rewrite(path, InstanceNumber=8)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    with pytest.raises(SourceChangedError, match="header"):
        RadiObject(radi.uri, source_root=tmp_path).MR.iloc[0].to_numpy()


def test_a_slice_that_is_gone_is_named_with_the_root(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", slices())
    radi = registered(tmp_path, folder)
    (folder / "2.dcm").unlink()
    with pytest.raises(MissingObjectError, match=rf"{tmp_path}.*in/2\.dcm"):
        RadiObject(radi.uri, source_root=tmp_path).MR.iloc[0].to_numpy()


def test_a_changed_series_is_registered_anew(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", slices())
    radi = registered(tmp_path, folder)
    options: dict[str, Any] = {"copy": False, "deidentify": False, "on_conflict": "update", "progress": False}
    version = radi.version
    radi.append(dicom_dirs=folder, **options)
    assert radi.version == version
    rewrite(folder / "3.dcm", PixelData=bytes(9 * 8 * 2))
    radi.append(dicom_dirs=folder, **options)
    assert radi.version == version + 1
    assert not radi.MR.iloc[0][:, :, 2].any()


def test_a_series_elsewhere_is_refused_with_a_root_that_would_do(tmp_path: Path) -> None:
    folder = save(tmp_path / "elsewhere" / "in", slices())
    (tmp_path / "here").mkdir()
    with pytest.raises((ConfigError, IngestError), match="source_root"):
        RadiObject.from_dicoms(
            tmp_path / "here" / "study", folder, copy=False, deidentify=False, progress=False
        )


def test_label_objects_are_drawn_and_their_images_stay(real_data: Path, tmp_path: Path) -> None:
    place = real_data / "dcmqi" / "23x38x3"
    options: dict[str, Any] = {"deidentify": False, "progress": False}
    found = RadiObject.from_dicoms(
        tmp_path / "registered", place, copy=False, source_root=real_data, **options
    )
    truth = RadiObject.from_dicoms(tmp_path / "ingested", place, **options)
    assert "SEG" in found.collection_names
    same_study(found, truth)
    for volume, other in zip(found.SEG, truth.SEG, strict=True):
        assert volume.meta.labels == other.meta.labels


def test_a_registered_series_can_be_pickled_and_read_by_threads(tmp_path: Path) -> None:
    import pickle
    from concurrent.futures import ThreadPoolExecutor

    folder = save(tmp_path / "in", slices(count=20))
    volume = registered(tmp_path, folder).MR.iloc[0]
    truth = volume.to_numpy()
    again = pickle.loads(pickle.dumps(volume))
    with ThreadPoolExecutor(4) as pool:
        for z, plane in enumerate(pool.map(lambda z: again[:, :, z], range(20))):
            np.testing.assert_array_equal(plane, truth[:, :, z])
