"""TileDB: the promises of the seam, and what that engine would pass over in silence."""

from __future__ import annotations

import pytest

from radiobject.backends.tiledb import TileDBBackend
from radiobject.location import Location
from radiobject.testing import BackendTests

pytest.importorskip("tiledb")


class TestTileDB(BackendTests):
    @pytest.fixture
    def backend(self, tmp_path):
        return TileDBBackend(Location(tmp_path))

    @pytest.fixture
    def reopen(self, backend):
        return lambda: TileDBBackend(Location(backend.location.uri))
