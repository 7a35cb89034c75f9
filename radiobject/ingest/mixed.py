"""Mixed: collections of NIfTI and of DICOM in one commit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import Enum
from typing import Any

from radiobject.errors import ConfigError, MetadataError
from radiobject.format.catalog import Snapshot
from radiobject.ingest import ingest
from radiobject.ingest.walking import holds_dicom

__all__ = ["ImageFormat", "ingest_images"]

_OF_DICOM = ("deid_key", "deid_map", "keep_phi", "irregular")


class ImageFormat(Enum):
    """What a collection's files are."""

    NIFTI = "nifti"
    DICOM = "dicom"


def ingest_images(
    uri: str,
    images: Mapping[str, Any] | None,
    obs_meta: Any = None,
    *,
    format_hint: Any = None,
    dicom_dirs: Any = None,
    deidentify: bool | None = None,
    **options: Any,
) -> Snapshot:
    """See `RadiObject.from_images` and `append`. Modalities name the collections of `dicom_dirs`."""
    if (images is None) == (dicom_dirs is None):
        raise MetadataError("append", expected="images= or dicom_dirs=", got="both" if images else "neither")
    formats = {} if images is None else _formats(images, format_hint)
    dicom = {n: images[n] for n, f in formats.items() if images and f is ImageFormat.DICOM}
    if not dicom and dicom_dirs is None:
        if given := [name for name in _OF_DICOM if options.get(name)]:
            raise ConfigError(f"{given[0]}=", expected="a collection of DICOM", got="NIfTI only")
        return ingest(uri, images or {}, obs_meta, deidentify=bool(deidentify), **options)
    from radiobject.ingest.dicom import ingest_dicoms

    others = {n: v for n, v in (images or {}).items() if n not in dicom}
    return ingest_dicoms(
        uri, dicom or dicom_dirs, obs_meta, others=others, deidentify=deidentify is not False,
        deidentify_others=bool(deidentify), **options,
    )  # fmt: skip


def _formats(images: Mapping[str, Any], hint: Any) -> dict[str, ImageFormat]:
    hints = hint if isinstance(hint, Mapping) else dict.fromkeys(images, hint)
    if unknown := [name for name in hints if name not in images]:
        raise MetadataError("format_hint=", expected=f"some of {list(images)}", got=str(unknown))
    return {name: _format(value, hints.get(name)) for name, value in images.items()}


def _format(value: Any, hint: Any) -> ImageFormat:
    if hint is None:
        first = _first_path(value)
        return ImageFormat.DICOM if first is not None and holds_dicom(first) else ImageFormat.NIFTI
    try:
        return ImageFormat(hint)
    except ValueError as error:
        raise ConfigError("format_hint=", expected="'nifti' or 'dicom'", got=repr(hint)) from error


def _first_path(value: Any) -> str | None:
    """The first path of what is listed for a collection, None where objects are."""
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    return _first_path(value[0]) if isinstance(value, tuple | list) and value else None
