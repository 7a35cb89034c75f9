"""How an ingest runs: what fails, what is told on the way, how much memory it holds, how it writes."""

from __future__ import annotations

import gc
import gzip
import re
import threading
import weakref
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from radiobject import (
    OrientationConfig,
    RadiObject,
    SliceOrientation,
    TileConfig,
    WriteConfig,
    configure,
)
from radiobject.errors import (
    AlignmentError,
    ConfigError,
    IngestError,
    MetadataError,
    SourceUnsupportedError,
    StudyNotFoundError,
)

AFFINE = np.array([[-2.0, 0, 0, 50], [0, 2.5, 0, -60], [0, 0, 3, -70], [0, 0, 0, 1]])


def ramp(shape: tuple[int, ...] = (6, 5, 4), dtype: str = "i2") -> np.ndarray:
    return np.arange(np.prod(shape)).astype(dtype).reshape(shape)


def numbers(radi: RadiObject, collection: str = "T1w") -> dict[str, int]:
    return {v.obs_subject_id: int(v[0, 0, 0]) for v in radi.collection(collection)}


def test_good_volumes_are_committed_and_the_rest_is_in_the_ledger(files, tmp_path) -> None:
    (files / "sub-05_T1w.nii.gz").write_bytes(b"<html>")
    (files / "sub-06_T1w.nii").write_bytes(b"")
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": files}, errors="collect")
    assert numbers(radi) == {f"sub-0{n}": n for n in (1, 2, 3, 4)}
    lines = {r["obs_subject_id"]: r for r in RadiObject(radi.uri).ledger.to_arrow().to_pylist()}
    assert [lines[f"sub-0{n}"]["outcome"] for n in range(1, 7)] == ["ingested"] * 4 + ["failed"] * 2
    assert lines["sub-05"]["error"] == "SourceCorruptError"
    assert "a web page" in lines["sub-05"]["message"]
    assert str(files) not in lines["sub-05"]["message"]
    assert lines["sub-01"]["source_digest"] == radi.T1w.loc["sub-01_T1w"].metadata["source_digest"]
    assert lines["sub-01"]["seconds"] > 0
    assert radi.validate("full").ok


def test_nothing_is_committed_when_every_source_failed(tmp_path, files) -> None:
    for path in files.iterdir():
        path.write_bytes(b"")
    with pytest.raises(IngestError, match="4 of 4 sources failed"):
        RadiObject.from_niftis(tmp_path / "study", {"T1w": files}, errors="collect")
    with pytest.raises(StudyNotFoundError):
        RadiObject(tmp_path / "study")


def test_every_source_is_tried_and_reported(files, tmp_path) -> None:
    (files / "sub-05_T1w.nii.gz").write_bytes(b"<html>")
    (files / "sub-06_T1w.nii").write_bytes(b"")
    with pytest.raises(IngestError, match="2 of 6 sources failed, nothing was committed") as caught:
        RadiObject.from_niftis(tmp_path / "study", {"T1w": files})
    assert [(Path(r["source"]).name, r["obs_id"], r["error"]) for r in caught.value.report] == [
        ("sub-05_T1w.nii.gz", "sub-05_T1w", "SourceCorruptError"),
        ("sub-06_T1w.nii", "sub-06_T1w", "SourceCorruptError"),
    ]
    assert "resume=True" in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("executor", ["threads", "serial"])
def test_progress_is_told_from_the_first_to_the_last(files, tmp_path, executor) -> None:
    told: list[tuple[int, int]] = []
    RadiObject.from_niftis(
        tmp_path / "study",
        {"T1w": files},
        executor=executor,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(n, 4) for n in range(5)]


def test_what_came_of_a_run_is_said_where_its_bar_is_drawn(files, tmp_path, capsys) -> None:
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": files}, progress=True)
    bar, line = capsys.readouterr().err.strip().splitlines()[-2:]
    assert "4/4" in bar
    assert re.search(r"\d/s", bar)
    assert line == "4 written: version 1"
    radi.append({"T1w": files}, on_conflict="update", progress=True)
    assert capsys.readouterr().err.splitlines()[-1] == "4 unchanged; no new version, 1 stays"
    radi.append({"T1w": files}, on_conflict="skip", progress=True)
    assert capsys.readouterr().err.splitlines()[-1] == "4 skipped; no new version, 1 stays"
    radi.append({"T1w": files}, on_conflict="replace", progress=False)
    assert capsys.readouterr().err == ""


class Scan:
    """A source that is loaded only when asked, and knows how many of its kind are in memory."""

    alive = 0
    most = 0
    lock = threading.Lock()
    affine = np.eye(4)

    def __init__(self, value: int) -> None:
        self.value = value

    class _Header:
        def get_xyzt_units(self) -> tuple[str, str]:
            return "mm", "unknown"

    header = _Header()

    @property
    def dataobj(self) -> np.ndarray:
        array = np.full((40, 40, 40), self.value, "i2")
        with Scan.lock:
            Scan.alive += 1
            Scan.most = max(Scan.most, Scan.alive)
        weakref.finalize(array, Scan.gone)
        return array

    @staticmethod
    def gone() -> None:
        with Scan.lock:
            Scan.alive -= 1


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_no_more_sources_are_in_memory_than_workers(tmp_path, workers) -> None:
    Scan.alive = Scan.most = 0
    sources = [(Scan(n), f"s{n:02d}") for n in range(12)]
    radi = RadiObject.from_niftis(tmp_path / "study", {"a": sources}, workers=workers)
    gc.collect()
    assert [int(v[0, 0, 0]) for v in radi.a] == list(range(12))
    assert 1 <= Scan.most <= workers
    assert Scan.alive == 0


