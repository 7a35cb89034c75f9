"""Single: one volume by its own URL, without a study around it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from radiobject.backends import IN_PLACE, backend_of_name, get_backend
from radiobject.backends.base import VolumeHandle
from radiobject.config import WriteConfig
from radiobject.errors import (
    ConfigError,
    FormatError,
    MissingObjectError,
    RadiObjectError,
    StudyExistsError,
)
from radiobject.format.meta import VolumeMeta, require_dims
from radiobject.format.ome import read_ome
from radiobject.location import Location
from radiobject.model.context import context_for
from radiobject.storage import Storage
from radiobject.writing.loaded import Loaded
from radiobject.writing.objects import is_nifti_name
from radiobject.writing.volume import store

__all__ = ["Place", "free_place", "open_single", "write_single"]


_TO_HOLDER = 4
"""Folders from that of a volume to the one that holds its study."""

_ENOUGH = 2**20
"""Bytes of a document that may say, in an error, what stands there."""


@dataclass(frozen=True)
class Place:
    """Where one volume stands: the folder around it, its name there, and the backend that it belongs to."""

    folder: Location
    name: str
    backend: str

    @classmethod
    def at(
        cls, uri: str | os.PathLike[str], storage_options: Mapping[str, Any] | None, ctx: Any = None
    ) -> Place:
        """The place that a URL names, read by `ctx`. `ConfigError` for one without a folder or a name."""
        whole = Location(uri, storage_options)
        folder, _, name = whole.uri.rpartition("/")
        if not folder or not name or folder.endswith("/"):
            raise ConfigError("uri of a volume", expected="a folder and a name", got=repr(whole.uri))
        # foreign OME-Zarr images have any name
        backend = backend_of_name(name) or "zarr"
        context = context_for(ctx, whole.uri, [backend])
        return cls(Location(folder, storage_options).with_context(context), name, backend)

    @property
    def uri(self) -> str:
        """The volume's own URL."""
        return f"{self.folder.uri}/{self.name}"


def open_single(
    uri: str | os.PathLike[str], storage_options: Mapping[str, Any] | None, ctx: Any = None,
    source_root: str | os.PathLike[str] | None = None,
) -> tuple[VolumeHandle, VolumeMeta]:  # fmt: skip
    """The volume at a URL, ours or a foreign OME-Zarr 0.5 image, and what it says of itself.

    One that stays where it lies is read below `source_root`, unless given the folder around its study.

    Raises `MissingObjectError` for nothing there, `FormatError` for what is no volume.
    """
    place = Place.at(uri, storage_options, ctx)
    folder = place.folder
    if source_root is not None or place.backend == IN_PLACE:
        folder = folder.with_sources(source_root or _around_study(folder))
    try:
        handle = get_backend(place.backend, folder).open_volume(place.name)
    except (FormatError, MissingObjectError) as error:
        told = _told(place, error)
        if told is None:
            raise
        raise told from error
    attrs = handle.attrs
    ours = "radiobject" in attrs
    meta = VolumeMeta.from_json(attrs["radiobject"], place.uri) if ours else read_ome(attrs, place.uri)
    require_dims(meta, handle.spec.dims, place.uri)
    return handle, meta


def _around_study(folder: Location) -> Location | None:
    """What holds the study of a volume's folder, `<study>/collections/<collection>/<volume>`."""
    above = folder.parents(_TO_HOLDER)
    return above[_TO_HOLDER - 1] if len(above) >= _TO_HOLDER else None


def free_place(
    uri: str | os.PathLike[str], storage_options: Mapping[str, Any] | None, ctx: Any = None
) -> Place:
    """The place of a volume to be written. `StudyExistsError` when anything stands there."""
    place = Place.at(uri, storage_options, ctx)
    if is_nifti_name(place.name):
        raise ConfigError(
            "uri of a volume",
            expected="a name such as scan.ome.zarr",
            got=repr(place.name),
            hint="NIfTI files are written by vol.to_nifti(path).",
        )
    if not Storage(Location(place.uri, storage_options)).is_empty():
        raise StudyExistsError(
            place.uri, expected="a free place", got="something there", hint="Choose another name."
        )
    return place


def write_single(loaded: Loaded, place: Place, write: WriteConfig) -> tuple[VolumeHandle, VolumeMeta]:
    """Write one volume and open it. `StudyExistsError` when another was there first."""
    target = get_backend(place.backend, place.folder)
    meta, _, _, stored = store(loaded, place.name, place.name.split(".", 1)[0], target, write)
    if target.capabilities.persistent:
        Storage(place.folder).make_durable()
    return target.open_volume(place.name, stored.hint), meta


def _told(place: Place, error: FormatError | MissingObjectError) -> RadiObjectError | None:
    """A better word on why nothing could be opened, from what stands there; None when there is none."""
    storage, hint = Storage(place.folder), None
    said = _attributes(storage, place.name)
    ours = said.get("radiobject")
    if is_nifti_name(place.name):
        got, hint = "a NIfTI name", "Open it by Volume.from_nifti(path)."
    elif isinstance(ours, dict) and ours.get("type") == "study":
        got, hint = "a study", "Open it by RadiObject(uri), its volumes by radi.get_volume(obs_id)."
    elif isinstance(error, FormatError):
        if place.backend != "zarr" or "ome" in said:
            return None
        got = "a Zarr node that is no OME-Zarr image"
    elif storage.size(f"{place.name}/.zattrs") is not None:
        got, hint = "Zarr v2", "OME-Zarr 0.4 is not read; convert it to 0.5."
    else:
        empty = Storage(place.folder.child(place.name)).is_empty()
        return MissingObjectError(
            place.uri,
            expected=f"a volume on the backend {place.backend!r}, going by its name",
            got="nothing there" if empty else f"something else ({error.what} is missing)",
        )
    return FormatError(place.uri, expected="a volume", got=got, hint=hint)


def _attributes(storage: Storage, name: str) -> dict[str, Any]:
    """Attributes of a Zarr node, none where they cannot be read."""
    try:
        found = json.loads(storage.read(f"{name}/zarr.json", _ENOUGH)).get("attributes")
    except (MissingObjectError, ValueError, AttributeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
