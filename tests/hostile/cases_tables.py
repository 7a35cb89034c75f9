"""Hostile tables: columns, types, rows and whole Parquet files of the volumes' table and of the subjects'."""

# ruff: noqa: E501 (a table is read by its columns)
from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from radiobject.format.schema import OBJECTS
from tests.hostile.crafting import Case, column, edit_rows, part_of, replace_part, write_part

__all__ = ["CASES"]

AWAY = ("../../outside/secret", "/etc", "file:///etc/passwd", "s3://bucket/key", "..", "a\\b", "a\0b", "")
DEEP = "[" * 100_000 + "]" * 100_000


def bytes_of(change: Callable[[bytes], bytes], **stated: Any) -> Callable[[Path], None]:
    """A craft that changes the bytes of the images' part; the hashes are made to fit."""

    def craft(place: Path) -> None:
        study = place / "study"
        _, part = part_of(study, "obs", "CT")
        replace_part(study, change((study / part["path"]).read_bytes()), **stated)

    return craft


def zeroed(data: bytes) -> bytes:
    """A sound footer behind pages of zeros."""
    footer = int.from_bytes(data[-8:-4], "little") + 8
    return b"PAR1" + bytes(len(data) - footer - 4) + data[-footer:]


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def craft(place: Path) -> None:
        _, part = part_of(place / "study", "obs", "CT")
        path = place / "study" / part["path"]
        path.unlink()
        make(path)

    return craft


def objects(**said: Any) -> Callable[[Path], None]:
    """A craft that lies about the objects of each image."""
    return edit_rows(lambda row: [stored.update(said) for stored in row["_objects"]])


def retyped(name: str, kind: pa.DataType) -> Callable[[Path], None]:
    return column(name, lambda old: pa.nulls(len(old), kind))


def bomb(rows: int, name: str = "sidecar", **options: Any) -> Callable[[Path], None]:
    """Rows that cost nothing in the file: nulls, or the same text again and again."""

    def change(table: pa.Table) -> pa.Table:
        many = table.take(pa.array(np.zeros(rows, "i8")))
        return many.append_column("more", pa.nulls(rows, pa.string())) if name == "nulls" else many

    return write_part(change, row_group_size=rows, **options)


def texts(length: int, rows: int) -> Callable[[Path], None]:
    """A text of `length` in each of `rows`, once in the file by its dictionary."""

    def change(table: pa.Table) -> pa.Table:
        value = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, "i4")), pa.array(["a" * length]))
        return pa.table({"obs_subject_id": [f"sub-{n}" for n in range(rows)], "note": value})

    # without the Arrow schema the reader knows of no categories, and makes each text anew
    return write_part(change, "obs_meta", None, use_dictionary=["note"], store_schema=False)


def nested(depth: int) -> Callable[[Path], None]:
    """A column of lists in lists in lists."""

    def change(table: pa.Table) -> pa.Table:
        kind: pa.DataType = pa.int8()
        for _ in range(depth):
            kind = pa.list_(kind)
        return table.append_column("nested", pa.nulls(table.num_rows, kind))

    return write_part(change)


def schema_lies(place: Path) -> None:
    """The Arrow schema in the footer says other types than the Parquet columns have."""
    study = place / "study"
    _, part = part_of(study, "obs", "CT")
    rows = pq.read_table(study / part["path"], partitioning=None)
    other = rows.set_column(0, "obs_subject_id", pa.array([1.5] * rows.num_rows))
    sink, lie = io.BytesIO(), io.BytesIO()
    pq.write_table(rows, sink)
    pq.write_table(other, lie)
    # the footer of one file behind the pages of the other
    length = int.from_bytes(lie.getvalue()[-8:-4], "little") + 8
    data = sink.getvalue()
    own = int.from_bytes(data[-8:-4], "little") + 8
    replace_part(study, data[:-own] + lie.getvalue()[-length:])


def pickled(table: pa.Table) -> pa.Table:
    """A column that says, in its metadata, that it is a Python object to be unpickled."""
    metadata = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": b"cos\nsystem\n(S'touch /tmp/owned'\ntR.",
    }
    field = pa.field("evil", pa.binary(), metadata=metadata)
    return table.append_column(field, pa.array([b""] * table.num_rows))


