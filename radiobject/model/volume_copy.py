"""One volume copied to another place, byte for byte or, between backends, value for value.

One that lies in source files, and is to be stored, is stored as `materialize` does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from radiobject.backends import IN_PLACE, backend_of_volume
from radiobject.backends.base import Backend, StoredObject
from radiobject.config import WriteConfig
from radiobject.errors import CorruptObjectError
from radiobject.format.exclusive import ensure_group
from radiobject.format.foreground import fingerprint, read_index
from radiobject.format.layout import index_key
from radiobject.format.meta import row_meta
from radiobject.model.storing import TOLD, Job, read_registered
from radiobject.model.study import Study
from radiobject.storage import Storage, check_key
from radiobject.writing.foreground import put_index
from radiobject.writing.volume import Naming, Target, write_volume

__all__ = ["copy_volume"]


def copy_volume(
    study: Study, collection: str, storage: Storage, target: Backend, write: WriteConfig, job: dict[str, Any]
) -> dict[str, Any]:
    """One volume at its new place: what its row has to say about that.

    One that lay in files is stored by `write`, its thumbnail is `_jpeg`, and its row says what ingest would.
    """
    new = job["new"]
    ensure_group(storage, new.rpartition("/")[0])
    source = study.entry(collection).backend
    here, there = backend_of_volume(source, job["_path"]), backend_of_volume(target.name, new)
    same = here == there
    if same and job["_objects"]:
        objects = []
        for name, data in _sound(study, job):
            storage.write(f"{new}/{name}", data)
            objects.append(asdict(StoredObject.of(name, data)))
        return {**_placed(study, storage, job, new, objects), "_hint": job["_hint"]}
    for _ in _sound(study, job):
        pass  # chunks know whether they are whole, but not whose they are
    if here == IN_PLACE:
        subject, obs_id = job["obs_subject_id"], job["obs_id"]
        lying = Job("", subject, obs_id, job["_path"], job["_hint"], job["_volume"], tuple(job["affine"]))
        loaded, naming = read_registered(study.snapshot.storage, lying), Naming("", subject, job["new_id"])
        row = write_volume(loaded, naming, Target(storage, target, {}, {}, write), path=new)
        return {name: row.get(name) for name in (*TOLD, "_jpeg")}
    handle = study.backend(source).open_volume(check_key(job["_path"]), job["_hint"])
    extras = {name: handle.extra(name) for name in row_meta(job["_volume"]).source.extras}
    writer = target.create_volume(new, handle.levels, handle.attrs, extras)
    try:
        for number, level in enumerate(handle.levels):
            for box in level.spec.shard_boxes():
                writer.write(number, box, handle.read(box, number))
        stored_volume = writer.finish()
    except BaseException:
        writer.abort()
        raise
    objects = [asdict(o) for o in stored_volume.objects]
    return {**_placed(study, storage, job, new, objects), "_hint": stored_volume.hint}


def _placed(
    study: Study, storage: Storage, job: dict[str, Any], new: str, objects: list[dict[str, Any]]
) -> dict[str, Any]:
    """What the row says of the copy's place; a foreground index comes along, as one of the copy's objects."""
    found: dict[str, Any] = {"_path": new, "_objects": objects, "_foreground": None}
    if job.get("_foreground") is not None:
        index = read_index(study.snapshot.storage, job["_foreground"], job["_path"], job["_objects"])
        moved = replace(index, of=fingerprint(new, objects))
        found["_foreground"] = put_index(moved, index_key(new), storage)
    return found


def _sound(study: Study, job: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each object of a volume; `CorruptObjectError` for others than the committed ones."""
    origin = study.snapshot.storage
    for stored in job["_objects"]:
        key = check_key(f"{job['_path']}/{stored['path']}")
        data = origin.read(key)
        if not StoredObject(**stored).matches(data):
            raise CorruptObjectError(
                f"{origin.location.uri}/{key}",
                expected="the bytes that were committed",
                got="others",
                hint="Nothing was committed; validate the source.",
            )
        yield stored["path"], data
