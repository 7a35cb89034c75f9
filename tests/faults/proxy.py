"""A proxy before an HTTP server that fails when it is told to: lost replies, resets, refusals, half answers.

It runs in a process of its own on 127.0.0.1. `Proxy.arm` says which request fails and how; requests are
counted from then on, in the order in which they came whole.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = ["KINDS", "Proxy", "fault_proxy"]

REFUSALS = {
    "409": ("409 Conflict", "ConditionalRequestConflict"),
    "412": ("412 Precondition Failed", "PreconditionFailed"),
    "500": ("500 Internal Server Error", "InternalError"),
    "503": ("503 Slow Down", "SlowDown"),
}
STALL_SECONDS = 0.5
KINDS = ("reset", "lost reply", *REFUSALS, "500 after", "truncated", "stall")
"""reset: before the server has seen the request. lost reply: after it has answered; "500 after" gives another
answer than the server did. truncated: half the body, or half the head where there is none. stall: nothing for
half a second, then a reset."""


@dataclass
class Orders:
    """Which requests fail: number `at` alone, all `from` it on, or `every` so many; and how."""

    kind: str = ""
    mode: str = "at"
    number: int = 0
    match: str = ""
    seen: list[str] | None = None
    failed: int = 0

    def meet(self, request: str) -> str:
        """Count a request; the kind of fault that it meets, or none."""
        assert self.seen is not None
        self.seen.append(request)
        if not re.search(self.match, request):
            return ""
        count, n = sum(bool(re.search(self.match, one)) for one in self.seen), self.number
        hit = {"at": count == n, "from": count >= n, "every": bool(n) and count % n == 0}[self.mode]
        if not self.kind or not hit:
            return ""
        self.failed += 1
        return self.kind


class Proxy:
    """The test's hand on the process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def _tell(self, **message: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def arm(self, kind: str = "", number: int = 0, mode: str = "at", match: str = "") -> None:
        """Count from one again, and let requests fail: "at" number, "from" it on, or "every" so many.

        Only requests (`PUT /bucket/key`) that `match`, a regular expression, are counted.
        """
        assert kind in ("", *KINDS)
        self._tell(kind=kind, number=number, mode=mode, match=match)

    def disarm(self) -> tuple[list[str], int]:
        """No more faults; the requests since `arm`, and how many of them failed."""
        answer = self._tell(kind="", number=0, mode="at", match="")
        return answer["seen"], answer["failed"]


@contextmanager
def fault_proxy(endpoint: str) -> Iterator[tuple[str, Proxy]]:
    """The URL of a proxy before the server at `endpoint`, and the hand on it."""
    words = [sys.executable, str(Path(__file__)), str(urlsplit(endpoint).port)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())
        try:
            yield f"http://127.0.0.1:{port}", Proxy(process)
        finally:
            process.terminate()


async def _message(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """One request, asked to close its connection; one without an end raises."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines, length = [], 0
    for line in head.split(b"\r\n")[:-2]:
        name, _, value = line.partition(b":")
        match name.lower():
            case b"content-length":
                length = int(value)
            case b"connection":
                continue
            case b"expect":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                continue
        lines.append(line)
    body = await reader.readexactly(length)
    return b"\r\n".join([*lines, b"Connection: close", b"", body])


async def _answer(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


def _refusal(kind: str) -> bytes:
    status, code = REFUSALS[kind.removesuffix(" after")]
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>a fault of the test</Message></Error>"
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}"
    return f"{head}\r\nConnection: close\r\n\r\n{body}".encode()


def _half(answer: bytes) -> bytes:
    head, mark, body = answer.partition(b"\r\n\r\n")
    return head + mark + body[: len(body) // 2] if body else head[: len(head) // 2]


async def _serve(port: int) -> None:
    orders = Orders(seen=[])

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await _message(reader, writer)
            kind = orders.meet(" ".join(request.split(b"\r\n", 1)[0].decode().split(" ")[:2]))
            if kind == "stall":
                await asyncio.sleep(STALL_SECONDS)
            if kind in REFUSALS:
                answer = _refusal(kind)
            elif kind in ("reset", "stall"):
                answer = b""
            else:
                answer = await _answer(port, request)
                if kind == "lost reply":
                    answer = b""
                elif kind == "500 after":
                    answer = _refusal(kind)
                elif kind == "truncated":
                    answer = _half(answer)
            if answer:
                writer.write(answer)
                await writer.drain()
            else:  # a reset, not an end
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away, as killed writers do
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=2**20)
    print(server.sockets[0].getsockname()[1], flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        report = {"seen": orders.seen, "failed": orders.failed}
        orders = Orders(**json.loads(line), seen=[])
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
