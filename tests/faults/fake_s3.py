"""A small S3 server in this process, for what a real one cannot be told: to ignore `If-None-Match`, to have a
clock of its own."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.servers.s3 import KEYS

__all__ = ["FakeS3", "fake_s3"]


class FakeS3(ThreadingHTTPServer):
    """Objects of one bucket in memory: whole or by range, listed, put, deleted."""

    daemon_threads = True

    def __init__(self, *, honours: bool, skew: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.honours, self.skew = honours, skew
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.lock = threading.Lock()

    @property
    def options(self) -> dict[str, Any]:
        """Storage options that lead here."""
        return {"endpoint_url": f"http://127.0.0.1:{self.server_port}", "region": "us-east-1", **KEYS}

    def put(self, key: str, data: bytes, *, if_absent: bool) -> bool:
        """Store an object; False where the condition is honoured and the key is taken."""
        with self.lock:
            if if_absent and self.honours and key in self.objects:
                return False
            self.objects[key] = (data, time.time() + self.skew)
            return True


@contextmanager
def fake_s3(*, honours: bool = True, skew: float = 0.0) -> Iterator[FakeS3]:
    """A running server; `skew` is how many seconds its clock is ahead."""
    with FakeS3(honours=honours, skew=skew) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeS3

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        stored = self.server.put(self._key, data, if_absent=self.headers.get("If-None-Match") == "*")
        if stored:
            self._answer(200, b"", ETag=_etag(data))
        else:
            self._answer(412, _error("PreconditionFailed"))

    def do_DELETE(self) -> None:
        with self.server.lock:
            self.server.objects.pop(self._key, None)
        self._answer(204, b"")

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            return self._list(query)
        found = self.server.objects.get(self._key)
        if found is None:
            return self._answer(404, _error("NoSuchKey"))
        data, when = found
        about = {"ETag": _etag(data), "Last-Modified": formatdate(when, usegmt=True)}
        start, stop = _range(self.headers.get("Range"), len(data))
        if start >= len(data) and self.headers.get("Range"):
            return self._answer(416, _error("InvalidRange"))
        if self.headers.get("Range"):
            about["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        return self._answer(206 if self.headers.get("Range") else 200, data[start:stop], **about)

    do_HEAD = do_GET  # noqa: N815 - the name that the server looks for

    def _list(self, query: dict[str, list[str]]) -> None:
        prefix, mark = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        contents, folders = [], set()
        for key, (data, when) in sorted(self.server.objects.items()):
            if not key.startswith(prefix):
                continue
            below = key.removeprefix(prefix)
            if mark and mark in below:
                folders.add(prefix + below.partition(mark)[0] + mark)
                continue
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(when))
            contents.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>{stamp}</LastModified>"
                f"<ETag>{_etag(data)}</ETag><Size>{len(data)}</Size></Contents>"
            )
        contents += [
            f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in sorted(folders)
        ]
        count = f"<KeyCount>{len(contents)}</KeyCount><IsTruncated>false</IsTruncated>"
        body = f"<?xml version='1.0'?><ListBucketResult>{count}{''.join(contents)}</ListBucketResult>"
        self._answer(200, body.encode(), **{"Content-Type": "application/xml"})

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing on stderr."""


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


def _range(header: str | None, size: int) -> tuple[int, int]:
    if header is None:
        return 0, size
    start, _, last = header.removeprefix("bytes=").partition("-")
    if not start:
        return max(size - int(last), 0), size
    return int(start), min(int(last) + 1, size) if last else size
