"""Erasure: the tables of a version without some subjects, in a commit that does not say whose they were."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from radiobject.errors import MetadataError
from radiobject.format.catalog import Snapshot
from radiobject.format.commit import Change, Commit
from radiobject.format.schema import OBS_SCHEMA, SUBJECT_SCHEMA
from radiobject.format.tables import Part, Table, write_part
from radiobject.format.traces import Traces
from radiobject.format.volume_ids import backend_left, uniform_shape
from radiobject.storage import Storage

__all__ = ["Erasure"]

_SUBJECT = "obs_subject_id"
_LEDGER_TEXT = ("error", "message")


@dataclass(frozen=True)
class Erasure:
    """Takes the rows of `subjects` out of every table, and what `traces` finds from ledger and categories."""

    subjects: frozenset[str]
    traces: Traces

    def apply(self, base: Snapshot, draft: Commit, storage: Storage) -> tuple[Commit, Change]:
        """The commit that this makes of `draft`, a copy of `base`'s. It is the oldest that stays.

        Its change is empty: ids in a list of changes would outlive the purge.
        """
        entries = []
        for entry in draft.collections:
            label = entry.path.rsplit("/", 1)[-1]
            tables = self._tables(entry.tables, f"{label}/", storage, base, entry.name)
            tables.setdefault("obs", ())
            if tables["obs"] != entry.tables.get("obs", ()):
                left = Table(storage, f"{label}/obs", tables["obs"], OBS_SCHEMA)
                shape, backend = uniform_shape(entry, None, left), backend_left(entry, left)
                entry = dataclasses.replace(entry, shape=shape, backend=backend)
            entries.append(dataclasses.replace(entry, tables=tables))
        tables = self._tables(draft.tables, "", storage, base, "")
        if "obs_meta" in draft.tables:
            tables.setdefault("obs_meta", ())
        made = dataclasses.replace(
            draft, tables=tables, collections=tuple(entries), oldest=draft.version, partial=False
        )
        return made, Change()

    def left_in(self, base: Snapshot) -> list[str]:
        """Where ids would still stand in the tables of this version: in values of other subjects' rows."""
        found = []
        commit, storage = base.commit, base.storage
        for owner, tables in (("", commit.tables), *((c.name, c.tables) for c in commit.collections)):
            volumes = self._volumes(base, owner) if owner else frozenset[str]()
            for name, parts in tables.items():
                for part in parts:
                    table = Table(storage, name, [part], SUBJECT_SCHEMA)
                    kept = pa.array([not g for g in self._rows(table, volumes)], pa.bool_())
                    place = " ".join(filter(None, (owner, name)))
                    found += self._columns_that_hold(table, kept, place)
        return list(dict.fromkeys(found))

    def _columns_that_hold(self, table: Table, kept: pa.Array, place: str) -> list[str]:
        """The columns that would still name them; `MetadataError` for one that cannot be told or erased."""
        found = []
        for field in table.schema:
            column = table.read([field.name])[field.name]
            ids, where = field.name.endswith("_id"), f"column {field.name!r} of {place}"
            left = _filtered(column, kept, where)
            if self.traces.in_field(field):
                found.append(where)
            elif self.traces.in_column(column, ids=ids, where=where):
                # categories that no row has are taken out with the rows; what lists hold is that of all rows
                left = left.dictionary_decode() if pa.types.is_dictionary(left.type) else left
                if self.traces.in_column(left, ids=ids, where=where):
                    found.append(where)
        return found

    def _tables(
        self,
        tables: Mapping[str, tuple[Part, ...]],
        prefix: str,
        storage: Storage,
        base: Snapshot,
        collection: str,
    ) -> dict[str, tuple[Part, ...]]:
        volumes = self._volumes(base, collection) if collection else frozenset[str]()
        made = {}
        for name, parts in tables.items():
            kept = tuple(self._without(storage, f"{prefix}{name}", parts, volumes))
            if kept:
                made[name] = kept
        return made

    def _volumes(self, base: Snapshot, collection: str) -> frozenset[str]:
        """obs_ids of these subjects' volumes, for tables that have no column of subjects."""
        table = base.table("obs", collection)
        chosen = pc.is_in(table.column(_SUBJECT), value_set=pa.array(sorted(self.subjects), pa.string()))
        return frozenset(table.column("obs_id").filter(chosen).to_pylist())

    def _without(
        self, storage: Storage, name: str, parts: Iterable[Part], volumes: frozenset[str]
    ) -> Iterable[Part]:
        for part in parts:
            table = Table(storage, name, [part], SUBJECT_SCHEMA)
            gone = self._rows(table, volumes)
            stale = self._categories(table)
            if not any(gone) and not stale:
                yield part
                continue
            rows = table.only(part)
            left = rows.filter(pa.array([not g for g in gone], pa.bool_()))
            for column in stale:
                place = left.schema.get_field_index(column)
                left = left.set_column(place, left.schema.field(column), self._recoded(left[column]))
            if left.num_rows or not rows.num_rows:
                yield write_part(storage, name, left)

    def _rows(self, table: Table, volumes: frozenset[str]) -> list[bool]:
        """For each row, whether it is of these subjects; of the ledger also whether it speaks of them."""
        names = table.schema.names
        if _SUBJECT in names:
            gone = [i in self.subjects for i in table.read([_SUBJECT])[_SUBJECT].to_pylist()]
        else:
            gone = [i in volumes for i in table.ids()]
        if table.name == "ledger":
            text = [c for c in (*_LEDGER_TEXT, "obs_id") if c in names]
            spoken = self.traces.in_rows(table.read(text), text)
            gone = [a or b for a, b in zip(gone, spoken, strict=True)]
        return gone

    def _categories(self, table: Table) -> list[str]:
        """Columns among whose categories are ids: these stand in the file also where no row has them."""
        coded = [f.name for f in table.schema if pa.types.is_dictionary(f.type)]
        return [n for n in coded if self.traces.in_column(table.read([n])[n])]

    def _recoded(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """The column with those categories left out; the others keep their order."""
        chunk = column.combine_chunks()
        chunk = pa.concat_arrays(chunk.chunks) if isinstance(chunk, pa.ChunkedArray) else chunk
        words = chunk.dictionary
        kept = [w for w in words.to_pylist() if not self.traces.in_text(str(w))]
        values = pa.array(kept, words.type)
        codes = pc.index_in(chunk.dictionary_decode(), value_set=values).cast(chunk.indices.type)
        return pa.chunked_array([pa.DictionaryArray.from_arrays(codes, values, ordered=chunk.type.ordered)])


def _filtered(column: pa.ChunkedArray, kept: pa.Array, where: str) -> pa.ChunkedArray | pa.Array:
    if not kept.false_count:
        return column
    try:
        return column.filter(kept).combine_chunks()
    except pa.ArrowNotImplementedError as error:
        raise MetadataError(
            where,
            expected="a type whose rows can be taken out",
            got=str(column.type),
            hint="Change the column's type, or remove the column first.",
        ) from error
