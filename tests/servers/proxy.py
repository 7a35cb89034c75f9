"""A proxy before an S3 server that records every request and can make each of them late.

It runs in a process of its own, so that the client under test and the proxy do not wait for one another, and
speaks HTTP, so that the record has methods, keys and ranges instead of packets.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["Proxy", "Request", "counting_proxy", "rounds"]


@dataclass(frozen=True)
class Request:
    """One request: when its head had come and when its whole answer was there to be passed on, in seconds.

    `key` is the path without the bucket; `range` the Range header without `bytes=`, empty without one.
    """

    method: str
    key: str
    range: str
    status: int
    begin: float
    end: float

    @property
    def lists(self) -> bool:
        """Whether it asked for a listing."""
        return self.method == "GET" and not self.key


def rounds(requests: Iterable[Request]) -> int:
    """How often the client had to wait before it could go on: the number of sequential rounds.

    That is the length of the longest row of requests of which each began after the one before it had ended.
    Requests that overlap in time, or were sent without waiting for an earlier answer, are one round. The row
    is found as the most intervals that do not overlap are: always go on with the one that ends first.

    >>> a, b, c = (Request("GET", "k", "", 200, *times) for times in ((0, 5), (1, 7), (6, 9)))
    >>> rounds([a, b]), rounds([a, b, c])
    (1, 2)
    """
    found, ended = 0, float("-inf")
    for request in sorted(requests, key=lambda request: request.end):
        if request.begin >= ended:
            found, ended = found + 1, request.end
    return found


class Proxy:
    """The proxy's end in this process."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process = process
        self.url = f"http://127.0.0.1:{port}"

    def delay(self, seconds: float) -> None:
        """Hold every request back so long before it is passed on."""
        self._ask({"delay": seconds})

    def take(self) -> list[Request]:
        """The requests that were answered since the last call."""
        return [Request(**one) for one in self._ask({"take": True})]

    @contextmanager
    def recorded(self) -> Iterator[list[Request]]:
        """A list that holds the requests of the block once it has ended."""
        self.take()
        found: list[Request] = []
        yield found
        found += self.take()

    def _ask(self, what: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def counting_proxy(endpoint: str, delay: float = 0.0) -> Iterator[Proxy]:
    """A running proxy before the server at `endpoint` (http://127.0.0.1:port)."""
    parts = urlsplit(endpoint)
    with subprocess.Popen(
        [sys.executable, __file__, str(parts.hostname), str(parts.port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        proxy = Proxy(process, int(process.stdout.readline()))
        try:
            proxy.delay(delay)
            yield proxy
        finally:
            process.terminate()


class _Server:
    """What runs in the other process."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = host, port
        self._delay = 0.0
        self._done: list[Request] = []

    async def run(self) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=256)
        print(server.sockets[0].getsockname()[1], flush=True)
        commands = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
        )
        while line := await commands.readline():  # until the test has ended, in whatever way
            what = json.loads(line)
            self._delay = what.get("delay", self._delay)
            answer = [asdict(one) for one in self._done] if "take" in what else None
            if "take" in what:
                self._done.clear()
            print(json.dumps(answer), flush=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: asyncio.StreamWriter | None = None
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            try:
                answers, upstream = await asyncio.open_connection(*self._upstream)
                while await self._exchange(reader, writer, answers, upstream):
                    pass
            finally:
                writer.close()
                if upstream is not None:
                    upstream.close()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
    ) -> bool:
        """One request and its answer; whether another may follow on these connections."""
        head = await reader.readuntil(b"\r\n\r\n")
        begin = time.monotonic()
        delay = self._delay
        first, fields = _parsed(head)
        if fields.get("expect", "").lower() == "100-continue":
            # answered here, so that a PUT is one round as it is for clients that do not ask
            head = b"\r\n".join(
                line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:")
            )
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await _body(reader, fields)
        if delay:
            await asyncio.sleep(delay)
        upstream.write(head + body)
        answer = await answers.readuntil(b"\r\n\r\n")
        line, answered = _parsed(answer)
        method, target, _ = first.split(" ", 2)
        status = int(line.split(" ")[1])
        bare = method == "HEAD" or status in (204, 304)
        content = b"" if bare else await _body(answers, answered)
        _, _, key = unquote(urlsplit(target).path).lstrip("/").partition("/")
        wanted = fields.get("range", "").removeprefix("bytes=")
        # noted before the client can know the answer: whatever it asks next begins later
        self._done.append(Request(method, key, wanted, status, begin, time.monotonic()))
        writer.write(answer + content)
        await writer.drain()
        return "close" not in (fields.get("connection", "").lower(), answered.get("connection", "").lower())


def _parsed(head: bytes) -> tuple[str, dict[str, str]]:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    fields = (line.partition(":") for line in lines)
    return first, {name.lower(): value.strip() for name, _, value in fields}


async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    if fields.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(fields.get("content-length", 0)))
    pieces = []
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        pieces += [line, await reader.readexactly(size + 2)]
        if size == 0:  # trailers are not used by these servers
            return b"".join(pieces)


if __name__ == "__main__":
    asyncio.run(_Server(sys.argv[1], int(sys.argv[2])).run())
