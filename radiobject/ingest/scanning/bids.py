"""BIDS: a data set's images as rows, with entities, inherited metadata, tables and what belongs to them."""

from __future__ import annotations

import datetime
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from radiobject.errors import SourceCorruptError, SourceError, SourceNotFoundError
from radiobject.format.acquisition import COLUMNS, ENTITIES, columns_of
from radiobject.format.schema import OBS_SCHEMA
from radiobject.ingest.metadata import subject_frame
from radiobject.ingest.scanning.bids_files import DataSet, data_set, derived_roots, typed_entities
from radiobject.ingest.scanning.label_tables import dseg_labels
from radiobject.ingest.scanning.rows import Found, PlanRow
from radiobject.ingest.scanning.sidecars import BidsFile
from radiobject.ingest.scanning.small_files import absent
from radiobject.ingest.scanning.tsv import read_tsv, typed
from radiobject.writing.loaded import Axis4

__all__ = ["scan_bids"]

_LABELS = frozenset({"dseg", "mask"})
_SERIES = frozenset({"func", "dwi", "perf", "pet", "fmap"})
_EVENTS = frozenset({"bold", "cbv"})
_OF_ONE_RUN = frozenset({"echo", "part"})
_OF_ONE_PREPROCESSING = _OF_ONE_RUN | {"space", "res", "den", "desc"}
_RESERVED = frozenset({*OBS_SCHEMA.names, *COLUMNS, "sidecar", "datatype", "pipeline"})
_Cells = list[tuple[PlanRow, dict[str, str | None]]]


def scan_bids(root: str | os.PathLike[str], *, derivatives: bool = False) -> Found:
    """Rows of every NIfTI image of a BIDS data set, and with `derivatives` of those below derivatives/ too.

    An obs_id is the whole stem of the file's name, a collection its suffix, a session its label. `columns`
    have the entities as the schema types them, `datatype`, of a derivative its `pipeline`; the inherited
    sidecar as `format.acquisition.columns_of` has it; columns of scans.tsv as `scan_<name>` (acq_time is
    acquisition_time) and of sessions.tsv as `session_<name>`. Columns of participants.tsv are obs_meta's; a
    column of any table is of numbers where all its cells are. Gradients, events and confounds are
    attachments, `_dseg` and `_mask` label maps, with the names and colours of the `_dseg.tsv` that applies.

    A derivative whose name a raw image has too gets `_<pipeline>` behind its obs_id. Rows without content
    (empty files, pointers of datalad), or with a sidecar or an attachment that cannot be read or is a link
    out of `root`, have the verdict "error". No voxel is read.

    Raises `SourceNotFoundError` where no folder is a subject's, `SourceCorruptError` for tables that cannot
    be read, `MissingDependencyError` without bids2table.
    """
    root = os.path.abspath(os.fspath(root))
    sets = [data_set(root)]
    derived = derived_roots(root)
    if derivatives:
        sets += [data_set(place, name, within=root) for name, place in derived]
    skipped: Counter[str] = Counter()
    rows: list[PlanRow] = []
    scans: _Cells = []
    visits: dict[tuple[str, str], dict[str, str | None]] = {}
    for of in sets:
        skipped.update(of.skipped)
        found = [(file, _row(of, file)) for file in of.images]
        rows += [row for _, row in found]
        scans += _scans_of(of, found)
        visits = {**_visits_of(of), **visits}
    if not rows:
        left = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        raise SourceNotFoundError(root, expected="images in folders sub-<label>", got=left or "none")
    if derived and not derivatives:
        skipped["data sets below derivatives, which derivatives=True takes"] = len(derived)
    _type_cells(scans, "scan_")
    # a pipeline seldom repeats what is known of a visit
    _type_cells([(r, visits.get((r.obs_subject_id, r.session or ""), {})) for r in rows], "session_")
    _settle_names(rows)
    return Found("bids", rows, _subjects(root, rows), dict(skipped))


def _row(of: DataSet, file: BidsFile) -> PlanRow:
    subject = f"sub-{file.entities['sub']}"
    parts = file.folder.split("/")
    datatype = parts[-1] if len(parts) > 1 and not parts[-1].startswith("ses-") else None
    entities = typed_entities(file)
    columns: dict[str, Any] = {}
    for key, value in entities.items():
        if key in ENTITIES and key != "run":
            columns[key] = value
        elif key not in (*ENTITIES, "sub", "ses"):
            columns[f"entity_{key}" if key in _RESERVED else key] = value
    columns |= {"datatype": datatype, "pipeline": of.pipeline or None}
    tags = {**file.entities, "suffix": file.suffix, "datatype": datatype or "", "pipeline": of.pipeline}
    row = PlanRow(
        path=file.path,
        collection=file.suffix,
        obs_subject_id=subject,
        obs_id=file.stem,
        kind="label" if file.suffix in _LABELS else "image",
        session=file.entities.get("ses"),
        run=entities.get("run"),
        tags={key: value for key, value in tags.items() if value},
        columns=columns,
        axis4=_axis4(file.suffix, datatype),
    )
    reason = absent(file.path)
    if not reason and parts[0] != subject:
        reason = f"subject {subject} in folder {parts[0]}"
    try:
        columns |= columns_of(of.sidecars.metadata(file))
        row.attachments = _attachments(of, file, datatype)
        table = of.sidecars.nearest(file, "dseg", ".tsv") if file.suffix == "dseg" else None
        row.labels = dseg_labels(table.path) if table else ()
    except SourceError as error:
        reason = reason or f"sidecar: {error}"
    missing = {name: why for name, path in row.attachments.items() if (why := absent(path))}
    # an empty table says nothing, and is no loss; one that was not fetched is
    row.attachments = {n: p for n, p in row.attachments.items() if not missing.get(n, "").startswith("empty")}
    lost = {name: why for name, why in missing.items() if name in row.attachments}
    if reason or lost:
        row.verdict = "error"
        row.reason = reason or "; ".join(f"{name}: {why}" for name, why in lost.items())
    return row


