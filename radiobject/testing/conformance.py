"""BackendTests: the promises of `radiobject.backends.base`, as tests that any backend can run."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from radiobject.backends.base import VolumeHandle
from radiobject.errors import (
    FormatError,
    IntegrityError,
    MissingObjectError,
)
from radiobject.geometry.box import Box
from radiobject.testing.ground import ATTRS, EXTRAS, Quirks, small_spec
from radiobject.testing.mutants import MUTANTS, Mutant
from radiobject.testing.reading import ReadingTests
from radiobject.testing.strategies import voxels
from radiobject.testing.writing import WritingTests

__all__ = ["BackendTests", "Quirks"]


def _read_elsewhere(handle: VolumeHandle, box: Box) -> bytes:
    return handle.read(box).tobytes()


class BackendTests(ReadingTests, WritingTests):
    """Subclass it, provide the fixtures `backend` (a fresh one) and `reopen`, and run pytest.

    `reopen` gives a second, independent Backend on the same place. `shared_place` is False where another
    process sees other volumes although the backend is persistent (fsspec's memory://).

    class TestMine(BackendTests):
        @pytest.fixture
        def backend(self, tmp_path): return MyBackend(Location(tmp_path))

        @pytest.fixture
        def reopen(self, backend): return lambda: MyBackend(backend.location)
    """

    # -- threads and processes

    def test_a_handle_is_shared_by_threads(self, backend: Any) -> None:
        spec = small_spec((40, 40, 40))
        array = voxels(spec)
        handle = backend.open_volume("v", self.put(backend, "v", (spec, array)).hint)
        wanted = [Box((n, n // 2, 0), (n + 10, n // 2 + 9, 40)) for n in range(30)]
        with ThreadPoolExecutor(8) as pool:
            for box, block in zip(wanted, pool.map(handle.read, wanted), strict=True):
                np.testing.assert_array_equal(block, array[box.slices])

    def test_handles_and_backends_pickle(self, backend: Any) -> None:
        spec = small_spec()
        array = voxels(spec)
        stored = self.put(backend, "v", (spec, array))
        for handle in self.both(backend, "v", stored.hint):
            handle.read(spec.box)
            again = pickle.loads(pickle.dumps(handle))  # noqa: S301 - our own bytes
            np.testing.assert_array_equal(again.read(spec.box), array)
            assert again.attrs == ATTRS
        assert pickle.loads(pickle.dumps(backend)).open_volume("v").spec == spec  # noqa: S301

    def test_another_process_reads_the_same_or_says_what_is_missing(self, backend: Any) -> None:
        spec = small_spec()
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
        spec = small_spec((64, 33, 31), chunks=(16, 16, 16), shards=(32, 48, 16))
        array = voxels(spec)
        stored = self.put(backend, "original", (spec, array))
        root = backend.location.path
        noticed = 0
        for salt, obj in enumerate(stored.objects):
            # damaged before anything of it was read, so that no cache can hide it
            path = f"mutant{salt}"
            shutil.copytree(os.path.join(root, "original"), os.path.join(root, path))
            _damage(os.path.join(root, path, obj.path), mutant, salt)
            caught = 0
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
            noticed += obj.bytes if caught == 2 else 0
        if mutant.name == "removed":
            # random voxels do not compress: the objects that reading needs are no smaller than they are
            assert noticed >= array.nbytes


def _damage(file: str, mutant: Mutant, salt: int) -> None:
    with open(file, "rb") as opened:
        changed = mutant.damage(opened.read(), salt)
    if changed is None:
        os.unlink(file)
        return
    with open(file, "wb") as opened:
        opened.write(changed)
