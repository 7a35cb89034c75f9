"""Tables as immutable Parquet parts: schemas, writing with hashes, reads of only what is asked."""

from __future__ import annotations

import hashlib
import io
import secrets
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from radiobject import measuring
from radiobject.errors import (
    CapabilityError,
    CorruptObjectError,
    FormatError,
    MetadataError,
    MissingObjectError,
    RadiObjectError,
)
from radiobject.forking import renew_on_fork
from radiobject.format.layout import part_key
from radiobject.format.part_file import PartFile, open_parquet
from radiobject.format.pruning import Pruner, columns_of, rows_where
from radiobject.format.schema import KEYS, check_columns, check_values, fixed_columns
from radiobject.storage import Storage
from radiobject.strict import count, key, mapped, text

__all__ = ["MOST_ROWS", "Part", "Table", "unify", "write_part"]

ROW_GROUP = 4096
PICTURE_GROUP = 128  # where there are bytes, which are read a few at a time: half a megabyte of thumbnails
_KEPT_GROUPS = 32
MOST_ROWS = 2**24
"""Of one table: numbers of so many rows are 128 MiB."""
_MOST_IN_GROUP = 16 * ROW_GROUP  # nulls cost no bytes: a short file may have any number of rows in a group
_MOST_FOOTER = 2**26
_FAR_TAIL = 2**18  # over a network, what comes along with a footer costs less than asking again


