"""Writing: one loaded volume to its own place, and the row of the volume table that will name it."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from radiobject.backends.base import ArraySpec, Backend, Level, StoredVolume, plan_array
from radiobject.backends.files import FilesBackend
from radiobject.config import WriteConfig
from radiobject.errors import CapabilityError
from radiobject.format.exclusive import ensure_group
from radiobject.format.layout import geometry_shape, index_key, volume_path
from radiobject.format.meta import Kind, VolumeMeta, row_text
from radiobject.format.ome import ome_attributes
from radiobject.storage import Storage
from radiobject.writing.compression import settle_shuffle
from radiobject.writing.foreground import write_index
from radiobject.writing.in_place import InPlace
from radiobject.writing.integers import as_integers
from radiobject.writing.loaded import Loaded, with_scaled_dtype
from radiobject.writing.pyramid import Pyramid, has_levels
from radiobject.writing.statistics import Statistics, volume_statistics
from radiobject.writing.thumbnail import thumbnail_jpeg

__all__ = ["Named", "Naming", "Target", "register_volume", "store", "volume_row", "write_volume"]


class Named(Protocol):
    """What a volume will be called, and the columns that tell it from its partners."""

    @property
    def collection(self) -> str: ...
    @property
    def obs_subject_id(self) -> str: ...
    @property
    def obs_id(self) -> str: ...
    @property
    def session(self) -> str | None: ...
    @property
    def run(self) -> int | None: ...
    @property
    def acquisition_time(self) -> datetime.datetime | None: ...


@dataclass(frozen=True)
class Naming:
    """A `Named` of plain values."""

    collection: str
    obs_subject_id: str
    obs_id: str
    session: str | None = None
    run: int | None = None
    acquisition_time: datetime.datetime | None = None


@dataclass(frozen=True)
class Target:
    """Where volumes go: the study's storage, the backend, and the path and kind of each collection."""

    storage: Storage
    backend: Backend
    paths: Mapping[str, str]
    kinds: Mapping[str, Kind]
    write: WriteConfig


def write_volume(
    loaded: Loaded, source: Named, target: Target, *, path: str | None = None
) -> dict[str, Any]:  # fmt: skip
    """Write voxels, metadata and header of one volume, and return its row with the thumbnail as `_jpeg`.

    The volume goes to `path`, left out: to a random one of its own, so that no two writers or tries share
    one. When anything fails, nothing openable is left.
    """
    path = path or volume_path(
        target.paths[source.collection], source.obs_id, secrets.token_hex(8), target.backend.suffix
    )
    ensure_group(target.storage, path.rpartition("/")[0])
    meta, statistics, spec, stored = store(loaded, path, source.obs_id, target.backend, target.write)
    objects = [asdict(o) for o in stored.objects]
    index = None
    if meta.kind == "label" and target.write.foreground_index:
        try:
            index = write_index(
                loaded.voxels, spec.chunks[-3:], path, objects, index_key(path), target.storage
            )
        except BaseException:
            target.backend.delete_volume(path)
            raise
    return volume_row(
        source, meta, spec, stored, path, digest=loaded.digest, statistics=statistics, index=index,
        jpeg=_thumbnail(loaded, meta, statistics),
    )  # fmt: skip


def register_volume(found: InPlace, source: Named, target: Target) -> dict[str, Any]:
    """Register one volume where it lies, and return its row: without what only its voxels could tell.

    Scaled reads return the type that the whole range of the stored type needs.
    """
    backend = target.backend
    if not isinstance(backend, FilesBackend):
        raise CapabilityError(
            f"backend {backend.name!r}", expected="'files', for copy=False", got="one that stores voxels"
        )
    path = volume_path(target.paths[source.collection], source.obs_id, secrets.token_hex(8), backend.suffix)
    ensure_group(target.storage, path.rpartition("/")[0])
    meta = found.settled()
    codec = target.write.label_compression if meta.kind == "label" else target.write.compression
    spec = plan_array(found.shape, found.dtype, meta.dims, target.write.tile, codec)
    attrs = {
        "ome": _ome(meta, source.obs_id, None, spec, [("0", (1, 1, 1))]),
        "radiobject": meta.to_json(),
    }
    stored = backend.register_volume(
        path, [Level("0", spec)], attrs, found.extras, found.source, found.ranges, found.layout_sha256
    )
    return volume_row(source, meta, spec, stored, path)


