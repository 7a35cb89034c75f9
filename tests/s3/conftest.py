"""The tests of tests/model over S3: `tmp_path`, `backend` and their like are places on a server.

The server is moto; RADIOBJECT_S3=radosgw takes Ceph's gateway instead (`make test-servers`).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

import pytest
from s3fs import S3FileSystem

from radiobject import S3Config, backends, configure
from tests.conftest import Place, study_maker
from tests.servers.radosgw import radosgw_server
from tests.servers.s3 import s3_server

BUCKET = "studies"


class S3Path:
    """As much of a path as tests need to name places, on the server."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    @property
    def name(self) -> str:
        return PurePosixPath(self._uri).name

    def __truediv__(self, below: str) -> S3Path:
        return S3Path(f"{self._uri}/{below}")

    def __fspath__(self) -> str:
        return self._uri

    def __str__(self) -> str:
        return self._uri


class S3PathFactory:
    """`tmp_path_factory` on the server."""

    def mktemp(self, name: str) -> S3Path:
        return S3Path(f"s3://{BUCKET}/{name}-{uuid.uuid4().hex}")


@contextmanager
def credentials(options: dict[str, Any]) -> Iterator[None]:
    """The environment of a machine that has these credentials and no others."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("AWS_")]:
            patch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        if "key" in options:
            patch.setenv("AWS_ACCESS_KEY_ID", options["key"])
            patch.setenv("AWS_SECRET_ACCESS_KEY", options["secret"])
        S3FileSystem.clear_instance_cache()  # clients remember the credentials that they found
        yield
        S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def server() -> Iterator[dict[str, Any]]:
    """Storage options of the server, explicit keys included; its bucket is `BUCKET`."""
    make = {"moto": s3_server, "radosgw": radosgw_server}[os.environ.get("RADIOBJECT_S3", "moto")]
    with make(BUCKET) as options:
        yield options


@pytest.fixture(scope="module")
def on_s3(server: dict[str, Any]) -> Iterator[None]:
    """s3:// means the server, with credentials of the environment, which both engines take."""
    with (
        credentials(server),
        configure(s3=S3Config(endpoint_url=server["endpoint_url"], region=server["region"])),
    ):
        yield


@pytest.fixture(scope="module", autouse=True)
def everywhere(engine: str | None, on_s3: None) -> Iterator[None]:
    """Volumes for which nobody chose a backend go to Zarr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "DEFAULT", "zarr")
        yield


@pytest.fixture
def tmp_path(on_s3: None) -> S3Path:
    return S3PathFactory().mktemp("test")


@pytest.fixture(scope="session")
def tmp_path_factory() -> S3PathFactory:
    return S3PathFactory()


@pytest.fixture
def backend(engine: str, tmp_path: S3Path) -> Place:
    return Place(str(tmp_path), "zarr", engine)


@pytest.fixture
def study(tmp_path: S3Path) -> Callable[..., Any]:
    return study_maker(tmp_path)


@pytest.fixture(scope="module")
def module_study(engine: str | None, on_s3: None) -> Callable[..., Any]:
    return study_maker(S3PathFactory().mktemp("module"))


@pytest.fixture
def suffix() -> str:
    return ".ome.zarr"


@pytest.fixture
def chunks() -> Callable[[int], int]:
    return lambda n: n
