"""Server: Neuroglancer's own web server with the files of the volumes shown, on one port of this machine.

It is a server of our own beside the one that `neuroglancer.Viewer()` shares in a process: closing it closes
nobody else's, and nobody can have bound it to other than 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import neuroglancer.server
from tornado.web import ErrorHandler, HTTPError, RequestHandler

from radiobject.errors import ConfigError, RadiObjectError
from radiobject.show.viewer.files import UNSATISFIABLE, VolumeFiles, byte_range

__all__ = ["ViewerServer"]

_log = logging.getLogger(__name__)

_READERS = 16
"""Reads of the store at a time: a browser asks for some dozen chunks at once, and a store answers slowly."""

_PIECE = 8 * 2**20
"""Bytes of a large object that are in memory at a time."""

_BEHIND_JUPYTER = "X-Forwarded-Context"
"""A header that jupyter-server-proxy adds."""

_OTHER_HOSTS = r"(?!(127\.0\.0\.1|localhost)$).*"
_BASE = re.compile(r"https?://[\w.:\[\]-]+/([\w.~%@!$&'()*+,;=:-]+/)*", re.ASCII)

_ENTRY = b"""<!doctype html><meta charset="utf-8"><title>radiobject</title><script>
// only the browser knows by which address it came here: a tunnel or a proxy may stand between
const base = new URL("../../", location.href), token = location.pathname.split("/").at(-2);
fetch(location.href, {method: "POST", body: base.href})
    .then(() => location.replace(new URL(`v/${token}/`, base)));
</script>"""


class ViewerServer(neuroglancer.server.Server):  # type: ignore[misc]
    """Serves Neuroglancer's page and `volumes`, read-only, to whoever knows `token`.

    `documents` are small JSON texts by name. `moved` is called with the address at which a browser found
    this server, before it loads the page. `proxied` says that requests come through a proxy and name the
    proxy's host; otherwise only those to 127.0.0.1 or localhost are answered, so that no web page can reach
    the server by a name of its own (DNS rebinding).

    Raises `ConfigError` for a port that is taken.
    """

    def __init__(
        self,
        token: str,
        volumes: Mapping[str, VolumeFiles],
        documents: Mapping[str, bytes],
        moved: Callable[[str], None],
        *,
        port: int = 0,
        proxied: bool = False,
    ) -> None:
        super().__init__(bind_address="127.0.0.1", bind_port=port, token=token)
        self.volumes, self.documents, self.moved = volumes, documents, moved
        self.readers = ThreadPoolExecutor(_READERS, thread_name_prefix="radiobject-view")
        self._proxied = proxied

    def _attempt_to_start_server(self) -> None:
        try:
            # Tornado leaves the socket open that it could not bind
            socket.create_server(("127.0.0.1", self._bind_port)).close()
        except (OSError, OverflowError) as error:
            raise ConfigError(f"port={self._bind_port}", expected="a free port", got=str(error)) from error
        super()._attempt_to_start_server()
        # rules for hosts come before those that Neuroglancer made for all hosts, in the order they are added
        if not self._proxied:
            self.app.add_handlers(_OTHER_HOSTS, [(".*", ErrorHandler, {"status_code": 403})])
        token, ours = re.escape(self.token), {"server": self}
        self.app.add_handlers(
            ".*",
            [
                (rf"/open/{token}/", _Entry, ours),
                (rf"/data/{token}/(\w+)/(.+)", _Data, ours),
                # hands out the credentials of whoever runs this process
                ("/credentials/.*", ErrorHandler, {"status_code": 404}),
            ],
        )

    def close(self) -> None:
        """Stop answering; when this returns, the port is free and the threads have ended."""
        self.stop()
        self.executor.shutdown()
        self.readers.shutdown(cancel_futures=True)


class _Entry(RequestHandler):
    """The page that the session's URL names; it tells its own address and goes on to Neuroglancer."""

    def initialize(self, server: ViewerServer) -> None:
        self.server = server

    def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.finish(_ENTRY)

    def post(self) -> None:
        base = self.request.body.decode("ascii", "replace")
        if len(base) > 2000 or not _BASE.fullmatch(base):
            raise HTTPError(400)
        self.server.moved(base)


class _Data(RequestHandler):
    """One object of a volume, whole or a range of it."""

    SUPPORTED_METHODS: ClassVar[tuple[str, ...]] = ("GET", "HEAD", "OPTIONS")  # type: ignore[misc]

    def initialize(self, server: ViewerServer) -> None:
        self.server = server

    def set_default_headers(self) -> None:
        # any page may ask: what protects the data is that no other page knows the token
        self.set_header("Access-Control-Allow-Origin", "*")
        self.set_header("Access-Control-Expose-Headers", "Accept-Ranges, Content-Length, Content-Range, ETag")
        self.set_header("X-Content-Type-Options", "nosniff")

    def options(self, volume: str, key: str) -> None:
        self.set_header("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
        self.set_header("Access-Control-Allow-Headers", "Range, If-Range, If-None-Match")
        self.set_header("Access-Control-Max-Age", "86400")
        self.set_status(204)

    async def head(self, volume: str, key: str) -> None:
        if _BEHIND_JUPYTER in self.request.headers:
            # it would drop the length, and an object without bytes has no voxels; when this is refused, the
            # page asks for one byte instead, and is told the length with that
            raise HTTPError(405)
        await self.get(volume, key)

    async def get(self, volume: str, key: str) -> None:
        document = self.server.documents.get(f"{volume}/{key}")
        files = self.server.volumes.get(volume)
        if document is not None:
            self.set_header("Content-Type", "application/json")
            self.finish(document)
        elif files is None or key not in files:
            raise HTTPError(404)
        else:
            try:
                await self._answer(files, key)
            except RadiObjectError as error:
                # not 404: a Zarr reader takes an object that is not found for voxels of the fill value
                _log.warning("the viewer got no answer: %s", error)
                raise HTTPError(502) from error

    async def _answer(self, files: VolumeFiles, key: str) -> None:
        self.set_header("Content-Type", f"application/{'json' if key.endswith('.json') else 'octet-stream'}")
        self.set_header("Accept-Ranges", "bytes")
        # volumes never change under their path, and the URL is this session's alone
        self.set_header("Cache-Control", "private, max-age=86400, immutable")
        self.set_etag_header()
        if self.check_etag_header():
            self.set_status(304)
            return
        size = await self._read(files.size, key)
        wanted = None
        # a range of what the client has in another version would be put together with that
        if self.request.headers.get("If-Range", self.compute_etag()) == self.compute_etag():
            wanted = byte_range(self.request.headers.get("Range"), size)
        start, stop = wanted or (0, size)
        if wanted == UNSATISFIABLE:
            self.set_status(416)
            self.set_header("Content-Range", f"bytes */{size}")
            return
        if wanted is not None:
            self.set_status(206)
            self.set_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.set_header("Content-Length", str(stop - start))
        if self.request.method == "HEAD":
            return
        for place in range(start, stop, _PIECE):
            self.write(await self._read(files.read, key, place, min(place + _PIECE, stop)))
            await self.flush()

    async def _read(self, read: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.server.readers, read, *arguments)

    def compute_etag(self) -> str:
        # the token is new for every session, and within it a key names one object for good
        return f'"{hashlib.sha256(self.request.path.encode()).hexdigest()[:32]}"'
