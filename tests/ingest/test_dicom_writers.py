"""Two handles that add DICOM to one study at once: numbers of sessions stay those of one scan each."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pydicom")

from radiobject import RadiObject, scan
from radiobject.errors import ConflictError
from tests.upstream.series import write_series

KEY = "00" * 32


@pytest.fixture
def handles(tmp_path: Path) -> tuple[RadiObject, RadiObject]:
    """Two handles of a study that holds the first CT of subject s."""
    first = write_series(tmp_path / "first")
    RadiObject.from_dicoms(tmp_path / "study", [(first, "s")], deid_key=KEY, progress=False)
    return RadiObject(tmp_path / "study"), RadiObject(tmp_path / "study")


def sessions(radi: RadiObject) -> list[tuple[str, str]]:
    found = [row for c in radi for row in radi.collection(c).obs.to_arrow(["obs_id", "session"]).to_pylist()]
    return [(row["obs_id"], row["session"]) for row in found]


def add(radi: RadiObject, folder: Path, **options: object) -> RadiObject:
    return radi.append(dicom_dirs=[(folder, "s")], deid_key=KEY, progress=False, **options)


def test_a_number_that_another_study_has_got_meanwhile_is_a_conflict(handles, tmp_path) -> None:
    one, two = handles
    add(one, write_series(tmp_path / "b", Modality="MR", StudyInstanceUID="1.2.8", StudyDate="20210101"))
    later = write_series(tmp_path / "c", Modality="PT", StudyInstanceUID="1.2.9", StudyDate="20220101")
    with pytest.raises(ConflictError, match=r"subject 's': session '2' .*resume=True"):
        add(two, later)
    again = add(RadiObject(tmp_path / "study"), later, resume=True)
    assert sessions(again) == [("s_CT", "1"), ("s_MR", "2"), ("s_PT", "3")]
    assert list(again.ledger.read()["outcome"])[-1] == "resumed"


def test_a_plan_is_held_to_its_numbers_too(handles, tmp_path) -> None:
    one, two = handles
    subject = one.obs_subject_ids[0]
    write_series(tmp_path / "in/b", Modality="MR", StudyInstanceUID="1.2.8", StudyDate="20210101")
    write_series(tmp_path / "in/c", Modality="PT", StudyInstanceUID="1.2.9", StudyDate="20220101")
    plans = [scan(tmp_path / "in" / name, deid_key=KEY) for name in "bc"]
    for plan in plans:
        plan.table["obs_subject_id"] = subject
    one.ingest(plans[0], progress=False)
    with pytest.raises(ConflictError, match="session '2'"):
        two.ingest(plans[1], progress=False)


def test_series_of_one_scan_may_come_from_both(handles, tmp_path) -> None:
    one, two = handles
    scanned = {"StudyInstanceUID": "1.2.8", "StudyDate": "20210101"}
    add(one, write_series(tmp_path / "b", Modality="MR", **scanned))
    both = add(two, write_series(tmp_path / "c", Modality="PT", **scanned))
    assert sessions(both) == [("s_CT", "1"), ("s_MR", "2"), ("s_PT", "2")]
