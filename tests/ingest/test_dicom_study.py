"""Studies made of DICOM: subjects, sessions, runs, ids, keys, and what was skipped."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydicom")

import pydicom

from radiobject import IngestError, RadiObject, Volume, pseudonym, scan
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


def test_what_a_damaged_file_may_be_a_slice_of_is_left_out(tmp_path: Path) -> None:
    cut = write_series(tmp_path / "in" / "cut", SeriesInstanceUID="1.2.7", PatientID="MRN-1") / "3.dcm"
    cut.write_bytes(cut.read_bytes()[:-10])
    beside = write_series(tmp_path / "in" / "beside", PatientID="MRN-2")
    (beside / "broken").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    write_series(tmp_path / "in" / "good", PatientID="MRN-3")
    radi = made(tmp_path, tmp_path / "in", errors="collect")
    assert radi.CT.obs_subject_ids == [pseudonym("MRN-3", KEY)]
    failed = [r for r in radi.ledger.to_arrow().to_pylist() if r["outcome"] == "failed" and r["obs_id"]]
    assert sorted(r["obs_id"] for r in failed) == sorted(
        f"{pseudonym(i, KEY)}_CT" for i in ("MRN-1", "MRN-2")
    )
    assert all("cannot be read, a file" in r["message"] for r in failed)


def test_an_unknown_file_among_several_series_is_told(tmp_path: Path) -> None:
    write_series(tmp_path / "in" / "a", SeriesInstanceUID="1.2.7")
    for path in write_series(tmp_path / "b").iterdir():
        path.rename(tmp_path / "in" / "a" / f"b{path.name}")
    (tmp_path / "in" / "a" / "broken").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    radi = made(tmp_path, tmp_path / "in", errors="collect")
    assert list(radi.CT.obs.read()["unreadable_beside"]) == [1, 1]


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


def test_patients_with_one_series_uid_are_kept_apart_for_good(tmp_path: Path) -> None:
    uids = {"SeriesInstanceUID": "1.2.7", "StudyInstanceUID": "1.2.6"}
    radi = made(tmp_path, write_series(tmp_path / "a", PatientID="A", **uids))
    radi.append(
        dicom_dirs=write_series(tmp_path / "b", PatientID="B", **uids), on_conflict="update", deid_key=KEY
    )
    assert radi.CT.obs_subject_ids == [pseudonym("A", KEY), pseudonym("B", KEY)]


def test_slices_of_a_series_may_lie_in_several_folders(tmp_path: Path) -> None:
    whole = write_series(tmp_path / "a", (0.0, 2.5, 5.0, 7.5))
    (tmp_path / "b").mkdir()
    for path in sorted(whole.iterdir())[::2]:
        path.rename(tmp_path / "b" / path.name)
    radi = made(tmp_path, [(whole, "s"), (tmp_path / "b", "s")])
    assert [(v.shape, v.spacing[2]) for v in radi.CT] == [((4, 5, 4), 2.5)]
    with pytest.raises(MetadataError, match="one collection and one subject"):
        made(tmp_path, [(whole, "s"), (tmp_path / "b", "t")], "other")
    with pytest.raises(MetadataError, match="one collection and one subject"):
        made(tmp_path, [(whole, "s"), (whole, "t")], "third")


def test_a_series_that_grows_by_an_echo_keeps_what_is_there(tmp_path: Path) -> None:
    uids = {"SeriesInstanceUID": "1.2.7", "StudyInstanceUID": "1.2.6"}
    write_series(tmp_path / "in" / "a", EchoTime=10, **uids)
    radi = made(tmp_path, [(tmp_path / "in", "s")])
    write_series(tmp_path / "in" / "b", EchoTime=20, **uids)
    radi.append(dicom_dirs=[(tmp_path / "in", "s")], on_conflict="skip", deid_key=KEY, progress=False)
    assert list(radi.CT.obs.read()["echo_time"]) == [10.0, 20.0]


@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "StudyInstanceUID"])
def test_a_uid_of_its_own_in_each_file_is_refused(keyword: str, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "in")
    for n, path in enumerate(sorted(folder.iterdir())):
        ds = pydicom.dcmread(path)
        setattr(ds, keyword, f"1.2.9.{n}")
        ds.save_as(path)
    with pytest.raises(IngestError, match=f"one {keyword} in the slices of a stack"):
        made(tmp_path, folder)


def test_a_series_without_a_uid_is_known_again(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "in", SeriesInstanceUID="")
    radi = made(tmp_path, [(folder, "s")])
    radi.append(dicom_dirs=[(folder, "s")], on_conflict="skip", deid_key=KEY, progress=False)
    assert (radi.version, radi.CT.obs_ids) == (1, ["s_CT"])


def test_studies_with_and_without_pseudonyms_do_not_mix(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "in")
    radi = made(tmp_path, folder)
    with pytest.raises(MetadataError, match="expected pseudonyms"):
        radi.append(dicom_dirs=folder, deidentify=False, progress=False)
    plain = made(tmp_path, folder, "plain", deid_key=None, deidentify=False)
    with pytest.raises(MetadataError, match="without de-identification"):
        plain.append(dicom_dirs=folder, deid_key=KEY, progress=False)


def test_columns_that_match_nobody_are_refused(tmp_path: Path) -> None:
    obs = {"CT": {"obs_subject_id": ["MRN-4711"], "reader": ["r1"]}}
    with pytest.raises(MetadataError, match=r"radiobject\.pseudonym"):
        made(tmp_path, {"CT": write_series(tmp_path / "in")}, obs=obs)


def test_links_are_followed_once_and_those_that_lead_nowhere_are_told(tmp_path: Path) -> None:
    real = write_series(tmp_path / "elsewhere" / "a")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "patient").symlink_to(real)
    (real / "loop").symlink_to(tmp_path / "in")
    os.mkfifo(tmp_path / "in" / "pipe")
    assert made(tmp_path, tmp_path / "in").CT.iloc[0].shape == (4, 5, 3)
    (tmp_path / "in" / "lost.dcm").symlink_to(tmp_path / "nowhere")
    with pytest.raises(IngestError, match=r"lost\.dcm"):
        made(tmp_path, tmp_path / "in", "other")


def test_a_disk_with_a_readme_is_dicom(tmp_path: Path) -> None:
    write_series(tmp_path / "cd" / "DICOM")
    (tmp_path / "cd" / "AUTORUN.INF").write_text("[autorun]")
    assert scan(tmp_path / "cd", deid_key=KEY).layout == "dicom"


def test_a_part_of_a_name_is_not_enough(tmp_path: Path) -> None:
    for number in (1, 10):
        write_series(tmp_path / "in" / str(number), SeriesNumber=number)
    assert Volume.from_dicom(tmp_path / "in", part="series 1").shape == (4, 5, 3)
