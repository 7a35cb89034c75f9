"""Studies made of DICOM: subjects, sessions, runs, ids, keys, and what was skipped."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydicom")

from radiobject import IngestError, RadiObject, Volume, pseudonym
from radiobject.errors import ConfigError, MetadataError, SourceNotFoundError, SourceUnsupportedError
from tests.upstream.series import write_series

KEY, OTHER = "00" * 32, "11" * 32


def made(tmp_path: Path, images: Any, name: str = "study", **options: Any) -> RadiObject:
    return RadiObject.from_dicoms(tmp_path / name, images, progress=False, **{"deid_key": KEY, **options})


def rows(radi: RadiObject, collection: str = "CT") -> list[tuple[Any, ...]]:
    table = radi.collection(collection).obs.to_arrow(["obs_id", "session", "run"])
    return [tuple(row.values()) for row in table.to_pylist()]


def test_a_folder_becomes_collections_by_modality(tmp_path: Path) -> None:
    write_series(tmp_path / "in" / "a")
    write_series(tmp_path / "in" / "b" / "deep", Modality="MR", PatientID="MRN-2")
    radi = made(tmp_path, tmp_path / "in")
    assert radi.collection_names == ("CT", "MR")
    assert radi.obs_subject_ids == [pseudonym("MRN-4711", KEY), pseudonym("MRN-2", KEY)]
    volume = radi.CT.iloc[0]
    assert volume.shape == (4, 5, 3)
    assert volume.spacing == (0.75, 0.5, 2.5)
    assert volume[0, 0].tolist() == [0, 100, 200]


def test_named_collections_and_subjects_are_kept(tmp_path: Path) -> None:
    for name in ("p1", "p2"):
        write_series(tmp_path / name)
    radi = made(tmp_path, {"chest": [(tmp_path / "p1", "sub-01"), (tmp_path / "p2", "sub-02")]})
    assert rows(radi, "chest") == [("sub-01_chest", "1", None), ("sub-02_chest", "1", None)]


def test_sessions_are_studies_by_date_and_runs_their_series(tmp_path: Path) -> None:
    later = {"StudyInstanceUID": "1.2.9", "StudyDate": "20210101"}
    write_series(tmp_path / "in" / "a", **later)
    write_series(tmp_path / "in" / "b", SeriesNumber=1)
    write_series(tmp_path / "in" / "c", SeriesNumber=2)
    radi = made(tmp_path, [(tmp_path / "in", "s")])
    assert rows(radi) == [("s_CT", "1", 1), ("s_CT_acq-1", "1", 2), ("s_CT_acq-2", "2", None)]


def test_appending_keeps_ids_and_goes_on_counting(tmp_path: Path) -> None:
    write_series(tmp_path / "a", StudyInstanceUID="1.2.9", StudyDate="20210101")
    radi = made(tmp_path, [(tmp_path / "a", "s")])
    write_series(tmp_path / "b")
    both = [(tmp_path / "a", "s"), (tmp_path / "b", "s")]
    radi.append(dicom_dirs=both, on_conflict="skip", deid_key=KEY, progress=False)
    # the study of 2020 came later: what has a number keeps it
    assert rows(radi) == [("s_CT", "1", None), ("s_CT_acq-1", "2", None)]
    version = radi.version
    radi.append(dicom_dirs=both, on_conflict="skip", deid_key=KEY, progress=False)
    assert (radi.version, len(radi.CT)) == (version, 2)


def test_a_changed_series_replaces_its_own_volume(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", SeriesInstanceUID="1.2.7")
    radi = made(tmp_path, [(folder, "s")])
    before = radi.CT.iloc[0].to_numpy()
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    write_series(folder, (0.0, 2.5, 5.0, 7.5), SeriesInstanceUID="1.2.7")
    radi.append(dicom_dirs=[(folder, "s")], on_conflict="update", deid_key=KEY, progress=False)
    assert radi.CT.obs_ids == ["s_CT"]
    assert np.array_equal(radi.CT.iloc[0].to_numpy()[..., :3], before)


def test_another_key_is_refused_when_appending(tmp_path: Path) -> None:
    radi = made(tmp_path, write_series(tmp_path / "a"))
    with pytest.raises(MetadataError, match=r"key cbd9cb908d55aefd.*got key") as caught:
        radi.append(dicom_dirs=write_series(tmp_path / "b"), deid_key=OTHER, progress=False)
    assert "another subject" in str(caught.value)
    assert KEY not in str(caught.value)


def test_files_of_nobody_need_a_subject(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", PatientID="")
    with pytest.raises(MetadataError, match="PatientID: expected an id"):
        made(tmp_path, folder)
    assert made(tmp_path, [(folder, "s")]).obs_subject_ids == ["s"]


def test_without_deidentification_ids_are_as_they_are(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a")
    radi = made(tmp_path, folder, deid_key=None, deidentify=False)
    assert radi.obs_subject_ids == ["MRN-4711"]
    assert list(radi.CT.obs.read()["study_uid"]) == ["1.2.3"]
    with pytest.raises(ConfigError, match="neither deid_key= nor deid_map="):
        made(tmp_path, folder, "other", deidentify=False)


def test_what_is_skipped_is_counted_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_series(tmp_path / "in" / "a")
    write_series(tmp_path / "in" / "b", (0.0,), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    (tmp_path / "in" / "notes.txt").write_text("no image")
    with caplog.at_level(logging.WARNING):
        radi = made(tmp_path, tmp_path / "in")
    assert "skipped 2 files: 1 localizer, 1 not DICOM" in caplog.text
    ledger = radi.ledger.to_arrow().to_pylist()
    noted = [r["message"] for r in ledger if r["outcome"] == "noted"]
    assert noted == ["1 of the files: localizer", "1 of the files: not DICOM"]


def test_nothing_usable_is_an_error_that_says_why(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(SourceNotFoundError, match="skipped 3 files: 3 colour"):
        made(tmp_path, folder)
    with pytest.raises(SourceUnsupportedError, match="skipped: 3 colour"):
        Volume.from_dicom(folder)


def test_a_bad_volume_fails_and_the_others_can_be_kept(tmp_path: Path) -> None:
    write_series(tmp_path / "in" / "good")
    write_series(tmp_path / "in" / "jane-doe", (0.0, 2.5, 7.5), PatientID="MRN-2")
    with pytest.raises(IngestError, match="1 missing of 4") as caught:
        made(tmp_path, tmp_path / "in")
    assert "jane-doe" in str(caught.value)
    radi = made(tmp_path, tmp_path / "in", "other", errors="collect")
    (failed,) = [r for r in radi.ledger.to_arrow().to_pylist() if r["outcome"] == "failed"]
    assert "1 missing of 4" in failed["message"]
    assert "jane-doe" not in failed["message"]
    assert radi.CT.obs_ids == [f"{pseudonym('MRN-4711', KEY)}_CT"]


def test_uneven_slices_can_be_kept_and_say_so(tmp_path: Path) -> None:
    radi = made(tmp_path, write_series(tmp_path / "a", (0.0, 2.5, 7.5)), irregular="keep")
    assert list(radi.CT.obs.read()["irregular_slices"]) == [True]
    volume = radi.CT.iloc[0]
    assert volume.spacing[2] == 3.75
    assert b'"slice_distances": [0.0, 2.5, 7.5]' in volume.extra("dicom")


def test_a_file_that_cannot_be_read_stops_everything(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "in" / "a")
    (folder / "broken").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    with pytest.raises(IngestError, match="1 files cannot be read, nothing was committed") as caught:
        made(tmp_path, tmp_path / "in")
    assert caught.value.report[0]["source"].endswith("broken")
    assert len(made(tmp_path, tmp_path / "in", "other", errors="collect").CT) == 1


def test_nifti_and_dicom_share_a_commit(tmp_path: Path, files: Path) -> None:
    images = {"CT": [(write_series(tmp_path / "a"), "sub-01")], "T1w": str(files)}
    radi = RadiObject.from_images(tmp_path / "study", images, deid_key=KEY, progress=False)
    assert radi.version == 1
    assert (len(radi.CT), len(radi.T1w)) == (1, 4)
    assert "sub-01" in radi.CT.obs_subject_ids
    # of NIfTI nothing is lost unless asked for
    assert radi.T1w.iloc[0].meta.source.exact


def test_options_of_dicom_need_dicom(tmp_path: Path, files: Path) -> None:
    with pytest.raises(ConfigError, match="deid_key=: expected a collection of DICOM"):
        RadiObject.from_images(tmp_path / "study", {"T1w": str(files)}, deid_key=KEY)


def test_columns_of_the_caller_stand_beside_those_of_the_header(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a")
    obs = {"CT": {"obs_subject_id": ["s"], "reader": ["r1"]}}
    radi = made(tmp_path, {"CT": [(folder, "s")]}, obs=obs)
    table = radi.CT.obs.read()
    assert (list(table["reader"]), list(table["kvp"])) == (["r1"], [120.0])


def test_every_executor_finds_the_same(tmp_path: Path) -> None:
    for n in range(3):
        write_series(tmp_path / "in" / str(n), PatientID=f"MRN-{n}", SeriesInstanceUID=f"1.2.{n}")
    found = [
        made(tmp_path, tmp_path / "in", executor, executor=executor).CT
        for executor in ("serial", "threads", "processes")
    ]
    first, *others = [(c.obs_ids, [v.to_numpy().tolist() for v in c]) for c in found]
    assert others == [first, first]


def test_the_volume_of_one_part_is_named(tmp_path: Path) -> None:
    write_series(tmp_path / "in" / "a", SeriesNumber=3)
    write_series(tmp_path / "in" / "b", SeriesNumber=4, KVP=80)
    with pytest.raises(SourceUnsupportedError, match=r"got series 3 \(.*\), series 4 \(.*part="):
        Volume.from_dicom(tmp_path / "in")
    assert Volume.from_dicom(tmp_path / "in", part="series 4").shape == (4, 5, 3)
