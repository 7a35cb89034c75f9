"""A plain web server for tests: byte ranges, CORS, keep-alive, and no way to list anything."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["FileServer", "serve"]

_RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")


class FileServer(ThreadingHTTPServer):
    """Serves the files below `root`; `asked` holds (method, path, status) of every request answered."""

    daemon_threads = False
    # clients open many connections at once; beyond the usual five the kernel drops some for a second or more
    request_queue_size = 256

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = os.path.realpath(root)
        self.asked: list[tuple[str, str, int]] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """URL of the root, without a slash at its end."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def process_request(self, request, client_address) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        # a kept-alive connection would keep its thread waiting for a request that never comes
        with self._lock:
            for request in self._open:
                request.shutdown(socket.SHUT_RDWR)
        super().server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: FileServer

    def do_GET(self) -> None:
        path = os.path.realpath(f"{self.server.root}{unquote(urlsplit(self.path).path)}")
        if not path.startswith(f"{self.server.root}{os.sep}") or not os.path.isfile(path):
            self._answer(404, b"")
            return
        data = Path(path).read_bytes()
        wanted = self.headers.get("Range")
        if wanted is None:
            self._answer(200, data)
            return
        match = _RANGE.match(wanted)
        first, last = match.groups() if match else ("", "")
        if first:
            start, stop = int(first), min(int(last) + 1 if last else len(data), len(data))
        else:
            start, stop = max(len(data) - int(last or 0), 0), len(data)
        if start >= stop:
            self._answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        self._answer(206, data[start:stop], {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_OPTIONS(self) -> None:
        self._answer(204, b"")

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.server.asked.append((self.command, self.path, status))
        self.send_response(status)
        cors = {
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Allow-Headers": "*",
            "Access-Control-Expose-Headers": "*",
        }
        for name, value in {**cors, "Accept-Ranges": "bytes", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serve(root: Path) -> Iterator[FileServer]:
    """A running server; when the block ends its threads and sockets are gone."""
    server = FileServer(root)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
