"""Partners: which image belongs to which mask, whether they share a grid, and splits without leaks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from radiobject.errors import AlignmentError, ConfigError, UnknownIdError
from radiobject.format.meta import row_meta
from radiobject.geometry.corners import corners, grid_tolerance

__all__ = [
    "GRID_COLUMNS", "PARTNER_COLUMNS", "corners_apart", "match", "place", "same_grid", "sides",
    "split_subjects", "tolerance",
]  # fmt: skip

PARTNER_COLUMNS = ("session", "run", "acquisition_time")
"""Columns of the volume table that tell two volumes of a subject apart."""

GRID_COLUMNS = ("dim_x", "dim_y", "dim_z", "affine", "_volume")
"""Columns of the volume table that say where voxels lie."""


def match(
    left: pa.Table,
    right: pa.Table,
    names: tuple[str, str],
    on: Sequence[str] | None = None,
    missing: Literal["error", "drop"] = "error",
) -> pd.DataFrame:
    """One row for each volume of `left` with its partner in `right`.

    Partners have the same subject and equal values in every column of `PARTNER_COLUMNS` that both tables
    use (have a value in at all); `on` names other columns. The columns of the result are `obs_subject_id`,
    the columns compared, and the obs_id of each side under its collection's name.

    Raises `AlignmentError` that lists the rows when a volume has no partner (unless `missing="drop"`) or
    more than one; `UnknownIdError` for a column of `on` that one side lacks.
    """
    if missing not in ("error", "drop"):
        raise ConfigError("missing=", expected="'error' or 'drop'", got=repr(missing))
    columns = (
        list(on) if on is not None else [c for c in PARTNER_COLUMNS if _used(left, c) and _used(right, c)]
    )
    for table, name in ((left, names[0]), (right, names[1])):
        if unknown := [c for c in columns if c not in table.schema.names]:
            raise UnknownIdError(f"on={unknown}", expected=f"columns of {name!r}")
    key = ["obs_subject_id", *columns]
    ours, theirs = _codes(left, right, key, names)
    n_partners = np.bincount(theirs, minlength=int(ours.max(initial=-1)) + 1)[ours]
    first = np.zeros(len(ours), dtype=bool)
    first[np.unique(ours, return_index=True)[1]] = True
    alone = left["obs_id"].take(pa.array(np.flatnonzero(n_partners == 0))).to_pylist()
    ambiguous = np.flatnonzero((n_partners > 1) | ((n_partners == 1) & ~first)).tolist()
    if ambiguous:
        raise AlignmentError(
            f"{names[0]!r} and {names[1]!r}, matched by {key}",
            expected="one partner for each volume",
            got=f"several: {'; '.join(_listed(n, left, right, ours, theirs) for n in ambiguous[:5])}",
            hint="Name columns that tell them apart: on=[...].",
        )
    if alone and missing == "error":
        raise AlignmentError(
            f"{names[0]!r} and {names[1]!r}, matched by {key}",
            expected="a partner for each volume",
            got=f"none for {len(alone)}: {alone[:5]}",
            hint='Pass missing="drop" to leave them out.',
        )
    paired = np.flatnonzero(n_partners)
    place = np.zeros(max(ours.max(initial=0), theirs.max(initial=0)) + 1, dtype=np.int64)
    place[theirs] = np.arange(len(theirs))
    partners = right["obs_id"].take(pa.array(place[ours[paired]]))
    rows = left.take(pa.array(paired))
    values = [*(rows[c].to_pylist() for c in (*key, "obs_id")), partners.to_pylist()]
    return pd.DataFrame(dict(enumerate(values))).set_axis([*key, *names], axis=1)


def _codes(
    left: pa.Table, right: pa.Table, key: Sequence[str], names: tuple[str, str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A number for each row of both, equal where the key is; no value equals no value."""
    codes = np.zeros(left.num_rows + right.num_rows, dtype=np.int64)
    for column in key:
        try:
            sides = [_plain(table.select([column])) for table in (left, right)]
            both = pa.concat_tables(sides, promote_options="permissive")[column].combine_chunks()
            one = both.dictionary_encode(null_encoding="encode").indices.to_numpy().astype(np.int64)
        except pa.ArrowException as error:
            raise AlignmentError(
                f"column {column!r} of {names[0]!r} and {names[1]!r}",
                expected="values that can be compared",
                got=f"{left.schema.field(column).type} and {right.schema.field(column).type}",
            ) from error
        # numbered anew after each column, so that the product never grows beyond the rows
        codes = np.unique(codes * (one.max(initial=0) + 1) + one, return_inverse=True)[1]
    return codes[: left.num_rows], codes[left.num_rows :]


