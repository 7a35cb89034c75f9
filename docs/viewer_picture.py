"""Makes the picture of the viewer that the pages show: `python docs/viewer_picture.py`, in a checkout.

Another file and a voxel size in mm may follow: `python docs/viewer_picture.py /tmp/view.png 8`. Chromium must
be there.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from PIL import Image
from tornado.websocket import websocket_connect

from radiobject.examples import study

__all__ = ["draw"]

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def draw(picture: Path, spacing: float = 1.0) -> None:
    """Photograph a brain and its tissues in the viewer, with the list of labels open."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        raise SystemExit("docs/viewer_picture.py needs Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        radi = study(3, Path(place) / "study", spacing=spacing, progress=False)
        with radi.view("sub-03") as session:
            with session.viewer.txn() as state:
                state.position = (24, -18, 10)
                state.selected_layer.layer, state.selected_layer.visible = "seg", True
            command = [
                browser, "--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1200,820",
                "--use-angle=swiftshader", "--enable-unsafe-swiftshader", f"--user-data-dir={place}/profile",
                "--remote-debugging-port=0", session.url,
            ]  # fmt: skip
            silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            page = subprocess.Popen(command, **silent)  # noqa: S603 - our own page
            try:
                session.viewer.screenshot()  # comes when the page has drawn everything
                asyncio.run(_photograph(Path(place) / "profile" / "DevToolsActivePort", picture))
            finally:
                page.terminate()
                page.wait(30)
    with Image.open(picture) as image:
        few = image.convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(picture, optimize=True)


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


if __name__ == "__main__":
    here = Path(__file__).resolve().parent / "images" / "view.png"
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else here, float(sys.argv[2]) if len(sys.argv) > 2 else 1.0)
