"""A web server of a few files, which may be others for whoever asks, and change in the middle of a read."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Shelf", "served"]


class Shelf:
    """Files by the header `who` of those who ask, and by their names. `before_get` runs once, before the next
    file is sent."""

    def __init__(self) -> None:
        self.url, self.files = "", {}  # type: str, dict[tuple[str, str], bytes]
        self.before_get: Callable[[], Any] | None = None

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Send a file, or a range of it, with its ETag."""
        if request.command == "GET" and self.before_get is not None:
            run, self.before_get = self.before_get, None
            run()
        data = self.files.get((request.headers.get("who", ""), request.path.lstrip("/")))
        if data is None:
            request.send_error(404)
            return
        part, span = data, request.headers.get("Range")
        if span is not None:
            first, last = span.removeprefix("bytes=").split("-")
            part = data[int(first) : int(last) + 1]
            if not part:
                request.send_error(416)
                return
        request.send_response(200 if span is None else 206)
        request.send_header("Accept-Ranges", "bytes")
        request.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        request.send_header("Content-Length", str(len(part)))
        if span is not None:
            request.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(part)


@contextlib.contextmanager
def served() -> Iterator[Shelf]:
    """A shelf that answers at its `url`."""
    shelf = Shelf()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shelf.answer(self)

        do_HEAD = do_GET  # noqa: N815 - the name that the server looks for

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        shelf.url = f"http://127.0.0.1:{server.server_port}"
        yield shelf
        server.shutdown()
        thread.join()
