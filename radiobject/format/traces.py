"""Traces: whether ids still stand anywhere in a study: in keys, documents, cells of tables, raw bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from radiobject.errors import MetadataError, MissingObjectError
from radiobject.format.layout import COLLECTIONS, segment
from radiobject.storage import ObjectInfo, Storage

__all__ = ["Traces", "search"]

_WORD = 4
"""A shorter id counts only where it is a whole value: as a word it is found in any text."""
_RARE = 6
"""In raw bytes, shorter ids stand by chance: of 6 bytes about one in 280 TB."""
_BATCH = 500
_WINDOW = 1 << 24
_ID_KEYS = frozenset({"min_id", "max_id"})


class Traces:
    """Finds `ids` in text and in bytes, also as the path segments that are made of them.

    An id counts in text where it is a whole word: "sub-1" does not stand in "sub-10". What is a part of one
    of the ids in `kept` does not count either.

    >>> traces = Traces(["sub-1"], kept=["sub-1-b"])
    >>> [traces.in_text(t) for t in ("sub-1_T1w", "sub-10_T1w", "sub-1-b_T1w", "Sub-1")]
    [True, False, False, False]
    """

    def __init__(self, ids: Iterable[str], kept: Iterable[str] = ()) -> None:
        forms = {form for i in ids for form in (i, segment(i))}
        self.short = frozenset(f for f in forms if len(f) < _WORD)
        words = sorted((f for f in forms if len(f) >= _WORD), key=len)
        rare = sorted({f.encode() for f in forms if len(f.encode()) >= _RARE}, key=len)
        self._patterns = ["|".join(map(re.escape, _some)) for _some in _batches(words)]
        self._words = [re.compile(rf"(?<![^\W_])(?:{p})(?![^\W_])") for p in self._patterns]
        self._bytes = [re.compile(b"|".join(map(re.escape, some))) for some in _batches(rare)]
        longer = {form for i in kept for form in (i, segment(i))}
        self._kept = tuple(k for k in longer if any(re.search(p, k) for p in self._patterns))
        self._kept_bytes = tuple(k.encode() for k in self._kept)
        self._overlap = max(map(len, (*rare, *self._kept_bytes)), default=0)

    def in_text(self, text: str) -> bool:
        """Whether one of the ids stands in a text."""
        return any(
            not _inside(text, found.start(), found.end(), self._kept)
            for pattern in self._words
            for found in pattern.finditer(text)
        )

    def in_value(self, text: str) -> bool:
        """Whether a text that may be an id is one of them, or has one in it."""
        return text in self.short or self.in_text(text)

    def in_bytes(self, data: bytes) -> bool:
        """Whether one of the ids stands in raw bytes."""
        return any(
            not _inside(data, found.start(), found.end(), self._kept_bytes)
            for pattern in self._bytes
            for found in pattern.finditer(data)
        )

    def in_key(self, key: str) -> bool:
        """Whether an object has one of them in its path."""
        parts = key.split("/")
        named = parts[0] == COLLECTIONS and len(parts) > 2 and parts[2] in self.short
        return named or self.in_text(key)

    def in_json(self, value: Any, key: str = "") -> bool:
        """Whether one of them stands in a parsed document."""
        if isinstance(value, str):
            return self.in_value(value) if key in _ID_KEYS else self.in_text(value)
        if isinstance(value, dict):
            if key == "change":
                return any(self.in_value(i) for ids in value.values() for i in ids)
            return any(self.in_text(k) or self.in_json(v, k) for k, v in value.items())
        return isinstance(value, list) and any(self.in_json(v, key) for v in value)

    def in_column(
        self, column: pa.ChunkedArray | pa.Array, *, ids: bool = False, where: str = "a column"
    ) -> bool:
        """Whether one of them stands in a column, also in categories that no row has; `ids`: it holds ids.

        `MetadataError`, which names the column as `where`, for types in which they cannot be looked for.
        """
        if any(map(self.in_text, _names(column.type))):
            return True
        for leaf in _leaves(column, where):
            if _is_text(leaf.type):
                # no kernel looks into views
                values = leaf.cast(pa.large_string()) if pa.types.is_string_view(leaf.type) else leaf
                candidates = self._candidates(values, ids=ids)
                if any(self.in_value(v) if ids else self.in_text(v) for v in candidates):
                    return True
            elif _is_bytes(leaf.type) and any(v is not None and self._in_cell(v) for v in leaf.to_pylist()):
                return True
        return False

    def in_field(self, field: pa.Field) -> bool:
        """Whether one of them stands in the name or the metadata of a table's column."""
        return self.in_text(field.name) or any(map(self.in_text, _metadata(field.metadata)))

    def in_rows(self, rows: pa.Table, columns: Sequence[str]) -> list[bool]:
        """For each row, whether one of them stands in one of these text columns."""
        cells = [rows[name].to_pylist() for name in columns]
        return [any(v is not None and self.in_text(str(v)) for v in row) for row in zip(*cells, strict=True)]

    def in_object(self, storage: Storage, info: ObjectInfo) -> bool:
        """Whether one of them stands in an object: decoded where it is JSON or Parquet, and as raw bytes."""
        if info.key.endswith(".json"):
            try:
                return self.in_json(json.loads(storage.read(info.key)))
            except ValueError:
                pass  # cut by a crash, or no JSON: its bytes tell
        if info.key.endswith(".parquet"):
            data = storage.read(info.key)
            try:
                if self._in_parquet(pq.ParquetFile(pa.BufferReader(data)), info.key):
                    return True
            except (pa.ArrowInvalid, OSError):
                pass  # the same: a torn part of a journal
            return self.in_bytes(data)
        # windows overlap, so that no border cuts an id, nor a longer one that it is a part of
        return any(
            self.in_bytes(
                storage.read_range(
                    info.key, max(start - self._overlap, 0), min(start + _WINDOW + self._overlap, info.bytes)
                )
            )
            for start in range(0, info.bytes, _WINDOW)
        )

    def _in_parquet(self, file: pq.ParquetFile, key: str) -> bool:
        schema = file.schema_arrow
        if any(map(self.in_text, _metadata(schema.metadata))):
            return True
        return any(
            self.in_field(field)
            or self.in_column(
                file.read([field.name])[field.name],
                ids=field.name.endswith("_id") or field.name == "id",
                where=f"column {field.name!r} of {key}",
            )
            for field in schema
        )

    def _in_cell(self, value: bytes) -> bool:
        """Whether one of them stands in a cell of bytes: also a short one, where the bytes are text."""
        if self.in_bytes(value):
            return True
        try:
            return self.in_text(value.decode())
        except UnicodeDecodeError:
            return False

    def _candidates(self, values: pa.Array, *, ids: bool) -> Iterator[str]:
        """The values that may hold an id, found by Arrow; few of a table do."""
        for pattern in self._patterns:
            hits = values.filter(pc.match_substring_regex(values, pattern))
            yield from (v for v in pc.unique(hits).to_pylist() if v is not None)
        if ids and self.short:
            hits = values.filter(pc.is_in(values, value_set=pa.array(sorted(self.short), values.type)))
            yield from (v for v in hits.to_pylist() if v is not None)