def cases() -> list[Case]:
    """Each with the door that must refuse it."""
    found = []
    for number, path in enumerate(AWAY):
        found += [
            Case(f"row-path-{number}", edit_rows(lambda row, p=path: row.update(_path=p)), "read"),
            Case(f"row-object-path-{number}", objects(path=path), "validate"),
            Case(f"row-subject-path-{number}", edit_rows(lambda row, p=path: row.update(obs_subject_id=p)), "validate"),
        ]  # fmt: skip
        found.append(
            Case(
                f"row-index-path-{number}",
                column("_foreground", lambda old, p=path: [dict(o, path=p) for o in old], collection="seg"),
                "foreground",
            )
        )
    wrong = {
        "path-null": {"_path": None}, "path-of-another-study": {"_path": "collections/CT/nobody/0.ome.zarr"},
        "path-of-the-tables": {"_path": "tables/CT/obs"}, "path-long": {"_path": "a/" * 50_000 + "b"},
        "hint-deep": {"_hint": '{"0":' + DEEP + "}"}, "hint-list": {"_hint": "[]"}, "hint-text": {"_hint": "nonsense"},
        "hint-number": {"_hint": "7"}, "hint-empty-object": {"_hint": "{}"}, "hint-of-nothing": {"_hint": '{"0":null}'},
        "hint-digits": {"_hint": "9" * 100_000}, "volume-deep": {"_volume": '{"a":' + DEEP + "}"},
        "volume-text": {"_volume": "nonsense"}, "volume-list": {"_volume": "[1]"}, "volume-null": {"_volume": "null"},
        "volume-empty": {"_volume": "{}"}, "volume-digits": {"_volume": "9" * 100_000},
        "affine-nan": {"affine": [float("nan")] * 16}, "affine-inf": {"affine": [float("inf")] * 16},
        "affine-zero": {"affine": [0.0] * 16}, "affine-huge": {"affine": [1e308] * 15 + [1.0]},
    }  # fmt: skip
    for name, said in wrong.items():
        door = "header" if name.startswith("affine") else "read"
        found.append(Case(f"row-{name}", edit_rows(lambda row, said=said: row.update(said)), door))
    stated = {
        "missing": {"path": "0/c/9/9/9"}, "bytes-huge": {"bytes": 2**62}, "bytes-negative": {"bytes": -1},
        "bytes-null": {"bytes": None}, "crc-null": {"crc32c": None}, "path-null": {"path": None},
        "crc-lie": {"crc32c": 1}, "path-deep": {"path": "a/" * 5000 + "b"},
    }  # fmt: skip
    found += [Case(f"row-object-{name}", objects(**said), "validate") for name, said in stated.items()]
    found.append(Case("row-objects-none", column("_objects", lambda old: [[] for _ in old]), None))
    found.append(
        Case(
            "row-objects-a-million",
            column("_objects", lambda old: [old[0] * 100_000, *old[1:]]),
            None,
            ("read",),
        )
    )
    kinds = {
        "path-number": ("_path", pa.int64()), "path-list": ("_path", pa.list_(pa.string())),
        "path-bytes": ("_path", pa.binary()), "volume-struct": ("_volume", pa.struct([("a", pa.int8())])),
        "hint-bytes": ("_hint", pa.binary()), "objects-text": ("_objects", pa.string()),
        "objects-list-of-text": ("_objects", pa.list_(pa.string())), "affine-text": ("affine", pa.string()),
        "affine-short": ("affine", pa.list_(pa.float64(), 3)), "id-number": ("obs_id", pa.int64()),
        "subject-date": ("obs_subject_id", pa.date32()), "dim-text": ("dim_x", pa.string()),
        "id-bytes": ("obs_id", pa.binary()), "intensity-text": ("intensity_max", pa.string()),
    }  # fmt: skip
    found += [Case(f"column-{name}", retyped(*of), "obs") for name, of in kinds.items()]
    for name in ("obs_id", "obs_subject_id", "_path", "_hint", "_volume", "_objects"):
        found += [
            Case(f"column-without-{name}", write_part(lambda t, n=name: t.drop_columns([n])), "obs"),
            Case(f"column-nulls-{name}", retyped(name, OBJECTS if name == "_objects" else pa.string()),
                 "write" if name == "_objects" else "read"),
        ]  # fmt: skip
    found += [
        Case("row-id-twice", column("obs_id", ["sub-01_CT"] * 2), "validate", ("open", "obs", "validate")),
        Case("column-twice", write_part(lambda t: t.append_column("_path", t["_path"])), "obs"),
        Case("column-pickled", write_part(pickled), None),
        Case("columns-ten-thousand", write_part(lambda t: pa.Table.from_arrays(
            [*t.columns, *[pa.nulls(2)] * 5000], [*t.column_names, *(f"c{n}" for n in range(5000))])), None, ("read",)),
        Case("columns-nested", nested(1000), "obs"),
        Case("rows-nulls", bomb(1_000_000, "nulls"), "obs"),
        Case("rows-none", write_part(lambda t: t.slice(0, 0)), None, ("open", "obs", "validate")),
        Case("rows-in-the-footer", bytes_of(lambda d: d, rows=2**40), "open"),
        Case("texts-of-a-gigabyte", texts(2**20, 1000), "subjects"),
        Case("texts-in-the-subjects", column("obs_subject_id", ["x", "y"], table="obs_meta", collection=None), "validate"),
        Case("subjects-twice", column("obs_subject_id", ["sub-01"] * 2, table="obs_meta", collection=None), "validate"),
        Case("subjects-null", column("obs_subject_id", pa.array([None, "a"]), table="obs_meta", collection=None), "subjects"),
        Case("subjects-number", column("obs_subject_id", pa.array([1, 2]), table="obs_meta", collection=None), "subjects"),
        Case("thumbnails-text", column("jpeg", pa.array(["a", "b"]), table="thumbnails"), "pages"),
        Case("ledger-without-id", write_part(lambda t: t.drop_columns(["obs_id"]), "ledger", None), "ledger"),
        Case("file-empty", bytes_of(lambda d: b"PAR1" * 3), "obs"), Case("file-noise", bytes_of(lambda d: os.urandom(2000)), "obs"),
        Case("file-is-csv", bytes_of(lambda d: b"obs_id,_path\n" * 10), "obs"),
        Case("file-footer-only", bytes_of(lambda d: d[-(int.from_bytes(d[-8:-4], "little") + 8):]), "obs"),
        Case("file-footer-length", bytes_of(lambda d: d[:-8] + b"\xff\xff\xff\x7fPAR1"), "obs"),
        Case("file-pages-zeroed", bytes_of(zeroed), "obs"),
        Case("file-schema-lies", schema_lies, "obs"),
        Case("file-fifo", instead(os.mkfifo), "obs"), Case("file-folder", instead(os.mkdir), "obs"),
        Case("file-device", instead(lambda path: path.symlink_to("/dev/zero")), "obs"),
        Case("file-link-outside", instead(lambda path: path.symlink_to("../../../../../outside/secret")), "obs"),
        Case("file-gone", instead(lambda path: None), "obs"),
    ]  # fmt: skip
    return found


CASES = cases()
