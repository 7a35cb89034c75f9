"""`radiobject view`: what it prints, that the address answers, and that Ctrl-C ends it well."""

from __future__ import annotations

import functools
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import pytest

from radiobject import RadiObject

pytest.importorskip("neuroglancer", reason="needs pip install 'radiobject-zarr[viewer]'")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("command") / "study"
    scans = [((np.zeros((5, 5, 5), "u1"), np.eye(4)), subject) for subject in ("sub-01", "sub-02")]
    RadiObject.from_niftis(place, {"T1w": scans, "flair": scans}, progress=False)
    return str(place)


@contextmanager
def running(*words: str, **environment: str) -> Iterator[tuple[list[str], subprocess.Popen[str]]]:
    """The lines that the command has printed when it begins to wait, and its process."""
    code = "import sys; from radiobject.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code, "view", *words]
    kept = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**kept, **environment},
        # a shell that runs the tests in the background has all of them ignore Ctrl-C
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                if line.startswith("Ctrl-C"):
                    break
            yield lines, process
        finally:
            process.kill()


def test_it_prints_the_address_and_the_tunnel_and_ends_by_ctrl_c(uri: str) -> None:
    with running(uri, "--subject", "sub-02", "--collection", "T1w") as (lines, process):
        title, url, _, tunnel, _ = (line.strip() for line in lines)
        assert title == "T1w of sub-02"
        assert urlopen(url, timeout=30).status == 200
        port = url.split(":")[2].split("/")[0]
        assert tunnel.startswith(f"ssh -L {port}:127.0.0.1:{port} ")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
    with pytest.raises(OSError):
        urlopen(url, timeout=30)


def test_a_port_may_be_chosen(uri: str) -> None:
    with running(uri) as (lines, _):
        url = lines[1].strip()
    port = url.split(":")[2].split("/")[0]
    with running(uri, "--port", port, "--no-browser") as (lines, _):
        assert lines[0] == "T1w, flair of sub-01"
        assert f":{port}/" in lines[1]
        with running(uri, "--port", port) as (_, second):
            assert second.wait(30) == 1
            assert second.stderr is not None
            assert f"port={port}" in second.stderr.read()


def test_on_a_hub_it_prints_a_path(uri: str) -> None:
    with running(uri, JUPYTERHUB_SERVICE_PREFIX="/user/me/") as (lines, _):
        assert lines[2].strip().startswith("/user/me/proxy/")
        assert not any("ssh" in line for line in lines)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script as a browser")
def test_it_opens_the_browser_where_there_is_a_screen(uri: str, tmp_path: Path) -> None:
    script, asked = tmp_path / "browser", tmp_path / "asked"
    script.write_text(f'#!/bin/sh\necho "$1" > {asked}\n')
    script.chmod(0o755)
    os.mkfifo(asked)  # reading it waits for the browser
    with running(uri, DISPLAY=":7", BROWSER=str(script)) as (lines, process):
        given, url = asked.read_text().strip(), lines[1].strip()
        # everyone on the machine sees a browser's arguments, and the address is a secret
        assert given.startswith("file://")
        page = Path(urlsplit(given).path)
        assert (stat.S_IMODE(page.stat().st_mode), stat.S_IMODE(page.parent.stat().st_mode)) == (0o600, 0o700)
        assert f'content="0; url={url}"' in page.read_text()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0
        assert not page.parent.exists()
    with running(uri, "--no-browser", DISPLAY=":7", BROWSER=f"{script}-none") as (_, process):
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0