def search(
    storage: Storage, objects: Iterable[ObjectInfo], traces: Traces, *, voxels: bool = True
) -> list[str]:
    """Keys of the objects that have one of the ids in their path or in their bytes.

    `voxels=False` leaves the chunks of arrays unread: they were written from images, not from tables.
    """

    def look(info: ObjectInfo) -> bool:
        if traces.in_key(info.key):
            return True
        if not voxels and _holds_voxels(info.key):
            return False
        try:
            return traces.in_object(storage, info)
        except MissingObjectError:
            return False  # removed meanwhile

    chosen = list(objects)
    with ThreadPoolExecutor(8) as pool:
        return [info.key for info, hit in zip(chosen, pool.map(look, chosen), strict=True) if hit]


def _holds_voxels(key: str) -> bool:
    """Whether it is a chunk of a level, on Zarr or on TileDB; extras, such as headers, are none."""
    _, dot, inside = key.partition(".ome.zarr/")
    return (bool(dot) and inside.startswith(("0/c/", "pyramid/"))) or key.endswith("/a0.tdb")


def _inside(text: Any, start: int, stop: int, kept: Sequence[Any]) -> bool:
    """Whether what stands from `start` to `stop` is a part of one of the longer texts in `kept`."""
    for longer in kept:
        at = text.find(longer, max(0, stop - len(longer)), start + len(longer))
        if at >= 0:
            return True
    return False


