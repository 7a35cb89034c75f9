"""The model on every engine: a test that names no backend has the one under test, wherever it makes a study.

What is not run on all of them says so beside the test: `no_backend`, `only` or `gap`, each with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest

from radiobject import RadiObject, backends
from radiobject.backends.memory import MemoryBackend
from radiobject.backends.tiledb import TileDBBackend
from radiobject.backends.zarr import ZarrBackend
from radiobject.location import Location


@pytest.fixture(scope="module", autouse=True)
def everywhere(engine: str | None) -> Iterator[None]:
    """Volumes for which nobody chose a backend go to the one under test: also in fixtures of modules."""
    kind = engine if engine in ("memory", "tiledb") else "zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "DEFAULT", kind)
        yield


@pytest.fixture
def suffix(engine: str) -> str:
    """What the names of volumes end in on the backend under test."""
    return {"memory": ".mem", "tiledb": ".tdb", "files": ".files"}.get(engine, ".ome.zarr")


@pytest.fixture
def chunks(engine: str) -> Callable[[int], int]:
    """`chunks(n)`: what `chunks_decoded` counts when n are read; memory and files decode none."""
    return lambda n: 0 if engine in ("memory", "files") else n


VoxelObjects = Callable[[RadiObject], dict[str, dict[str, int]]]


@pytest.fixture
def voxel_objects() -> VoxelObjects:
    """`voxel_objects(radi)`: by obs_id, places in the study and CRC-32C of the objects that hold voxels."""

    def find(radi: RadiObject) -> dict[str, dict[str, int]]:
        tables = [radi.collection(n).obs.to_arrow(["obs_id", "_path", "_objects"]) for n in radi]
        return {
            row["obs_id"]: {
                f"{row['_path']}/{o['path']}": o["crc32c"]
                for o in row["_objects"]
                if o["path"].startswith("0/c/") or o["path"].endswith("/a0.tdb")
            }
            for table in tables
            for row in table.to_pylist()
        }

    return find


def refuse(self: Any, location: Location, *engine: str) -> NoReturn:
    """How a backend is made for a test that says it needs none."""
    raise AssertionError(f"a test marked no_backend uses one at {location.uri}")


@pytest.fixture(autouse=True)
def _no_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("no_backend"):
        for kind in (MemoryBackend, TileDBBackend, ZarrBackend):
            monkeypatch.setattr(kind, "__init__", refuse)
