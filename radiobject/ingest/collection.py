"""Collection: one collection's sources as a study of its own, with the checks that go with it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from radiobject.errors import AlignmentError, MetadataError
from radiobject.format.catalog import Snapshot
from radiobject.format.changes import Edit
from radiobject.format.meta import Kind
from radiobject.format.transaction import Transaction
from radiobject.ingest import ingest
from radiobject.ingest.sources import resolve
from radiobject.location import Location
from radiobject.model.study import Study
from radiobject.writing.frames import to_arrow
from radiobject.writing.objects import is_object

__all__ = ["append_to_collection", "ingest_collection", "ingest_dicom_collection"]


def ingest_collection(
    uri: str | os.PathLike[str],
    sources: Any,
    obs: Any,
    name: str,
    *,
    validate_dimensions: bool,
    valid_subject_ids: Iterable[str] | None,
    kind: Kind | None,
    labels: Any = None,
    storage_options: Any = None,
    **options: Any,
) -> Snapshot:
    """The new study's first version; see `VolumeCollection.from_niftis`."""
    if obs is not None:
        sources = _with_ids(sources, obs)
        options["obs"] = {name: obs}
    if valid_subject_ids is not None:
        valid = list(valid_subject_ids)
        found = resolve({name: sources}, valid, Location(uri, storage_options))
        if unknown := [s.obs_subject_id for s in found if s.obs_subject_id not in valid]:
            raise MetadataError(
                f"subjects of {name!r}", expected="those of valid_subject_ids=", got=str(unknown[:5])
            )
        sources = [(s.item, s.obs_subject_id, s.obs_id) for s in found]
    if labels is None and kind is not None:
        labels = [name] if kind == "label" else []

    def finish(transaction: Transaction, edit: Edit) -> Snapshot:
        if validate_dimensions:
            _check_one_shape(edit, name)
        return transaction.commit(edit)

    return ingest(
        os.fspath(uri), {name: sources}, labels=labels, storage_options=dict(storage_options or {}),
        finish=finish, **options,
    )  # fmt: skip


def ingest_dicom_collection(
    uri: str | os.PathLike[str],
    dicom_dirs: Any,
    obs: Any,
    name: str,
    *,
    validate_dimensions: bool,
    storage_options: Any = None,
    **options: Any,
) -> Snapshot:
    """The new study's first version; see `VolumeCollection.from_dicoms`."""
    from radiobject.ingest.dicom import ingest_dicoms

    def finish(transaction: Transaction, edit: Edit) -> Snapshot:
        if validate_dimensions:
            _check_one_shape(edit, name)
        return transaction.commit(edit)

    return ingest_dicoms(
        os.fspath(uri), {name: dicom_dirs}, obs=None if obs is None else {name: obs},
        storage_options=dict(storage_options or {}), finish=finish, **options,
    )  # fmt: skip


def append_to_collection(
    study: Study, name: str, sources: Any, dicom_dirs: Any, obs_meta: Any, **options: Any
) -> Snapshot:
    """The study's next version, with more volumes in a collection; see `VolumeCollection.append`."""
    if (sources is None) == (dicom_dirs is None):
        raise MetadataError("append", expected="niftis or dicom_dirs=", got="neither, or both")
    location = study.location
    if dicom_dirs is not None:
        from radiobject.ingest.dicom import ingest_dicoms

        return ingest_dicoms(
            location.uri, {name: dicom_dirs}, obs_meta, base=study.snapshot, finish=study.finish,
            storage_options=location.options, **options,
        )  # fmt: skip
    if obs_meta is None:
        known = set(study.subjects.ids())
        sources = list(sources) if isinstance(sources, Iterator) else sources
        found = resolve({name: sources}, list(known), location)
        new = list(dict.fromkeys(s.obs_subject_id for s in found if s.obs_subject_id not in known))
        obs_meta = {"obs_subject_id": new} if new else None
    return ingest(
        location.uri, {name: sources}, obs_meta, base=study.snapshot, finish=study.finish,
        storage_options=location.options, **options,
    )  # fmt: skip


def _with_ids(sources: Any, obs: Any) -> Any:
    """The entries of a list with the ids that `obs` has for them, row by row; anything else as it is."""
    if not isinstance(sources, list | tuple) or is_object(sources):
        return sources
    table = to_arrow(obs, "obs", "obs_id" if _names(obs) >= {"obs_id"} else "obs_subject_id")
    if not {"obs_id", "obs_subject_id"} <= set(table.schema.names):
        return sources
    if table.num_rows != len(sources):
        raise MetadataError(
            "obs", expected=f"a row for each of the {len(sources)} sources", got=f"{table.num_rows} rows"
        )
    made = []
    rows = zip(table["obs_id"].to_pylist(), table["obs_subject_id"].to_pylist(), strict=True)
    for entry, (obs_id, subject) in zip(sources, rows, strict=True):
        paired = isinstance(entry, tuple) and len(entry) == 2 and not is_object(entry)
        if paired and entry[1] != subject:
            raise MetadataError(
                f"obs row {obs_id!r}",
                expected=f"obs_subject_id {entry[1]!r}, as its source",
                got=repr(subject),
            )
        made.append((entry[0] if paired else entry, subject, obs_id))
    return made


def _names(obs: Any) -> set[str]:
    """Names of the columns, and of the index, of whatever table it is."""
    columns = getattr(obs, "column_names", None) or getattr(obs, "columns", None)
    return {*(obs if columns is None else columns), getattr(getattr(obs, "index", None), "name", None)}


def _check_one_shape(edit: Edit, name: str) -> None:
    shapes: dict[tuple[int, ...], str] = {}
    for row in edit.collections[name].added["obs"].select(["dim_x", "dim_y", "dim_z", "obs_id"]).to_pylist():
        shapes.setdefault((row["dim_x"], row["dim_y"], row["dim_z"]), row["obs_id"])
    if len(shapes) > 1:
        raise AlignmentError(
            f"collection {name!r}",
            expected="volumes of one shape",
            got=", ".join(f"{shape} ({obs_id})" for shape, obs_id in list(shapes.items())[:3]),
            hint="Nothing was committed; pass validate_dimensions=False to keep them together.",
        )
