"""A small good study, and the ways to change one thing of it so that only the content is hostile.

What seals a change is made right again: a commit's own hash, the hashes of a part of a table, checksums of
an object in its row. A case then meets the guard that it is about, not the one that finds damaged bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from radiobject import RadiObject, TileConfig, WriteConfig
from radiobject.format.commit import canonical

__all__ = [
    "AFFINE",
    "Case",
    "array",
    "column",
    "commit_bytes",
    "edit",
    "edit_attributes",
    "edit_commit",
    "edit_json",
    "edit_rows",
    "good_study",
    "object_of",
    "replace_part",
    "sealed",
    "voxels_of",
    "write_commit",
    "write_part",
]

AFFINE = np.array([[2.0, 0, 0, -10], [0, 2, 0, 4], [0, 0, 3, 1], [0, 0, 0, 1]])
SHAPE = (20, 18, 16)
SUBJECTS = ("sub-01", "sub-02")
COMMIT = "versions/000000000001.json"


@dataclass(frozen=True)
class Case:
    """One hostile study or file: how it is made, and which door must refuse it.

    `craft` changes the folder `place` that has a good study in `study`. Each of `doors` is tried, and may
    do nothing but its work or raise one of our errors. `refuses` is the door that must raise.
    `None`: nobody has to notice, because nothing of what is hostile is used; voxels are then the true ones.
    """

    name: str
    craft: Callable[[Path], object]
    refuses: str | None = "read"
    doors: tuple[str, ...] | None = None
    backend: str = "zarr"


def voxels_of(obs_id: str) -> npt.NDArray[Any]:
    """What the good study holds under an id."""
    x, y, z = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    number = int(obs_id[4:6])
    if obs_id.endswith("seg"):
        return ((x + y + z) % 3 * (x < 9)).astype("u1")
    return (x * 7 + y * 5 + z * 3 + number).astype("i2")


def good_study(place: Path, backend: str) -> None:
    """Two subjects with an image and a label volume each, with an index of the latter."""
    images = {
        name: [((voxels_of(f"{subject}_{name}"), AFFINE), subject) for subject in SUBJECTS]
        for name in ("CT", "seg")
    }
    write = WriteConfig(tile=TileConfig(chunks=(16, 16, 16)))
    RadiObject.from_niftis(
        place,
        images,
        obs_meta={"obs_subject_id": list(SUBJECTS), "age": [41, 57]},
        labels={"seg": {1: "liver", 2: "spleen"}},
        backend=backend,
        write=write,
        progress=False,
    )


def sealed(body: bytes) -> bytes:
    """JSON bytes that end in the SHA-256 of themselves, whatever they say."""
    digest = hashlib.sha256(body).hexdigest()
    return body[:-1] + b',"self_sha256":"' + digest.encode() + b'"}'


def commit_bytes(study: Path) -> dict[str, Any]:
    """What the only commit says."""
    document: dict[str, Any] = json.loads((study / COMMIT).read_bytes())
    del document["self_sha256"]
    return document


def write_commit(study: Path, body: bytes, version: int = 1) -> None:
    """Put a sealed commit in the place of a version, and a hint that names it."""
    data = sealed(body)
    (study / f"versions/{version:012d}.json").write_bytes(data)
    hint = {"latest": version, "oldest": 1, "sha256": hashlib.sha256(body).hexdigest()}
    (study / "hint.json").write_bytes(sealed(canonical(hint)))


def edit_commit(**changes: Any) -> Callable[[Path], None]:
    """A craft that sets keys of the commit: `a__0__b=value` is ["a"][0]["b"]; a value may be a function."""

    def craft(place: Path) -> None:
        document = commit_bytes(place / "study")
        for path, value in changes.items():
            edit(document, path, value)
        # as json.dumps has it, not canonical: NaN is one of the things that strangers write
        write_commit(place / "study", json.dumps(document, sort_keys=True, separators=(",", ":")).encode())

    return craft


def edit(document: Any, path: str, value: Any) -> None:
    """Set one value deep in JSON; a function is called with the old one, `...` takes the key out."""
    *above, last = [int(key) if key.isdigit() else key for key in path.split("__")]
    for key in above:
        document = document[key]
    if value is ...:
        del document[last]
    else:
        document[last] = value(document[last]) if callable(value) else value


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Replace a JSON file by what `change` makes of it; None is what it changed in place."""
    document = json.loads(path.read_bytes())
    made = change(document)
    path.write_bytes(json.dumps(document if made is None else made).encode())


