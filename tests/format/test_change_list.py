"""The list of a large change: read back as it was written, and nothing else than such a list is read."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from radiobject.errors import CorruptObjectError, FormatError
from radiobject.format.change_list import read_change, write_change
from radiobject.format.commit import Change, Commit
from radiobject.location import Location
from radiobject.storage import Storage

CHANGE = Change(volumes_added=frozenset({"a", "b"}), subjects_removed=frozenset({"a"}))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(Location(tmp_path / "study"))


def naming(stated: dict[str, Any] | None, change: Change | None = None) -> Commit:
    return Commit(1, None, None, "", "t", "", "", "", "", change, stated, {}, ())


def stored(storage: Storage, columns: dict[str, Any], **options: Any) -> Commit:
    """A commit that names these columns as its list; sizes and hashes are right."""
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, **options)
    data = sink.getvalue()
    storage.write("versions/change-t.parquet", data)
    digest = hashlib.sha256(data).hexdigest()
    return naming({"path": "versions/change-t.parquet", "bytes": len(data), "sha256": digest})


def test_a_list_comes_back(storage: Storage) -> None:
    assert read_change(storage, naming(write_change(storage, "t", CHANGE))) == CHANGE


def test_a_commit_that_has_its_change_needs_no_list(storage: Storage) -> None:
    assert read_change(storage, naming(None, CHANGE)) == CHANGE


@pytest.mark.parametrize("wrong", [{"bytes": 1}, {"sha256": "0" * 64}])
def test_other_bytes_than_were_committed_are_refused(storage: Storage, wrong: dict[str, Any]) -> None:
    commit = naming(write_change(storage, "t", CHANGE) | wrong)
    with pytest.raises(CorruptObjectError, match=r"change-t\.parquet"):
        read_change(storage, commit)


@pytest.mark.parametrize(
    "columns",
    [
        {"other": ["a"]},
        {"change": ["volumes_added"]},
        {"change": ["volumes_added", None], "id": ["a", "b"]},
        {"change": ["volumes_added"], "id": pa.array([None], pa.string())},
        {"change": ["volumes_added"], "id": [7]},
        {"change": ["volumes_invented"], "id": ["a"]},
        {"change": ["volumes_added"] * 2, "id": ["a", "a"]},
    ],
)
def test_what_is_no_such_list_is_refused(storage: Storage, columns: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match=r"change-t\.parquet.*changes and ids"):
        read_change(storage, stored(storage, columns))


def test_bytes_that_are_no_parquet_are_refused(storage: Storage) -> None:
    storage.write("versions/x", b"noise")
    stated = {"path": "versions/x", "bytes": 5, "sha256": hashlib.sha256(b"noise").hexdigest()}
    with pytest.raises(FormatError, match="Parquet"):
        read_change(storage, naming(stated))


def test_an_id_again_and_again_is_refused(storage: Storage) -> None:
    again = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**6, "i4")), pa.array(["volumes_added"]))
    commit = stored(storage, {"change": again, "id": again}, store_schema=False)
    with pytest.raises(FormatError, match="listed twice"):
        read_change(storage, commit)
