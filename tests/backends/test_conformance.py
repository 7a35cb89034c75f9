"""Every backend and engine keeps the promises of the seam."""

from __future__ import annotations

import uuid

import pytest

from radiobject.backends.memory import MemoryBackend
from radiobject.backends.zarr import ZarrBackend
from radiobject.location import Location
from radiobject.testing import BackendTests


class TestMemory(BackendTests):
    @pytest.fixture
    def backend(self, tmp_path):
        return MemoryBackend(Location(tmp_path))

    @pytest.fixture
    def reopen(self, backend):
        return lambda: MemoryBackend(backend.location)


class ZarrTests(BackendTests):
    engine = "auto"

    @pytest.fixture
    def backend(self, tmp_path):
        return ZarrBackend(Location(tmp_path), self.engine)

    @pytest.fixture
    def reopen(self, backend):
        return lambda: ZarrBackend(Location(backend.location.uri), self.engine)


class TestTensorstore(ZarrTests):
    engine = "tensorstore"


class TestZarrPython(ZarrTests):
    engine = "zarr-python"


class TestZarrPythonOnFsspec(ZarrTests):
    engine = "zarr-python"
    shared_place = False

    @pytest.fixture
    def backend(self):
        backend = ZarrBackend(Location(f"memory://{uuid.uuid4().hex}"), self.engine)
        yield backend
        fs, root = backend.location.filesystem()
        if fs.exists(root):
            fs.rm(root, recursive=True)
