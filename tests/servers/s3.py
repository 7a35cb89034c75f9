"""An S3 server of our own: moto, in a process of its own, on 127.0.0.1 and a port that was free."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

__all__ = ["KEYS", "s3_server"]

KEYS = {"key": "testing", "secret": "testing-secret"}
"""Credentials that the server takes (it takes any)."""

_SERVE = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()  # until the test has ended, in whatever way
"""


@contextmanager
def s3_server(bucket: str) -> Iterator[dict[str, Any]]:
    """The storage options of a running server that holds an empty bucket of that name."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"moto ended with code {process.wait()} before it served")
        options = {"endpoint_url": f"http://127.0.0.1:{port}", "region": "us-east-1", **KEYS}
        with urlopen(Request(f"{options['endpoint_url']}/{bucket}", method="PUT"), timeout=30):
            pass
        try:
            yield options
        finally:
            process.terminate()
