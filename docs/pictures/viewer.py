"""The picture of the viewer, with what stands around the planes."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from browser import command, shrink
from tornado.websocket import websocket_connect

from radiobject.examples import study

__all__ = ["draw"]


def draw(folder: Path, spacing: float = 1.0) -> None:
    """Write view.png: a brain and its tissues in the viewer, with the list of labels open."""
    picture = folder / "view.png"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        radi = study(3, Path(place) / "study", spacing=spacing, progress=False)
        with radi.view("sub-03") as session:
            with session.viewer.txn() as state:
                state.position = (24, -18, 10)
                state.selected_layer.layer, state.selected_layer.visible = "seg", True
            start = command(Path(place) / "profile", 1200, 820)
            start += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--remote-debugging-port=0"]
            silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            page = subprocess.Popen([*start, session.url], **silent)  # noqa: S603 - our own page
            try:
                session.viewer.screenshot()  # comes when the page has drawn everything
                asyncio.run(_photograph(Path(place) / "profile" / "DevToolsActivePort", picture))
            finally:
                page.terminate()
                page.wait(30)
    shrink(picture)


async def _photograph(port: Path, picture: Path) -> None:
    """The whole page, with what stands around the planes, by Chromium's DevTools protocol."""
    while not port.exists():
        time.sleep(0.1)
    tabs = json.load(urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json"))
    (address,) = (tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
    tools = await websocket_connect(address, max_message_size=2**26)
    await tools.write_message(json.dumps({"id": 1, "method": "Page.captureScreenshot"}))
    picture.write_bytes(base64.b64decode(json.loads(await tools.read_message())["result"]["data"]))
    tools.close()
