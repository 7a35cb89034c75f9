"""A stand-in for jupyter-server-proxy: a path leads to another port, and answers lose their length."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import ClientSession, ClientTimeout, web

__all__ = ["proxied"]

_LOST = ("content-length", "transfer-encoding", "connection")


@contextmanager
def proxied(prefix: str) -> Iterator[str]:
    """The address of a server whose path `<prefix>proxy/<port>/` leads to that port of this machine."""
    started: dict[str, object] = {}
    ready = threading.Event()

    async def run() -> None:
        stop = started["stop"] = asyncio.Event()
        started["loop"] = asyncio.get_running_loop()
        async with ClientSession(auto_decompress=False, timeout=ClientTimeout()) as client:
            server = web.Server(lambda request: _hand_on(client, prefix, request))
            runner = web.ServerRunner(server, shutdown_timeout=0)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            started["url"] = f"http://127.0.0.1:{runner.addresses[0][1]}"
            ready.set()
            await stop.wait()
            await runner.cleanup()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert ready.wait(20)
    try:
        yield str(started["url"])
    finally:
        started["loop"].call_soon_threadsafe(started["stop"].set)
        thread.join()


async def _hand_on(client: ClientSession, prefix: str, request: web.BaseRequest) -> web.StreamResponse:
    if not request.path.startswith(f"{prefix}proxy/"):
        return web.Response(status=404)
    port, _, rest = request.path_qs.removeprefix(f"{prefix}proxy/").partition("/")
    headers = {**request.headers, "X-Forwarded-Context": f"{prefix}proxy/{port}"}
    target = f"http://127.0.0.1:{port}/{rest}"
    async with client.request(request.method, target, headers=headers, data=await request.read()) as answer:
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _LOST}
        response = web.StreamResponse(status=answer.status, headers=kept)
        await response.prepare(request)
        async for part in answer.content.iter_any():
            await response.write(part)
        return response