def volume_row(
    source: Named, meta: VolumeMeta, spec: ArraySpec, stored: StoredVolume, path: str, *,
    digest: str | None = None, statistics: Statistics | None = None,
    index: dict[str, Any] | None = None, jpeg: bytes | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The row of a volume, and its thumbnail as `_jpeg`; of voxels that nobody has read it says nothing."""
    x, y, z = geometry_shape(spec.shape, spec.dims)
    sizes = dict(zip(spec.dims, spec.shape, strict=True))
    return {
        "obs_subject_id": source.obs_subject_id,
        "obs_id": source.obs_id,
        "session": source.session,
        "run": source.run,
        "acquisition_time": source.acquisition_time,
        "dim_x": x,
        "dim_y": y,
        "dim_z": z,
        "dim_t": sizes.get("t"),
        "dim_c": sizes.get("c"),
        **{f"spacing_{a}": s for a, s in zip("xyz", meta.affine.spacing, strict=True)},
        "time_step": meta.time_step,
        "dtype": str(spec.dtype),
        "axcodes": "".join(meta.affine.axcodes),
        "affine": meta.affine.matrix.ravel().tolist(),
        "source_format": meta.source.format,
        "source_digest": digest,
        **({} if statistics is None else statistics.as_row()),
        "_path": path,
        "_hint": stored.hint,
        "_volume": row_text(meta),
        "_objects": [asdict(o) for o in stored.objects],
        "_foreground": index,
        "_jpeg": jpeg,
    }


def store(
    loaded: Loaded, path: str, name: str, backend: Backend, write: WriteConfig
) -> tuple[VolumeMeta, Statistics, ArraySpec, StoredVolume]:
    """Write voxels, metadata and header at a path of a backend. `name` is what viewers will show.

    When anything fails, nothing openable is left.
    """
    spacing = loaded.meta.affine.spacing
    shape = geometry_shape(loaded.voxels.shape, loaded.meta.dims)
    # a pyramid of integers has rounded means
    if write.store_integers and not has_levels(shape, spacing, write):
        loaded = as_integers(loaded)
    meta = with_scaled_dtype(loaded)
    label = meta.kind == "label"
    statistics = volume_statistics(loaded.voxels, None if label else meta.scaling, meta.dims)
    codec = write.label_compression if label else write.compression
    spec = plan_array(loaded.voxels.shape, loaded.voxels.dtype, meta.dims, write.tile, codec)
    spec = settle_shuffle(loaded.voxels, spec, codec)
    pyramid = Pyramid.planned(spec, spacing, write)
    attrs = {"ome": _ome(meta, name, statistics, spec, pyramid.scales), "radiobject": meta.to_json()}
    writer = backend.create_volume(path, pyramid.levels, attrs, loaded.extras)
    try:
        for box in spec.shard_boxes():
            writer.write(0, box, loaded.voxels[box.slices])
        pyramid.write(writer, loaded.voxels, labels=label)
        return meta, statistics, spec, writer.finish()
    except BaseException:
        writer.abort()
        raise


def _thumbnail(loaded: Loaded, meta: VolumeMeta, statistics: Statistics) -> bytes:
    return thumbnail_jpeg(
        loaded.voxels,
        meta.dims,
        meta.affine,
        _window(meta, statistics),
        meta.kind,
        scaling=None if meta.kind == "label" else meta.scaling,
        box=statistics.nonzero_box,
        labels=meta.labels,
    )


def _window(meta: VolumeMeta, statistics: Statistics | None) -> tuple[float, float] | None:
    """The source's own display range, else the 1st to 99th percentile, else (flat in between) everything."""
    if meta.window is not None or statistics is None:
        return meta.window
    low, high = statistics.p1, statistics.p99
    if low == high:
        low, high = statistics.min, statistics.max
    return (low, high) if low <= high else None


def _ome(
    meta: VolumeMeta, name: str, statistics: Statistics | None, spec: ArraySpec, scales: Any
) -> dict[str, Any]:
    channels = spec.shape[meta.dims.index("c")] if "c" in meta.dims else 1
    # viewers read the stored values: their display range must be in stored units
    unscale = (lambda v: v) if meta.scaling is None or meta.kind == "label" else _unscaled(meta)
    window = _window(meta, statistics)
    ends = None
    if statistics is not None and statistics.min <= statistics.max:
        ends = tuple(sorted((unscale(statistics.min), unscale(statistics.max))))
    shown = None if window is None else tuple(sorted((unscale(window[0]), unscale(window[1]))))
    return ome_attributes(
        meta,
        name,
        scales,
        data_range=None if ends is None else (ends[0], ends[1]),
        window=None if shown is None else (shown[0], shown[1]),
        integer=spec.dtype.kind in "iu",
        channels=channels,
    )


def _unscaled(meta: VolumeMeta) -> Any:
    scaling = meta.scaling
    assert scaling is not None
    return lambda value: (value - scaling.inter) / scaling.slope
