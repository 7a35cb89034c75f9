"""Foreground indexes of a study's label volumes: read, and built for volumes that have none."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from typing import Any

import pyarrow as pa

from radiobject.errors import ConfigError, FormatError, RadiObjectError
from radiobject.executor import progress_bar, run
from radiobject.format.changes import CollectionEdit, Edit
from radiobject.format.foreground import ForegroundIndex, read_index
from radiobject.format.layout import index_key
from radiobject.format.schema import OBJECT
from radiobject.format.transaction import Transaction
from radiobject.model.execution import Execution
from radiobject.model.study import Study
from radiobject.workers import refuse_other_processes
from radiobject.writing.foreground import write_index

__all__ = ["index_labels", "stored_index"]

_GROUP = 1000
"""Volumes to a commit: what is done stays done when the rest is interrupted."""


def stored_index(study: Study, collection: str, position: int) -> ForegroundIndex | None:
    """The foreground index of the volume in a row; None when it has none.

    Raises `MissingObjectError`, `CorruptObjectError`, and `StaleIndexError` for one of other voxels.
    """
    columns = ("_foreground", "_path", "_objects", "dim_z", "dim_y", "dim_x")
    stated, path, objects, *shape = study.obs(collection).record(position, columns)
    if stated is None:
        return None
    found = read_index(study.snapshot.storage, stated, path, objects)
    if found.shape != tuple(shape):
        raise FormatError(
            f"{study.location.uri}/{stated['path']}", expected=f"an index of {tuple(shape)} voxels (z, y, x)",
            got=str(found.shape), hint="Build it again: radi.index_foreground(rebuild=True).",
        )  # fmt: skip
    return found


def index_labels(
    study: Study, collections: str | Iterable[str] | None, *, rebuild: bool, message: str, how: Execution
) -> Study:
    """The study when the label volumes of these collections (None: of all) have an index.

    Volumes that have one are left alone unless `rebuild`, and so are those with more than 4,096 different
    values. Reads each volume once. What could not be read is raised when the others are done.
    """
    names = [collections] if isinstance(collections, str) else collections
    labels = [n for n in study.names if study.entry(n).kind == "label"]
    for name in (chosen := labels if names is None else list(names)):
        if study.entry(name).kind != "label":
            raise ConfigError(f"index_foreground({name!r})", expected=f"some of {labels}", got="images")
    for name in chosen:
        persistent = study.backend(study.entry(name).backend).capabilities.persistent
        refuse_other_processes(study.location, how.executor, persistent=persistent)
    todo = {name: _without(study, name, rebuild=rebuild) for name in chosen}
    failed: list[Exception] = []
    total, done = sum(map(len, todo.values())), 0
    with progress_bar("foreground", total, how.progress) as tell:

        def one_more(outcome: dict[str, Any] | Exception) -> None:
            nonlocal done
            done += 1
            tell(done, total)
            if isinstance(outcome, Exception):
                failed.append(outcome)

        for name, ids in todo.items():
            for first in range(0, len(ids), _GROUP):
                study = _index_group(study, name, ids[first : first + _GROUP], message, how, one_more)
    if failed:
        failed[0].add_note(f"{len(failed)} of {total} volumes have no foreground index; the others have one")
        raise failed[0]
    return study


def _index_group(
    study: Study,
    name: str,
    ids: Sequence[str],
    message: str,
    how: Execution,
    tell: Callable[[dict[str, Any] | Exception], None],
) -> Study:
    """The study after one commit, in which those of these volumes that are still there have an index.

    Another writer may have moved rows since the commit before this one: volumes are known by their ids.
    """
    place = {obs_id: position for position, obs_id in enumerate(study.obs(name).ids())}
    group = [place[obs_id] for obs_id in ids if obs_id in place]
    transaction = Transaction(study.snapshot.storage, study.snapshot, "index foreground", message)
    transaction.journal.begin(transaction.operation, None)
    rows = []
    try:
        task = functools.partial(_indexed, study, name)
        with closing(run(task, group, executor=how.executor, workers=how.workers)) as results:
            for _, outcome in results:
                tell(outcome)
                transaction.journal.touch()
                if not isinstance(outcome, Exception) and outcome["_foreground"] is not None:
                    rows.append(outcome)
        if not rows:
            transaction.journal.discard()
            return study
        table = pa.Table.from_pylist(rows, pa.schema([("obs_id", pa.string()), ("_foreground", OBJECT)]))
        entry = study.entry(name)
        change = CollectionEdit(kind=entry.kind, backend=entry.backend, updated=table)
        return study.after(study.finish(transaction, Edit(collections={name: change})))
    except BaseException:
        with suppress(RadiObjectError):  # nothing resumes it: it would only make clean-up and purge wait
            transaction.journal.discard()
        raise


def _without(study: Study, name: str, *, rebuild: bool) -> list[str]:
    table = study.obs(name)
    if rebuild or "_foreground" not in table.schema.names:
        return table.ids()
    null = table.read(["_foreground"])["_foreground"].is_null().to_pylist()
    return [obs_id for obs_id, missing in zip(table.ids(), null, strict=True) if missing]


def _indexed(study: Study, name: str, position: int) -> dict[str, Any]:
    """A row's id, and where its new index stands."""
    obs_id, path, objects = study.obs(name).record(position, ("obs_id", "_path", "_objects"))
    handle = study.volume(name, position)._handle
    voxels = handle.read(handle.spec.box)
    key = index_key(path, secrets.token_hex(8))
    stated = write_index(voxels, handle.spec.chunks[-3:], path, objects, key, study.snapshot.storage)
    return {"obs_id": obs_id, "_foreground": stated}