def _axis4(suffix: str, datatype: str | None) -> Axis4:
    """What BIDS says that a fourth axis is: headers often do not."""
    if suffix == "probseg":
        return "channel"
    return "time" if datatype in _SERIES else "auto"


def _attachments(of: DataSet, file: BidsFile, datatype: str | None) -> dict[str, str]:
    found = {
        "bval": of.sidecars.nearest(file, file.suffix, ".bval") if datatype == "dwi" else None,
        "bvec": of.sidecars.nearest(file, file.suffix, ".bvec") if datatype == "dwi" else None,
    }
    if file.suffix in _EVENTS and "task" in file.entities:
        found["events"] = of.sidecars.nearest(file, "events", ".tsv", _OF_ONE_RUN)
        run = replace(file, entities={**file.entities, "desc": "confounds"})
        for suffix in ("timeseries", "regressors", "confounds"):
            if (table := of.sidecars.nearest(run, suffix, ".tsv", _OF_ONE_PREPROCESSING)) is not None:
                found["confounds"] = table
                break
    return {name: table.path for name, table in found.items() if table is not None}


def _scans_of(of: DataSet, found: Sequence[tuple[BidsFile, PlanRow]]) -> _Cells:
    """Each row with its line of scans.tsv; acq_time goes to the row where it is a time."""
    lines: dict[str, dict[str, str | None]] = {}
    for table in (t for t in of.tables if t.suffix == "scans"):
        for line in read_tsv(table.path):
            name = os.path.normpath(os.path.join(table.folder, line.pop("filename", None) or ""))
            lines[name.replace(os.sep, "/")] = line
    cells: _Cells = []
    for file, row in found:
        line = dict(lines.get(f"{file.folder}/{os.path.basename(file.path)}", {}))
        row.acquisition_time = _moment(line.get("acq_time"))
        if row.acquisition_time is not None:
            del line["acq_time"]
        cells.append((row, line))
    return cells


def _visits_of(of: DataSet) -> dict[tuple[str, str], dict[str, str | None]]:
    """Lines of all sessions.tsv by subject and label of the session."""
    lines: dict[tuple[str, str], dict[str, str | None]] = {}
    for table in (t for t in of.tables if t.suffix == "sessions"):
        for line in read_tsv(table.path):
            session = (line.pop("session_id", None) or "").removeprefix("ses-")
            lines[f"sub-{table.entities.get('sub', '')}", session] = line
    return lines


def _moment(text: str | None) -> datetime.datetime | None:
    """An acq_time without its zone, in UTC where it has one; None for what is no time."""
    try:
        then = datetime.datetime.fromisoformat(text or "")
        return then if then.tzinfo is None else then.astimezone(datetime.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None


def _type_cells(cells: _Cells, prefix: str) -> None:
    for name in dict.fromkeys(name for _, line in cells for name in line):
        having = [(row, line[name]) for row, line in cells if name in line]
        for (row, _), value in zip(having, typed(cell for _, cell in having), strict=True):
            if value is not None:
                row.columns[prefix + name] = value


def _settle_names(rows: Sequence[PlanRow]) -> None:
    """Tell apart what pipelines named as another image; of two files of one name the second is wrong."""
    taken: set[str] = set()
    for row in rows:
        if row.obs_id in taken and row.columns["pipeline"]:
            row.obs_id = f"{row.obs_id}_{row.columns['pipeline']}"
        if row.obs_id in taken and row.verdict == "ingest":
            row.verdict, row.reason = "error", "same name: another file of the data set has it too"
        taken.add(row.obs_id)


def _subjects(root: str, rows: Sequence[PlanRow]) -> pa.Table:
    """participants.tsv with numbers as numbers, and a row for each subject that it does not list."""
    path = os.path.join(root, "participants.tsv")
    lines = read_tsv(path) if os.path.isfile(path) else []
    ids = [f"sub-{(line.pop('participant_id', None) or '').removeprefix('sub-')}" for line in lines]
    if "sub-" in ids:
        nameless = f"none in row {ids.index('sub-') + 2}"
        raise SourceCorruptError(path, expected="participant_id in every row", got=nameless)
    more = [s for s in dict.fromkeys(row.obs_subject_id for row in rows) if s not in set(ids)]
    columns: dict[str, Any] = {"obs_subject_id": [*ids, *more]}
    for name in lines[0] if lines else ():
        # names that tables of a study keep for themselves
        free = f"participant_{name}" if name.startswith("_") or name in ("obs_ids", *columns) else name
        columns[free] = [*typed(line[name] for line in lines), *[None] * len(more)]
    arrays = {name: pa.array(values) for name, values in columns.items()}
    # a column of n/a alone is text, as any cell that comes later may be
    table = {n: a.cast(pa.string()) if pa.types.is_null(a.type) else a for n, a in arrays.items()}
    return subject_frame(pa.table(table))
