"""NpyBackend keeps the promises of the seam, on a disk and where fsspec goes."""

from __future__ import annotations

import uuid

import pytest
from npy_backend import NpyBackend

from radiobject.location import Location
from radiobject.testing import BackendTests


class TestNpy(BackendTests):
    @pytest.fixture
    def backend(self, tmp_path):
        return NpyBackend(Location(tmp_path))

    @pytest.fixture
    def reopen(self, backend):
        return lambda: NpyBackend(Location(backend.location.uri))


class TestNpyOnFsspec(TestNpy):
    shared_place = False  # another process has a memory:// of its own

    @pytest.fixture
    def backend(self):
        backend = NpyBackend(Location(f"memory://{uuid.uuid4().hex}"))
        yield backend
        for left in backend.storage.list():
            backend.storage.delete(left.key)
