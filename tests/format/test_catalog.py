"""Finding the newest version: with a good hint, a stale one, a false one and none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject, measure
from radiobject.errors import (
    CorruptObjectError,
    FormatError,
    MissingObjectError,
    SnapshotExpiredError,
    StudyNotFoundError,
    UnknownIdError,
)
from radiobject.format import catalog
from radiobject.format.cleanup import cleanup
from radiobject.format.commit import sealed
from radiobject.location import Location
from radiobject.storage import Storage


def scan(value: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((4, 4, 4), value, dtype=np.uint8), np.eye(4)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """A study of six versions; version n holds n volumes."""
    place = str(tmp_path / "study")
    radi = RadiObject.from_niftis(place, {"T1w": [(scan(1), "s1")]})
    for number in range(2, 7):
        meta = {"obs_subject_id": [f"s{number}"]}
        radi.append({"T1w": [(scan(number), f"s{number}")]}, meta)
    return place


def hint(uri: str, **values: object) -> None:
    path = Path(uri, "hint.json")
    old = json.loads(path.read_text())
    old.pop("self_sha256")
    path.write_bytes(sealed({**old, **values})[0])


def test_the_newest_version_opens(uri: str) -> None:
    assert RadiObject(uri).version == 6
    assert len(RadiObject(uri).T1w) == 6


@pytest.mark.parametrize("latest", [1, 2, 5])
def test_a_stale_hint_is_followed_forward(uri: str, latest: int) -> None:
    hint(uri, latest=latest, sha256="0" * 64)
    assert RadiObject(uri).version == 6


@pytest.mark.parametrize("content", ["", "{", "[]", '{"latest": 99, "oldest": 1, "sha256": ""}'])
def test_a_broken_or_false_hint_does_no_harm(uri: str, content: str) -> None:
    Path(uri, "hint.json").write_text(content)
    catalog._snapshots.clear()
    assert RadiObject(uri).version == 6


def test_a_newest_version_that_vanished_is_never_passed_over(uri: str) -> None:
    Path(uri, "versions", "000000000006.json").unlink()
    catalog._snapshots.clear()
    with pytest.raises(MissingObjectError, match=r"000000000006.*open version=5"):
        RadiObject(uri)
    assert RadiObject(uri, version=5).version == 5


def test_no_hint_means_one_listing(uri: str) -> None:
    Path(uri, "hint.json").unlink()
    with measure() as m:
        assert RadiObject(uri).version == 6
    assert m["door_list"] == 1


def test_opening_again_costs_two_small_requests_and_reads_no_commit(uri: str) -> None:
    RadiObject(uri)
    with measure() as m:
        RadiObject(uri)
    assert (m["door_read"], m["door_size"], m["requests"]) == (1, 1, 2)


def test_older_versions_open_by_number_and_by_pin(uri: str) -> None:
    assert [len(RadiObject(uri, version=v).T1w) for v in range(1, 7)] == [1, 2, 3, 4, 5, 6]
    listed = RadiObject(uri).versions()
    assert [v["version"] for v in listed] == [1, 2, 3, 4, 5, 6]
    pinned = f"{uri}@3#sha256:{listed[2]['sha256'][:12]}"
    assert RadiObject(pinned).version == 3
    with pytest.raises(CorruptObjectError, match="expected commit"):
        RadiObject(f"{uri}@3#sha256:000000000000")


def test_a_version_that_never_was_is_named(uri: str) -> None:
    with pytest.raises(UnknownIdError, match="version 7"):
        RadiObject(uri, version=7)


def test_expired_versions_say_so_and_tags_keep_theirs(uri: str) -> None:
    RadiObject(uri, version=2).tag("paper")
    old = RadiObject(uri, version=1)
    storage = Storage(Location(uri))
    done = cleanup(storage, keep=2, older_than=-1, force=True)
    assert done.expired == [1, 3, 4]
    catalog._snapshots.clear()
    assert RadiObject(uri).version == 7
    assert len(RadiObject(uri, version="paper").T1w) == 2
    with pytest.raises(SnapshotExpiredError, match="version 1"):
        RadiObject(uri, version=1)
    # what version 1 shares with a kept version still reads, and reads right
    assert old.T1w.obs_ids == ["s1_T1w"]
    report = RadiObject(uri).validate("full")
    assert (report.ok, report.litter) == (True, 0)


def test_what_an_older_version_holds_is_no_litter(uri: str) -> None:
    radi = RadiObject(uri).append({"T1w": [(scan(9), "s1")]}, on_conflict="replace").delete(subjects="s2")
    report = radi.validate("full")
    assert (report.ok, report.litter) == (True, 0)


def test_clean_up_spares_young_objects_and_running_writes(uri: str) -> None:
    storage = Storage(Location(uri))
    storage.write("collections/T1w/x/litter.ome.zarr/0/c/0/0/0", b"young")
    assert cleanup(storage, keep=6).objects == 0
    with pytest.raises(ValueError, match="at least 172800 s"):
        cleanup(storage, keep=6, older_than=60)


def test_a_reader_that_lost_its_volume_to_clean_up_is_told(uri: str) -> None:
    volume = RadiObject(uri, version=5).T1w.iloc[4]
    RadiObject(uri).delete(obs_ids="s5_T1w")
    cleanup(Storage(Location(uri)), keep=1, older_than=-1, force=True)
    with pytest.raises(SnapshotExpiredError, match="version 5"):
        volume.to_numpy()


def test_a_gap_in_the_history_is_an_error_not_a_shorter_history(uri: str) -> None:
    Path(uri, "versions", "000000000003.json").unlink()
    assert RadiObject(uri).version == 6
    with pytest.raises(OSError, match="000000000003"):
        RadiObject(uri).versions()


def test_what_is_no_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyNotFoundError, match="nothing"):
        RadiObject(str(tmp_path / "nothing"))
    Path(tmp_path, "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(FormatError, match="another document"):
        RadiObject(str(tmp_path))


def test_a_study_made_anew_at_the_same_place_is_the_new_one(tmp_path: Path) -> None:
    import shutil

    place = str(tmp_path / "s")
    RadiObject.from_niftis(place, {"T1w": [(scan(1), "a")]})
    first = RadiObject(place).T1w.iloc[0].to_numpy()
    shutil.rmtree(place)
    RadiObject.from_niftis(place, {"T1w": [(scan(2), "a")]})
    assert RadiObject(place).T1w.iloc[0].to_numpy().sum() == 2 * first.sum()
