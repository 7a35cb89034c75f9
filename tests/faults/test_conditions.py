"""Places that break a promise: conditions that are ignored, clocks an hour off, links that are not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.errors import ConcurrencyError, ConflictError, StorageError, StudyExistsError
from radiobject.format import exclusive
from radiobject.format.cleanup import cleanup
from radiobject.format.journal import Journal
from radiobject.location import Location
from radiobject.storage import Storage
from tests.faults.fake_s3 import fake_s3
from tests.faults.ground import append, create, fresh, replace, scan, state
from tests.faults.proxy import fault_proxy

pytestmark = pytest.mark.slow

pytest.importorskip("s3fs")
URI = "s3://bucket/study"
HOUR = 3600.0


@pytest.fixture(autouse=True)
def nothing_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process that begins."""
    monkeypatch.setattr(exclusive, "_probed", set())


def test_a_server_that_ignores_conditions_is_refused_before_anything_is_written() -> None:
    with fake_s3(honours=False) as server:
        with pytest.raises(ConcurrencyError, match="If-None-Match"):
            create(URI, server.options)
        assert server.objects == {}


def test_such_a_server_serves_a_single_writer() -> None:
    images = {"T1w": [(scan(1), "a"), (scan(2), "b")]}
    with fake_s3(honours=False) as server:
        o = server.options
        RadiObject.from_niftis(URI, images, executor="serial", storage_options=o, single_writer=True)
        # whoever opens it later must say so again
        with pytest.raises(ConcurrencyError, match="If-None-Match"):
            append(URI, o)
        more = {"T1w": [(scan(3), "c")]}
        fresh(URI, o).append(more, {"obs_subject_id": ["c"]}, executor="serial", single_writer=True)
        radi = fresh(URI, o)
        assert {v.obs_subject_id: int(v[0, 0, 0]) for v in radi.T1w} == {"a": 1, "b": 2, "c": 3}
        assert radi.validate("full").ok
        with pytest.raises(StudyExistsError):
            RadiObject.from_niftis(URI, images, executor="serial", storage_options=o, single_writer=True)


@pytest.mark.parametrize("kind", ["reset", "500", "503"])
def test_a_probe_that_failed_is_no_proof(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    with fake_s3(honours=False) as server, fault_proxy(server.options["endpoint_url"]) as (url, proxy):
        o = {**server.options, "endpoint_url": url, "config_kwargs": {"retries": {"max_attempts": 0}}}
        storage = Storage(Location(URI, o))
        proxy.arm(kind, 2)  # the second creation, which an honest server would have refused
        with pytest.raises((ConcurrencyError, StorageError)):
            exclusive.require_exclusive(storage)
        assert proxy.disarm()[1] == 1
        with pytest.raises(ConcurrencyError, match="If-None-Match"):
            exclusive.require_exclusive(storage)


def test_a_server_that_honours_them_is_taken() -> None:
    with fake_s3() as server:
        create(URI, server.options)
        append(URI, server.options)
        found = state(URI, server.options)
        assert found is not None
        assert found["version"] == 2


@pytest.mark.parametrize("skew", [-HOUR, HOUR])
def test_cleanup_goes_by_the_clock_of_the_store(skew: float) -> None:
    with fake_s3(skew=skew) as server:
        o = server.options
        for step in (create, append, replace):
            step(URI, o)
        storage = Storage(Location(URI, o))
        storage.write("collections/T1w/old/1.ome.zarr/zarr.json", b"{}")
        young = set(server.objects)
        done = cleanup(storage, keep=1, older_than=0.75 * HOUR, force=True)
        # half an hour more would have been enough for a client that went by its own clock
        assert done.objects == 0
        assert young <= set(server.objects)
        with server.lock:
            server.objects = {k: (data, when - HOUR) for k, (data, when) in server.objects.items()}
        done = cleanup(storage, keep=1, older_than=0.75 * HOUR, force=True)
        assert done.objects > 0
        assert "study/collections/T1w/old/1.ome.zarr/zarr.json" not in server.objects
        assert fresh(URI, o).validate("full").ok


@pytest.mark.parametrize("skew", [-HOUR, HOUR])
def test_a_running_write_is_spared_whatever_the_clock(skew: float) -> None:
    with fake_s3(skew=skew) as server:
        o = server.options
        create(URI, o)
        storage = Storage(Location(URI, o))
        Journal(storage, "f" * 32).begin("append", None)
        storage.write("collections/T1w/new/1.ome.zarr/0/c/0/0/0", b"voxels")
        cleanup(storage, keep=1, older_than=1.0, force=True)
        assert "study/collections/T1w/new/1.ome.zarr/0/c/0/0/0" in server.objects


def test_without_links_a_version_is_still_created_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_link)
    uri = str(tmp_path / "study")
    create(uri, {})
    first, second = RadiObject(uri), RadiObject(uri)
    first.delete(subjects="b")
    with pytest.raises(ConflictError):
        second.append({"T1w": [(scan(7), "b")]}, on_conflict="replace", executor="serial")
    delete_again = state(uri, {})
    assert delete_again is not None
    assert np.unique(delete_again["volumes"]["a_T1w"]).tolist() == [1]
    assert not list(tmp_path.rglob("*.tmp"))


def test_without_links_and_without_exclusive_rename_nothing_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    class NoRename:
        """A libc without renameat2."""

        syncfs = None

    monkeypatch.setattr(os, "link", nothing)
    monkeypatch.setattr("radiobject.local_disk.ctypes.CDLL", lambda *a, **k: NoRename())
    uri = str(tmp_path / "study")
    with pytest.raises(OSError, match="Operation not permitted"):
        create(uri, {})
    assert state(uri, {}) is None
