"""Single: one volume by its own URL, without a study around it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from radiobject.backends import get_backend
from radiobject.backends.base import VolumeHandle
from radiobject.config import WriteConfig, current
from radiobject.errors import ConfigError, FormatError, MissingObjectError
from radiobject.format.meta import VolumeMeta
from radiobject.format.ome import read_ome
from radiobject.location import Location
from radiobject.storage import Storage
from radiobject.writing.loaded import Loaded
from radiobject.writing.volume import store

__all__ = ["open_single", "write_single"]


def open_single(
    uri: str | os.PathLike[str], storage_options: Mapping[str, Any] | None
) -> tuple[VolumeHandle, VolumeMeta]:
    """The volume at a URL, ours or a foreign OME-Zarr 0.5 image, and what it says of itself.

    Raises `MissingObjectError` for nothing there, `FormatError` for what is no volume.
    """
    location, name, backend = _place(uri, storage_options)
    try:
        handle = get_backend(backend, location).open_volume(name)
    except MissingObjectError as error:
        raise MissingObjectError(
            str(uri),
            expected="a volume (.../<attempt>.ome.zarr)",
            got="nothing there",
            hint="A study is opened by RadiObject(uri), its volumes by radi.get_volume(obs_id).",
        ) from error
    attrs, where = handle.attrs, f"{location.uri}/{name}"
    if "radiobject" in attrs:
        if attrs["radiobject"].get("type") == "study":
            raise FormatError(where, expected="a volume", got="a study", hint="Open it by RadiObject(uri).")
        return handle, VolumeMeta.from_json(attrs["radiobject"], where)
    return handle, read_ome(attrs, where)


def write_single(
    loaded: Loaded,
    uri: str | os.PathLike[str],
    storage_options: Mapping[str, Any] | None = None,
    write: WriteConfig | None = None,
) -> tuple[VolumeHandle, VolumeMeta]:
    """Write one volume at a free URL and open it. `StudyExistsError` when it is taken."""
    location, name, backend = _place(uri, storage_options)
    target = get_backend(backend, location)
    meta, _, _, stored = store(loaded, name, name.split(".", 1)[0], target, write or current().write)
    Storage(location).make_durable()
    return target.open_volume(name, stored.hint), meta


def _place(
    uri: str | os.PathLike[str], storage_options: Mapping[str, Any] | None
) -> tuple[Location, str, str]:
    """The folder around a volume, the volume's name in it, and the backend that it belongs to."""
    whole = Location(uri, storage_options)
    folder, _, name = whole.uri.rpartition("/")
    if not folder or not name or folder.endswith("/"):
        raise ConfigError("uri of a volume", expected="a folder and a name", got=repr(whole.uri))
    endings = {".zarr": "zarr", ".tdb": "tiledb", ".mem": "memory"}
    backend = next((b for ending, b in endings.items() if name.endswith(ending)), "zarr")
    return Location(folder, storage_options), name, backend
