"""Conformance of reading: voxels come back, in the form that the seam promises."""

from __future__ import annotations

from typing import Any

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject.backends.base import DTYPES, Level, plan_array
from radiobject.config import CompressionConfig
from radiobject.errors import (
    CapabilityError,
    FormatError,
    IndexingError,
    MissingObjectError,
)
from radiobject.geometry.box import Box
from radiobject.measuring import measure
from radiobject.storage import Storage
from radiobject.testing.ground import ATTRS, EXTRAS, ZYX, Ground, small_spec
from radiobject.testing.strategies import array_specs, boxes, voxels

__all__ = ["ReadingTests"]


class ReadingTests(Ground):
    """Voxels, attributes and extras come back."""

    # -- voxels come back

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(20, 17, 9), (3, 5, 40, 6), (2, 3, 4, 5, 6)], ids=["3d", "4d", "5d"])
    def test_every_dtype_and_rank_comes_back(
        self, backend: Any, reopen: Any, dtype: str, shape: tuple[int, ...]
    ) -> None:
        spec = small_spec(shape, dtype)
        array = voxels(spec)
        stored = self.put(backend, "a/v", (spec, array))
        for handle in self.both(reopen(), "a/v", stored.hint):
            np.testing.assert_array_equal(handle.read(spec.box), array)
            assert (handle.spec.shape, handle.spec.dtype, handle.spec.dims) == (shape, spec.dtype, spec.dims)

    @pytest.mark.parametrize("shape", [(1, 1, 1), (33, 31, 65), (1, 64, 1), (32, 32, 32)])
    def test_odd_shapes_come_back(self, backend: Any, reopen: Any, shape: tuple[int, ...]) -> None:
        spec = small_spec(shape)
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
        spec = small_spec((20, 17, 9), chunks=(4, 4, 4), shards=(8, 4, 12))
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
        spec = small_spec((4, 4, 4), "f8")
        bits = voxels(plan_array((4, 4, 4), "u8", ZYX))
        bits.flat[:4] = np.array([-0.0, np.nan, np.inf, -np.inf]).view("u8")
        self.put(backend, "v", (spec, bits.view("f8")))
        np.testing.assert_array_equal(reopen().open_volume("v").read(spec.box).view("u8"), bits)

    def test_zeros_are_stored_like_any_voxel(self, backend: Any, reopen: Any) -> None:
        spec = small_spec((40, 40, 40))
        self.put(backend, "v", (spec, np.zeros(spec.shape, spec.dtype)))
        assert not reopen().open_volume("v").read(spec.box).any()

    def test_a_block_may_be_strided_and_is_not_kept(self, backend: Any, reopen: Any) -> None:
        spec = small_spec((6, 5, 4))
        turned = np.asfortranarray(voxels(spec))
        expected = turned.copy()
        writer = backend.create_volume("v", [Level("0", spec)], {}, {})
        writer.write(0, spec.box, turned)
        turned[:] = 0
        writer.finish()
        np.testing.assert_array_equal(reopen().open_volume("v").read(spec.box), expected)

    def test_levels_are_read_by_number(self, backend: Any, reopen: Any) -> None:
        specs = [small_spec((16, 12, 8)), small_spec((8, 6, 4)), small_spec((4, 3, 2))]
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
        spec = small_spec((20, 17, 9), ">i2")
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
        spec = small_spec()
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
        spec = small_spec()
        handle = backend.open_volume("v", self.put(backend, "v", (spec, voxels(spec))).hint)
        with pytest.raises(IndexingError):
            handle.read(box)

    def test_native_gives_the_engines_own_object(self, backend: Any) -> None:
        spec = small_spec()
        array = voxels(spec)
        self.put(backend, "v", (spec, array))
        np.testing.assert_array_equal(np.asarray(backend.open_volume("v").native()[...]), array)

    # -- attributes, extras, hints

    def test_attrs_come_back_and_cannot_be_changed_from_outside(self, backend: Any, reopen: Any) -> None:
        spec = small_spec()
        stored = self.put(backend, "v", (spec, voxels(spec)))
        for handle in self.both(reopen(), "v", stored.hint):
            handle.attrs["radiobject"]["n"] = 5
            assert handle.attrs == ATTRS

    def test_attrs_that_are_not_json_are_refused(self, backend: Any) -> None:
        with pytest.raises(FormatError):
            backend.create_volume("v", [Level("0", small_spec())], {"n": float("nan")}, {})

    def test_extras_come_back(self, backend: Any, reopen: Any) -> None:
        spec = small_spec()
        stored = self.put(backend, "v", (spec, voxels(spec)))
        for handle in self.both(reopen(), "v", stored.hint):
            assert {name: handle.extra(name) for name in EXTRAS} == EXTRAS
            with pytest.raises(MissingObjectError, match="absent"):
                handle.extra("absent")

    def test_a_hint_opens_without_a_request(self, backend: Any, reopen: Any) -> None:
        spec = small_spec()
        stored = self.put(backend, "v", (spec, voxels(spec)))
        with measure() as m:
            handle = reopen().open_volume("v", stored.hint)
            assert handle.spec.shape == spec.shape
        assert (m["requests"], m["bytes_read"]) == (0, 0)

    def test_alike_volumes_share_a_hint(self, backend: Any) -> None:
        spec = small_spec()
        hints = {
            self.put(backend, f"v{seed}", (spec, voxels(spec, seed)), attrs={"n": seed}).hint
            for seed in range(3)
        }
        assert len(hints) == 1

    def test_stored_objects_have_the_size_and_crc_that_finish_says(self, backend: Any) -> None:
        spec = small_spec((20, 17, 9), chunks=(4, 4, 4), shards=(8, 4, 12))
        stored = self.put(backend, "v", (spec, voxels(spec)))
        if not backend.capabilities.persistent:
            assert stored.objects == ()
            return
        storage = Storage(backend.location)
        listed = {info.key.removeprefix("v/"): info.bytes for info in storage.list("v")}
        assert listed == {obj.path: obj.bytes for obj in stored.objects}
        for obj in stored.objects:
            data = storage.read(f"v/{obj.path}")
            assert google_crc32c.value(data) == obj.crc32c
            assert obj.matches(data)

    def test_the_checksums_tell_objects_of_alike_volumes_apart(self, backend: Any) -> None:
        # a file that was restored to another volume's place has that volume's size, and sound chunks
        spec = plan_array((40, 33, 20), "i2", ZYX, codec=CompressionConfig.preset("none"))
        kept = [self.put(backend, f"v{seed}", (spec, voxels(spec, seed))) for seed in range(2)]
        storage, alike = Storage(backend.location), {obj.path for obj in kept[1].objects}
        for obj in (o for o in kept[0].objects if o.path in alike):
            mine, theirs = (storage.read(f"v{n}/{obj.path}") for n in range(2))
            assert obj.matches(mine)
            assert obj.matches(theirs) == (mine == theirs)