def _plain(rows: pa.Table) -> pa.Table:
    """One column; categories as what they stand for."""
    field = rows.schema.field(0)
    if not pa.types.is_dictionary(field.type):
        return rows
    return rows.cast(pa.schema([(field.name, field.type.value_type)]))


def _listed(
    n: int, left: pa.Table, right: pa.Table, ours: npt.NDArray[np.int64], theirs: npt.NDArray[np.int64]
) -> str:
    found = right["obs_id"].take(pa.array(np.flatnonzero(theirs == ours[n]))).to_pylist()
    return f"{left['obs_id'][n].as_py()} -> {found}"


def _used(table: pa.Table, column: str) -> bool:
    return column in table.schema.names and table[column].null_count < table.num_rows


def same_grid(rows: pa.Table) -> bool:
    """Whether all volumes have one shape and put their corners in the same places, within `tolerance`.

    Needs the `GRID_COLUMNS`; reads no voxel.
    """
    return bool((corners_apart(rows) <= tolerance(rows)).all())


def corners_apart(rows: pa.Table) -> npt.NDArray[np.float64]:
    """How far the corners of each volume lie from those of the first, in mm; infinite for another shape.

    Needs the `GRID_COLUMNS`.
    """
    if not rows.num_rows:
        return np.empty(0)
    shapes, places = place(rows)
    apart: npt.NDArray[np.float64] = np.abs(places - places[0]).max(axis=(1, 2))
    apart[(shapes != shapes[0]).any(axis=1)] = np.inf
    return apart


def tolerance(rows: pa.Table) -> npt.NDArray[np.float64]:
    """How far apart corners may lie and still be of one grid, in mm, for each row with `GRID_COLUMNS`.

    0.001 mm, or a hundredth of a voxel where that is less.
    """
    return grid_tolerance(rows["affine"].to_pylist(), sides(rows))


def place(rows: pa.Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Shapes (n, 3), and places of the eight corner voxels in mm (n, 8, 3), of rows with `GRID_COLUMNS`."""
    shapes = np.array([rows[f"dim_{a}"].to_pylist() for a in "xyz"], dtype=np.int64).T
    return shapes, corners(shapes, rows["affine"].to_pylist(), sides(rows))


def sides(rows: pa.Table) -> npt.NDArray[np.float64]:
    """Millimetres of the unit that each affine is in, from the column `_volume`."""
    return np.array([row_meta(text).side for text in rows["_volume"].to_pylist()])


def split_subjects(
    subjects: Sequence[str],
    parts: Mapping[str, float] | int,
    strata: Sequence[Any] | None = None,
    seed: int = 0,
) -> npt.NDArray[np.object_]:
    """The part of each subject: by fractions (`{"train": .8, "test": .2}`) or k folds ("0", "1", ...).

    A subject is in one part, whatever the number of its volumes. With `strata` each value is spread over
    the parts in proportion. The same subjects, parts and seed give the same answer on every machine,
    in whatever order the subjects come.
    """
    names, weights = _parts(parts)
    result = np.empty(len(subjects), dtype=object)
    groups: dict[str, list[int]] = defaultdict(list)
    for position in sorted(range(len(subjects)), key=lambda i: subjects[i]):
        groups[str(strata[position]) if strata is not None else ""].append(position)
    rng = np.random.default_rng(seed)
    owed = np.zeros(len(names))
    for stratum in sorted(groups):
        members = groups[stratum]
        shuffled = rng.permutation(len(members))
        # what one stratum rounds away the next ones give back, so that the whole keeps the proportions too
        exact = weights * len(members) + owed
        counts = np.floor(np.maximum(exact, 0)).astype(int)
        while counts.sum() > len(members):
            counts[np.argmax(counts - exact)] -= 1
        while counts.sum() < len(members):
            counts[np.argmax(exact - counts)] += 1
        owed = exact - counts
        for name, chosen in zip(names, np.split(shuffled, np.cumsum(counts)[:-1]), strict=True):
            for i in chosen:
                result[members[int(i)]] = name
    return result


def _parts(parts: Mapping[str, float] | int) -> tuple[list[str], npt.NDArray[np.float64]]:
    if isinstance(parts, int):
        if parts < 2:
            raise ConfigError("split into folds", expected="at least 2", got=str(parts))
        return [str(n) for n in range(parts)], np.full(parts, 1 / parts)
    weights = np.array(list(parts.values()), dtype=np.float64)
    if not len(weights) or (weights < 0).any() or not math.isclose(weights.sum(), 1.0, abs_tol=1e-6):
        raise ConfigError("split", expected="fractions that add up to 1", got=str(dict(parts)))
    return list(parts), weights
