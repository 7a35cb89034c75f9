"""Layout: groups, tables and arrays as the TileDB-based package lays them out, found by their paths.

The groups themselves name their members by absolute URIs, which are wrong after a move or a copy: of a member
only the last part of its URI is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from radiobject.backends.tiledb.context import array_uri, context_for, engine
from radiobject.backends.tiledb.failures import mapped
from radiobject.errors import (
    CorruptObjectError,
    FormatError,
    MissingObjectError,
    SourceCorruptError,
    SourceError,
    SourceNotFoundError,
    StudyNotFoundError,
)
from radiobject.executor import run
from radiobject.format.layout import ROOT
from radiobject.location import Location
from radiobject.storage import Storage

__all__ = ["VOXELS", "ArrayFound", "CollectionFound", "StudyFound", "names_below", "read_study", "reading"]

VOXELS = "voxels"
"""The attribute of their dense arrays."""


@dataclass(frozen=True, eq=False)
class ArrayFound:
    """A folder below `volumes`: its number, its path below the root, what its array says of itself.

    `trouble` is why its voxels cannot be read; then the other fields may be empty.
    """

    number: str
    path: str
    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] | None = None
    meta: Mapping[str, Any] | None = None
    trouble: SourceError | None = None

    @property
    def obs_id(self) -> str | None:
        """The id that the array itself says it has."""
        found = (self.meta or {}).get("obs_id")
        return str(found) if found else None


@dataclass(frozen=True, eq=False)
class CollectionFound:
    """A collection: its name, volume table in their order, arrays, and how many its group says there are.

    `folder` is its path below the root, empty where it is the root. `obs` is None, and `trouble` says why,
    when the table cannot be read.
    """

    name: str
    folder: str
    obs: pa.Table | None
    arrays: tuple[ArrayFound, ...]
    counted: int | None
    trouble: SourceError | None = None


@dataclass(frozen=True, eq=False)
class StudyFound:
    """A study, or one collection alone, whose `obs_meta` then is None without `trouble`."""

    location: Location
    obs_meta: pa.Table | None
    collections: tuple[CollectionFound, ...]
    unlisted: tuple[str, ...] = ()
    counted: Mapping[str, int] | None = None
    trouble: SourceError | None = None


@contextmanager
def reading(location: Location, where: str) -> Iterator[str]:
    """The URI of a path below the root, for TileDB; what it says inside the block is an error of a source.

    The error names the path below the root only. It goes into the ledger, which others read: the folders
    above carry names of people and machines.
    """
    uri = array_uri(location, where).rstrip("/")
    name = where or location.uri
    try:
        with mapped(name, uri, local=location.is_local):
            yield uri
    except MissingObjectError as error:
        raise SourceNotFoundError(name, expected="what TileDB wrote", got=error.got) from error
    except CorruptObjectError as error:
        raise SourceCorruptError(name, expected="what TileDB wrote", got=error.got) from error


def read_study(location: Location, workers: int | None = None) -> StudyFound:
    """Everything but voxels. Arrays are opened a few at a time, to ask each for its id and its affine.

    Raises `StudyNotFoundError` where nothing stands, `FormatError` for what is no study of that package,
    `CapabilityError` for a place that TileDB cannot read.
    """
    names = names_below(location, "")
    if _kind(location, "") != "group":
        raise _no_study(location)
    if "collections" in names:
        return _study(location, names, workers)
    if "volumes" in names:
        return StudyFound(location, None, (_collection(location, None, "", workers),))
    raise FormatError(
        location.uri,
        expected="the groups of the TileDB-based radiobject package: collections, obs_meta",
        got=f"a TileDB group with {sorted(names) or 'nothing in it'}",
        hint="Give the root of the study.",
    )


def _no_study(location: Location) -> FormatError | StudyNotFoundError:
    if Storage(location).size(ROOT) is not None:
        return FormatError(
            location.uri,
            expected="a study of the TileDB-based radiobject package",
            got="one of this package",
            hint="Open it with RadiObject(uri); .write(uri) copies it, between backends too.",
        )
    return StudyNotFoundError(
        location.uri, expected="a study of the TileDB-based radiobject package", got="none",
        hint="Check the path; what that package wrote holds a file __tiledb_group.tdb.",
    )  # fmt: skip


def _study(location: Location, names: Sequence[str], workers: int | None) -> StudyFound:
    counted, _ = _group(location, "")
    _, members = _group(location, "collections")
    present = names_below(location, "collections")
    # a renamed collection is listed under its new name and lies in the folder of its old one
    folders = {name: folder if folder in present else name for name, folder in members.items()}
    obs_meta, trouble = _table(location, "obs_meta")
    collections = [
        _collection(location, name, f"collections/{folder}", workers)
        for name, folder in sorted(folders.items())
    ]
    return StudyFound(
        location,
        obs_meta,
        tuple(collections),
        tuple(n for n in present if n not in folders.values()),
        {k: int(v) for k, v in counted.items() if k in ("subject_count", "n_collections")},
        trouble,
    )


def _collection(location: Location, name: str | None, path: str, workers: int | None) -> CollectionFound:
    below = f"{path}/" if path else ""
    known = name or location.uri.rpartition("/")[2]
    try:
        counted, _ = _group(location, path)
        obs, trouble = _table(location, f"{below}obs")
    except SourceError as error:
        return CollectionFound(known, path, None, (), None, error)
    numbers = sorted(names_below(location, f"{below}volumes"), key=lambda n: (not n.isdecimal(), len(n), n))
    arrays: list[ArrayFound] = []
    paths = [f"{below}volumes/{number}" for number in numbers]
    for _, found in run(lambda p: _array(location, p), paths, workers=workers, ordered=True):
        if isinstance(found, Exception):
            raise found
        arrays.append(found)
    count = counted.get("n_volumes")
    return CollectionFound(
        name or str(counted.get("name") or known), path, obs, tuple(arrays),
        None if count is None else int(count), trouble,
    )  # fmt: skip


def _array(location: Location, path: str) -> ArrayFound:
    number = path.rpartition("/")[2]
    try:
        with (
            reading(location, path) as uri,
            engine().open(uri, "r", ctx=context_for(location)) as array,
        ):
            schema, filled = array.schema, array.nonempty_domain()
            shape = tuple(int(n) for n in schema.shape)
            found = ArrayFound(number, path, shape, np.dtype(schema.attr(VOXELS).dtype), dict(array.meta))
    except SourceError as error:
        return ArrayFound(number, path, trouble=error)
    # where nothing was written TileDB reads its fill value, and says nothing
    if filled is None or any((int(a), int(b)) != (0, n - 1) for (a, b), n in zip(filled, shape, strict=True)):
        trouble = SourceCorruptError(
            path, expected=f"voxels everywhere in {shape}",
            got="none" if filled is None else f"voxels in {filled}",
        )  # fmt: skip
        return ArrayFound(number, path, shape, found.dtype, found.meta, trouble)
    return found


def _table(location: Location, path: str) -> tuple[pa.Table | None, SourceError | None]:
    """A sparse array as a table, in the order of its dimensions; or why there is none."""
    try:
        with (
            reading(location, path) as uri,
            engine().open(uri, "r", ctx=context_for(location)) as array,
        ):
            domain, schema = array.schema.domain, array.schema
            dims = [domain.dim(i).name for i in range(domain.ndim)]
            values = array[:]
            columns = {name: _column(values[name], np.dtype("S")) for name in dims}
            for i in range(schema.nattr):
                attribute = schema.attr(i)
                columns[attribute.name] = _column(values[attribute.name], np.dtype(attribute.dtype))
            return pa.table(columns), None
    except SourceError as error:
        return None, error


def _column(values: npt.NDArray[Any], dtype: np.dtype[Any]) -> pa.Array:
    if dtype.kind in "USO":
        texts = [v.decode() if isinstance(v, bytes) else str(v) for v in values.tolist()]
        return pa.array(texts, pa.string())
    # a table without nulls has NaN where a value is missing
    return pa.array(values, pa.from_numpy_dtype(dtype), from_pandas=True)


def _group(location: Location, path: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Metadata of a group, and its members: name -> last part of the URI."""
    with (
        reading(location, path) as uri,
        engine().Group(uri, "r", ctx=context_for(location)) as group,
    ):
        members = [(m.name, m.uri.rstrip("/").rpartition("/")[2]) for m in group]
        return dict(group.meta), {name or folder: folder for name, folder in members}


def names_below(location: Location, path: str, *, hidden: bool = False) -> list[str]:
    """Names right below a path; TileDB's own (`__...`) only when `hidden`."""
    with reading(location, path) as uri:
        found = engine().VFS(ctx=context_for(location)).ls(uri)
    names = (entry.rstrip("/").rpartition("/")[2] for entry in found)
    return sorted(name for name in names if hidden or not name.startswith("__"))


def _kind(location: Location, path: str) -> str | None:
    with reading(location, path) as uri:
        kind: str | None = engine().object_type(uri, ctx=context_for(location))
    return kind