@dataclass(frozen=True)
class Part:
    """One immutable Parquet file of a table, as a commit names it. `min_id`/`max_id` bound the key column."""

    path: str
    bytes: int
    rows: int
    sha256: str
    footer_bytes: int
    footer_sha256: str
    min_id: str
    max_id: str

    def to_json(self) -> dict[str, Any]:
        """The part as a commit states it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Part:
        """Read back `to_json`. `KeyError`, `TypeError` or `ValueError` for what no writer writes."""
        data = mapped(data)
        fields = cls.__dataclass_fields__.items()
        checked: dict[str, Any] = {n: (count if f.type == "int" else text)(data[n]) for n, f in fields}
        key(data["path"], "tables")
        return cls(**checked)


def write_part(storage: Storage, table: str, rows: pa.Table) -> Part:
    """Write `rows` as a new part of `table` and return how a commit names it."""
    key = KEYS[table.rsplit("/", 1)[-1]]
    sink = io.BytesIO()
    pq.write_table(
        rows,
        sink,
        compression="zstd",
        row_group_size=PICTURE_GROUP if any(map(pa.types.is_binary, rows.schema.types)) else ROW_GROUP,
        write_page_checksum=True,
        store_schema=True,
        # one histogram or object list a row has no two equal values: a dictionary would only cost
        use_dictionary=[
            f.name
            for f in rows.schema
            if not pa.types.is_nested(f.type)
            and not pa.types.is_floating(f.type)
            and not pa.types.is_binary(f.type)
        ],
    )
    data = sink.getvalue()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    if footer > _MOST_FOOTER:
        raise CapabilityError(
            f"a part of table {table}", expected=f"a footer of at most {_MOST_FOOTER} bytes",
            got=f"{footer}, which no reader would take", hint="Write fewer rows or columns at once.",
        )  # fmt: skip
    ids = rows.column(key)
    bounds = pc.min_max(ids).as_py()
    part = Part(
        path=part_key(table, secrets.token_hex(16)),
        bytes=len(data),
        rows=rows.num_rows,
        sha256=hashlib.sha256(data).hexdigest(),
        footer_bytes=footer,
        footer_sha256=hashlib.sha256(data[-footer:]).hexdigest(),
        min_id=bounds["min"] or "",
        max_id=bounds["max"] or "",
    )
    storage.write(part.path, data)
    return part


def unify(
    schemas: Iterable[pa.Schema], where: str, wrong: type[RadiObjectError] = MetadataError
) -> pa.Schema:
    """One schema for parts that differ: a column missing in some is null there, ints widen to float.

    Text joins a categorical column.
    """
    bare = [s.remove_metadata() for s in schemas]
    coded = {f.name: f.type for s in bare for f in s if pa.types.is_dictionary(f.type)}
    try:
        return pa.unify_schemas([_coded(s, coded) for s in bare], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise wrong(
            where,
            expected="one type for each column",
            got=str(error).splitlines()[0],
            hint="Cast the new column to the stored type, or give it another name.",
        ) from error


def _coded(schema: pa.Schema, coded: Mapping[str, pa.DataType]) -> pa.Schema:
    """The schema with those text columns categorical that are so in another part."""
    for place, field in enumerate(schema):
        if field.name in coded and (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
            schema = schema.set(place, field.with_type(coded[field.name]))
    return schema


class Table:
    """The parts of one table in one snapshot. Immutable, lazy and shared by every handle of the snapshot.

    A footer is read once a part (and checked against its hash in the commit); a read then fetches the
    columns and row groups that it names, nothing else.
    """

    def __init__(
        self,
        storage: Storage,
        name: str,
        parts: Sequence[Part],
        empty: pa.Schema,
        explain: Callable[[MissingObjectError], Exception] | None = None,
    ) -> None:
        self._explain = explain
        self.storage, self.name, self.parts, self._empty = storage, name, tuple(parts), empty
        self._fixed = fixed_columns(name, empty)
        self.key = KEYS[name.rsplit("/", 1)[-1]]
        self._pruners: dict[str, Pruner] = {}
        self._schema: pa.Schema | None = None
        self._ids: list[str] | None = None
        self._columns: dict[str, pa.ChunkedArray] = {}
        self._group_starts: dict[str, list[int]] = {}
        self._groups: OrderedDict[tuple[str, int, tuple[str, ...]], tuple[pa.Array, ...]] = OrderedDict()
        self.renew()
        renew_on_fork(self)

    def renew(self) -> None:
        """Make the lock and the open files anew, in a forked child."""
        self._lock = threading.RLock()
        self._files: dict[str, pq.ParquetFile] = {}
        self._footers: dict[str, bytes] = {}

    @property
    def num_rows(self) -> int:
        """Number of rows, known from the commit."""
        return sum(part.rows for part in self.parts)

    @property
    def schema(self) -> pa.Schema:
        """The unified Arrow schema of all parts."""
        with self._lock:
            if self._schema is None:
                schemas = [self._file(part).schema_arrow for part in self.parts]
                self._schema = unify(schemas or [self._empty], f"table {self.name}")
            return self._schema

    def read(self, columns: Sequence[str] | None = None, filter: pc.Expression | None = None) -> pa.Table:
        """Rows in part order as an Arrow table; `filter` is a pyarrow expression over the table's columns."""
        names = list(self.schema.names if columns is None else columns)
        if filter is not None:
            return self.rows(self.find(filter), names)
        pieces = []
        for part in self.parts:
            file = self._file(part)
            have = [c for c in names if c in file.schema_arrow.names]
            pieces.append(self._read(part, file, range(file.num_row_groups), have))
        return self._stack(pieces, names)

    def find(self, filter: pc.Expression) -> npt.NDArray[np.int64]:
        """Positions of the rows that a pyarrow expression keeps, in order.

        Reads the columns that it names, of the row groups that statistics do not exclude. Raises
        `ExpressionError` for what is no condition on this table, or cannot be computed.
        """
        where = f"filter on table {self.name}"
        names = columns_of(filter, self.schema, where) or [self.key]
        found, base = [np.empty(0, np.int64)], 0
        for part in self.parts:
            file = self._file(part)
            groups = self._pruner(part).groups(filter, [self.schema.field(n) for n in names], where)
            if groups:
                have = [n for n in names if n in file.schema_arrow.names]
                rows = self._stack([self._read(part, file, groups, have)], names)
                starts = self._starts(part)
                positions = np.concatenate([np.arange(starts[g], starts[g + 1]) for g in groups])
                found.append(base + positions[rows_where(rows, filter, where)])
            base += part.rows
        return np.concatenate(found)

    def ids(self) -> list[str]:
        """The key column, in row order; read once for all handles of the snapshot."""
        with self._lock:
            if self._ids is None:
                self._ids = self.column(self.key).to_pylist()
            return self._ids

    def column(self, name: str) -> pa.ChunkedArray:
        """One id column as Arrow, read once for all handles of the snapshot."""
        with self._lock:
            if name not in self._columns:
                self._columns[name] = self.read([name])[name]
            return self._columns[name]

    def only(self, part: Part) -> pa.Table:
        """All rows of one part, with that part's own columns."""
        file = self._file(part)
        return self._read(part, file, range(file.num_row_groups), file.schema_arrow.names)

    def rows(self, positions: Sequence[int] | npt.NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """The rows at `positions` (in that order), reading only the row groups that hold them."""
        wanted, order = np.unique(np.asarray(positions, dtype=np.int64), return_inverse=True)
        pieces, base = [], 0
        for part in self.parts:
            inside = wanted[np.searchsorted(wanted, base) : np.searchsorted(wanted, base + part.rows)] - base
            if len(inside):
                file = self._file(part)
                starts = np.asarray(self._starts(part))
                group_of = np.searchsorted(starts, inside, side="right") - 1
                groups, number = np.unique(group_of, return_inverse=True)
                # row groups are read one behind the other: where each begins in what was read
                begins = np.cumsum(np.concatenate([[0], starts[groups + 1] - starts[groups]]))
                have = [c for c in columns if c in file.schema_arrow.names]
                table = self._read(part, file, groups.tolist(), have)
                pieces.append(table.take(pa.array(inside - starts[group_of] + begins[number])))
            base += part.rows
        return self._stack(pieces, columns).take(pa.array(order))

    def record(self, position: int, columns: tuple[str, ...]) -> tuple[Any, ...]:
        """One row's values, by way of a small cache of row groups: the road to opening a volume."""
        base = 0
        for part in self.parts:
            if position < base + part.rows:
                break
            base += part.rows
        else:
            raise IndexError(position)
        inside = position - base
        with self._lock:
            starts = self._starts(part)
            group = bisect_right(starts, inside) - 1
            key = (part.path, group, columns)
            arrays = self._groups.get(key)
            if arrays is None:
                file = self._file(part)
                have = [c for c in columns if c in file.schema_arrow.names]
                rows = self._read(part, file, [group], have)
                arrays = tuple(
                    rows[c].combine_chunks() if c in have else pa.nulls(rows.num_rows) for c in columns
                )
                self._groups[key] = arrays
                while len(self._groups) > _KEPT_GROUPS:
                    self._groups.popitem(last=False)
            else:
                self._groups.move_to_end(key)
        row = inside - starts[group]
        return tuple(a[row].as_py() for a in arrays)

    def _starts(self, part: Part) -> list[int]:
        """First row of each row group of a part, and the number of its rows."""
        if part.path not in self._group_starts:
            metadata = self._file(part).metadata
            sizes = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
            self._group_starts[part.path] = [0, *accumulate(sizes)]
        return self._group_starts[part.path]

    def _pruner(self, part: Part) -> Pruner:
        with self._lock:
            if part.path not in self._pruners:
                self._pruners[part.path] = Pruner(self._file(part), self._footers[part.path])
            return self._pruners[part.path]

    def _stack(self, pieces: Sequence[pa.Table], columns: Sequence[str]) -> pa.Table:
        schema = pa.schema([self.schema.field(c) for c in columns])
        aligned = []
        for piece in pieces:
            arrays = [
                piece.column(f.name).cast(f.type)
                if f.name in piece.schema.names
                else pa.nulls(piece.num_rows, f.type)
                for f in schema
            ]
            aligned.append(pa.table(arrays, schema=schema))
        return pa.concat_tables(aligned) if aligned else schema.empty_table()

    def _read(
        self, part: Part, file: pq.ParquetFile, groups: Iterable[int], columns: Sequence[str]
    ) -> pa.Table:
        groups = list(groups)
        measuring.add("row_groups", len(groups))
        measuring.add(f"table_reads:{self.name}")
        try:
            with self._lock:  # one ParquetFile is one cursor
                # a part without any of the columns still says how many rows it has
                rows = file.read_row_groups(groups, columns=list(columns) or [self.key], use_threads=False)
            check_values(rows, self._fixed)
            return rows
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, MissingObjectError) and self._explain is not None:
                raise self._explain(error) from error
            if isinstance(error, RadiObjectError):
                raise  # the store's own trouble, told as it is
            raise CorruptObjectError(
                f"{self.storage.location.uri}/{part.path}",
                expected="intact Parquet pages",
                got=str(error).splitlines()[0],
                hint="Restore this file, or an earlier version of the study.",
            ) from error

    def _file(self, part: Part) -> pq.ParquetFile:
        with self._lock:
            if part.path not in self._files:
                self._files[part.path] = self._open(part)
            return self._files[part.path]

    def _open(self, part: Part) -> pq.ParquetFile:
        where = f"{self.storage.location.uri}/{part.path}"
        if not 8 < part.footer_bytes <= min(part.bytes, _MOST_FOOTER):
            raise FormatError(where, expected="a footer inside the file", got=f"{part.footer_bytes} bytes")
        try:
            length = part.footer_bytes if self.storage.location.is_near else max(part.footer_bytes, _FAR_TAIL)
            tail = self.storage.read_range(part.path, max(part.bytes - length, 0), part.bytes)
        except MissingObjectError as error:
            if self._explain is None:
                raise
            raise self._explain(error) from error
        if hashlib.sha256(tail[-part.footer_bytes :]).hexdigest() != part.footer_sha256:
            raise CorruptObjectError(where, expected="the footer that was committed", got="another")
        file = open_parquet(PartFile(self.storage, part.path, part.bytes, tail), where)
        check_columns(file.schema_arrow, self._fixed, where)
        if file.metadata.num_rows != part.rows:
            raise CorruptObjectError(
                where, expected=f"{part.rows} rows, as its commit says", got=f"{file.metadata.num_rows}"
            )
        groups = [file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups)]
        if (
            sum(groups) != part.rows
            or not 0 <= min(groups, default=0) <= max(groups, default=0) <= _MOST_IN_GROUP
        ):
            raise FormatError(
                where,
                expected=f"groups of at most {_MOST_IN_GROUP} rows",
                got=f"one of {max(groups, default=0)}",
            )
        self._footers[part.path] = tail[-part.footer_bytes :]
        return file

    def __getstate__(self) -> dict[str, Any]:
        return {"storage": self.storage, "name": self.name, "parts": self.parts, "empty": self._empty}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["storage"], state["name"], state["parts"], state["empty"])  # type: ignore[misc]
