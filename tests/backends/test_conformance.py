"""Every backend and engine keeps the promises of the seam."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from radiobject.backends import get_backend
from radiobject.backends.base import Backend
from radiobject.location import Location
from radiobject.testing import BackendTests


class TestEveryBackend(BackendTests):
    @pytest.fixture
    def backend(self, backend) -> Backend:
        self.shared_place = not (backend.backend == "zarr" and backend.root.startswith("memory://"))
        return get_backend(backend.backend, Location(backend.root))

    @pytest.fixture
    def reopen(self, backend: Backend) -> Callable[[], Backend]:
        return lambda: get_backend(backend.name, Location(backend.location.uri))
