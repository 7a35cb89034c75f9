"""S3Config says what each client is to do; none of this needs a server."""

from __future__ import annotations

from typing import Any

import pytest

from radiobject import S3Config, configure
from radiobject.backends.zarr import tensorstore_engine
from radiobject.errors import ConfigError
from radiobject.location import Location, tiledb_s3

ENGINES = ("zarr-python",)
pytestmark = pytest.mark.no_backend(reason="about settings")


def place(**settings: Any) -> Location:
    with configure(s3=S3Config(**settings)):
        return Location("s3://bucket/study")


def test_retries_and_timeouts_reach_s3fs() -> None:
    patient, _ = place(retries=7, connect_timeout=1.5, read_timeout=60, anon=True).filesystem()
    assert patient.retries == 8  # it counts the first time, too
    assert patient.config_kwargs["retries"] == {"max_attempts": 7, "mode": "standard"}
    assert (patient.config_kwargs["connect_timeout"], patient.config_kwargs["read_timeout"]) == (1.5, 60)
    hasty, _ = place(retries=0, anon=True).filesystem()
    usual, _ = place(anon=True).filesystem()
    assert (hasty.retries, usual.retries) == (1, type(usual).retries), "clients are not shared"


def test_retries_reach_tensorstore_and_timeouts_do_not_keep_it_away() -> None:
    located = place(retries=7, connect_timeout=1.5, read_timeout=60)
    spec = located.kvstore()
    assert spec is not None
    assert spec["driver"] == "s3"
    context = tensorstore_engine._context(None, 0, located.max_requests, located.retries)
    assert context["s3_request_retries"].to_json() == {"max_retries": 7}


def test_all_three_reach_tiledb() -> None:
    found = tiledb_s3(place(retries=7, connect_timeout=1.5, read_timeout=60).options)
    assert found is not None
    assert found["vfs.s3.connect_max_tries"] == "8"
    assert (found["vfs.s3.connect_timeout_ms"], found["vfs.s3.request_timeout_ms"]) == ("1500", "60000")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"retries": -1}, "at least 0"),
        ({"retries": True}, "at least 0"),
        ({"retries": 1.5}, "at least 0"),
        ({"connect_timeout": 0}, "seconds, more than 0"),
        ({"read_timeout": float("nan")}, "seconds, more than 0"),
        ({"read_timeout": "5"}, "seconds, more than 0"),
    ],
)
def test_what_is_no_setting_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        S3Config(**settings)


def test_what_the_caller_tells_botocore_wins() -> None:
    own = {"max_pool_connections": 3, "read_timeout": 9}
    with configure(s3=S3Config(read_timeout=60, anon=True)):
        fs, _ = Location("s3://bucket/study", {"config_kwargs": own}).filesystem()
    assert (fs.config_kwargs["max_pool_connections"], fs.config_kwargs["read_timeout"]) == (3, 9)
