"""What versions need is known whole, or nothing is removed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.errors import IntegrityError
from radiobject.format import catalog
from radiobject.format.commit import Commit
from radiobject.format.needed import keys_of, named_keys
from radiobject.storage import Storage


@pytest.fixture
def radi(tmp_path: Path) -> RadiObject:
    """Two versions, whose second has a volume more, and something that no version needs."""
    images = {"CT": [((np.ones((4, 4, 4), "i2"), None), "a")]}
    made = RadiObject.from_niftis(tmp_path / "study", images, progress=False)
    more = {"CT": [((np.zeros((4, 4, 4), "i2"), None), "b")]}
    made.append(more, {"obs_subject_id": ["b"]}, progress=False)
    (tmp_path / "study/tables/litter.parquet").write_bytes(b"x")
    return made


def part_of(radi: RadiObject, version: int) -> Path:
    """The volume table's part that came with a version."""
    parts = RadiObject(radi.uri, version=version)._study.obs("CT").parts
    return Path(str(radi.uri)) / parts[-1].path


@pytest.mark.parametrize("version", [1, 2])
def test_clean_up_removes_nothing_while_a_kept_table_cannot_be_read(radi: RadiObject, version: int) -> None:
    part_of(radi, version).write_bytes(b"damaged")
    before = sorted(Path(str(radi.uri)).rglob("*.parquet"))
    catalog._snapshots.clear()
    with pytest.raises(IntegrityError):
        RadiObject(radi.uri).cleanup(keep=3, older_than=0, force=True)
    assert sorted(Path(str(radi.uri)).rglob("*.parquet")) == before


def test_clean_up_removes_what_no_version_needs_and_nothing_else(radi: RadiObject) -> None:
    storage: Storage = radi._study.snapshot.storage
    before = {info.key for info in storage.list("")}
    assert RadiObject(radi.uri).cleanup(keep=3, older_than=0, force=True).objects == 1
    assert before - {info.key for info in storage.list("")} == {"tables/litter.parquet"}


def test_every_version_is_asked_and_its_objects_are_needed(radi: RadiObject) -> None:
    snapshots = [RadiObject(radi.uri, version=n)._study.snapshot for n in (1, 2)]
    needed = named_keys(snapshots)
    assert needed == named_keys(snapshots[::-1])
    stored = {info.key for info in radi._study.snapshot.storage.list("")}
    assert stored - needed == {"tables/litter.parquet"}


def test_what_only_an_older_version_needs_is_no_litter(radi: RadiObject) -> None:
    again = {"CT": [((np.full((4, 4, 4), 3, "i2"), None), "a")]}
    radi.append(again, on_conflict="replace", progress=False)
    assert RadiObject(radi.uri).validate("full").litter == 1


def test_the_list_of_a_large_change_is_needed() -> None:
    stated = {"path": "versions/change-a.parquet", "bytes": 1, "sha256": ""}
    commit = Commit(1, None, None, "", "a", "", "", "", "", None, stated, {}, ())
    assert "versions/change-a.parquet" in keys_of([commit], set(), set())