def test_failures_hold_no_memory_either(tmp_path) -> None:
    Scan.alive = Scan.most = 0
    sources = [(Scan(n), f"s{n:02d}") for n in range(8)]
    for scan, _ in sources:
        scan.affine = np.diag([1.0, 1, 0, 1])  # spans no space, which is seen once the voxels are there
    with pytest.raises(IngestError, match="8 of 8"):
        RadiObject.from_niftis(tmp_path / "study", {"a": sources}, workers=2)
    gc.collect()
    assert Scan.most <= 2
    assert Scan.alive == 0


@pytest.mark.parametrize("target", ["RAS", "LPS", "PIR"])
def test_reorienting_moves_voxels_and_not_the_patient(files, tmp_path, make_nifti, target) -> None:
    array = ramp()
    path = tmp_path / "sub-1.nii.gz"
    path.write_bytes(gzip.compress(make_nifti(array, affine=AFFINE, fields={"scl_slope": 2, "scl_inter": 1})))
    write = WriteConfig(orientation=OrientationConfig(reorient_on_load=True, canonical_target=target))
    vol = RadiObject.from_niftis(tmp_path / "study", {"T1w": [path]}, write=write).T1w.iloc[0]
    assert "".join(vol.axcodes) == target
    original = nibabel.load(path)
    orientation = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(original.affine), nibabel.orientations.axcodes2ornt(target)
    )
    turned = original.as_reoriented(orientation)
    np.testing.assert_array_equal(vol[...], turned.get_fdata())
    np.testing.assert_allclose(vol.affine, turned.affine, atol=1e-6)
    np.testing.assert_array_equal(vol.meta.original_affine.matrix, AFFINE)
    vol.to_nifti(tmp_path / "back.nii")
    back = nibabel.load(tmp_path / "back.nii")
    np.testing.assert_array_equal(back.get_fdata(), turned.get_fdata())
    np.testing.assert_allclose(back.affine, turned.affine, atol=1e-5)


def test_reorienting_what_lies_right_changes_no_byte(files, tmp_path) -> None:
    write = WriteConfig(orientation=OrientationConfig(reorient_on_load=True, canonical_target="LAS"))
    path = files / "sub-01_T1w.nii.gz"
    vol = RadiObject.from_niftis(tmp_path / "study", {"T1w": [path]}, write=write).T1w.iloc[0]
    vol.to_nifti(tmp_path / "back.nii")
    assert (tmp_path / "back.nii").read_bytes() == gzip.decompress(path.read_bytes())


@pytest.mark.parametrize("orientation", list(SliceOrientation))
def test_tiles_change_how_not_what(study, orientation) -> None:
    array = ramp((40, 36, 34))
    vol = study({"a": {"s": array}}, write=WriteConfig(tile=TileConfig(orientation))).a.iloc[0]
    np.testing.assert_array_equal(vol[...], array)
    x, y, z = vol._handle.spec.chunks[::-1]
    thin = {"axial": z, "coronal": y, "sagittal": x, "isotropic": None}[orientation.value]
    assert (x, y, z) == (32, 32, 32) if thin is None else thin < min(n for n in (x, y, z) if n is not thin)


def test_settings_come_from_configure_and_arguments_win(study) -> None:
    images = {"a": {"s": ramp((40, 40, 40))}}
    tiles = WriteConfig(tile=TileConfig(chunks=(8, 8, 8)))
    with configure(write=tiles):
        inside = study(images).a.iloc[0]
        given = study(images, write=WriteConfig(tile=TileConfig(chunks=(16, 16, 16)))).a.iloc[0]
    after = study(images).a.iloc[0]
    assert [v._handle.spec.chunks for v in (inside, given, after)] == [(8,) * 3, (16,) * 3, (32,) * 3]


def test_validate_alignment_passes_what_is_aligned(study) -> None:
    assert len(study(validate_alignment=True)) == 3
    images = {"T1w": {"a": ramp(), "b": ramp()}, "seg": {"a": ramp(dtype="u1")}}
    with pytest.raises(AlignmentError, match=r"only in 'T1w'.*'b'"):
        study(images, validate_alignment=True)


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        ({"errors": "ignore"}, MetadataError),
        ({"axis4": "depth"}, ConfigError),
        ({"workers": 0}, ConfigError),
        ({"executor": "cluster"}, ConfigError),
        ({"backend": "hdf5"}, ValueError),
    ],
)
def test_options_out_of_range_are_refused_by_name(study, tmp_path, option: dict[str, Any], kind) -> None:
    (value,) = option.values()
    with pytest.raises(kind, match=str(value)):
        study(uri=tmp_path / "study", **option)
    with pytest.raises(StudyNotFoundError):
        RadiObject(tmp_path / "study")


def test_unsupported_arrays_are_reported_by_their_place(study) -> None:
    for array, words in (
        (ramp().astype("c8"), "complex64"),
        (ramp((3, 4)), "2 axes"),
        (ramp((3, 4, 5, 2, 2, 2)), "6 axes"),
        (np.zeros((0, 3, 3), "u1"), "at least one voxel"),
        (np.zeros((2, 2, 2), "U1"), "U1"),
    ):
        with pytest.raises(IngestError, match=words) as caught:
            study({"a": {"s": array}}, axis4="time")
        assert caught.value.report[0]["error"] == SourceUnsupportedError.__name__
        assert caught.value.report[0]["source"] == "a[0]"
