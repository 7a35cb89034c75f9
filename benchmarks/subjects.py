"""A study of many subjects around one real volume: tables as ingest writes them, and no voxels but those."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from radiobject import RadiObject
from radiobject.format.changes import CollectionEdit, Edit
from radiobject.format.schema import OBS_SCHEMA
from radiobject.format.transaction import Transaction
from radiobject.writing.frames import to_arrow

__all__ = ["subject_name", "tiny", "write_subjects"]


def subject_name(number: int) -> str:
    """Id of a subject."""
    return f"sub-{number:06d}"


def tiny() -> tuple[Any, Any]:
    """A scan to append: 8-cube of int16, and its affine."""
    return np.arange(512, dtype="i2").reshape(8, 8, 8), np.eye(4)


class _Unverified(Transaction):
    """A transaction whose rows may name objects that are not there: a table is all that is asked of them."""

    def _verify(self, edits: Sequence[Edit], parts: Sequence[tuple[str, int]]) -> None:
        """Look for nothing."""


def write_subjects(
    uri: str | Path,
    n: int,
    names: tuple[str, ...],
    scan: Any = None,
    *,
    objects: bool = False,
    stored: bool = True,
    pictures: int = 0,
) -> RadiObject:
    """A study of `n` subjects with one volume each in every collection of `names`, committed in one version.

    All volumes are the same, `scan` (an array and its affine) or a tiny one.

    `obs_meta` has age, weight, dx, site; rows of `obs` are that of one ingested volume, which they all point
    to, with an obs_id, mean and histogram of their own. The first subject is sub-000000.

    `objects` gives each row a folder of its own in `_path`, with the objects that it holds in `_objects` and
    `_foreground`, and the ledger a line for each volume. `stored` makes these objects too, as links to those
    of the one volume; without it only tables stand. `pictures` is the bytes of the thumbnails that the first
    collection gets: noise, because a JPEG cannot be compressed either.
    """
    source = tiny() if scan is None else scan
    radi = RadiObject.from_images(uri, {name: [(source, subject_name(0))] for name in names}, progress=False)
    rng = np.random.default_rng(0)
    ids = [subject_name(i) for i in range(n)]
    people = pd.DataFrame(
        {
            "obs_subject_id": ids,
            "age": rng.integers(18, 90, n),
            "weight": rng.normal(75, 12, n),
            "dx": rng.choice(["AD", "control", "MCI"], n),
            "site": [f"site-{i * 40 // n:02d}" for i in range(n)],  # one site after another
        }
    )
    edit = Edit(subjects=to_arrow(people, "obs_meta", "obs_subject_id"), update_subjects=True)
    lines = []
    for name in names:
        one = radi._study.obs(name).read()
        rest = one.take(pa.array(np.zeros(n - 1, np.int64)))
        counts = rng.integers(0, 4000, (n - 1) * 256)
        fresh = {
            "obs_subject_id": pa.array(ids[1:]),
            "obs_id": pa.array([f"{i}_{name}" for i in ids[1:]]),
            "source_digest": pa.array([rng.bytes(32).hex() for _ in ids[1:]]),
            "intensity_mean": pa.array(rng.random(n - 1)),
            "intensity_histogram": pa.ListArray.from_arrays(
                pa.array(np.arange(n) * 256, pa.int32()), pa.array(counts)
            ),
            # verification would look for the one volume's objects once for each row
            "_objects": pa.ListArray.from_arrays(
                pa.array(np.zeros(n, np.int32)), one["_objects"].combine_chunks().values[:0]
            ),
        }
        if objects:
            fresh |= _with_objects(Path(uri), name, one.to_pylist()[0], ids[1:], rng, stored=stored)
        rest = _with(rest, fresh)
        entry = radi._study.entry(name)
        change = CollectionEdit(kind=entry.kind, backend=entry.backend, added={"obs": rest})
        if pictures and name == names[0]:
            line = radi._study.snapshot.table("thumbnails", name).read()
            jpegs = pa.array([rng.bytes(pictures) for _ in ids[1:]])
            keys = {key: fresh[key] for key in ("obs_subject_id", "obs_id")}
            change.added["thumbnails"] = _with(
                line.take(pa.array(np.zeros(n - 1, np.int64))), {**keys, "jpeg": jpegs}
            )
        edit.collections[name] = change
        if objects:
            line = radi._study.snapshot.table("ledger").read().slice(0, 1)
            told = {key: fresh[key] for key in ("obs_subject_id", "obs_id", "source_digest")}
            told |= {"collection": pa.array([name] * (n - 1)), "seconds": pa.array(rng.random(n - 1))}
            lines.append(_with(line.take(pa.array(np.zeros(n - 1, np.int64))), told))
    edit.ledger = pa.concat_tables(lines) if lines else None
    snapshot = radi._study.snapshot
    chosen = Transaction if stored else _Unverified
    chosen(snapshot.storage, snapshot, "append").commit(edit)
    return RadiObject(uri)


def _with(rows: pa.Table, fresh: dict[str, pa.Array]) -> pa.Table:
    """The rows with some of their columns exchanged."""
    for column, values in fresh.items():
        at = rows.schema.get_field_index(column)
        rows = rows.set_column(at, rows.schema.field(at), values.cast(rows.schema.field(at).type))
    return rows


def _with_objects(
    place: Path,
    name: str,
    one: dict[str, Any],
    subjects: list[str],
    rng: np.random.Generator,
    *,
    stored: bool,
) -> dict[str, pa.Array]:
    """A folder for each subject's volume, what it holds, and its foreground index, with checksums of its own.

    Those of metadata documents are true, so that `validate("standard")` finds nothing; it reads no voxels.
    """
    paths, held, indexes = [], [], []
    for subject in subjects:
        attempt = rng.bytes(8).hex()
        folder = f"collections/{name}/{subject}_{name}"
        paths.append(f"{folder}/{attempt}.ome.zarr")
        held.append([o if o["path"].endswith(".json") else o | _sums(rng) for o in one["_objects"]])
        index = one["_foreground"]
        indexes.append(
            None if index is None else index | _sums(rng) | {"path": f"indexes/{name}/{attempt}.fg"}
        )
        if stored:
            for entry in one["_objects"]:
                _link(place, f"{one['_path']}/{entry['path']}", f"{paths[-1]}/{entry['path']}")
            _link(place, f"{one['_path'].rpartition('/')[0]}/zarr.json", f"{folder}/zarr.json")
            if index is not None:
                _link(place, index["path"], indexes[-1]["path"])
    return {
        "_path": pa.array(paths),
        "_objects": pa.array(held, OBS_SCHEMA.field("_objects").type),
        "_foreground": pa.array(indexes, OBS_SCHEMA.field("_foreground").type),
    }


def _sums(rng: np.random.Generator) -> dict[str, Any]:
    return {"crc32c": int(rng.integers(2**32)), "digest": rng.bytes(16)}


def _link(place: Path, old: str, new: str) -> None:
    """One more name for an object, or a copy of it where it has all the names that the disk allows."""
    target = place / new
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(place / old, target)
    except OSError:
        shutil.copyfile(place / old, target)
