"""BackendTests: the promises of `radiobject.backends.base`, as tests that any backend can run."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar

import google_crc32c
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject.backends.base import DTYPES, ArraySpec, Backend, Level, StoredVolume, VolumeHandle, plan_array
from radiobject.config import CompressionConfig, TileConfig
from radiobject.errors import (
    CapabilityError,
    FormatError,
    IndexingError,
    IntegrityError,
    MissingObjectError,
    StudyExistsError,
)
from radiobject.geometry.box import Box
from radiobject.measuring import measure
from radiobject.storage import Storage
from radiobject.testing.mutants import MUTANTS, Mutant
from radiobject.testing.strategies import array_specs, boxes, voxels

__all__ = ["BackendTests", "Quirks"]

ZYX = ("z", "y", "x")
ATTRS = {
    "ome": {"version": "0.5", "name": "Schädel"},
    "radiobject": {"affine": [[1.5, 0], [0, -0.1]], "n": None},
}
EXTRAS = {"nifti": bytes(range(256)) * 3, "nifti_tail": b"", "one": b"\x00"}


@dataclass(frozen=True)
class Quirks:
    """Declared gaps of a backend: test name to reason. Each becomes a strict xfail, so a mended gap shows."""

    gaps: Mapping[str, str] = field(default_factory=dict)


def _spec(shape: tuple[int, ...] = (20, 17, 9), dtype: str = "i2", **tile: Any) -> ArraySpec:
    dims = {3: ZYX, 4: ("t", *ZYX), 5: ("t", "c", *ZYX)}[len(shape)]
    return plan_array(shape, dtype, dims, TileConfig(**tile) if tile else None)


def _read_elsewhere(handle: VolumeHandle, box: Box) -> bytes:
    return handle.read(box).tobytes()


class BackendTests:
    """Subclass it, provide the fixtures `backend` (a fresh one) and `reopen`, and run pytest.

    `reopen` gives a second, independent Backend on the same place. `shared_place` is False where another
    process sees other volumes although the backend is persistent (fsspec's memory://).

    class TestMine(BackendTests):
        @pytest.fixture
        def backend(self, tmp_path): return MyBackend(Location(tmp_path))

        @pytest.fixture
        def reopen(self, backend): return lambda: MyBackend(backend.location)
    """

    quirks: ClassVar[Quirks] = Quirks()
    shared_place: ClassVar[bool] = True

    @pytest.fixture
    def backend(self) -> Any:
        raise NotImplementedError("provide the fixture `backend`")

    @pytest.fixture
    def reopen(self) -> Callable[[], Any]:
        raise NotImplementedError("provide the fixture `reopen`")

    @pytest.fixture(autouse=True)
    def _declared_gaps(self, request: pytest.FixtureRequest) -> None:
        unknown = [name for name in self.quirks.gaps if not hasattr(self, name)]
        assert not unknown, f"quirks name no test: {unknown}"
        reason = self.quirks.gaps.get(request.node.originalname)
        if reason is not None:
            request.node.add_marker(pytest.mark.xfail(reason=reason, strict=True))

    def put(
        self,
        backend: Any,
        path: str,
        *arrays: tuple[ArraySpec, npt.NDArray[Any]],
        attrs: Mapping[str, Any] = ATTRS,
        extras: Mapping[str, bytes] = EXTRAS,
    ) -> StoredVolume:
        """Write a volume whose levels are `arrays`."""
        names = ["0", *(f"pyramid/{n}" for n in range(1, len(arrays)))]
        levels = [Level(name, spec) for name, (spec, _) in zip(names, arrays, strict=True)]
        writer = backend.create_volume(path, levels, attrs, extras)
        for number, (spec, array) in enumerate(arrays):
            for box in spec.shard_boxes():
                writer.write(number, box, array[box.slices])
        stored: StoredVolume = writer.finish()
        return stored

    def both(self, backend: Backend, path: str, hint: str) -> Iterator[VolumeHandle]:
        """The volume opened with its hint and without."""
        yield backend.open_volume(path, hint)
        yield backend.open_volume(path)

    # -- voxels come back

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(20, 17, 9), (3, 5, 40, 6), (2, 3, 4, 5, 6)], ids=["3d", "4d", "5d"])
    def test_every_dtype_and_rank_comes_back(
        self, backend: Any, reopen: Any, dtype: str, shape: tuple[int, ...]
    ) -> None:
        spec = _spec(shape, dtype)
        array = voxels(spec)
        stored = self.put(backend, "a/v", (spec, array))
        for handle in self.both(reopen(), "a/v", stored.hint):
            np.testing.assert_array_equal(handle.read(spec.box), array)
            assert (handle.spec.shape, handle.spec.dtype, handle.spec.dims) == (shape, spec.dtype, spec.dims)

    @pytest.mark.parametrize("shape", [(1, 1, 1), (33, 31, 65), (1, 64, 1), (32, 32, 32)])
    def test_odd_shapes_come_back(self, backend: Any, reopen: Any, shape: tuple[int, ...]) -> None:
        spec = _spec(shape)
        array = voxels(spec)
        self.put(backend, "v", (spec, array))
        np.testing.assert_array_equal(reopen().open_volume("v").read(spec.box), array)

    @pytest.mark.parametrize("preset", ["fast", "archive", "none"])
    def test_every_codec_preset_comes_back(self, backend: Any, reopen: Any, preset: str) -> None:
        spec = plan_array((40, 33, 9), "f4", ZYX, codec=CompressionConfig.preset(preset))
        array = voxels(spec)
        self.put(backend, "v", (spec, array))
        handle = reopen().open_volume("v")
        np.testing.assert_array_equal(handle.read(spec.box), array)
        assert handle.spec == spec

    def test_several_shards_written_in_any_order_come_back(self, backend: Any, reopen: Any) -> None:
        spec = _spec((20, 17, 9), chunks=(4, 4, 4), shards=(8, 4, 12))
        array = voxels(spec)
        writer = backend.create_volume("v", [Level("0", spec)], {}, {})
        assert len(spec.shard_boxes()) > 4
        for box in reversed(spec.shard_boxes()):
            writer.write(0, box, array[box.slices])
        writer.finish()
        np.testing.assert_array_equal(reopen().open_volume("v").read(spec.box), array)

    def test_any_spec_and_box_comes_back(self, backend: Any, reopen: Any) -> None:
        number = iter(range(10**6))

        @settings(max_examples=12, deadline=None, derandomize=True)
        @given(data=st.data())
        def check(data: st.DataObject) -> None:
            spec = data.draw(array_specs())
            array = voxels(spec)
            path = f"many/v{next(number)}"
            stored = self.put(backend, path, (spec, array))
            handle = reopen().open_volume(path, stored.hint)
            for _ in range(4):
                box = data.draw(boxes(spec.shape))
                np.testing.assert_array_equal(handle.read(box), array[box.slices])

        check()

    def test_floats_come_back_bit_by_bit(self, backend: Any, reopen: Any) -> None:
        spec = _spec((4, 4, 4), "f8")
        bits = voxels(plan_array((4, 4, 4), "u8", ZYX))
        bits.flat[:4] = np.array([-0.0, np.nan, np.inf, -np.inf]).view("u8")
        self.put(backend, "v", (spec, bits.view("f8")))
        np.testing.assert_array_equal(reopen().open_volume("v").read(spec.box).view("u8"), bits)

    def test_zeros_are_stored_like_any_voxel(self, backend: Any, reopen: Any) -> None:
        spec = _spec((40, 40, 40))
        self.put(backend, "v", (spec, np.zeros(spec.shape, spec.dtype)))
        assert not reopen().open_volume("v").read(spec.box).any()

    def test_a_block_may_be_strided_and_is_not_kept(self, backend: Any, reopen: Any) -> None:
        spec = _spec((6, 5, 4))
        turned = np.asfortranarray(voxels(spec))
        expected = turned.copy()
        writer = backend.create_volume("v", [Level("0", spec)], {}, {})
        writer.write(0, spec.box, turned)
        turned[:] = 0
        writer.finish()
        np.testing.assert_array_equal(reopen().open_volume("v").read(spec.box), expected)

    def test_levels_are_read_by_number(self, backend: Any, reopen: Any) -> None:
        specs = [_spec((16, 12, 8)), _spec((8, 6, 4)), _spec((4, 3, 2))]
        arrays = [voxels(spec, seed) for seed, spec in enumerate(specs)]
        stored = self.put(backend, "v", *zip(specs, arrays, strict=True))
        for handle in self.both(reopen(), "v", stored.hint):
            assert [level.path for level in handle.levels] == ["0", "pyramid/1", "pyramid/2"]
            for number, (spec, array) in enumerate(zip(specs, arrays, strict=True)):
                np.testing.assert_array_equal(handle.read(spec.box, number), array)
            with pytest.raises(CapabilityError, match="0 to 2"):
                handle.read(specs[0].box, 3)

    # -- what reads return

    def test_a_read_is_owned_writable_and_in_native_c_order(self, backend: Any) -> None:
        spec = _spec((20, 17, 9), ">i2")
        array = voxels(spec)
        handle = backend.open_volume("v", self.put(backend, "v", (spec, array)).hint)
        box = Box((2, 3, 1), (19, 9, 8))
        first = handle.read(box)
        assert first.flags.c_contiguous
        assert first.flags.writeable
        assert first.flags.aligned
        assert first.dtype.isnative
        first[:] = 7
        np.testing.assert_array_equal(handle.read(box), array[box.slices])

    def test_an_empty_box_gives_an_empty_array(self, backend: Any) -> None:
        spec = _spec()
        handle = backend.open_volume("v", self.put(backend, "v", (spec, voxels(spec))).hint)
        empty = handle.read(Box((5, 0, 0), (5, 17, 9)))
        assert (empty.shape, empty.dtype) == ((0, 17, 9), spec.dtype)

    @pytest.mark.parametrize(
        "box",
        [
            Box((0, 0, 0), (21, 17, 9)),
            Box((-1, 0, 0), (1, 1, 1)),
            Box((0, 0), (1, 1)),
            Box((3, 0, 0), (2, 1, 1)),
        ],
        ids=["beyond", "negative", "rank", "backwards"],
    )
    def test_a_box_outside_is_refused(self, backend: Any, box: Box) -> None:
        spec = _spec()
        handle = backend.open_volume("v", self.put(backend, "v", (spec, voxels(spec))).hint)
        with pytest.raises(IndexingError):
            handle.read(box)

    def test_native_gives_the_engines_own_object(self, backend: Any) -> None:
        spec = _spec()
        array = voxels(spec)
        self.put(backend, "v", (spec, array))
        np.testing.assert_array_equal(np.asarray(backend.open_volume("v").native()[...]), array)

    # -- attributes, extras, hints

    def test_attrs_come_back_and_cannot_be_changed_from_outside(self, backend: Any, reopen: Any) -> None:
        spec = _spec()
        stored = self.put(backend, "v", (spec, voxels(spec)))
        for handle in self.both(reopen(), "v", stored.hint):
            handle.attrs["radiobject"]["n"] = 5
            assert handle.attrs == ATTRS

    def test_attrs_that_are_not_json_are_refused(self, backend: Any) -> None:
        with pytest.raises(FormatError):
            backend.create_volume("v", [Level("0", _spec())], {"n": float("nan")}, {})

    def test_extras_come_back(self, backend: Any, reopen: Any) -> None:
        spec = _spec()
        stored = self.put(backend, "v", (spec, voxels(spec)))
        for handle in self.both(reopen(), "v", stored.hint):
            assert {name: handle.extra(name) for name in EXTRAS} == EXTRAS
            with pytest.raises(MissingObjectError, match="absent"):
                handle.extra("absent")

    def test_a_hint_opens_without_a_request(self, backend: Any, reopen: Any) -> None:
        spec = _spec()
        stored = self.put(backend, "v", (spec, voxels(spec)))
        with measure() as m:
            handle = reopen().open_volume("v", stored.hint)
            assert handle.spec.shape == spec.shape
        assert (m["requests"], m["bytes_read"]) == (0, 0)

    def test_alike_volumes_share_a_hint(self, backend: Any) -> None:
        spec = _spec()
        hints = {
            self.put(backend, f"v{seed}", (spec, voxels(spec, seed)), attrs={"n": seed}).hint
            for seed in range(3)
        }
        assert len(hints) == 1

    def test_stored_objects_have_the_size_and_crc_that_finish_says(self, backend: Any) -> None:
        spec = _spec((20, 17, 9), chunks=(4, 4, 4), shards=(8, 4, 12))
        stored = self.put(backend, "v", (spec, voxels(spec)))
        if not backend.capabilities.persistent:
            assert stored.objects == ()
            return
        storage = Storage(backend.location)
        listed = {info.key.removeprefix("v/"): info.bytes for info in storage.list("v")}
        assert listed == {obj.path: obj.bytes for obj in stored.objects}
        for obj in stored.objects:
            assert google_crc32c.value(storage.read(f"v/{obj.path}")) == obj.crc32c

    # -- writing is all or nothing

    def test_nothing_is_openable_before_finish(self, backend: Any, reopen: Any) -> None:
        spec = _spec()
        writer = backend.create_volume("v", [Level("0", spec)], ATTRS, EXTRAS)
        writer.write(0, spec.box, voxels(spec))
        with pytest.raises(MissingObjectError):
            reopen().open_volume("v")
        writer.finish()
        reopen().open_volume("v")

    def test_finish_refuses_while_a_shard_is_missing(self, backend: Any, reopen: Any) -> None:
        spec = _spec((20, 17, 9), chunks=(4, 4, 4), shards=(8, 4, 12))
        array = voxels(spec)
        writer = backend.create_volume("v", [Level("0", spec)], {}, {})
        *most, last = spec.shard_boxes()
        for box in most:
            writer.write(0, box, array[box.slices])
        with pytest.raises(CapabilityError, match="shards"):
            writer.finish()
        with pytest.raises(MissingObjectError):
            reopen().open_volume("v")
        writer.write(0, last, array[last.slices])
        writer.finish()

    def test_a_writer_refuses_what_is_no_shard_or_comes_twice(self, backend: Any) -> None:
        spec = _spec()
        array = voxels(spec)
        writer = backend.create_volume("v", [Level("0", spec)], {}, {})
        with pytest.raises(CapabilityError, match="shard_boxes"):
            writer.write(0, Box((0, 0, 0), (4, 17, 9)), array[:4])
        for block in (array[:-1], array.astype("i4"), array.astype(">i2"), array[None]):
            with pytest.raises(CapabilityError):
                writer.write(0, spec.box, block)
        with pytest.raises(CapabilityError):
            writer.write(1, spec.box, array)
        writer.write(0, spec.box, array)
        with pytest.raises(CapabilityError, match="once"):
            writer.write(0, spec.box, array)
        writer.finish()
        with pytest.raises(CapabilityError):
            writer.finish()

    def test_abort_leaves_nothing_openable(self, backend: Any, reopen: Any) -> None:
        spec = _spec()
        writer = backend.create_volume("v", [Level("0", spec)], ATTRS, EXTRAS)
        writer.write(0, spec.box, voxels(spec))
        writer.abort()
        with pytest.raises(MissingObjectError):
            reopen().open_volume("v")
        with pytest.raises(CapabilityError):
            writer.finish()
        backend.create_volume("never written", [Level("0", spec)], {}, {}).abort()

    def test_a_taken_path_is_refused_and_untouched(self, backend: Any, reopen: Any) -> None:
        spec = _spec()
        array = voxels(spec)
        self.put(backend, "v", (spec, array))
        with pytest.raises(StudyExistsError, match="v"):
            reopen().create_volume("v", [Level("0", spec)], {}, {})
        np.testing.assert_array_equal(reopen().open_volume("v").read(spec.box), array)

    def test_a_missing_volume_says_its_path(self, backend: Any) -> None:
        with pytest.raises(MissingObjectError, match="collections/nobody"):
            backend.open_volume("collections/nobody")

    def test_delete_removes_every_object_and_may_be_repeated(self, backend: Any, reopen: Any) -> None:
        spec = _spec()
        for path in ("v", "v2"):
            self.put(backend, path, (spec, voxels(spec)))
        backend.delete_volume("v")
        backend.delete_volume("v")
        with pytest.raises(MissingObjectError):
            reopen().open_volume("v")
        if backend.capabilities.persistent:
            assert Storage(backend.location).list("v") == []
        reopen().open_volume("v2")

    # -- threads and processes

    def test_a_handle_is_shared_by_threads(self, backend: Any) -> None:
        spec = _spec((40, 40, 40))
        array = voxels(spec)
        handle = backend.open_volume("v", self.put(backend, "v", (spec, array)).hint)
        wanted = [Box((n, n // 2, 0), (n + 10, n // 2 + 9, 40)) for n in range(30)]
        with ThreadPoolExecutor(8) as pool:
            for box, block in zip(wanted, pool.map(handle.read, wanted), strict=True):
                np.testing.assert_array_equal(block, array[box.slices])

    def test_handles_and_backends_pickle(self, backend: Any) -> None:
        spec = _spec()
        array = voxels(spec)
        stored = self.put(backend, "v", (spec, array))
        for handle in self.both(backend, "v", stored.hint):
            handle.read(spec.box)
            again = pickle.loads(pickle.dumps(handle))  # noqa: S301 - our own bytes
            np.testing.assert_array_equal(again.read(spec.box), array)
            assert again.attrs == ATTRS
        assert pickle.loads(pickle.dumps(backend)).open_volume("v").spec == spec  # noqa: S301

    def test_another_process_reads_the_same_or_says_what_is_missing(self, backend: Any) -> None:
        spec = _spec()
        array = voxels(spec)
        handle = backend.open_volume("v", self.put(backend, "v", (spec, array)).hint)
        handle.read(spec.box)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            answer = pool.submit(_read_elsewhere, handle, spec.box)
            if backend.capabilities.persistent and self.shared_place:
                assert answer.result(timeout=60) == array.tobytes()
            else:
                with pytest.raises(MissingObjectError):
                    answer.result(timeout=60)

    # -- damage

    @pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
    def test_damage_is_an_error_and_never_a_wrong_voxel(
        self, backend: Any, reopen: Any, mutant: Mutant
    ) -> None:
        if not (backend.capabilities.persistent and backend.location.is_local):
            pytest.skip("damages files")
        spec = _spec((20, 17, 9), chunks=(8, 8, 8), shards=(16, 16, 16))
        array = voxels(spec)
        stored = self.put(backend, "original", (spec, array))
        root = backend.location.path
        caught = 0
        for salt, obj in enumerate(stored.objects):
            # damaged before anything of it was read, so that no cache can hide it
            path = f"mutant{salt}"
            shutil.copytree(os.path.join(root, "original"), os.path.join(root, path))
            _damage(os.path.join(root, path, obj.path), mutant, salt)
            for hint in (stored.hint, None):
                try:
                    handle = reopen().open_volume(path, hint)
                    found = handle.read(spec.box)
                    extras = {name: handle.extra(name) for name in EXTRAS}
                except (IntegrityError, FormatError):
                    caught += 1
                else:
                    np.testing.assert_array_equal(found, array)
                    assert extras == EXTRAS
        voxel_objects = sum("/c/" in obj.path for obj in stored.objects)
        assert caught >= 2 * voxel_objects


def _damage(file: str, mutant: Mutant, salt: int) -> None:
    with open(file, "rb") as opened:
        changed = mutant.damage(opened.read(), salt)
    if changed is None:
        os.unlink(file)
        return
    with open(file, "wb") as opened:
        opened.write(changed)
