"""The viewer's server: ranges, who is answered, what is refused, and that nothing is left of it."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
import tensorstore as ts
import xarray as xr

from radiobject import RadiObject, Volume, measure
from radiobject.errors import ConfigError

pytest.importorskip("neuroglancer", reason="needs pip install 'radiobject-zarr[viewer]'")

SHARD = "0/c/0/0/0"
VOXELS = np.random.default_rng(0).integers(-300, 900, (40, 36, 34)).astype("i2")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    images = {
        "T1w": [((VOXELS, np.eye(4)), "sub-01"), ((VOXELS, np.eye(4)), "sub-02")],
        "seg": [((np.full((5, 5, 5), 1, "u1"), np.eye(4)), "sub-01")],
    }
    place = tmp_path_factory.mktemp("server") / "study"
    RadiObject.from_niftis(place, images, labels={"seg": {1: "liver"}}, progress=False)
    return str(place)


@pytest.fixture(scope="module")
def session(uri: str) -> Iterator[Any]:
    with RadiObject(uri).view("sub-01") as opened:
        yield opened


@pytest.fixture(scope="module")
def stored(uri: str) -> bytes:
    """The bytes of the one shard of the first volume."""
    (path,) = Path(uri).glob(f"collections/T1w/sub-01_T1w/*/{SHARD}")
    return path.read_bytes()


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def ask(session: Any, path: str, method: str = "GET", **headers: str) -> Answer:
    """One request, its path as it is, to the port of a session."""
    connection = http.client.HTTPConnection("127.0.0.1", session.port, timeout=30)
    connection.putrequest(method, path, skip_host="host" in headers, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    found = Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    connection.close()
    return found


def token(session: Any) -> str:
    return str(urlsplit(session.url).path.split("/")[2])


def data(session: Any, key: str, volume: str = "0") -> str:
    return f"/data/{token(session)}/{volume}/{key}"


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=7-7", 7, 8),
        ("bytes=100-", 100, None),
        ("bytes=-16", -16, None),
        ("bytes= 5-8 ", 5, 9),
        ("bytes=50-99999999", 50, None),
        ("bytes=-99999999", 0, None),
    ],
)
def test_a_range_is_answered(session: Any, stored: bytes, wanted: str, start: int, stop: int | None) -> None:
    answer = ask(session, data(session, SHARD), Range=wanted)
    part = stored[start:stop]
    first = len(stored) + start if start < 0 else start
    assert (answer.status, answer.body) == (206, part)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(part) - 1}/{len(stored)}"


@pytest.mark.parametrize("wanted", ["bytes=999999999-", "bytes=999999999-9999999999", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused(session: Any, stored: bytes, wanted: str) -> None:
    answer = ask(session, data(session, SHARD), Range=wanted)
    assert (answer.status, answer.body) == (416, b"")
    assert answer.headers["content-range"] == f"bytes */{len(stored)}"


@pytest.mark.parametrize(
    "ignored", [None, "bytes=9-2", "bytes=0-1,5-6", "bytes=-", "items=0-1", "bytes=a-b", f"bytes={'9' * 30}-"]
)
def test_what_is_no_single_range_gets_all(session: Any, stored: bytes, ignored: str | None) -> None:
    answer = ask(session, data(session, SHARD), **({} if ignored is None else {"Range": ignored}))
    assert (answer.status, answer.body) == (200, stored)


def test_head_tells_the_length_and_options_what_is_allowed(session: Any, stored: bytes) -> None:
    head = ask(session, data(session, SHARD), "HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(stored)), b"")
    part = ask(session, data(session, SHARD), "HEAD", Range="bytes=2-5")
    assert (part.status, part.headers["content-length"]) == (206, "4")
    allowed = ask(session, data(session, SHARD), "OPTIONS", Origin="https://elsewhere.example")
    assert allowed.status == 204
    assert "Range" in allowed.headers["access-control-allow-headers"]


def test_pages_of_other_origins_may_read_who_know_the_token(session: Any) -> None:
    for key, status in (("zarr.json", 200), (SHARD, 200), ("nothing", 404)):
        answer = ask(session, data(session, key), Origin="https://elsewhere.example")
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, "*")
        assert "Content-Range" in answer.headers["access-control-expose-headers"]


def test_what_a_browser_has_is_not_sent_again(session: Any, stored: bytes) -> None:
    first = ask(session, data(session, SHARD), Range="bytes=0-9")
    assert "immutable" in first.headers["cache-control"]
    assert "private" in first.headers["cache-control"]
    tag = first.headers["etag"]
    assert ask(session, data(session, SHARD), If_None_Match=tag).status == 304
    assert ask(session, data(session, SHARD), If_None_Match='"other"').body == stored
    assert ask(session, data(session, SHARD), Range="bytes=0-9", If_Range=tag).status == 206
    assert ask(session, data(session, SHARD), Range="bytes=0-9", If_Range='"other"').body == stored
    assert ask(session, data(session, "zarr.json")).headers["etag"] != tag


def test_types_are_those_of_the_content(session: Any) -> None:
    assert ask(session, data(session, "zarr.json")).headers["content-type"] == "application/json"
    assert ask(session, data(session, SHARD)).headers["content-type"] == "application/octet-stream"
    labels = ask(session, data(session, "labels/info", "1"))
    assert json.loads(labels.body)["inline"]["properties"][0]["values"] == ["liver"]


@pytest.mark.parametrize(
    "key",
    [
        "", "0", "0/", "0/c", "0/c/0/0", "0/c/0/0/0/", "0/c/0/0/1", "0/c/0/0/00", "0/c/0/0/-1",
        "0/c/0/0/%d9%a1", "1/zarr.json", "nifti/zarr.json", "nifti/c/0", "zarr.json/", "./zarr.json",
        "0/../zarr.json", "../zarr.json", "../../../../zarr.json", "..%2fzarr.json",
        "%2e%2e/%2e%2e/zarr.json", "..%5czarr.json", "..\\zarr.json", "/etc/passwd", "%2fetc%2fpasswd",
        "//etc/passwd", "zarr.json%00", "zarr.json%00.txt", "%00", "~root", "file:///etc/passwd",
        "zarr.json;a", "ZARR.JSON",
    ],
)  # fmt: skip
def test_only_objects_of_the_volumes_shown_are_served(session: Any, key: str) -> None:
    answer = ask(session, data(session, key))
    assert answer.status in (400, 404)
    assert b"study" not in answer.body


@pytest.mark.parametrize("volume", ["2", "-1", "00", "T1w", "..", "collections", ""])
def test_other_volumes_of_the_study_are_not_served(session: Any, volume: str) -> None:
    assert ask(session, data(session, "zarr.json", volume)).status == 404


def test_the_headers_of_sources_are_not_served(tmp_path: Path, make_nifti: Any) -> None:
    # a NIfTI header may name the patient
    (tmp_path / "a.nii").write_bytes(make_nifti(VOXELS, fields={"descrip": b"DOE^JOHN"}))
    volume = Volume.from_nifti(tmp_path / "a.nii", uri=tmp_path / "a.ome.zarr")
    assert b"DOE^JOHN" in (volume.extra("nifti") or b"")
    with volume.view() as session:
        assert ask(session, data(session, "nifti/c/0")).status == 404
        assert b"DOE" not in ask(session, data(session, "zarr.json")).body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "PROPFIND", "TRACE"])
def test_nothing_can_be_written(session: Any, method: str) -> None:
    assert ask(session, data(session, "zarr.json"), method, Content_Length="0").status == 405


@pytest.mark.parametrize("path", ["/data/{}/0/zarr.json", "/open/{}/", "/v/{}/", "/events/{}?c=a&gc=&gs="])
def test_a_wrong_token_is_refused(session: Any, path: str) -> None:
    right = token(session)
    for wrong in ("0" * len(right), right[:-1], right + "0", right.upper(), "", "%2e"):
        assert ask(session, path.format(wrong)).status in (400, 404)


def test_credentials_of_this_process_are_not_handed_out(session: Any) -> None:
    for allowed in (True, False):
        session.viewer.allow_credentials = allowed
        answer = ask(session, f"/credentials/{token(session)}", "POST", Content_Length="0")
        assert answer.status == 404


@pytest.mark.parametrize("path", ["/data/{}/0/zarr.json", "/open/{}/", "/v/{}/", "/", "/nothing"])
def test_only_names_of_this_machine_are_answered(session: Any, path: str) -> None:
    path = path.format(token(session))
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", ""):
        assert ask(session, path, host=host).status in (400, 403)
    for host in (f"127.0.0.1:{session.port}", f"localhost:{session.port}", "localhost:9000", "LOCALHOST"):
        assert ask(session, path, host=host).status in (200, 404)


def test_it_listens_on_the_loopback_alone(session: Any) -> None:
    found = psutil.Process().net_connections(kind="inet")
    listening = [c.laddr for c in found if c.status == psutil.CONN_LISTEN and c.laddr.port == session.port]
    assert [address.ip for address in listening] == ["127.0.0.1"]


def test_a_ranged_read_is_one_ranged_read_of_the_store(uri: str) -> None:
    with RadiObject(uri).view("sub-02") as session:
        ask(session, data(session, SHARD), "HEAD")
        with measure() as counts:
            assert len(ask(session, data(session, SHARD), Range="bytes=5-24").body) == 20
        assert (counts["requests"], counts["bytes_read"]) == (1, 20)
        with measure() as counts:
            assert ask(session, data(session, SHARD), "HEAD").status == 200
        assert counts["requests"] == 0


def test_a_large_object_goes_in_pieces(uri: str, stored: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radiobject.show.viewer.server._PIECE", 1000)
    with RadiObject(uri).view("sub-01") as session, measure() as counts:
        assert ask(session, data(session, SHARD)).body == stored
    assert counts["door_read"] == -(-len(stored) // 1000) > 5


def test_a_store_that_fails_is_told_apart_from_nothing_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Volume.from_numpy(VOXELS, uri=tmp_path / "secret-place.ome.zarr")
    with Volume(tmp_path / "secret-place.ome.zarr").view() as session:
        assert ask(session, data(session, SHARD), Range="bytes=0-0").status == 206
        (tmp_path / "secret-place.ome.zarr" / SHARD).unlink()
        with caplog.at_level(logging.WARNING, logger="radiobject"):
            answer = ask(session, data(session, SHARD), Range="bytes=0-9")
        assert answer.status == 502
        assert b"secret" not in answer.body + str(answer.headers).encode()
        assert "secret-place" in caplog.text


def test_tensorstore_reads_a_volume_through_it(session: Any) -> None:
    url = f"http://127.0.0.1:{session.port}{data(session, '0/')}"
    array = ts.open({"driver": "zarr3", "kvstore": url}, read=True).result()
    assert (array.read().result().T == VOXELS).all()
    assert (array[3:5, 7, 2:30].read().result() == VOXELS.T[3:5, 7, 2:30]).all()


def test_xarray_and_we_read_a_volume_through_it(session: Any) -> None:
    url = f"http://127.0.0.1:{session.port}{data(session, '').rstrip('/')}"
    found = xr.open_zarr(url, consolidated=True, chunks=None)["0"]
    assert found.dims == ("z", "y", "x")
    assert (found.to_numpy().T == VOXELS).all()
    assert (Volume(url).to_numpy() == VOXELS).all()


def test_closing_leaves_no_thread_and_no_socket(uri: str) -> None:
    before = set(threading.enumerate())
    radi = RadiObject(uri)
    first, second = radi.view("sub-01"), radi.view("sub-02")
    assert first.port != second.port
    assert ask(first, data(first, "zarr.json")).status == ask(second, data(second, SHARD)).status == 200
    kept = http.client.HTTPConnection("127.0.0.1", first.port)
    kept.request("GET", data(first, "zarr.json"))
    assert kept.getresponse().read()
    first.close()
    first.close()
    assert "closed" in repr(first)
    assert ask(second, data(second, "zarr.json")).status == 200
    with pytest.raises(OSError):
        ask(first, data(first, "zarr.json"))
    second.close()
    kept.close()
    assert set(threading.enumerate()) <= before


def test_a_port_is_taken_once(uri: str) -> None:
    with RadiObject(uri).view("sub-01") as session:
        with pytest.raises(ConfigError, match=str(session.port)):
            RadiObject(uri).view("sub-01", port=session.port)
        port = session.port
    with RadiObject(uri).view("sub-01", port=port) as session:
        assert session.port == port


def test_a_slow_client_keeps_nobody_waiting(session: Any) -> None:
    with socket.create_connection(("127.0.0.1", session.port)) as idle:
        idle.sendall(b"GET /data")
        assert ask(session, data(session, "zarr.json")).status == 200
