"""What goes wrong on S3 is told with the bucket, the key, the cause and what to do."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject, S3Config, configure
from radiobject.backends.base import Level, plan_array
from radiobject.backends.zarr import ZarrBackend
from radiobject.errors import MissingObjectError, StorageError, StorageReadOnlyError, StudyNotFoundError
from radiobject.geometry.box import Box
from radiobject.location import Location
from radiobject.storage import Storage
from tests.s3.conftest import BUCKET, credentials

ENGINES = ("tensorstore", "zarr-python")
pytestmark = pytest.mark.no_backend(reason="no volume comes to be")
IMAGES = {"T1w": [((np.full((5, 4, 3), 7, "i2"), np.eye(4)), "sub-1")]}

on_radosgw = pytest.mark.skipif(
    os.environ.get("RADIOBJECT_S3") != "radosgw", reason="moto takes any credentials; see make test-servers"
)


def test_a_bucket_that_is_not_there(server: dict[str, Any]) -> None:
    for ask in (RadiObject, lambda uri, **options: RadiObject.from_niftis(uri, IMAGES, **options)):
        with pytest.raises(
            StorageError, match=r"s3://nobody/study/\S+: got .*NoSuchBucket.*Check the bucket"
        ):
            ask("s3://nobody/study", storage_options=server)


def test_nothing_at_a_place_is_no_study_and_no_error_of_the_store(server: dict[str, Any]) -> None:
    with pytest.raises(StudyNotFoundError):
        RadiObject(f"s3://{BUCKET}/nothing/here", storage_options=server)
    with pytest.raises(MissingObjectError, match="nothing there"):
        Storage(Location(f"s3://{BUCKET}/nothing", server)).read("here")


@on_radosgw
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"key": "another"}, "InvalidAccessKeyId.*check the one in storage_options"),
        ({"secret": "another"}, "SignatureDoesNotMatch.*does not belong to the access key"),
        ({"key": None, "secret": None, "anon": True}, "AccessDenied.*may not do this"),
    ],
)
def test_wrong_credentials(server: dict[str, Any], wrong: dict[str, Any], words: str) -> None:
    options = {k: v for k, v in (server | wrong).items() if v is not None}
    with pytest.raises(StorageReadOnlyError, match=rf"s3://{BUCKET}/place/hint.json: got {words}"):
        RadiObject(f"s3://{BUCKET}/place", storage_options=options)


def test_no_credentials(server: dict[str, Any]) -> None:
    options = {"endpoint_url": server["endpoint_url"], "region": "us-east-1"}
    with credentials({}), pytest.raises(StorageReadOnlyError, match=r"NoCredentials.*pass anon=True"):
        RadiObject(f"s3://{BUCKET}/place", storage_options=options)


def test_a_profile_that_is_not_there(server: dict[str, Any]) -> None:
    options = {"endpoint_url": server["endpoint_url"], "profile": "nobodys"}
    with credentials({}), pytest.raises(StorageError, match=r"profile \(nobodys\).*AWS_CONFIG_FILE"):
        RadiObject(f"s3://{BUCKET}/place", storage_options=options)


class _Answer(BaseHTTPRequestHandler):
    """What AWS says to credentials of yesterday and to a bucket that lives elsewhere; nothing else does."""

    def do_GET(self) -> None:
        self.server.asked += 1  # type: ignore[attr-defined]
        code, status = self.server.answer  # type: ignore[attr-defined]
        body = f"<Error><Code>{code}</Code><Message>as AWS says</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def stubborn() -> Iterator[Any]:
    """A server that says the same to everybody: `answer` is S3's code and the status, `asked` how often."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    server.asked, server.answer = 0, ("ExpiredToken", 400)
    server.options = {"endpoint_url": f"http://127.0.0.1:{server.server_port}", "region": "us-east-1"}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("ExpiredToken", 400, "no longer valid: renew them"),
        ("PermanentRedirect", 301, "another region.*region="),
        ("RequestTimeTooSkewed", 403, "Set the clock"),
    ],
)
def test_answers_that_only_aws_gives(stubborn: Any, code: str, status: int, words: str) -> None:
    stubborn.answer = code, status
    place = {**stubborn.options, "key": "k", "secret": "s", "token": "t", "retries": 0}
    with pytest.raises(StorageError, match=rf"s3://bucket/study/hint.json: got .*{code}.*{words}"):
        RadiObject("s3://bucket/study", storage_options=place)


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_retries_are_as_many_as_were_asked_for(stubborn: Any, retries: int) -> None:
    stubborn.answer = "InternalError", 500
    place = {**stubborn.options, "key": "k", "secret": "s", "retries": retries}
    with pytest.raises(StorageError, match="s3://bucket/study/one: got "):
        Storage(Location("s3://bucket/study", place)).read("one")
    assert stubborn.asked == retries + 1


@pytest.mark.parametrize("retries", [0, 1])
def test_so_they_are_on_tensorstore(stubborn: Any, retries: int) -> None:
    stubborn.answer = "InternalError", 500
    with credentials({}), configure(s3=S3Config(**stubborn.options, anon=True, retries=retries)):
        handle = ZarrBackend(Location("s3://bucket/study"), "tensorstore").open_volume(
            "v", hint_of_a_volume()
        )
        with pytest.raises(StorageError, match="s3://bucket/study/v"):
            handle.read(Box((0, 0, 0), (1, 1, 1)))
    assert stubborn.asked == retries + 1


def hint_of_a_volume() -> str:
    """What opens a volume of one voxel without a request."""
    spec = plan_array((1, 1, 1), "i2", ("z", "y", "x"))
    backend = ZarrBackend(Location(f"memory://{uuid.uuid4().hex}"))
    writer = backend.create_volume("v", [Level("0", spec)], {}, {})
    (box,) = spec.shard_boxes()
    writer.write(0, box, np.zeros((1, 1, 1), "i2"))
    return writer.finish().hint


def test_a_server_that_is_not_there() -> None:
    place = {"endpoint_url": "http://127.0.0.1:9", "key": "k", "secret": "s", "retries": 0}
    with pytest.raises(
        StorageError, match=r"s3://bucket/study/hint.json: got .*127.0.0.1:9.*Check endpoint_url"
    ):
        RadiObject("s3://bucket/study", storage_options=place)


def test_a_server_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = {
            "endpoint_url": f"http://127.0.0.1:{silent.getsockname()[1]}", "key": "k", "secret": "s",
            "retries": 0, "read_timeout": 0.2,
        }  # fmt: skip
        with pytest.raises(StorageError, match=r"s3://bucket/study/hint.json: got .*raise read_timeout"):
            RadiObject("s3://bucket/study", storage_options=place)
