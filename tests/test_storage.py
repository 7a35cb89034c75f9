"""The I/O door and what it says when a place is in trouble: local disk, web server, S3 by name only."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from radiobject import RadiObject
from radiobject.errors import ConfigError, CorruptObjectError, MissingObjectError, StorageError
from radiobject.location import Location
from radiobject.storage import Storage


class _Web(BaseHTTPRequestHandler):
    """`/gone` is 404, `/hidden` 403, `/busy` 503; everything else ten bytes, whatever range is asked for."""

    def do_GET(self) -> None:
        status = {"/gone": 404, "/hidden": 403, "/busy": 503}.get(self.path, 200)
        self.send_response(status)
        self.send_header("Content-Length", "10")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"0123456789")

    do_HEAD = do_GET  # noqa: N815 - the name that the server looks for

    def log_message(self, *args: object) -> None:
        """Say nothing on stderr."""


@pytest.fixture
def web() -> Iterator[Storage]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Web) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Storage(Location(f"http://127.0.0.1:{server.server_port}"))
        server.shutdown()
        thread.join()


def test_a_server_in_trouble_is_not_taken_for_a_missing_object(web: Storage) -> None:
    # a version that cannot be asked for must not make an older one look like the latest
    assert web.size("gone") is None
    assert web.size("hidden") is None  # a public bucket that may not be listed
    assert web.size("there") == 10
    with pytest.raises(StorageError, match="503"):
        web.size("busy")


def test_a_server_that_ignores_ranges_is_not_called_corrupt(web: Storage) -> None:
    with pytest.raises(StorageError, match="ignores ranges"):
        web.read_range("there", 2, 5)


@pytest.mark.parametrize("start", [3, 10, 30])
@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_a_range_beyond_the_end_is_a_short_object(tmp_path: Path, scheme: str, start: int) -> None:
    storage = Storage(Location(tmp_path if scheme == "file" else f"memory://{tmp_path}"))
    storage.write("a", b"0123456789")
    with pytest.raises(CorruptObjectError, match="shorter"):
        storage.read_range("a", start, start + 20)


def test_a_missing_object_leaves_no_circle_that_keeps_what_its_caller_holds(tmp_path: Path) -> None:
    storage = Storage(Location(tmp_path))
    gc.collect()
    gc.disable()
    try:
        assert storage.size("missing") is None
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_listing_survives_objects_that_vanish_in_its_course(tmp_path: Path) -> None:
    # what is listed short is tags, versions and running writes: clean-up would delete what they keep
    storage = Storage(Location(tmp_path))
    standing = [f"tags/{n}.json" for n in range(5)]
    for key in standing:
        storage.write(key, b"x")
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            storage.create("tags/new.json", b"y")
            storage.delete("tags/new.json")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(2000):
            assert {info.key for info in storage.list("tags")} >= set(standing)
    finally:
        done.set()
        thread.join()


def test_creating_makes_the_new_folders_durable_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd)))
    monkeypatch.setattr("radiobject.local_disk.sync_folder.__defaults__", (lambda fd: os.fsync(fd),))
    Storage(Location(tmp_path)).create("versions/deep/1.json", b"x")
    for folder in (tmp_path, tmp_path / "versions", tmp_path / "versions/deep"):
        assert str(folder) in synced


def test_signs_in_a_bucket_key_are_letters_for_both_engines() -> None:
    spec = Location("s3://bucket/a#1/b?c").kvstore("x")
    assert spec is not None
    assert (spec["bucket"], spec["path"]) == ("bucket", "a#1/b?c/x/")


def test_an_encoded_url_is_not_encoded_twice() -> None:
    spec = Location("http://host/my%20study").kvstore("x")
    assert spec is not None
    assert spec["path"] == "/my study/x/"


def test_tensorstore_goes_where_the_environment_sends_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    plain = {"driver": "s3", "bucket": "b", "path": "s/"}
    there = {"endpoint": "http://127.0.0.1:9", "aws_region": "us-east-1"}
    assert Location("s3://b/s").kvstore() == {**plain, **there}
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    # without a region tensorstore asks AWS where the bucket is; a wrong one is refused
    assert Location("s3://b/s").kvstore() == plain


def test_no_secret_travels_in_a_pickle_and_the_endpoint_does() -> None:
    options = {
        "client_secret": "hush", "s3": {"key": "hush"}, "cookies": "hush",
        "client_kwargs": {"endpoint_url": "http://here", "aws_session_token": "hush"},
    }  # fmt: skip
    data = pickle.dumps(Location("s3://b/s", options))
    assert b"hush" not in data
    assert pickle.loads(data).options["client_kwargs"] == {"endpoint_url": "http://here"}


def test_a_chained_url_is_refused_and_not_taken_for_a_path() -> None:
    with pytest.raises(ConfigError, match="chain"):
        RadiObject("simplecache::s3://bucket/study")


@pytest.mark.parametrize("name", ["zarr.json.0123456789abcdef.tmp", "transactions/probe-1"])
def test_what_a_killed_creator_left_keeps_nobody_from_creating(tmp_path: Path, name: str) -> None:
    place = tmp_path / "study"
    (place / name).parent.mkdir(parents=True)
    (place / name).touch()
    assert Storage(Location(place)).is_empty()
    (place / "notes.txt").touch()
    assert not Storage(Location(place)).is_empty()


@pytest.mark.parametrize("root", ["disk", "memory"])
def test_the_tail_of_an_object_is_whole_or_an_error(root: str, tmp_path: Path) -> None:
    storage = Storage(Location(tmp_path if root == "disk" else f"memory://tail-{tmp_path.name}"))
    storage.write("a", b"0123456789")
    assert storage.read_tail("a", 4) == b"6789"
    assert storage.read_tail("a", 10) == b"0123456789"
    with pytest.raises(CorruptObjectError, match="11"):
        storage.read_tail("a", 11)
    storage.write("b", b"")
    with pytest.raises(CorruptObjectError):
        storage.read_tail("b", 1)
    with pytest.raises(MissingObjectError):
        storage.read_tail("c", 1)
