"""Label statistics: what an image holds under each value of its label volume, read block by block."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from radiobject.errors import AlignmentError, SelectionError
from radiobject.executor import Executor, Progress, progress_bar, run
from radiobject.model.collection_view import CollectionView
from radiobject.model.dataframe import to_pandas
from radiobject.model.moments import Moments
from radiobject.model.partners import GRID_COLUMNS, PARTNER_COLUMNS, match, place, tolerance
from radiobject.model.volume import Volume

__all__ = ["blocks", "label_statistics"]

BLOCK_BYTES = 2**25
"""Most bytes of voxels, image and labels together, that one task holds, unless one chunk is more."""

_GRID = ("obs_id", "dim_t", "dim_c", *GRID_COLUMNS)

Tile = tuple[int, int, int]


def label_statistics(
    images: CollectionView,
    labels: Any,
    *,
    background: bool,
    on: Sequence[str] | None,
    missing: Literal["error", "drop"],
    executor: Executor,
    workers: int | None,
    progress: bool | Progress | None,
) -> pd.DataFrame:
    """One row for each volume of `images` and label in it; `VolumeCollection.stats_by` has the contract."""
    if not isinstance(labels, CollectionView):
        raise SelectionError(
            "stats_by(labels)", expected="a VolumeCollection of label volumes", got=type(labels).__name__
        )
    if labels.kind != "label":
        raise AlignmentError(
            f"stats_by({labels.name!r})",
            expected="a collection of label volumes",
            got=f"one of {labels.kind} volumes",
            hint=f"Ingest it with labels=[{labels.name!r}].",
        )
    pairs = _partners(images, labels, on, missing)
    volumes = (
        (images._study.volume(images.name, a), labels._study.volume(labels.name, b))
        for a, b in pairs.tolist()
    )
    task = functools.partial(_rows, background=background)
    found: dict[int, list[dict[str, Any]]] = {}
    with progress_bar("statistics by label", len(pairs), progress) as tell:
        for position, result in run(task, volumes, executor=executor, workers=workers):
            if isinstance(result, Exception):
                raise result
            found[position] = result
            tell(len(found), len(pairs))
    return _frame([row for position in sorted(found) for row in found[position]])


def _partners(
    images: CollectionView,
    labels: CollectionView,
    on: Sequence[str] | None,
    missing: Literal["error", "drop"],
) -> npt.NDArray[np.int64]:
    """Positions of each volume and its label volume (n, 2), checked to be of one grid each."""
    sides = (images, labels)
    wanted = list(dict.fromkeys((*PARTNER_COLUMNS, *(on or ()), "obs_subject_id", "obs_id")))
    rows = [side.obs.to_arrow([c for c in wanted if c in side.obs.columns]) for side in sides]
    names = (images.name, labels.name if labels.name != images.name else f"{labels.name} (labels)")
    pairs = match(rows[0], rows[1], names, on, missing)
    positions = [
        np.array([side._study.index(side.name).get_index(i) for i in pairs[name]], dtype=np.int64)
        for side, name in zip(sides, names, strict=True)
    ]
    grids = [side._study.obs(side.name).rows(at, _GRID) for side, at in zip(sides, positions, strict=True)]
    for side, grid in zip(sides, grids, strict=True):
        _refuse_more_axes(side.name, grid)
    _check_grids(*grids)
    return np.stack(positions, axis=1)


def _refuse_more_axes(name: str, rows: pa.Table) -> None:
    for axis in "tc":
        for obs_id, size in zip(rows["obs_id"].to_pylist(), rows[f"dim_{axis}"].to_pylist(), strict=True):
            if size is not None:
                raise SelectionError(
                    f"statistics by label of {obs_id!r} in {name!r}",
                    expected="a volume with the axes x, y, z",
                    got=f"one with {size} along {axis}",
                    hint="Make a collection of one time point or channel of each, vol.slicer[..., 0].",
                )


def _check_grids(images: pa.Table, labels: pa.Table) -> None:
    """Raise `AlignmentError` for the first pair of unequal shapes, or with corners too far apart."""
    shapes, places = zip(*map(place, (images, labels)), strict=True)
    apart = np.abs(places[0] - places[1]).max(axis=(1, 2), initial=0.0)
    differ = (shapes[0] != shapes[1]).any(axis=1)
    for n in np.flatnonzero(differ | ~(apart <= tolerance(images)))[:1].tolist():
        one, other = ("x".join(map(str, shape[n])) for shape in shapes)
        raise AlignmentError(
            f"{images['obs_id'][n].as_py()!r} and its labels {labels['obs_id'][n].as_py()!r}",
            expected="one grid",
            got=f"{one} and {other} voxels" if one != other else f"corners {apart[n]:.3g} mm apart",
            hint="Bring the labels to the image's grid, labels.resample(like=image), or turn them,"
            " labels.reorient(image.axcodes), and keep that as a collection.",
        )


def _rows(pair: tuple[Volume, Volume], background: bool) -> list[dict[str, Any]]:
    image, labels = pair
    found = _measured(image, labels, background=background)
    meta = labels.meta
    names = {label.value: label.name for label in meta.labels}
    ml = abs(float(np.linalg.det(meta.affine.matrix[:3, :3]))) * meta.side**3 / 1000
    rows = []
    for at, label in enumerate(found.labels.tolist()):
        n = int(found.n[at])
        rows.append(
            {
                "obs_id": image.obs_id,
                "obs_subject_id": image.obs_subject_id,
                "label": label,
                "name": names.get(label),
                "n_voxels": int(found.n_voxels[at]),
                "volume_ml": int(found.n_voxels[at]) * ml,
                "mean": float(found.mean[at]) if n else math.nan,
                "std": math.sqrt(found.m2[at] / n) if n else math.nan,
                "min": float(found.low[at]) if n else math.nan,
                "max": float(found.high[at]) if n else math.nan,
            }
        )
    return rows


def _measured(image: Volume, labels: Volume, *, background: bool) -> Moments:
    voxel = image.stored_dtype.itemsize + image.dtype.itemsize + labels.dtype.itemsize
    specs = (image._handle.spec, labels._handle.spec)
    tilings = [
        _common(*(s.shards for s in specs)),
        _common(*(s.chunks for s in specs)),
        specs[0].chunks[::-1],
    ]
    found = Moments.none(labels.dtype)
    x, y, z = image.shape
    for block in blocks((x, y, z), tilings, max(BLOCK_BYTES // voxel, 1)):
        values = labels[block]
        inside = tuple(slice(0, n) for n in values.shape) if background else _bounds(values != 0)
        if inside is None:
            continue  # nothing is labelled here: the image need not be read
        part = tuple(slice(b.start + i.start, b.start + i.stop) for b, i in zip(block, inside, strict=True))
        found |= Moments.of(image[part], values[inside], background=background)
    return found


def _common(a: Sequence[int], b: Sequence[int]) -> Tile:
    """The smallest tile, along x, y, z, of which the edges are edges of both, given along z, y, x."""
    z, y, x = (math.lcm(m, n) for m, n in zip(a, b, strict=True))
    return x, y, z


def blocks(shape: Tile, tilings: Sequence[Sequence[int]], most: int) -> Iterator[tuple[slice, slice, slice]]:
    """Boxes of at most `most` voxels, of an array x, y, z, that together cover it once.

    They are made of whole tiles of the first of `tilings` that has tiles as small as that, so that every tile
    is read by one box; where none has, of single tiles of the last.

    >>> [(x.stop, y.stop, z.stop) for x, y, z in blocks((4, 2, 3), [(4, 4, 4), (2, 2, 2)], 16)]
    [(4, 2, 2), (4, 2, 3)]
    """
    for tile in tilings:
        size = [min(t, n) for t, n in zip(tile, shape, strict=True)]
        if math.prod(size) <= most:
            break
    for axis in (0, 1, 2):  # x first: voxels lie along it on disk
        rest = math.prod(size) // size[axis]
        size[axis] = min(max(most // rest // size[axis], 1) * size[axis], shape[axis])
    for index in np.ndindex(*(math.ceil(n / s) for n, s in zip(shape, size, strict=True))):
        x, y, z = (slice(i * s, min((i + 1) * s, n)) for i, s, n in zip(index, size, shape, strict=True))
        yield x, y, z


def _bounds(wanted: npt.NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest box that holds every True, None when there is none."""
    spans = []
    for axis in range(wanted.ndim):
        at = np.flatnonzero(wanted.any(axis=tuple(a for a in range(wanted.ndim) if a != axis)))
        if not at.size:
            return None
        spans.append(slice(int(at[0]), int(at[-1]) + 1))
    return tuple(spans)


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    text, real = pa.string(), pa.float64()
    kinds = {"obs_id": text, "obs_subject_id": text, "name": text, "n_voxels": pa.int64(), "volume_ml": real,
             "mean": real, "std": real, "min": real, "max": real}  # fmt: skip
    frame = to_pandas(pa.table({n: pa.array([row[n] for row in rows], kind) for n, kind in kinds.items()}))
    # by way of Python's integers, because labels of 64 bits may be signed or not
    frame.insert(2, "label", pd.Series([row["label"] for row in rows], dtype=None if rows else np.int64))
    return frame
