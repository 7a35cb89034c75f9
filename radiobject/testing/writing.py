"""Conformance of writing: a volume is there whole or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from radiobject.backends.base import Level
from radiobject.errors import (
    CapabilityError,
    MissingObjectError,
    StudyExistsError,
)
from radiobject.geometry.box import Box
from radiobject.storage import Storage
from radiobject.testing.ground import ATTRS, EXTRAS, Ground, small_spec
from radiobject.testing.strategies import voxels

__all__ = ["WritingTests"]


class WritingTests(Ground):
    """Refusals, abort, delete."""

    # -- writing is all or nothing

    def test_nothing_is_openable_before_finish(self, backend: Any, reopen: Any) -> None:
        spec = small_spec()
        writer = backend.create_volume("v", [Level("0", spec)], ATTRS, EXTRAS)
        writer.write(0, spec.box, voxels(spec))
        with pytest.raises(MissingObjectError):
            reopen().open_volume("v")
        writer.finish()
        reopen().open_volume("v")

    def test_finish_refuses_while_a_shard_is_missing(self, backend: Any, reopen: Any) -> None:
        spec = small_spec((20, 17, 9), chunks=(4, 4, 4), shards=(8, 4, 12))
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
        spec = small_spec()
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
        spec = small_spec()
        writer = backend.create_volume("v", [Level("0", spec)], ATTRS, EXTRAS)
        writer.write(0, spec.box, voxels(spec))
        writer.abort()
        with pytest.raises(MissingObjectError):
            reopen().open_volume("v")
        with pytest.raises(CapabilityError):
            writer.finish()
        backend.create_volume("never written", [Level("0", spec)], {}, {}).abort()

    def test_a_taken_path_is_refused_and_untouched(self, backend: Any, reopen: Any) -> None:
        spec = small_spec()
        array = voxels(spec)
        self.put(backend, "v", (spec, array))
        with pytest.raises(StudyExistsError, match="v"):
            reopen().create_volume("v", [Level("0", spec)], {}, {})
        np.testing.assert_array_equal(reopen().open_volume("v").read(spec.box), array)

    def test_a_volume_is_its_objects_wherever_they_stand(self, backend: Any, reopen: Any) -> None:
        spec = small_spec((20, 17, 9), chunks=(4, 4, 4), shards=(8, 4, 12))
        array = voxels(spec)
        stored = self.put(backend, "here/v", (spec, array))
        if not backend.capabilities.persistent:
            pytest.skip("has no objects")
        storage = Storage(backend.location)
        for obj in stored.objects:
            storage.write(f"there/w/{obj.path}", storage.read(f"here/v/{obj.path}"))
        backend.delete_volume("here/v")
        for handle in self.both(reopen(), "there/w", stored.hint):
            np.testing.assert_array_equal(handle.read(spec.box), array)
            assert handle.attrs == ATTRS
            assert {name: handle.extra(name) for name in EXTRAS} == EXTRAS

    def test_a_missing_volume_says_its_path(self, backend: Any) -> None:
        with pytest.raises(MissingObjectError, match="collections/nobody"):
            backend.open_volume("collections/nobody")

    def test_delete_removes_every_object_and_may_be_repeated(self, backend: Any, reopen: Any) -> None:
        spec = small_spec()
        for path in ("v", "v2"):
            self.put(backend, path, (spec, voxels(spec)))
        backend.delete_volume("v")
        backend.delete_volume("v")
        with pytest.raises(MissingObjectError):
            reopen().open_volume("v")
        if backend.capabilities.persistent:
            assert Storage(backend.location).list("v") == []
        reopen().open_volume("v2")
