"""Cohort: which volumes make up each sample, on which grid; settled from tables, before voxels are read."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.errors import ConfigError, UnknownIdError
from radiobject.forking import renew_on_fork
from radiobject.geometry.affine import Affine
from radiobject.geometry.planes import plane_axis
from radiobject.ml.caching import Cache, cached, volume_key
from radiobject.ml.foreground import Indexes
from radiobject.ml.matching import (
    Rows,
    Source,
    Stream,
    collections_of,
    differs,
    grids,
    partners,
    streams_of,
)
from radiobject.ml.spec import SampleSpec
from radiobject.model.dtypes import common_dtype
from radiobject.model.study import Study
from radiobject.model.volume import Volume

__all__ = ["Cohort"]

_HERE = ("_lock", "_volumes", "indexes")
"""What stays in this process."""

_OPEN = 4096
"""Volumes that are kept open in a process; each holds some kilobytes."""


@dataclass(eq=False)
class Cohort:
    """The samples of a spec in a study. Pickles as places and numbers; volumes are opened when read.

    `positions` (samples, streams) are rows of the collections' tables, `shapes` (samples, 3) and `affines`
    (samples, 4, 4; RAS+ mm) the grid of each sample, `regrid` (samples, streams) which volumes are resampled
    to it.
    `volume_bytes` is the size of all their stored voxels, decoded.
    Volumes are read by way of `cache` where there is one. `indexes` keeps what `foreground.py` has read.
    """

    spec: SampleSpec
    streams: tuple[Stream, ...]
    studies: tuple[Study, ...]
    positions: npt.NDArray[np.int64]
    obs_ids: list[str]
    obs_subject_ids: list[str]
    shapes: npt.NDArray[np.int64]
    affines: npt.NDArray[np.float64]
    regrid: npt.NDArray[np.bool_]
    targets: dict[str, npt.NDArray[Any]]
    volume_bytes: int = 0
    cache: Cache | None = None
    indexes: Indexes = field(default_factory=Indexes, repr=False)
    _volumes: OrderedDict[tuple[int, int], Volume] = field(default_factory=OrderedDict, repr=False)

    def __post_init__(self) -> None:
        self.renew()
        renew_on_fork(self)

    def renew(self) -> None:
        """Make the lock anew, in a forked child; volumes open their arrays again by themselves."""
        self._lock = threading.Lock()

    @classmethod
    def of(cls, spec: SampleSpec, source: Source) -> Cohort:
        """Settle the samples.

        Raises `AlignmentError` for partners that are missing, ambiguous or on other grids, `UnknownIdError`
        for collections and columns that are not there, `ConfigError` for a source of another kind.
        """
        collections = collections_of(source, spec)
        names = list(dict.fromkeys(name for _, _, name in spec.streams))
        ids = partners(collections, names, spec)
        tables = {name: Rows.of(collections[name], ids[name]) for name in names}
        first = tables[names[0]]
        shapes, affines = grids(spec, first)
        regrid = np.zeros((len(first.ids), len(spec.streams)), dtype=bool)
        for number, (_, _, name) in enumerate(spec.streams):
            regrid[:, number] = differs(first, tables[name], spec)
        return cls(
            spec=spec,
            streams=streams_of(spec, collections, tables, regrid),
            studies=tuple(collections[name]._study for _, _, name in spec.streams),
            positions=np.stack([tables[name].positions for _, _, name in spec.streams], axis=1),
            obs_ids=first.ids,
            obs_subject_ids=first.subjects,
            shapes=shapes,
            affines=affines,
            regrid=regrid,
            targets={},
            volume_bytes=sum(rows.nbytes for rows in tables.values()),
        )._with_targets()

    def __len__(self) -> int:
        return len(self.obs_ids)

    @property
    def digest(self) -> str:
        """What the samples are: another version of a study, or another spec, has another digest."""
        said = hashlib.sha256(repr(self.spec).encode())
        for study in self.studies:
            said.update(study.snapshot.commit.sha256.encode())
        said.update(np.ascontiguousarray(self.positions).tobytes())
        return said.hexdigest()

    def column(self, name: str) -> npt.NDArray[Any]:
        """A column of the first image's volume table, else of the subject table, with a value a sample.

        Raises `UnknownIdError` when neither has it.
        """
        study, collection = self.studies[0], self.streams[0].collection
        obs, people = study.obs(collection), study.subjects
        if name.startswith("_") or name not in {*obs.schema.names, *people.schema.names}:
            known = [n for n in people.schema.names if not n.startswith("_")]
            listed = f"{', '.join(known[:12])}{' and others' if len(known) > 12 else ''}"
            raise UnknownIdError(
                f"column {name!r} of the samples",
                expected=f"a column of {collection}.obs or of obs_meta, whose columns are {listed}",
            )
        if name in obs.schema.names:
            found = obs.rows(self.positions[:, 0].tolist(), [name])[name]
        else:
            place = {subject: n for n, subject in enumerate(people.ids())}
            found = people.rows([place[s] for s in self.obs_subject_ids], [name])[name]
        values: npt.NDArray[Any] = found.to_pandas().to_numpy()
        return values

    def _with_targets(self) -> Cohort:
        self.targets = {key: self.column(name) for key, name in self.spec.targets.items()}
        return self

    @cached_property
    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """Type of each key's voxels in a sample: the spec's for images, for masks what holds their values.

        Unsigned masks of 16 bits and more become the next wider signed type, because most of torch takes no
        other. Raises `ConfigError` when it cannot hold the spec's `pad`.
        """
        found = {}
        for key in [*self.spec.images, *self.spec.masks]:
            kinds = [s.dtype for s in self.streams if s.key == key]
            dtype = np.result_type(*kinds)
            if key in self.spec.masks:
                dtype = common_dtype(kinds, f"channels of the mask {key!r}")
                wide = dtype.kind == "u" and dtype.itemsize > 1
                found[key] = np.dtype(f"i{min(dtype.itemsize * 2, 8)}") if wide else dtype
                continue
            found[key] = np.dtype(np.float32) if self.spec.dtype == "float32" else dtype
            pad = self.spec.pad
            if found[key].kind in "iu" and not (
                pad.is_integer() and np.iinfo(found[key]).min <= pad <= np.iinfo(found[key]).max
            ):
                raise ConfigError(
                    f"SampleSpec(pad=) for {key!r}", expected=f"a value of {found[key]}", got=repr(pad)
                )
        return found

    @cached_property
    def cuts(self) -> npt.NDArray[np.int64]:
        """The array axis that the spec's plane cuts, sample by sample; empty when it has no plane."""
        plane = self.spec.plane
        if plane is None:
            return np.empty(0, dtype=np.int64)
        different, which = np.unique(self.affines, axis=0, return_inverse=True)
        axes = np.array([plane_axis(Affine(matrix), plane) for matrix in different], dtype=np.int64)
        return axes[which.reshape(-1)]

    def cut(self, sample: int) -> int | None:
        """The array axis that is cut in a sample; None when samples have three dimensions."""
        return None if self.spec.plane is None else int(self.cuts[sample])

    @cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Voxels (samples, 3) that a request takes: the patch, a slice (1 along its cut), or all."""
        if self.spec.patch_size is not None:
            return np.broadcast_to(np.array(self.spec.patch_size, dtype=np.int64), self.shapes.shape)
        sizes = self.shapes.copy()
        if self.spec.plane is not None:
            sizes[np.arange(len(sizes)), self.cuts] = 1
        return sizes

    def size(self, sample: int) -> tuple[int, int, int]:
        """`sizes` of one sample."""
        if self.spec.patch_size is not None:
            return self.spec.patch_size
        x, y, z = self.sizes[sample].tolist()
        return x, y, z

    def with_cache(self, cache: Cache | None) -> Cohort:
        """The same samples, read by way of a cache (`InMemory`, `Scratch`); None reads what is stored."""
        return replace(self, cache=cache, _volumes=OrderedDict())

    def channels(self, key: str) -> int:
        """Channels of a key of the sample."""
        return sum(stream.frames for stream in self.streams if stream.key == key)

    def volume(self, sample: int, stream: int) -> Volume:
        """A volume of a sample, lazily on the sample's grid."""
        at = (sample, stream)
        with self._lock:
            found = self._volumes.get(at)
            if found is not None:
                self._volumes.move_to_end(at)
                return found
        made = self._opened(sample, stream)
        with self._lock:
            self._volumes[at] = made
            while len(self._volumes) > _OPEN:
                self._volumes.popitem(last=False)
        return made

    def stored_volume(self, sample: int, stream: int) -> Volume:
        """A volume of a sample on its own grid, as it is stored."""
        return self.studies[stream].volume(
            self.streams[stream].collection, int(self.positions[sample, stream])
        )

    def _opened(self, sample: int, stream: int) -> Volume:
        name = self.streams[stream].collection
        study, position = self.studies[stream], int(self.positions[sample, stream])
        volume = study.volume(name, position)
        if self.cache is not None:
            volume = cached(volume, self.cache, volume_key(study, name, position))
        if self.spec.axcodes is not None:
            volume = volume.reorient(self.spec.axcodes)
        if self.spec.spacing is None and not self.regrid[sample, stream]:
            return volume
        x, y, z = self.shapes[sample].tolist()
        grid = (x, y, z), Affine(self.affines[sample]).scaled(1 / volume.meta.side)
        if self.streams[stream].is_mask:
            return volume.resample(like=grid, order=0)
        return volume.resample(like=grid, fill=self.spec.pad)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _HERE}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _volumes=OrderedDict(), indexes=Indexes())
        self.__post_init__()