def _batches(forms: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (forms[n : n + _BATCH] for n in range(0, len(forms), _BATCH))


def _is_any(kind: pa.DataType, *checks: Callable[[pa.DataType], bool]) -> bool:
    return any(check(kind) for check in checks)


def _is_text(kind: pa.DataType) -> bool:
    return _is_any(kind, pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


def _is_bytes(kind: pa.DataType) -> bool:
    t = pa.types
    return _is_any(kind, t.is_binary, t.is_large_binary, t.is_binary_view, t.is_fixed_size_binary)


def _is_number(kind: pa.DataType) -> bool:
    """Whether its values are numbers, times or nothing, which spell no id."""
    return _is_any(kind, pa.types.is_primitive, pa.types.is_decimal, pa.types.is_null)


def _is_list(kind: pa.DataType) -> bool:
    t = pa.types
    views = (t.is_list_view, t.is_large_list_view)
    return _is_any(kind, t.is_list, t.is_large_list, t.is_fixed_size_list, *views)


def _leaves(array: pa.ChunkedArray | pa.Array, where: str) -> Iterator[pa.Array]:
    """Every array of plain values inside a column: categories, members of lists, maps, structs, unions.

    What is none of the types known here is refused: nobody could say that it names no one.
    """
    kind = array.type
    if isinstance(array, pa.ChunkedArray):
        for chunk in array.chunks:
            yield from _leaves(chunk, where)
    elif isinstance(array, pa.ExtensionArray):
        yield from _leaves(array.storage, where)
    elif pa.types.is_dictionary(kind):
        yield from _leaves(array.dictionary, where)
    elif pa.types.is_map(kind):
        yield from _leaves(array.keys, where)
        yield from _leaves(array.items, where)
    elif _is_list(kind) or pa.types.is_run_end_encoded(kind):
        yield from _leaves(array.values, where)
    elif pa.types.is_struct(kind) or pa.types.is_union(kind):
        for number in range(kind.num_fields):
            yield from _leaves(array.field(number), where)
    elif _is_text(kind) or _is_bytes(kind) or _is_number(kind):
        yield array
    else:
        raise MetadataError(
            where,
            expected="a type in which ids can be looked for",
            got=str(kind),
            hint="Change the column's type, or remove the column first.",
        )


def _names(kind: pa.DataType) -> Iterator[str]:
    """What a type says of its own: names of the fields of structs and unions, and all fields' metadata."""
    if isinstance(kind, pa.BaseExtensionType):
        yield from _names(kind.storage_type)
    elif pa.types.is_dictionary(kind):
        yield from _names(kind.value_type)
    else:
        named = pa.types.is_struct(kind) or pa.types.is_union(kind)  # those of lists and maps are Arrow's
        for number in range(kind.num_fields):
            field = kind.field(number)
            if named:
                yield field.name
            yield from _metadata(field.metadata)
            yield from _names(field.type)


def _metadata(metadata: dict[bytes, bytes] | None) -> Iterator[str]:
    for pair in (metadata or {}).items():
        yield from (part.decode("utf-8", "replace") for part in pair)
