"""A commit's bytes carry their own proof, and what this version does not know is refused."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiobject.errors import CapabilityError, CorruptObjectError, FormatError
from radiobject.format.commit import Change, CollectionEntry, Commit, canonical
from radiobject.format.tables import Part

PART = Part("tables/T1w/obs/ab.parquet", 100, 2, "0" * 64, 50, "1" * 64, "a", "b")
COMMIT = Commit(
    version=2,
    parent=1,
    parent_sha256="f" * 64,
    study="1234",
    txn_id="abcd",
    operation="append",
    message="a message with ünïcode",
    created="2026-01-01T00:00:00.000+00:00",
    writer="test",
    change=Change(volumes_added=frozenset({"b", "a"})),
    change_list=None,
    tables={"obs_meta": (PART,)},
    collections=(CollectionEntry("T1w", "image", "collections/T1w", "zarr", (1, 2, 3), {"obs": (PART,)}),),
)


def test_a_commit_reads_back_as_it_was() -> None:
    data, digest = COMMIT.to_bytes()
    again = Commit.from_bytes(data, "here")
    assert again == COMMIT
    assert again.sha256 == digest
    assert again.to_bytes() == (data, digest)


def test_bytes_are_canonical_and_end_in_their_own_hash() -> None:
    data, digest = COMMIT.to_bytes()
    parsed = json.loads(data)
    assert parsed.pop("self_sha256") == digest
    assert list(parsed) == sorted(parsed)
    assert canonical(parsed)[:-1] + f',"self_sha256":"{digest}"}}'.encode() == data


@given(st.data())
def test_any_changed_byte_is_refused(data: st.DataObject) -> None:
    good, _ = COMMIT.to_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    bit = data.draw(st.integers(0, 7))
    bad = bytearray(good)
    bad[at] ^= 1 << bit
    with pytest.raises(CorruptObjectError, match="versions/x"):
        Commit.from_bytes(bytes(bad), "versions/x")


@given(st.integers(0, 2000))
def test_a_cut_commit_is_refused(length: int) -> None:
    good, _ = COMMIT.to_bytes()
    with pytest.raises(CorruptObjectError):
        Commit.from_bytes(good[: min(length, len(good) - 1)], "here")


def resigned(**changes: object) -> bytes:
    raw = json.loads(COMMIT.to_bytes()[0])
    raw.pop("self_sha256")
    body = canonical({**raw, **changes})
    import hashlib

    return body[:-1] + f',"self_sha256":"{hashlib.sha256(body).hexdigest()}"}}'.encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "2.0"},
        {"type": "study"},
        {"features": ["unknown-thing"]},
        {"collections": 3},
        {"version": None},
    ],
    ids=str,
)
def test_what_this_version_does_not_know_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(FormatError, match="versions/x"):
        Commit.from_bytes(resigned(**changes), "versions/x")


def test_a_newer_minor_version_is_read() -> None:
    assert Commit.from_bytes(resigned(format="1.7"), "here").version == 2


def test_collections_are_exchanged_by_path_so_that_a_rename_keeps_its_place() -> None:
    renamed = dataclasses.replace(COMMIT.collections[0], name="T1")
    assert [c.name for c in COMMIT.with_collection(renamed).collections] == ["T1"]


def test_what_no_reader_would_take_is_not_written() -> None:
    with pytest.raises(CapabilityError, match="fewer collections"):
        dataclasses.replace(COMMIT, message="x" * 2**23).to_bytes()
    many = dataclasses.replace(PART, rows=2**24)
    with pytest.raises(CapabilityError, match="'obs_meta'"):
        dataclasses.replace(COMMIT, tables={"obs_meta": (many, PART)}).to_bytes()
