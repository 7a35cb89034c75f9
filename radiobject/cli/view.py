"""`radiobject view`: a subject's volumes in a browser, until Ctrl-C."""

from __future__ import annotations

import getpass
import html
import os
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from radiobject.cli.options import (
    SourceRoot,
    StorageOptions,
    Uri,
    Version,
    open_study,
)
from radiobject.cli.output import console, printable

__all__ = ["view"]


def view(
    uri: Uri,
    subject: Annotated[str | None, typer.Option(help="The subject to show; left out: the first.")] = None,
    collection: Annotated[list[str] | None, typer.Option(help="Only this collection. Repeatable.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0: a free one.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    version: Version = None,
    storage_option: StorageOptions = None,
    source_root: SourceRoot = None,
) -> None:
    """Show a subject in the browser, by Neuroglancer: every collection a layer, in world space.

    Runs until Ctrl-C. The address works on this machine only; its last part is
    a secret.

    \b
        radiobject view studies/glioma --subject sub-01
        radiobject view s3://bucket/glioma --port 9000 --no-browser
    """
    radi = open_study(uri, version, storage_option, source_root)
    if collection:
        radi = radi.select_collections(collection)
    out = console()
    try:
        with radi.view(subject, port=port) as session:
            on_hub = session.url.startswith("/")
            title = printable(f"{', '.join(session.layers)} of {session.title}")
            for line in (title, *_where(session.url, session.port, on_hub)):
                out.print(line, markup=False, soft_wrap=True)
            sys.stdout.flush()
            wanted = not no_browser and not on_hub and _has_screen()
            with _leading_to(session.url) if wanted else nullcontext() as door:
                if door is not None:
                    webbrowser.open(door.as_uri())
                threading.Event().wait()
    except KeyboardInterrupt:
        out.print()


def _where(url: str, port: int, on_hub: bool) -> list[str]:
    if on_hub:
        lines = [
            "Open this path on the host of your JupyterHub, which needs jupyter-server-proxy:",
            f"  {url}",
        ]
    else:
        tunnel = f"ssh -L {port}:127.0.0.1:{port} {getpass.getuser()}@{socket.gethostname()}"
        other = "From another machine: run this there, then open the same address in its browser"
        lines = [f"  {url}", other, f"  {tunnel}"]
    return [*lines, "Ctrl-C ends it."]


@contextmanager
def _leading_to(url: str) -> Iterator[Path]:
    """A page that only this user can read and that leads to `url`.

    Everyone on the machine sees what a browser was started with, and the last part of the URL is a secret.
    """
    with tempfile.TemporaryDirectory(prefix="radiobject-view-") as folder:  # 0700
        page, target = Path(folder) / "view.html", html.escape(url)
        with open(os.open(page, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(
                f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={target}">'
                f'<title>radiobject view</title><a href="{target}">Open the viewer</a>'
            )
        yield page


def _has_screen() -> bool:
    """Whether a browser would open where the user sees it, and not in this terminal."""
    if sys.platform in ("win32", "darwin"):
        return "SSH_CONNECTION" not in os.environ
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
