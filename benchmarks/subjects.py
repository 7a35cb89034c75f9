"""A study of many subjects around one real volume: tables as ingest writes them, and no voxels but those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from radiobject import RadiObject
from radiobject.format.changes import CollectionEdit, Edit
from radiobject.format.transaction import Transaction
from radiobject.writing.frames import to_arrow

__all__ = ["subject_name", "tiny", "write_subjects"]


def subject_name(number: int) -> str:
    """Id of a subject."""
    return f"sub-{number:06d}"


def tiny() -> tuple[Any, Any]:
    """A scan to append: 8-cube of int16, and its affine."""
    return np.arange(512, dtype="i2").reshape(8, 8, 8), np.eye(4)


def write_subjects(uri: str | Path, n: int, names: tuple[str, ...], scan: Any = None) -> RadiObject:
    """A study of `n` subjects with one volume each in every collection of `names`, committed in one version.

    All volumes are the same, `scan` (an array and its affine) or a tiny one.

    `obs_meta` has age, weight, dx, site; rows of `obs` are that of one ingested volume, which they all point
    to, with an obs_id, mean and histogram of their own. The first subject is sub-000000.
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
    for name in names:
        table = radi._study.obs(name)
        one = table.read()
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
        for column, values in fresh.items():
            at = rest.schema.get_field_index(column)
            rest = rest.set_column(at, rest.schema.field(at), values)
        entry = radi._study.entry(name)
        edit.collections[name] = CollectionEdit(kind=entry.kind, backend=entry.backend, added={"obs": rest})
    snapshot = radi._study.snapshot
    Transaction(snapshot.storage, snapshot, "append").commit(edit)
    return RadiObject(uri)
