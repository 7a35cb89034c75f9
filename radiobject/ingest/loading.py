"""Loading: one source of any kind as voxels in disk order with everything that must be kept beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from radiobject.config import OrientationConfig
from radiobject.errors import RadiObjectError, SourceError
from radiobject.format.meta import Kind, Label
from radiobject.ingest.files import PEEK_BYTES, Reader
from radiobject.ingest.nifti import read_nifti, says_labels
from radiobject.ingest.sources import Readable, is_url, path_of
from radiobject.location import Location
from radiobject.storage import Storage
from radiobject.writing.loaded import Axis4, Loaded, refuse_float_labels, reoriented
from radiobject.writing.objects import from_object

__all__ = ["is_labels", "load"]


def load(
    item: Any,
    name: str,
    kind: Kind,
    *,
    axis4: Axis4 = "auto",
    labels: Mapping[int, str] | None = None,
    orientation: OrientationConfig | None = None,
    near: Location | None = None,
) -> Loaded:
    """Read a path, a URL, a `Readable`, or an object in memory that `from_object` takes.

    An image that nibabel has open on an unchanged file is read from that file, so that its stored integers
    and header survive. Raises from the `SourceError` branch only.
    """
    try:
        loaded = item.load() if isinstance(item, Readable) else _loaded(item, name, kind, axis4, near)
    except RadiObjectError:
        raise
    except Exception as error:
        # one source that a library chokes on in a way nobody foresaw must not end a night's run
        raise SourceError(name, expected="a readable source", got=repr(error)) from error
    meta = replace(loaded.meta, kind=kind, labels=loaded.meta.labels if kind == "label" else ())
    refuse_float_labels(meta, loaded.voxels.dtype, name)
    if kind == "label" and labels:
        meta = replace(meta, labels=tuple(Label(v, t) for v, t in sorted(labels.items())))
    loaded = replace(loaded, meta=meta)
    if orientation is not None and orientation.reorient_on_load:
        loaded = reoriented(loaded, orientation)
    return loaded


def _loaded(item: Any, name: str, kind: Kind, axis4: Axis4, near: Location | None) -> Loaded:
    path = path_of(item)
    return from_object(item, name, axis4) if path is None else _from_file(path, kind, axis4, near)


def is_labels(item: Any, near: Location | None) -> bool:
    """Whether a source says itself that it is a label map; one that cannot be read says nothing yet."""
    if isinstance(item, Readable):
        return False
    path = path_of(item)
    if path is None:
        return False
    try:
        return says_labels(path.removeprefix("file://"), reader=_reader(path, near, PEEK_BYTES))
    except RadiObjectError:
        return False  # the ingest itself will say what is wrong with it


def _reader(path: str, near: Location | None, at_most: int | None = None) -> Reader | None:
    """Fetches the files of a URL, or their first bytes; None for a path, which needs none."""
    if not is_url(path):
        return None

    def read(url: str) -> bytes:
        folder, _, key = url.rpartition("/")
        storage = Storage(near.beside(folder) if near else Location(folder))
        if at_most is None:
            return storage.read(key)
        return storage.read_range(key, 0, min(at_most, storage.info(key).bytes))

    return read


def _from_file(path: str, kind: Kind, axis4: Axis4, near: Location | None) -> Loaded:
    image = read_nifti(path.removeprefix("file://"), axis4=axis4, reader=_reader(path, near))
    extras = {"nifti": image.header, "nifti_lead": image.lead, "nifti_tail": image.tail}
    extras = {name: data for name, data in extras.items() if data}
    meta = image.meta(kind)
    meta = replace(meta, source=replace(meta.source, extras=tuple(extras)))
    return Loaded(image.voxels, meta, extras, image.digest)