def part_of(study: Path, table: str, collection: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The commit, and in it the first part of a table."""
    document = commit_bytes(study)
    tables = document["tables"]
    if collection is not None:
        tables = next(c for c in document["collections"] if c["name"] == collection)["tables"]
    return document, tables[table][0]


def replace_part(
    study: Path, data: bytes, table: str = "obs", collection: str | None = "CT", **stated: Any
) -> None:
    """Other bytes as the first part of a table, with hashes that fit; `stated` are lies in the commit."""
    document, part = part_of(study, table, collection)
    footer = min(int.from_bytes(data[-8:-4], "little") + 8, len(data))
    part.update(
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        footer_bytes=footer,
        footer_sha256=hashlib.sha256(data[-footer:]).hexdigest(),
    )
    part.update(stated)
    (study / part["path"]).write_bytes(data)
    write_commit(study, canonical(document))


def write_part(
    change: Callable[[pa.Table], pa.Table],
    table: str = "obs",
    collection: str | None = "CT",
    *,
    stated: Mapping[str, Any] | None = None,
    **options: Any,
) -> Callable[[Path], None]:
    """A craft that rewrites a part of a table, by `pq.write_table` with `options`."""

    def craft(place: Path) -> None:
        study = place / "study"
        _, part = part_of(study, table, collection)
        rows = change(pq.read_table(study / part["path"], partitioning=None))
        # no writer lets nulls into a column that must not have any, unless it was told otherwise
        free = pa.schema([field.with_nullable(True) for field in rows.schema])
        rows = pa.Table.from_arrays(rows.columns, schema=free)
        sink = io.BytesIO()
        pq.write_table(rows, sink, **({"compression": "zstd", "write_page_checksum": True} | options))
        replace_part(study, sink.getvalue(), table, collection, **{"rows": rows.num_rows, **(stated or {})})

    return craft


def column(name: str, values: Any, **more: Any) -> Callable[[Path], None]:
    """A craft that replaces a column of a table; a list, an Arrow array, or a function of the old values."""

    def change(rows: pa.Table) -> pa.Table:
        at = rows.schema.get_field_index(name)
        made = values(rows[name].to_pylist()) if callable(values) else values
        made = made if isinstance(made, pa.Array) else pa.array(made, rows.schema.field(name).type)
        return rows.set_column(at, name, made) if at >= 0 else rows.append_column(name, made)

    return write_part(change, **more)


def edit_rows(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """A craft that changes the rows of the images as dicts, in place."""

    def rows(table: pa.Table) -> pa.Table:
        several = table.to_pylist()
        for row in several:
            change(row)
        return pa.Table.from_pylist(several, table.schema)

    return write_part(rows)


def volume_folder(study: Path, collection: str = "CT", subject: str = "sub-01") -> Path:
    """Where the volume of a subject lies."""
    (found,) = (study / "collections" / collection / f"{subject}_{collection}").glob("*.*/")
    return found


def object_of(place: Path, key: str, data: bytes, collection: str = "CT", subject: str = "sub-01") -> None:
    """Other bytes as one object of a volume, with size and checksums in its row that fit."""
    study = place / "study"
    path = volume_folder(study, collection, subject) / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    stated = {
        "path": key,
        "bytes": len(data),
        "crc32c": google_crc32c.value(data),
        "digest": hashlib.sha256(data).digest()[:16],
    }

    def rows(table: pa.Table) -> pa.Table:
        several = table.to_pylist()
        for row in several:
            if row["obs_id"] == f"{subject}_{collection}":
                kept = [o for o in row["_objects"] if o["path"] != key]
                row["_objects"] = [*kept, stated]
        return pa.Table.from_pylist(several, table.schema)

    write_part(rows, collection=collection)(place)


def array(change: Callable[[dict[str, Any]], object], *, hint: bool = True) -> Callable[[Path], None]:
    """A craft that changes the metadata of the level 0 of an image wherever it stands."""

    def craft(place: Path) -> None:
        folder = volume_folder(place / "study")
        level = json.loads((folder / "0/zarr.json").read_bytes())
        change(level)
        group = json.loads((folder / "zarr.json").read_bytes())
        group["consolidated_metadata"]["metadata"]["0"] = level
        object_of(place, "0/zarr.json", json.dumps(level).encode())
        object_of(place, "zarr.json", json.dumps(group).encode())
        if hint:
            edit_rows(lambda row: row.update(_hint=_hinted(row["_hint"], change)))(place)

    return craft


def _hinted(hint: str, change: Callable[[dict[str, Any]], object]) -> str:
    members = json.loads(hint)
    change(members["0"])
    return json.dumps(members)


def edit_attributes(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """A craft that changes the attributes of the group of the first image, as a reader by URL meets them."""

    def craft(place: Path) -> None:
        group = json.loads((volume_folder(place / "study") / "zarr.json").read_bytes())
        change(group["attributes"])
        object_of(place, "zarr.json", json.dumps(group).encode())

    return craft
