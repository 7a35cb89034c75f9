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

__all__ = ["GRID_MM", "PARTNER_COLUMNS", "match", "same_grid", "split_subjects"]

PARTNER_COLUMNS = ("session", "run", "acquisition_time")
"""Columns of the volume table that tell two volumes of a subject apart."""

GRID_MM = 1e-3
"""How far apart two affines may put a corner of the volume and still be one grid."""


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
    partners = defaultdict(list)
    for row in right.select([*key, "obs_id"]).to_pylist():
        partners[tuple(row[c] for c in key)].append(row["obs_id"])
    rows, alone, ambiguous = [], [], []
    seen: dict[tuple[Any, ...], str] = {}
    for row in left.select([*key, "obs_id"]).to_pylist():
        values = tuple(row[c] for c in key)
        found = partners.get(values, [])
        if not found:
            alone.append(row["obs_id"])
        elif len(found) > 1 or values in seen:
            ambiguous.append(f"{row['obs_id']} -> {found}")
        else:
            rows.append({**{c: row[c] for c in key}, names[0]: row["obs_id"], names[1]: found[0]})
        seen[values] = row["obs_id"]
    if ambiguous:
        raise AlignmentError(
            f"{names[0]!r} and {names[1]!r}, matched by {key}",
            expected="one partner for each volume",
            got=f"several: {'; '.join(ambiguous[:5])}",
            hint="Name columns that tell them apart: on=[...].",
        )
    if alone and missing == "error":
        raise AlignmentError(
            f"{names[0]!r} and {names[1]!r}, matched by {key}",
            expected="a partner for each volume",
            got=f"none for {len(alone)}: {alone[:5]}",
            hint='Pass missing="drop" to leave them out.',
        )
    return pd.DataFrame(rows, columns=[*key, *names])


def _used(table: pa.Table, column: str) -> bool:
    return column in table.schema.names and table[column].null_count < table.num_rows


def same_grid(rows: pa.Table) -> bool:
    """Whether all volumes have one shape and put their corners in the same places, within `GRID_MM`.

    Needs the columns dim_x, dim_y, dim_z and affine; reads no voxel.
    """
    if rows.num_rows < 2:
        return True
    shapes = np.array([rows[f"dim_{a}"].to_pylist() for a in "xyz"]).T
    if (shapes != shapes[0]).any():
        return False
    affines = np.array(rows["affine"].to_pylist(), dtype=np.float64).reshape(-1, 4, 4)
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in shapes[0]])).reshape(3, -1)
    homogeneous = np.vstack([corners, np.ones(corners.shape[1])])
    places = affines @ homogeneous
    return bool(np.abs(places - places[0]).max() <= GRID_MM)


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
