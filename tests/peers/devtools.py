"""A page in a headless Chromium, looked at and operated as a person would, by the browser's own protocol."""

from __future__ import annotations

import asyncio
import base64
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import numpy.typing as npt
from PIL import Image

from peers.browser import opened

__all__ = ["DevTools", "browsing"]

_SECONDS = 30
_PORT = "DevToolsActivePort"

_KEYS = {
    "Tab": 9, "PageUp": 33, "PageDown": 34, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39,
    "ArrowDown": 40,
}  # fmt: skip


class DevTools:
    """One page. `asked` has the URL of everything it wanted to load, `errors` what its console says."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._loop, self._socket, self._number = loop, socket, 0
        self.asked: list[str] = []
        self.errors: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result."""
        return self._loop.run_until_complete(asyncio.wait_for(self._call(method, params), _SECONDS))

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            told = await self._socket.receive_json()
            if told.get("method") == "Network.requestWillBeSent":
                self.asked.append(told["params"]["request"]["url"])
            elif told.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.errors.append(str(told["params"]))
            elif told.get("id") == self._number:
                assert "error" not in told, told
                return dict(told["result"])

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives, promises awaited."""
        told = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait until an expression is true."""
        end = time.monotonic() + _SECONDS
        while not (found := self.value(expression)):
            assert time.monotonic() < end, (expression, self.errors)
        return found

    def settled(self) -> None:
        """Wait until what was asked for is drawn."""
        self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """A mouse event at a place in the window: "mousePressed", "mouseMoved", "mouseWheel" ..."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)
        self.settled()

    def key(self, name: str) -> None:
        """Press a key and let it go."""
        code = _KEYS[name]
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, windowsVirtualKeyCode=code)
        self.settled()

    def picture(self) -> npt.NDArray[np.uint8]:
        """A screenshot of the window, (rows, columns, 3)."""
        self.settled()
        data = base64.b64decode(self.call("Page.captureScreenshot")["data"])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@contextmanager
def browsing(url: str, profile: Path, width: int = 1100, height: int = 760) -> Iterator[DevTools]:
    """The page at `url`, in a window of that size, until the block ends."""
    flags = ("--remote-debugging-port=0", "--hide-scrollbars", f"--window-size={width},{height}")
    (profile / _PORT).unlink(missing_ok=True)  # of an earlier browser
    loop = asyncio.new_event_loop()
    session = None
    try:
        # the page is loaded by the protocol, so that nothing it asks for is missed
        with opened("about:blank", profile, *flags):
            port = loop.run_until_complete(asyncio.wait_for(_port(profile), _SECONDS))
            session = aiohttp.ClientSession(f"http://127.0.0.1:{port}", loop=loop)
            socket = loop.run_until_complete(asyncio.wait_for(_connected(session), _SECONDS))
            tools = DevTools(loop, socket)
            for room in ("Network", "Runtime", "Log", "Page"):
                tools.call(f"{room}.enable")
            size = {"width": width, "height": height}
            tools.call("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=1, mobile=False)
            tools.call("Page.navigate", url=url)
            tools.until("document.readyState === 'complete'")
            yield tools
    finally:
        if session is not None:
            loop.run_until_complete(session.close())
        loop.close()


async def _port(profile: Path) -> int:
    """Where the browser listens, once it says so."""
    while not (profile / _PORT).exists() or not (found := (profile / _PORT).read_text().split()):
        await asyncio.sleep(0.05)
    return int(found[0])


async def _connected(session: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
    """A line to the browser's page, once it has one."""
    while True:
        async with session.get("/json/list") as answer:
            pages = [page for page in await answer.json() if page["type"] == "page"]
        if pages:
            return await session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=2**28)
        await asyncio.sleep(0.05)
