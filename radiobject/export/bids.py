"""BIDS: a study as a BIDS data set: volumes, tables, sidecars, names of labels, what was attached."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from radiobject.errors import MetadataError
from radiobject.executor import Executor, Progress
from radiobject.export.bids_names import Place, places, subject_labels, with_neighbours
from radiobject.export.folders import each, empty_folder, scalar_columns, tsv, write_bytes, write_json
from radiobject.failures import mapped
from radiobject.format.acquisition import COLUMNS, ENTITIES, metadata_of
from radiobject.format.meta import Label
from radiobject.format.schema import DERIVED_SCHEMA, OBS_SCHEMA

if TYPE_CHECKING:
    from radiobject.model.view import StudyView

__all__ = ["export_bids"]

BIDS_VERSION = "1.10.0"
_MILLISECONDS = ("EchoTime", "RepetitionTime", "InversionTime")  # DICOM's unit; BIDS wants seconds
_NEEDED = ("obs_subject_id", "obs_id", "session", "run", "acquisition_time", "source_format")
_ELSEWHERE = frozenset(
    {*OBS_SCHEMA.names, *DERIVED_SCHEMA.names, *COLUMNS, *ENTITIES, "datatype", "pipeline", "sidecar"}
)
"""Columns that names, places and sidecars say."""
_OTHERWISE = {n: f"obs_meta_{n}" for n in ("participant_id", "radiobject_subject_id")}
"""Columns of obs_meta that would be taken for the keys of participants.tsv."""
_TABLES = {
    "events": ("_events.tsv", frozenset({"echo", "part"}), frozenset[str]()),
    "confounds": (
        "_desc-confounds_timeseries.tsv",
        frozenset({"echo", "part", "space", "res", "den", "desc"}),
        frozenset({"desc"}),
    ),
}
"""What an attached table is called; the entities that its name leaves out where all such images have it; and
those that it leaves out in any case."""
_RUNS = frozenset({"bold", "cbv"})
"""Suffixes of images that inherit such tables."""


def export_bids(
    radi: StudyView,
    folder: str | os.PathLike[str],
    *,
    name: str = "radiobject study",
    progress: bool | Progress | None = None,
    executor: Executor = "threads",
    workers: int | None = None,
) -> int:
    """Write a study or a view of it as a BIDS data set into an empty folder, and give the number of volumes.

    An obs_id that is a BIDS name becomes the name of its file, so that what came from BIDS has its names
    again (as .nii.gz). Others are named by subject, session, columns that are entities, run, and the
    collection as suffix. Label maps that no column `datatype` places go to derivatives/segmentations as
    `_dseg`; volumes with a `pipeline` to derivatives/<pipeline>. NIfTI that was stored unchanged is written
    byte for byte; the files themselves are gzip.

    Columns that `format.acquisition` knows, and `sidecar`, become the image's own JSON file; `session_*`
    sessions.tsv; acquisition_time, `scan_*` and whatever else obs has scans.tsv; obs_meta participants.tsv.
    Names and colours of labels become `_dseg.tsv`; gradients, events and confounds files beside the image.
    An image that would inherit from one beside it, where it has no such metadata or names, has an empty
    sidecar or table of its own.

    Raises `ConfigError` for a folder that is not empty, `MetadataError` for a text with a tab in it and for
    tables that differ where BIDS has one name, and what reading raises. What was written before an error
    stays.
    """
    root = empty_folder(folder)
    rows = [row for c in radi.collection_names for row in _rows(radi, c)]
    subjects = radi.obs_meta.to_arrow(["obs_subject_id"])["obs_subject_id"].to_pylist()
    labels = subject_labels([*subjects, *(row["obs_subject_id"] for row in rows)])
    placed = places(rows, labels)
    beside = with_neighbours(placed)
    pipelines = dict.fromkeys(place.pipeline for place in placed)
    for pipeline in dict.fromkeys(["", *pipelines]):
        write_json(
            os.path.join(root, _base(pipeline), "dataset_description.json"), _description(name, pipeline)
        )
    _participants(radi, root, labels)
    _sessions(root, placed)
    _scans(root, placed)

    def work(place: Place) -> list[tuple[str, bytes]]:
        with mapped(f"{root}: {place.stem}", writing=True):  # a name may be too long for the disk
            return _write(radi, root, place, (place.pipeline, place.stem) in beside)

    tables = each(work, placed, progress=progress, executor=executor, workers=workers)
    _attached_tables(root, placed, tables)
    return len(placed)


def _rows(radi: StudyView, collection: str) -> list[dict[str, Any]]:
    of = radi.collection(collection)
    own = [n for n in scalar_columns(of.obs) if n not in OBS_SCHEMA.names and n not in DERIVED_SCHEMA.names]
    rows = of.obs.to_arrow([*_NEEDED, *own]).to_pylist()
    return [{"_collection": collection, "_kind": of.kind, **row} for row in rows]


def _base(pipeline: str) -> str:
    return os.path.join("derivatives", pipeline) if pipeline else ""


def _description(name: str, pipeline: str) -> dict[str, Any]:
    made = [{"Name": "radiobject", "Description": "exported from a radiobject study"}]
    if pipeline:
        made = [{"Name": pipeline}, *made]
    said = {"Name": f"{name}: {pipeline}" if pipeline else name, "BIDSVersion": BIDS_VERSION}
    return {**said, "DatasetType": "derivative" if pipeline else "raw", "GeneratedBy": made}


def _participants(radi: StudyView, root: str, labels: Mapping[str, str]) -> None:
    columns = scalar_columns(radi.obs_meta)
    rows = []
    for row in radi.obs_meta.to_arrow(columns).to_pylist():
        subject = row.pop("obs_subject_id")
        label = labels[subject]
        own = {"participant_id": label, "radiobject_subject_id": None if label == subject else subject}
        rows.append(own | {_OTHERWISE.get(name, name): value for name, value in row.items()})
    names = [_OTHERWISE.get(n, n) for n in columns if n != "obs_subject_id"]
    renamed = any(row["radiobject_subject_id"] for row in rows)
    first = ["participant_id", *(["radiobject_subject_id"] if renamed else [])]
    write_bytes(os.path.join(root, "participants.tsv"), tsv(rows, [*first, *names], "obs_meta"))


def _sessions(root: str, placed: Sequence[Place]) -> None:
    visits: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for place in placed:
        if place.session:
            said = {n[8:]: v for n, v in place.row.items() if n.startswith("session_") and v is not None}
            visits[place.subject].setdefault(place.session, {}).update(said)
    for subject, of in visits.items():
        names = [n for n in dict.fromkeys(n for said in of.values() for n in said) if n != "session_id"]
        if names:
            rows = [{**said, "session_id": f"ses-{session}"} for session, said in of.items()]
            path = os.path.join(root, subject, f"{subject}_sessions.tsv")
            write_bytes(path, tsv(rows, ["session_id", *names], "session_ columns"))


def _scans(root: str, placed: Sequence[Place]) -> None:
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for place in placed:
        said = {
            "filename": f"{place.datatype}/{place.stem}.nii.gz",
            "acq_time": place.row["acquisition_time"],
        }
        for name, value in place.row.items():
            if name in _ELSEWHERE or name.startswith(("_", "session_")):
                continue
            plain = name.removeprefix("scan_")
            if name.removeprefix("entity_") not in place.entities and said.get(plain) is None:
                said[plain] = value
        groups[place.pipeline, place.subject, place.session].append(said)
    for (pipeline, subject, session), rows in groups.items():
        names = list(dict.fromkeys(n for row in rows for n, value in row.items() if value is not None))
        if len(names) > 1:
            parts = [subject, f"ses-{session}"] if session else [subject]
            path = os.path.join(root, _base(pipeline), *parts, f"{'_'.join(parts)}_scans.tsv")
            write_bytes(path, tsv(rows, names, "columns of obs"))


def _write(radi: StudyView, root: str, place: Place, beside: bool) -> list[tuple[str, bytes]]:
    """Write a volume and what is its alone; its tables, which may be those of others too, are given back.

    `beside` another whose sidecars fit it, it has sidecars that say nothing rather than none.
    """
    volume = radi.collection(place.row["_collection"]).loc[place.row["obs_id"]]
    stem = os.path.join(root, _base(place.pipeline), place.folder, place.stem)
    os.makedirs(os.path.dirname(stem), exist_ok=True)
    volume.to_nifti(f"{stem}.nii.gz")
    if (metadata := _metadata(place.row)) or beside:
        write_json(f"{stem}.json", metadata)
    for extension in ("bval", "bvec"):
        if (data := volume.extra(extension)) is not None:
            write_bytes(f"{stem}.{extension}", data)
    if (volume.meta.labels or beside) and place.suffix == "dseg":
        rows = [_label(label) for label in volume.meta.labels]
        columns = ["index", "name", *(["color"] if any(row["color"] for row in rows) else [])]
        write_bytes(f"{stem}.tsv", tsv(rows, columns, f"labels of {volume.obs_id}"))
    found = [(name, volume.extra(name)) for name in _TABLES]
    return [(name, data) for name, data in found if data is not None]


def _label(label: Label) -> dict[str, Any]:
    colour = None
    if label.rgba is not None:
        colour = "#" + bytes(label.rgba if label.rgba[3] < 255 else label.rgba[:3]).hex()
    return {"index": label.value, "name": label.name, "color": colour}


def _metadata(row: Mapping[str, Any]) -> dict[str, Any]:
    said = metadata_of(row)
    if str(row.get("source_format") or "").startswith("dicom"):
        said |= {key: said[key] / 1000 for key in _MILLISECONDS if key in said}
    return said


def _attached_tables(
    root: str, placed: Sequence[Place], tables: Sequence[Sequence[tuple[str, bytes]]]
) -> None:
    """Write each table once under the name that its images share, or an image's own where they differ."""
    having = [dict(found) for found in tables]
    sharing: dict[str, set[bytes | None]] = defaultdict(set)
    for place, found in zip(placed, having, strict=True):
        for name in _TABLES if place.suffix in _RUNS else found:
            sharing[_table_path(root, place, name, shared=True)].add(found.get(name))
    written: dict[str, bytes] = {}
    for place, found in zip(placed, having, strict=True):
        for name, data in found.items():
            alike = len(sharing[_table_path(root, place, name, shared=True)]) == 1
            path = _table_path(root, place, name, shared=alike)
            if path not in written:
                write_bytes(path, data)
            elif written[path] != data:
                raise MetadataError(
                    f"{name} of {place.row['obs_id']!r}", expected=f"what {path} has, its only name in BIDS",
                    got="another table", hint="Export them apart, or give them a column that is an entity.",
                )  # fmt: skip
            written[path] = data


def _table_path(root: str, place: Place, name: str, *, shared: bool) -> str:
    ending, together, ever = _TABLES[name]
    stem = place.without(together if shared else ever)
    return os.path.join(root, _base(place.pipeline), place.folder, stem + ending)
