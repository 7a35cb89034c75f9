"""What the proxy counts, on made-up records and on a server that is really asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from foreign.server import serve

from tests.servers.proxy import Proxy, Request, counting_proxy, rounds


def made(*times: tuple[float, float]) -> list[Request]:
    return [Request("GET", f"{n}", "", 200, *one) for n, one in enumerate(times)]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([], 0),
        ([(0, 1)], 1),
        ([(0, 1), (1, 2)], 2),
        ([(0, 2), (1, 3)], 1),
        ([(0, 1), (0, 9), (1, 2), (2, 3)], 3),  # one long request beside three short ones
        ([(0, 9), (1, 2), (1, 3), (4, 5)], 2),  # a crowd, then one that needed it
        ([(0, 5), (4, 8), (7, 9)], 2),  # each overlaps its neighbour, but the third waited for the first
        ([(5, 6), (0, 1)], 2),  # in whatever order they were noted
    ],
)
def test_rounds_are_the_longest_row_of_requests_that_waited(times, expected: int) -> None:
    assert rounds(made(*times)) == expected


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "a key").write_bytes(b"0123456789")
    with serve(tmp_path) as server, counting_proxy(server.url) as made:
        yield made


def get(proxy: Proxy, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    connection = HTTPConnection(proxy.url.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_request_is_passed_on_and_noted(proxy: Proxy) -> None:
    with proxy.recorded() as seen:
        assert get(proxy, "/bucket/a%20key", {"Range": "bytes=2-4"}) == (206, b"234")
        assert get(proxy, "/bucket/none") == (404, b"")
    assert [(r.method, r.key, r.range, r.status) for r in seen] == [
        ("GET", "a key", "2-4", 206),
        ("GET", "none", "", 404),
    ]
    assert rounds(seen) == 2
    assert proxy.take() == []


def test_requests_sent_together_are_one_round_and_each_is_late(proxy: Proxy) -> None:
    proxy.delay(0.2)
    with proxy.recorded() as seen:
        threads = [threading.Thread(target=get, args=(proxy, "/bucket/a%20key")) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (len(seen), rounds(seen)) == (8, 1)
    assert min(r.end - r.begin for r in seen) >= 0.2
