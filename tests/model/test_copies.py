"""Copies: parents of derived volumes, ledgers, ids, backends, and what a copy that fails leaves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject, VolumeCollection
from radiobject.errors import CapabilityError, CorruptObjectError, DuplicateIdError, StudyNotFoundError


def scan(value: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((3, 4, 5), value, "i2"), np.eye(4)


def make(place: Any, n: int = 3, **options: Any) -> RadiObject:
    images = {c: [(scan(i + 1), f"sub-{i + 1}") for i in range(n)] for c in ("T1w", "seg")}
    return RadiObject.from_niftis(place, images, **options)


def half(voxels: Any, row: Any) -> Any:
    return voxels / 2


def same(voxels: Any, row: Any) -> Any:
    return voxels


def parents(collection: VolumeCollection) -> list[str | None]:
    found: list[str | None] = collection.obs.to_arrow(["_parent"])["_parent"].to_pylist()
    return found


def places(collection: VolumeCollection) -> list[str]:
    found: list[str] = collection.obs.to_arrow(["_path"])["_path"].to_pylist()
    return found


@pytest.fixture
def derived(tmp_path: Path) -> RadiObject:
    radi = make(tmp_path / "study")
    radi.add_collection("half", radi.T1w.lazy().map(half))
    radi.half.obs.add_column("rating", values=[4, 2, 1])
    return RadiObject(tmp_path / "study")


def test_a_layer_of_a_copy_names_its_parents_there(derived: RadiObject, tmp_path: Path) -> None:
    copy = derived.write(tmp_path / "copy")
    assert parents(copy.half) == places(copy.T1w) != places(derived.T1w)
    copy.add_collection("half", copy.T1w.lazy().map(half))
    assert (copy.version, copy.half.obs.read()["rating"].to_list()) == (1, [4, 2, 1])


def test_so_does_one_that_a_query_of_the_study_copies(derived: RadiObject, tmp_path: Path) -> None:
    copy = derived.lazy().map(same, "seg").write(tmp_path / "copy")
    assert parents(copy.half) == places(copy.T1w)


def test_and_one_whose_collection_has_another_name(derived: RadiObject, tmp_path: Path) -> None:
    sources = {"thin": derived.half, "image": derived.T1w}
    copy = RadiObject.from_collections(tmp_path / "copy", sources)
    assert parents(copy.thin) == places(copy.image)


def test_a_parent_that_is_left_behind_is_named_no_more(derived: RadiObject, tmp_path: Path) -> None:
    part = derived.select_collections(["half"]).write(tmp_path / "part")
    assert parents(part.half) == [None, None, None]
    alone = derived.half.write(tmp_path / "alone")
    assert parents(alone) == [None, None, None]


def test_a_layer_of_another_study_does_not_name_parents_there(derived: RadiObject, tmp_path: Path) -> None:
    other = RadiObject.from_niftis(tmp_path / "other", {"CT": [(scan(1), "sub-9")]})
    other.add_collection("half", derived.half)
    assert parents(other.half) == [None, None, None]


def test_within_a_study_parents_stay(derived: RadiObject) -> None:
    derived.add_collection("again", derived.half)
    assert parents(derived.again) == places(derived.T1w)


def test_what_was_made_of_a_third_study_is_still_found(tmp_path: Path) -> None:
    third = make(tmp_path / "third")
    third.T1w.lazy().map(half).write(tmp_path / "made", "half")
    made = RadiObject(tmp_path / "made")
    made.half.obs.add_column("rating", values=[4, 2, 1])
    copy = RadiObject(tmp_path / "made").write(tmp_path / "copy")
    copy.add_collection("half", third.T1w.lazy().map(half))
    assert (copy.version, copy.half.obs.read()["rating"].to_list()) == (1, [4, 2, 1])


@pytest.fixture
def failing(tmp_path: Path) -> RadiObject:
    """T1w and seg of three subjects; the T1w of sub-3 could not be read."""
    (tmp_path / "bad.nii").write_bytes(b"no image")
    good = [(scan(i), f"sub-{i}") for i in (1, 2)]
    images = {"T1w": [*good, (tmp_path / "bad.nii", "sub-3")], "seg": [*good, (scan(3), "sub-3")]}
    return RadiObject.from_niftis(tmp_path / "study", images, errors="collect")


def lines(radi: RadiObject) -> list[tuple[str, str, str]]:
    table = radi.ledger.read()
    return sorted(zip(table["collection"], table["obs_id"], table["outcome"], strict=True))


T1W = [("T1w", "sub-1_T1w", "ingested"), ("T1w", "sub-2_T1w", "ingested"), ("T1w", "sub-3_T1w", "failed")]
FAILED = T1W[2:]


def test_a_view_takes_the_failed_sources_of_its_subjects(failing: RadiObject, tmp_path: Path) -> None:
    assert lines(failing.select_collections(["T1w"]).write(tmp_path / "a")) == T1W
    assert lines(failing.select_collections(["seg"]).loc[["sub-3"]].write(tmp_path / "b")) == [
        ("seg", "sub-3_seg", "ingested")
    ]
    both = failing.loc[["sub-3"]].write(tmp_path / "c")
    assert lines(both) == [*FAILED, ("seg", "sub-3_seg", "ingested")]
    assert FAILED[0] not in lines(failing.loc[["sub-1"]].write(tmp_path / "d"))


def test_a_collection_takes_the_lines_of_its_volumes_under_its_new_name(
    failing: RadiObject, tmp_path: Path
) -> None:
    failing.T1w.write(tmp_path / "one", "image")
    made = [("image", "sub-1_T1w", "ingested"), ("image", "sub-2_T1w", "ingested")]
    assert lines(RadiObject(tmp_path / "one")) == made
    assert lines(RadiObject.from_collections(tmp_path / "two", {"image": failing.T1w})) == made
    failing.T1w.head(1).lazy().write(tmp_path / "three", "image")
    assert lines(RadiObject(tmp_path / "three")) == made[:1]
    other = RadiObject.from_niftis(tmp_path / "other", {"CT": [(scan(1), "sub-9")]})
    other.add_collection("image", failing.T1w)
    assert lines(other) == [("CT", "sub-9_CT", "ingested"), *made]


def test_a_copy_within_the_study_has_lines_with_its_new_ids(failing: RadiObject) -> None:
    before = Counter(lines(failing))
    failing.add_collection("again", failing.T1w)
    assert sorted((Counter(lines(failing)) - before).elements()) == [
        ("again", "sub-1_again", "ingested"), ("again", "sub-2_again", "ingested")
    ]  # fmt: skip


@pytest.mark.only("tensorstore", "tiledb", reason="damages an object of a volume")
def test_a_copy_that_fails_leaves_no_volumes_and_says_that_nothing_was_committed(
    tmp_path: Path, voxel_objects: Any
) -> None:
    radi = make(tmp_path / "study")
    key = next(iter(voxel_objects(radi)["sub-3_seg"]))
    path = tmp_path / "study" / key
    path.write_bytes(path.read_bytes()[:-1] + b"\0\0")
    with pytest.raises(CorruptObjectError, match="Nothing was committed") as failure:
        radi.write(tmp_path / "copy")
    assert key in str(failure.value)
    left = {p.name for p in (tmp_path / "copy").rglob("*") if p.is_file()}
    assert left == {"zarr.json"}
    with pytest.raises(StudyNotFoundError, match="same call again"):
        RadiObject(tmp_path / "copy")
    whole = radi.select_collections(["T1w"]).write(tmp_path / "copy")
    assert whole.validate("full").litter == whole.validate().litter


def test_an_id_of_two_collections_is_refused_before_anything_is_copied(tmp_path: Path) -> None:
    one, two = make(tmp_path / "one"), make(tmp_path / "two")
    with pytest.raises(DuplicateIdError, match="sub-1_T1w"):
        RadiObject.from_collections(tmp_path / "copy", {"a": one.T1w, "b": two.T1w})
    assert not (tmp_path / "copy").exists()


def test_an_unknown_backend_is_refused_where_there_is_nothing_to_copy(tmp_path: Path) -> None:
    empty = make(tmp_path / "study").select_collections([])
    with pytest.raises(CapabilityError, match="no such"):
        empty.write(tmp_path / "copy", backend="papyrus")
    assert not (tmp_path / "copy").exists()


@pytest.mark.only("tensorstore", reason="names its backends")
def test_what_joins_a_study_has_a_backend_of_that_study(tmp_path: Path) -> None:
    other = make(tmp_path / "other", backend="tiledb")
    images = {c: other.collection(c) for c in ("T1w", "seg")}
    one = RadiObject.from_niftis(tmp_path / "home", {"CT": [(scan(1), "sub-9")]})
    one.add_collection("copied", images["T1w"])
    one.add_collection("made", images["seg"].lazy().map(same))
    assert {c: one.collection(c).backend for c in one} == {"CT": "zarr", "copied": "zarr", "made": "zarr"}
    mixed = RadiObject.from_collections(tmp_path / "mixed", {"CT": one.CT, "T1w": images["T1w"]})
    mixed.add_collection("seg", images["seg"])
    assert [mixed.collection(c).backend for c in ("CT", "T1w", "seg")] == ["zarr", "tiledb", "tiledb"]
