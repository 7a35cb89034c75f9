"""Change list: what a commit changed, in a Parquet file beside it where it names too many ids."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from radiobject.errors import CorruptObjectError, FormatError
from radiobject.format.commit import Change, Commit
from radiobject.format.layout import change_key
from radiobject.format.part_file import parquet_of
from radiobject.storage import Storage
from radiobject.strict import one_of, text

__all__ = ["read_change", "write_change"]

_COLUMNS = ("change", "id")
_AT_ONCE = 2**10
"""Rows decoded before they are looked at: a short file may name one id any number of times."""


def write_change(storage: Storage, txn_id: str, change: Change) -> dict[str, Any]:
    """Write the list of a transaction's change, and return how its commit names it."""
    pairs = [(what, i) for what, ids in change.to_json().items() for i in ids]
    sink = io.BytesIO()
    pq.write_table(
        pa.table({"change": [what for what, _ in pairs], "id": [i for _, i in pairs]}),
        sink,
        compression="zstd",
        write_page_checksum=True,
    )
    key, data = change_key(txn_id), sink.getvalue()
    storage.write(key, data)
    return {"path": key, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def read_change(storage: Storage, commit: Commit) -> Change:
    """What a commit changed, also when the list stands beside it.

    Raises `CorruptObjectError` for other bytes than were committed, `FormatError` for what is no such list.
    """
    if commit.change is not None:
        return commit.change
    stated = commit.change_list
    assert stated is not None
    where = f"{storage.location.uri}/{stated['path']}"
    data = storage.read(stated["path"])
    if len(data) != stated["bytes"] or hashlib.sha256(data).hexdigest() != stated["sha256"]:
        raise CorruptObjectError(where, expected="the list that was committed", got="other bytes")
    try:
        return Change(**{what: frozenset(ids) for what, ids in _listed(data).items()})
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise FormatError(
            where, expected="a Parquet file of changes and ids, each once", got=str(error)[:300]
        ) from error


def _listed(data: bytes) -> Mapping[str, set[str]]:
    """Ids by what was done to them. `TypeError` or `ValueError` for what no writer writes."""
    found: dict[str, set[str]] = {}
    seen = 0
    for batch in parquet_of(data).iter_batches(_AT_ONCE, columns=list(_COLUMNS), use_threads=False):
        whats, ids = (batch.column(name).to_pylist() for name in _COLUMNS)
        for what, name in zip(whats, ids, strict=True):
            found.setdefault(one_of(what, *Change.__dataclass_fields__), set()).add(text(name))
        seen += batch.num_rows
        if sum(map(len, found.values())) != seen:
            raise ValueError("an id that is listed twice")
    return found
