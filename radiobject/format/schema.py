"""Arrow schemas of the tables that every study has. `schemas/tables.json` is their published form."""

from __future__ import annotations

import pyarrow as pa

from radiobject.errors import FormatError

__all__ = [
    "DERIVED_SCHEMA",
    "KEYS",
    "LEDGER_SCHEMA",
    "OBJECT",
    "OBJECTS",
    "OBS_SCHEMA",
    "SUBJECT_SCHEMA",
    "THUMBNAIL_SCHEMA",
    "check_columns",
    "check_values",
    "fixed_columns",
]

OBJECT = pa.struct(
    [("path", pa.string()), ("bytes", pa.int64()), ("crc32c", pa.uint32()), ("digest", pa.binary(16))]
)

OBJECTS = pa.list_(OBJECT)

SUBJECT_SCHEMA = pa.schema([pa.field("obs_subject_id", pa.string(), nullable=False)])

OBS_SCHEMA = pa.schema(
    [
        pa.field("obs_subject_id", pa.string(), nullable=False),
        pa.field("obs_id", pa.string(), nullable=False),
        ("session", pa.string()),
        ("run", pa.int64()),
        ("acquisition_time", pa.timestamp("us")),
        ("dim_x", pa.int32()),
        ("dim_y", pa.int32()),
        ("dim_z", pa.int32()),
        ("dim_t", pa.int32()),
        ("dim_c", pa.int32()),
        ("spacing_x", pa.float64()),
        ("spacing_y", pa.float64()),
        ("spacing_z", pa.float64()),
        ("time_step", pa.float64()),
        ("dtype", pa.string()),
        ("axcodes", pa.string()),
        ("affine", pa.list_(pa.float64(), 16)),
        ("source_format", pa.string()),
        ("source_digest", pa.string()),
        ("intensity_min", pa.float64()),
        ("intensity_max", pa.float64()),
        ("intensity_mean", pa.float64()),
        ("intensity_std", pa.float64()),
        ("intensity_p0_5", pa.float64()),
        ("intensity_p1", pa.float64()),
        ("intensity_p50", pa.float64()),
        ("intensity_p99", pa.float64()),
        ("intensity_p99_5", pa.float64()),
        ("intensity_histogram", pa.list_(pa.int64())),
        ("n_nonfinite", pa.int64()),
        ("nonzero_box", pa.list_(pa.int32())),
        pa.field("_path", pa.string(), nullable=False),
        pa.field("_hint", pa.string(), nullable=False),
        pa.field("_volume", pa.string(), nullable=False),
        pa.field("_objects", OBJECTS, nullable=False),
        ("_foreground", OBJECT),
    ]
)
"""Volume table. Columns that begin with `_` belong to the engine and are hidden from `read()`."""

DERIVED_SCHEMA = pa.schema(
    [
        ("parent_obs_id", pa.string()),
        ("parent_version", pa.int64()),
        ("parent_function", pa.string()),
        ("_parent", pa.string()),
    ]
)
"""What the volume table of a derived collection has besides: the parent's id, the version it was read at,
what made this volume of it, and the parent's path, which tells whether the parent was replaced since."""

THUMBNAIL_SCHEMA = pa.schema(
    [
        pa.field("obs_subject_id", pa.string(), nullable=False),
        pa.field("obs_id", pa.string(), nullable=False),
        pa.field("jpeg", pa.binary(), nullable=False),
    ]
)

LEDGER_SCHEMA = pa.schema(
    [
        pa.field("obs_subject_id", pa.string(), nullable=False),
        pa.field("obs_id", pa.string(), nullable=False),
        pa.field("collection", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        ("source_digest", pa.string()),
        ("error", pa.string()),
        ("message", pa.string()),
        ("seconds", pa.float64()),
    ]
)
"""What became of every source ever offered: "ingested", "resumed" or "failed"."""

KEYS = {
    "obs_meta": "obs_subject_id",
    "obs": "obs_id",
    "thumbnails": "obs_id",
    "attachments": "obs_id",
    "ledger": "obs_id",
}
"""The key column of each table."""


_PUBLISHED = {
    "obs_meta": SUBJECT_SCHEMA,
    "obs": pa.schema([*OBS_SCHEMA, *DERIVED_SCHEMA]),
    "thumbnails": THUMBNAIL_SCHEMA,
    "ledger": LEDGER_SCHEMA,
}


def fixed_columns(table: str, known: pa.Schema) -> pa.Schema:
    """Those of a table's known columns whose types the format says; a user's may differ between parts."""
    published = _PUBLISHED.get(table.rsplit("/", 1)[-1], known)
    return pa.schema([field for field in published if field.name in known.names])


def check_columns(found: pa.Schema, wanted: pa.Schema, where: str) -> None:
    """Refuse (`FormatError`) a part that lacks a column it must have, has one twice, or one of another type.

    A struct may lack fields that came later, and text may be categorical.
    """
    names = found.names
    if len(set(names)) != len(names):
        raise FormatError(where, expected="each column once", got=f"{len(names) - len(set(names))} twice")
    for field in wanted:
        if field.name in names:
            if not _alike(found.field(field.name).type, field.type):
                raise FormatError(
                    f"column {field.name} of {where}",
                    expected=str(field.type),
                    got=str(found.field(field.name).type)[:100],
                )
        elif not field.nullable:
            raise FormatError(where, expected=f"a column {field.name}", got="none")


def check_values(rows: pa.Table, wanted: pa.Schema) -> None:
    """Raise `ArrowInvalid` for text that is no UTF-8, offsets outside, and nulls where none may be."""
    rows.validate(full=True)
    for name in rows.column_names:
        place = wanted.get_field_index(name)
        if place >= 0 and not wanted.field(place).nullable and rows[name].null_count:
            raise pa.ArrowInvalid(f"nulls in column {name}")


def _alike(found: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_list(found) and pa.types.is_list(wanted):
        return _alike(found.value_type, wanted.value_type)
    if pa.types.is_struct(found) and pa.types.is_struct(wanted):
        known = {f.name: f.type for f in wanted}
        names = [f.name for f in found]
        return len(set(names)) == len(names) and all(
            f.name in known and _alike(f.type, known[f.name]) for f in found
        )
    return bool(found == wanted) or pa.types.is_null(found)
