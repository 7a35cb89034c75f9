"""Targets that are one stored volume: a Zarr volume of ours, foreign Zarr images, a TileDB volume."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import zarr

from radiobject.backends.base import Backend, Level, VolumeHandle, plan_array
from radiobject.backends.zarr import ZarrBackend
from radiobject.backends.zarr.metadata import parse_hint
from radiobject.config import TileConfig
from radiobject.errors import RadiObjectError
from radiobject.geometry.box import Box
from radiobject.location import Location
from radiobject.testing import voxels
from tests.fuzz.mutation import as_json, changed_bytes, changed_json, sealed

__all__ = ["ForeignZarr", "TileDBVolumes", "ZarrVolumes"]

SPEC = plan_array((18, 20, 12), "i2", ("z", "y", "x"), TileConfig(chunks=(8, 8, 8), shards=(16, 24, 16)))
ENGINES = ("tensorstore", "zarr-python")
# What is read of a volume that says to be larger than the files of a fuzz can be.
_MOST_VOXELS = 2**22


def _write(backend: Backend, place: Path) -> None:
    """The volume `v` and, beside it, its hint."""
    writer = backend.create_volume("v", [Level("0", SPEC)], {"a": 1}, {"nifti": b"abc"})
    for box in SPEC.shard_boxes():
        writer.write(0, box, voxels(SPEC)[box.slices])
    (place / "hint").write_text(writer.finish().hint)


class ZarrVolumes:
    """A volume as we write it, read by both engines.

    With its checksums as they were, only its own voxels come.
    """

    document = "v/zarr.json"

    def prepare(self, place: Path) -> None:
        """Two shards along z, of several chunks, and an extra."""
        _write(ZarrBackend(Location(place)), place)

    def open(self, place: Path) -> None:
        """Which files there are."""
        self.place, self.truth = place, voxels(SPEC)
        self.shards = sorted(str(p.relative_to(place)) for p in (place / "v").rglob("c/*/*/*") if p.is_file())

    def damage(self, rng: Random) -> Mapping[str, bytes]:
        """Documents, hints, shards, or shard indexes whose checksum fits."""
        what = rng.choice(("document", "document", "hint", "shard", "shard", "index"))
        self.exact = what == "shard"
        if what == "document":
            return {self.document: self._document(rng, self.document)}
        if what == "hint":
            hint = json.loads((self.place / "hint").read_text())
            return {"hint": as_json(changed_json(rng, hint))}
        name = rng.choice(self.shards)
        data = (self.place / name).read_bytes()
        if what == "shard":
            return {name: changed_bytes(rng, data)}
        count = math.prod(s // c for s, c in zip(SPEC.shards, SPEC.chunks, strict=True)) * 16
        index = changed_bytes(rng, data[-count - 4 : -4])[:count].ljust(count, b"\0")
        return {name: data[: -count - 4] + index + google_crc32c.value(index).to_bytes(4, "little")}

    def _document(self, rng: Random, name: str) -> bytes:
        sound = (self.place / name).read_bytes()
        return (
            changed_bytes(rng, sound)
            if rng.random() < 0.25
            else as_json(changed_json(rng, json.loads(sound)))
        )

    def look(self) -> None:
        """Both ways of opening, by both engines."""
        parse_hint.cache_clear()
        hint = (self.place / "hint").read_bytes().decode("utf-8", "replace")
        with _unseen(self.place / "v") as place:
            for said in (None, hint):
                read_by_both(partial(self.opened, place, said), self.whole)

    exact = True

    @property
    def whole(self) -> npt.NDArray[Any] | None:
        """What must come out where all checksums are as they were."""
        return self.truth if self.exact else None

    @staticmethod
    def opened(place: Path, hint: str | None, engine: Any) -> VolumeHandle:
        """The volume, by one engine."""
        return ZarrBackend(Location(place.parent), engine).open_volume(place.name, hint)


class ForeignZarr(ZarrVolumes):
    """Images that zarr-python has written, with the codecs that are accepted of others."""

    kinds: Mapping[str, Any] = {
        "plain": {},
        "sharded": {"chunks": (5, 3, 7), "shards": (10, 6, 14)},
        "gzip": {"compressors": zarr.codecs.GzipCodec()},
        "blosc": {"compressors": zarr.codecs.BloscCodec(cname="lz4")},
        "transposed": {"filters": zarr.codecs.TransposeCodec(order=(2, 0, 1))},
        "uncompressed": {"compressors": None},
        "checked": {"compressors": (zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec())},
    }

    def prepare(self, place: Path) -> None:
        """One image a kind, of two levels."""
        array = voxels(plan_array((10, 12, 14), "u2", ("z", "y", "x")))
        for kind, settings in self.kinds.items():
            group = zarr.create_group(place / kind, zarr_format=3)
            for name, data in (("s0", array), ("s1", np.ascontiguousarray(array[::2, ::2, ::2]))):
                group.create_array(
                    name, data=data, dimension_names=["z", "y", "x"], config={"write_empty_chunks": True},
                    **{"chunks": (5, 6, 7), **settings, **({} if name == "s0" else {"shards": None})},
                )  # fmt: skip
            datasets = [{"path": "s0"}, {"path": "s1"}]
            group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": [], "datasets": datasets}]}
        (place / "kind").write_text("plain")

    def open(self, place: Path) -> None:
        """Nothing but the place."""
        self.place, self.exact = place, False

    def damage(self, rng: Random) -> Mapping[str, bytes]:
        """A document or a chunk of one of them."""
        kind = rng.choice(list(self.kinds))
        said = {"kind": kind.encode()}
        if rng.random() < 0.6:
            name = rng.choice(
                (f"{kind}/zarr.json", f"{kind}/s0/zarr.json", f"{kind}/s0/zarr.json", f"{kind}/s1/zarr.json")
            )
            return {**said, name: self._document(rng, name)}
        chunks = sorted(p for p in (self.place / kind / "s0" / "c").rglob("*") if p.is_file())
        chunk = rng.choice(chunks)
        return {**said, str(chunk.relative_to(self.place)): changed_bytes(rng, chunk.read_bytes())}

    def look(self) -> None:
        """Every level, by both engines."""
        kind = (self.place / "kind").read_text()
        with _unseen(self.place / kind) as place:
            read_by_both(partial(self.opened, place, None), None)


class TileDBVolumes:
    """`volume.json` of a volume on TileDB, sealed anew, and its hint; the arrays are as they were."""

    def prepare(self, place: Path) -> None:
        """Two fragments and an extra."""
        from radiobject.backends.tiledb import TileDBBackend

        _write(TileDBBackend(Location(place)), place)

    def open(self, place: Path) -> None:
        """The manifest."""
        from radiobject.backends.tiledb import TileDBBackend

        self.place, self.truth = place, voxels(SPEC)
        self.backend = TileDBBackend(Location(place))
        self.manifest = json.loads((place / "v/volume.json").read_bytes())
        del self.manifest["self_sha256"]

    def damage(self, rng: Random) -> Mapping[str, bytes]:
        """The manifest, the hint, or the same change in both."""
        if rng.random() < 0.15:
            return {"v/volume.json": changed_bytes(rng, (self.place / "v/volume.json").read_bytes())}
        made = {"v/volume.json": sealed(as_json(changed_json(rng, self.manifest)))}
        if rng.random() < 0.3:
            said = {k: v for k, v in self.manifest.items() if k in ("format", "levels", "extras")}
            changed = changed_json(rng, said)
            made["hint"] = as_json(changed)
            if isinstance(changed, dict):
                made["v/volume.json"] = sealed(as_json({**self.manifest, **changed}))
        return made

    def look(self) -> None:
        """What comes is the voxels, or of what the array says to be no less and no more."""
        hint = (self.place / "hint").read_bytes().decode("utf-8", "replace")
        for said in (None, hint):
            handle = self.backend.open_volume("v", said)
            found = _everything(handle)
            for block in found[:1]:
                if block.shape == self.truth.shape and block.dtype == self.truth.dtype:
                    assert np.array_equal(block, self.truth), "voxels that nobody stored"


@contextmanager
def _unseen(volume: Path) -> Iterator[Path]:
    """A copy at a path that is new to the engines: they keep what they know of one, as none changes."""
    with tempfile.TemporaryDirectory(dir=volume.parents[1]) as place:
        yield Path(shutil.copytree(volume, Path(place, volume.name)))


def read_by_both(opened: Any, truth: npt.NDArray[Any] | None) -> None:
    """Read a volume by each engine. Both give the same, or errors; `truth` is what it must be, where known.

    The last error is raised when none could read it, so that it counts as refused.
    """
    found, refused = [], []
    for engine in ENGINES:
        try:
            found.append(_everything(opened(engine)))
        except RadiObjectError as error:
            refused.append(error)
    for blocks in found:
        if truth is not None:
            assert np.array_equal(blocks[0], truth), "voxels that nobody stored"
        for one, other in zip(blocks, found[0], strict=True):
            assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f"), "two engines, two truths"
    if refused:
        raise refused[0]


def _everything(handle: VolumeHandle) -> list[npt.NDArray[Any]]:
    """Levels, attributes and extras, each as it says it is."""
    repr(handle)
    assert isinstance(handle.attrs, dict)
    blocks = []
    for number, level in enumerate(handle.levels):
        spec = level.spec
        box = spec.box
        if math.prod(spec.shape) > _MOST_VOXELS:
            box = Box(tuple(0 for _ in spec.shape), tuple(min(n, 20) for n in spec.shape))
        block = handle.read(box, number)
        assert block.shape == box.shape
        assert block.dtype == spec.dtype
        blocks.append(block)
    try:
        handle.extra("nifti")
    except RadiObjectError:
        if blocks[0].size == 0:
            raise
    return blocks
