"""Storing: one volume that lies in source files read there and stored, with what its row says then."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from radiobject.backends.files.changed import SourceFiles
from radiobject.backends.files.manifest import parse_hint
from radiobject.backends.files.volume import FilesHandle
from radiobject.errors import RadiObjectError
from radiobject.format.layout import to_python
from radiobject.format.meta import require_dims, row_meta
from radiobject.format.schema import OBS_SCHEMA
from radiobject.geometry.affine import Affine
from radiobject.storage import Storage
from radiobject.writing.in_place import digest_with
from radiobject.writing.loaded import Loaded, from_voxels
from radiobject.writing.volume import Naming, Target, write_volume

__all__ = ["TOLD", "Job", "StoringVolumes", "Unread", "read_registered"]

TOLD = tuple(
    name for name in OBS_SCHEMA.names
    if name.startswith(("intensity_", "_"))
    or name in ("source_digest", "n_nonfinite", "nonzero_box", "dtype")
)  # fmt: skip
"""Columns that say where and as what a volume is stored, and what only its voxels tell. All others stay."""


@dataclass(frozen=True)
class Job:
    """A registered volume as its row has it; `folder` is that of its collection, whatever that is called."""

    folder: str
    obs_subject_id: str
    obs_id: str
    path: str
    hint: str
    meta: str
    affine: tuple[float, ...]


@dataclass(frozen=True)
class Unread:
    """What is wrong with the source of a volume."""

    error: RadiObjectError


@dataclass(frozen=True)
class StoringVolumes:
    """Reads a volume where it lies, stores it at a place of its own, and gives its new row.

    `syncs` makes it last before that is told: this may be another machine, with a cache of its own.
    """

    storage: Storage
    targets: Mapping[str, Target]
    syncs: bool

    def __call__(self, job: Job) -> dict[str, Any] | Unread:
        begun = time.monotonic()
        try:
            loaded = read_registered(self.storage, job)
        except RadiObjectError as error:
            return Unread(error)
        naming = Naming(job.folder, job.obs_subject_id, job.obs_id)
        row = write_volume(loaded, naming, self.targets[job.folder])
        if self.syncs:
            self.storage.make_durable()
        return {**row, "_fingerprint": job.path, "_seconds": time.monotonic() - begun}


def read_registered(storage: Storage, job: Job) -> Loaded:
    """The voxels as ingest would have decoded them, with what the study says of them already.

    Raises from the `IntegrityError` branch, or `StorageError`, when its files are others, gone or damaged.
    """
    meta = replace(row_meta(job.meta), affine=Affine(np.reshape(job.affine, (4, 4))))
    files = SourceFiles(storage.location.source_root)
    description = parse_hint(job.hint)
    handle = FilesHandle(storage, files, job.path, description)
    require_dims(meta, handle.spec.dims, f"{job.obs_id} ({job.path})")
    found = handle.fetch(meta.source.extras, hashed=meta.source.format.startswith("nifti"))
    # of files that are decoded as a whole nobody knew whether there is anything behind their voxels
    extras = {name: data for name, data in found.extras.items() if data}
    meta = replace(meta, source=replace(meta.source, extras=tuple(extras)))
    digest = found.digest or from_voxels(to_python(found.voxels, meta.dims), meta, job.obs_id).digest
    return Loaded(found.voxels, meta, extras, digest_with(digest, description.layout_sha256), settled=True)
