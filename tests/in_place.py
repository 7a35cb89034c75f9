"""Studies that tests make of arrays, made of files that stay where they lie instead."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from radiobject.export.nifti import nifti_bytes
from radiobject.location import Location
from radiobject.writing.loaded import from_array
from radiobject.writing.objects import is_array_pair

__all__ = ["EVERYWHERE", "registering"]

EVERYWHERE = Location(os.sep)
"""A root that all files of this machine are below."""
EVERYWHERE.sources = None  # whatever a test says of all others


def registering(from_niftis: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """`RadiObject.from_niftis` that writes arrays to files below `folder`, and registers these."""

    def made(uri: Any, images: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        options.pop("backend", None)
        axis4 = options.get("axis4", "auto")
        named = {name: _as_files(value, folder / uuid.uuid4().hex, axis4) for name, value in images.items()}
        return from_niftis(uri, named, *args, copy=False, **options)

    return made


def _as_files(value: Any, folder: Path, axis4: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [_as_file(entry, folder / str(number), axis4) for number, entry in enumerate(value)]


def _as_file(entry: Any, folder: Path, axis4: Any) -> Any:
    paired = isinstance(entry, tuple) and not is_array_pair(entry)
    item, ids = (entry[0], entry[1:]) if paired else (entry, ())
    if not is_array_pair(item):
        return entry
    loaded = from_array(item[0], item[1], "array", axis4)
    content, _ = nifti_bytes(loaded.meta, loaded.voxels)
    folder.mkdir(parents=True)
    (folder / "volume.nii").write_bytes(content)
    return (folder / "volume.nii", *ids) if ids else folder / "volume.nii"
