"""A study in a few numbers, read from its tables alone: what `info` and `ingest` print."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from radiobject.cli.output import human, table
from radiobject.model.partners import sides

if TYPE_CHECKING:
    from rich.console import Group

    from radiobject import RadiObject, VolumeCollection

__all__ = ["collection_table", "summary"]

_COLUMNS = ["dim_x", "dim_y", "dim_z", "dim_t", "dim_c", "spacing_x", "spacing_y", "spacing_z", "dtype",
            "axcodes", "_objects", "_volume"]  # fmt: skip


def summary(radi: RadiObject) -> dict[str, Any]:
    """The study as JSON can hold it; sizes in bytes, spacing in mm, shapes x, y, z[, t][, c] with counts."""
    return {
        "uri": radi.uri,
        "version": radi.version,
        "subjects": len(radi),
        "collections": [_collection(radi.collection(name)) for name in radi.collection_names],
    }


def _collection(found: VolumeCollection) -> dict[str, Any]:
    obs = found.obs.to_arrow(_COLUMNS)
    rows = obs.to_pylist()
    shapes = [[r[c] for c in _COLUMNS[:5] if r[c] is not None] for r in rows]
    return {
        "name": found.name,
        "kind": found.kind,
        "backend": found.backend,
        "volumes": len(found),
        "shapes": _counted("x".join(map(str, s)) for s in shapes),
        "spacings": _counted(
            "x".join(f"{r[c] * side:.4g}" for c in _COLUMNS[5:8])
            for r, side in zip(rows, sides(obs).tolist(), strict=True)
        ),
        "dtypes": _counted(r["dtype"] for r in rows),
        "axcodes": _counted(r["axcodes"] for r in rows),
        "stored_bytes": sum(o["bytes"] for r in rows for o in r["_objects"]),
        "voxel_bytes": sum(
            math.prod(s) * np.dtype(r["dtype"]).itemsize for s, r in zip(shapes, rows, strict=True)
        ),
    }


def _counted(values: Any) -> dict[str, int]:
    """How often each value occurs, the most frequent first."""
    return dict(Counter(values).most_common())


def collection_table(collections: Sequence[Mapping[str, Any]]) -> Group:
    """One line a collection."""
    rows = [
        [
            c["name"],
            c["kind"],
            str(c["volumes"]),
            _brief(c["shapes"]),
            _brief(c["dtypes"]),
            _brief(c["spacings"]),
            _brief(c["axcodes"]),
            human(c["stored_bytes"]),
            _of_raw(c),
        ]
        for c in collections
    ]
    columns = ["collection", "kind", "volumes", "voxels", "dtype", "spacing mm", "axes", "on disk", "of raw"]
    return table("Collections", columns, rows, right=("volumes", "on disk", "of raw"))


def _of_raw(collection: Mapping[str, Any]) -> str:
    """What is stored as a part of what the voxels take; of voxels that stay in their files nothing is."""
    if collection["backend"] == "files":
        return "in files"
    raw = collection["voxel_bytes"]
    return f"{collection['stored_bytes'] / raw:.0%}" if raw else ""


def _brief(counts: Mapping[str, int]) -> str:
    """All of a few values; of many the most frequent."""
    names = list(counts)
    return ", ".join(names) if len(names) <= 2 else f"{names[0]} and {len(names) - 1} more"
