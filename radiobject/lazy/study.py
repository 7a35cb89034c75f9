"""Study: partners of several collections as one Dataset, collections or a few subjects as a DataTree."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xarray as xr

from radiobject.errors import ConfigError, SelectionError
from radiobject.lazy.arrays import ID, SUBJECT, volume_to_xarray
from radiobject.lazy.chunks import Chunks
from radiobject.lazy.collection import RESERVED, Grids, collection_to_xarray, onto_grid, place_coords
from radiobject.lazy.columns import chosen_columns, column_coords, fits, refuse_unknown, subject_rows
from radiobject.lazy.stack import ENGINE_COLUMNS, Stack
from radiobject.model.collection_view import CollectionView
from radiobject.model.partners import PARTNER_COLUMNS, match
from radiobject.model.radi_object import RadiObject
from radiobject.model.study import split_collection
from radiobject.model.view import StudyView

__all__ = ["collections_to_groups", "opened_dataset", "study_to_datatree", "study_to_xarray"]


def study_to_xarray(
    radi: StudyView,
    names: str | Sequence[str] | None = None,
    on: Sequence[str] | None = None,
    missing: Literal["error", "drop"] = "error",
    grid: Grids = "error",
    chunks: Chunks = None,
    columns: Sequence[str] | None = None,
    **how: Any,
) -> xr.Dataset:
    """See `RadiObject.to_xarray`."""
    wanted = list(radi.collection_names if names is None else [names] if isinstance(names, str) else names)
    if not wanted or len(set(wanted)) < len(wanted):
        raise SelectionError("to_xarray", expected="collections, each once", got=repr(wanted))
    for name in wanted:
        _refuse_name(name)
    if on is not None and len(wanted) == 1:
        raise ConfigError("on=", expected="several collections", got=repr(wanted[0]))
    onto, subjects = onto_grid(grid, **how), radi._study.subjects
    refuse_unknown(columns, subjects.schema)
    stacks, compared = _partners([radi.collection(name) for name in wanted], on, missing)
    variables = {stack.name: stack.variable(SUBJECT, chunks, onto) for stack in stacks}
    rows = stacks[0].rows
    said = rows.select([SUBJECT, *compared])
    for stack in stacks:
        said = said.append_column(f"{stack.name}_{ID}", stack.rows[ID])
    if more := [c for c in chosen_columns(subjects.schema, columns) if c not in said.schema.names]:
        of_subject = subject_rows(subjects, more, rows[SUBJECT])
        said = pa.table([*said.columns, *of_subject.columns], names=[*said.schema.names, *more])
    coords = place_coords(stacks, SUBJECT, grid, onto)
    return xr.Dataset(variables, coords | column_coords(said, SUBJECT, (*RESERVED, *wanted)))


def _partners(
    collections: Sequence[CollectionView], on: Sequence[str] | None, missing: Literal["error", "drop"]
) -> tuple[list[Stack], list[str]]:
    """One row for each volume of the first collection with partners in all others, and what was compared."""
    keys = list(dict.fromkeys([SUBJECT, *PARTNER_COLUMNS, *(on or ())]))
    tables = [
        c.obs.to_arrow(list(dict.fromkeys([*(k for k in keys if k in c.obs.columns), *ENGINE_COLUMNS])))
        for c in collections
    ]
    first, compared = collections[0].name, list[str]()
    if len(collections) == 1:
        compared = [
            c for c in keys[1:] if c in tables[0].schema.names and tables[0][c].null_count < len(tables[0])
        ]
    ids = {first: tables[0][ID].to_pylist()}
    for collection, table in zip(collections[1:], tables[1:], strict=True):
        pairs = match(tables[0], table, (first, collection.name), on, missing)
        compared += [c for c in pairs.columns[1:-2] if c not in compared]
        partner = dict(zip(pairs[first], pairs[collection.name], strict=True))
        kept = [n for n, i in enumerate(ids[first]) if i in partner]
        ids = {name: [known[n] for n in kept] for name, known in ids.items()}
        ids[collection.name] = [partner[i] for i in ids[first]]
    stacks = []
    for collection, table in zip(collections, tables, strict=True):
        wanted = pa.array(ids[collection.name], pa.string())
        at = pc.index_in(wanted, value_set=table[ID].combine_chunks().cast(pa.string())).to_numpy()
        whole = not collection.is_view and np.array_equal(at, np.arange(len(collection)))
        positions = None if whole else collection._rows()[at]
        stacks.append(Stack(collection, table.take(pa.array(at)), positions))
    return stacks, compared


def opened_dataset(
    uri: str | os.PathLike[str],
    collection: str | Sequence[str] | None,
    version: int | str | None,
    storage_options: Mapping[str, Any] | None,
    *,
    source_root: str | os.PathLike[str] | None,
    on: Sequence[str] | None,
    missing: Literal["error", "drop"],
    **options: Any,
) -> xr.Dataset:
    """The study at a URI as `xr.open_dataset` is to give it: one collection, or partners of several."""
    place, named = split_collection(os.fspath(uri))
    radi = RadiObject(place, version=version, storage_options=storage_options, source_root=source_root)
    wanted = named if collection is None else collection
    if wanted is None and len(radi.collection_names) == 1:
        wanted = radi.collection_names[0]
    if wanted is None or (named is not None and wanted != named):
        raise SelectionError(
            f"{uri} as a Dataset",
            expected=f"collection= one or several of {list(radi.collection_names)}"
            + (f", or {named!r} as the URI says" if named else ""),
            got=repr(wanted),
        )
    if not isinstance(wanted, str):
        return study_to_xarray(radi, wanted, on, missing, **options)
    if on is not None or missing != "error":
        raise ConfigError("on= and missing=", expected="several collections", got=repr(wanted))
    return _dataset_of(radi.collection(wanted), **options)


def _dataset_of(collection: CollectionView, **options: Any) -> xr.Dataset:
    """A collection as a Dataset of one variable."""
    _refuse_name(collection.name)
    return collection_to_xarray(collection, **options).to_dataset()


def collections_to_groups(
    radi: StudyView, grid: Grids = "index", columns: Sequence[str] | None = None
) -> dict[str, xr.Dataset]:
    """Each collection as a group of its own; the root tells the study and its version."""
    groups = {"/": xr.Dataset(attrs=_said(radi))}
    for name in radi.collection_names:
        collection = radi.collection(name)
        if len(collection):
            made = _dataset_of(collection, grid=grid, columns=columns)
            # a tree takes a slash in a variable's name for a path
            groups[f"/{_node(name)}"] = made.rename(
                {v: _node(str(v)) for v in made.variables if "/" in str(v)}
            )
    return groups


def study_to_datatree(radi: StudyView, limit: int, chunks: Chunks = None) -> xr.DataTree:
    """See `RadiObject.to_datatree`."""
    collections = [radi.collection(name) for name in radi.collection_names]
    total = sum(map(len, collections))
    if total > limit:
        raise SelectionError(
            f"DataTree of {radi!r}".splitlines()[0],
            expected=f"at most {limit} volumes",
            got=str(total),
            hint="A tree has a node a volume: take a view, such as radi.loc[ids], or raise limit=. For many "
            "volumes collection.to_xarray() is one array.",
        )
    plain = [f.name for f in radi._study.subjects.schema if fits(f.type)]
    groups = {"/": xr.Dataset(attrs=_said(radi))}
    for row in radi.obs_meta.to_arrow(plain).to_pylist():
        groups[f"/{_node(row[SUBJECT])}"] = xr.Dataset(attrs=_attrs(row))
    for collection in collections:
        _refuse_name(collection.name)
        for volume in collection:
            array = volume_to_xarray(volume, chunks)
            told_apart = {c: volume.metadata.get(c) for c in PARTNER_COLUMNS}
            node = array.to_dataset(name=collection.name).assign_attrs(_attrs(told_apart))
            groups[f"/{_node(volume.obs_subject_id)}/{_node(volume.obs_id)}"] = node
    return xr.DataTree.from_dict(groups)


def _said(radi: StudyView) -> dict[str, Any]:
    return {"uri": radi._study.location.uri, "version": radi.version}


def _attrs(row: dict[str, Any]) -> dict[str, Any]:
    """Values of a row as attributes: numbers and text, no nulls."""
    return {
        name: value if isinstance(value, str | int | float) else str(value)
        for name, value in row.items()
        if value is not None
    }


def _node(name: str) -> str:
    """A name as one node of a path, unlike any other's: "~", a slash and a leading dot are escaped."""
    plain = name.replace("~", "~7E").replace("/", "~2F")
    return f"~2E{plain[1:]}" if plain.startswith(".") else plain


def _refuse_name(name: str) -> None:
    if name in RESERVED or name in (ID, SUBJECT):
        raise SelectionError(
            f"collection {name!r} as a variable of a Dataset",
            expected="a name that no axis or coordinate has",
            got=f"one of {', '.join((*RESERVED, ID, SUBJECT))}",
            hint="rename_collection() gives it another; collection.to_xarray() has no such limit.",
        )
