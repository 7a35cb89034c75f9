"""Random histories, as in tests/test_stateful.py, over S3 and on TileDB; fewer, as each step takes longer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from radiobject.testing import StudyMachine
from tests.servers.s3 import KEYS, s3_server

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("RADIOBJECT_EXAMPLES", "20"))


@pytest.fixture(autouse=True, scope="module")
def _server() -> Iterator[None]:
    pytest.importorskip("s3fs")
    with s3_server("bucket") as options, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", options["endpoint_url"])
        patch.setenv("AWS_DEFAULT_REGION", options["region"])
        patch.setenv("AWS_ACCESS_KEY_ID", KEYS["key"])
        patch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["secret"])
        yield


class OverS3(StudyMachine):
    backend = "zarr"

    def place(self) -> str:
        return "s3://bucket/machine"


class OnTileDB(StudyMachine):
    backend = "tiledb"
    _folder = tempfile.TemporaryDirectory(prefix="radiobject-machine-", ignore_cleanup_errors=True)

    def place(self) -> str:
        pytest.importorskip("tiledb")
        return f"{self._folder.name}/study"


TestOverS3 = pytest.mark.timeout(3600)(OverS3.TestCase)
TestOnTileDB = pytest.mark.timeout(3600)(OnTileDB.TestCase)
for case, divisor, steps in ((TestOverS3, 5, 8), (TestOnTileDB, 2, 10)):
    case.settings = settings(
        max_examples=max(EXAMPLES // divisor, 1),
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
del case
