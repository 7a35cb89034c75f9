"""Ids, folders and shapes of a collection's volumes: what a change of them must respect."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from radiobject.backends import IN_PLACE, backend_of_name
from radiobject.errors import DuplicateIdError, RadiObjectError
from radiobject.format.catalog import Snapshot
from radiobject.format.commit import CollectionEntry, Commit
from radiobject.format.layout import collection_path
from radiobject.format.tables import Table

__all__ = ["backend_left", "free_path", "ids_of", "refuse_duplicates", "taken", "uniform_shape"]


def backend_left(entry: CollectionEntry, obs: Table) -> str:
    """The backend of a collection whose volumes moved or went: where all of them are, else its own."""
    if entry.backend != IN_PLACE:
        return entry.backend
    names = pc.replace_substring_regex(obs.column("_path"), r"^.*/[^/.]*", "").unique().to_pylist()
    found = {backend_of_name(f"volume{suffix}") for suffix in names}
    return (found.pop() or entry.backend) if len(found) == 1 else entry.backend


def ids_of(rows: pa.Table | None) -> set[str]:
    """obs_ids of some rows."""
    return set() if rows is None else set(rows["obs_id"].to_pylist())


def taken(base: Snapshot, fresh: list[str]) -> set[str]:
    """Those of some obs_ids that the base has in any collection."""
    if not fresh:
        return set()
    wanted, found = pa.array(fresh, pa.string()), set[str]()
    for entry in base.commit.collections:
        ids = base.table("obs", entry.name).column("obs_id")
        found.update(ids.filter(pc.is_in(ids, value_set=wanted)).to_pylist())
    return found


def refuse_duplicates(
    fresh: list[str], known: set[str], collection: str, wrong: type[RadiObjectError] | None
) -> None:
    """Raise `DuplicateIdError`, or `wrong`, for ids that are known or come twice."""
    seen: set[str] = set()
    twice = sorted({i for i in fresh if i in known or i in seen or seen.add(i)})  # type: ignore[func-returns-value]
    if twice:
        raise (wrong or DuplicateIdError)(
            f"obs_id {twice[:5]} for collection {collection!r}",
            expected="ids that occur once in the whole study",
            got=f"{len(twice)} that are taken",
        )


def free_path(draft: Commit, name: str) -> str:
    """A folder for a new collection: a renamed one may still have the folder of that name."""
    path, number = collection_path(name), 1
    while any(c.path == path for c in draft.collections):
        number += 1
        path = f"{collection_path(name)}~~{number}"
    return path


def uniform_shape(
    entry: CollectionEntry, added: pa.Table | None, obs: Table | None
) -> tuple[int, int, int] | None:
    """The shape that all volumes have, else None: of all of `obs`; of the added ones where that is None."""
    if obs is not None:
        shapes = _shapes(obs.read(["dim_x", "dim_y", "dim_z"]))
    else:
        shapes = {entry.shape} if entry.n_volumes else set()
        shapes |= set() if added is None else _shapes(added)
    return next(iter(shapes)) if len(shapes) == 1 else None


def _shapes(rows: pa.Table) -> set[tuple[int, int, int] | None]:
    return {
        (int(x), int(y), int(z))
        for x, y, z in zip(*(rows[c].to_pylist() for c in ("dim_x", "dim_y", "dim_z")), strict=True)
    }
