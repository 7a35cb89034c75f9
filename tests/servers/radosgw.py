"""A real S3 server: Ceph's radosgw of Debian's packages, without root, on 127.0.0.1 alone.

One monitor, one store in memory and the gateway, each a child of this process. The packages are fetched
once (about 70 MB) and unpacked into a folder of their own; nothing of the system is changed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

__all__ = ["RADOSGW_CACHE", "RADOSGW_KEYS", "install", "radosgw_server"]

RADOSGW_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "radosgw"
"""Where the packages are unpacked."""

RADOSGW_KEYS = {"key": "radiobject-tests", "secret": "radiobject-tests-secret"}
"""Credentials of the one user; others are refused."""

_PACKAGES = ("radosgw", "ceph-mon", "ceph-osd", "ceph-common")
_PATIENCE = 90.0

_SETTINGS = """\
[global]
fsid = {fsid}
mon initial members = a
mon host = [v1:127.0.0.1:{mon}]
public network = 127.0.0.0/8
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
osd objectstore = memstore
memstore device bytes = 3221225472
osd max object name len = 256
osd max object namespace len = 64
mon data avail crit = 1
osd class update on start = false
osd crush update on start = false
run dir = {data}/run
pid file = {data}/run/$name.pid
admin socket = {data}/run/$name.asok
log file = {data}/log/$name.log
mon data = {data}/mon
osd data = {data}/osd
rgw data = {data}/rgw
plugin dir = {libraries}/ceph
erasure code dir = {libraries}/ceph/erasure-code
osd class dir = {libraries}/rados-classes
setuser match path =
crash dir = {data}/run

[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw thread pool size = 64
"""
# osd ... on start: now and then the store sends these before it knows the cluster's id, is refused, and ends.
# tcp_nodelay: without it the kernel holds every small answer back for 40 ms.


def install(cache: Path = RADOSGW_CACHE) -> Path:
    """The folder with the unpacked packages; fetched by apt-get at the first call, which needs no root."""
    root = cache / "root"
    if root.is_dir():
        return root
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise RuntimeError("radosgw comes from Debian's packages: apt-get and dpkg are needed")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as aside:
        debs, unpacked = Path(aside) / "debs", Path(aside) / "root"
        debs.mkdir()
        try:
            wanted = _needed()
        except subprocess.CalledProcessError:
            _run(["apt-get", "update", "-q"])  # a fresh image has no lists of packages
            wanted = _needed()
        _run(["apt-get", "download", "-q", *wanted], cwd=debs)
        for deb in sorted(debs.glob("*.deb")):
            _run(["dpkg", "-x", str(deb), str(unpacked)])
        try:
            unpacked.rename(root)
        except OSError:
            if not root.is_dir():  # else a run beside this one was quicker
                raise
    return root


def _needed() -> list[str]:
    """The packages and what they depend on, but for what this system has already."""
    plan = _run(["apt-get", "install", "-s", "--no-install-recommends", *_PACKAGES])
    return [line.split()[1] for line in plan.splitlines() if line.startswith("Inst")]


def _run(command: list[str], **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **options)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr[-2000:])
    return done.stdout


@contextmanager
def radosgw_server(bucket: str) -> Iterator[dict[str, Any]]:
    """The storage options of a running radosgw that holds an empty bucket of that name; starts in 10 s."""
    root = install()
    with tempfile.TemporaryDirectory(prefix="radosgw-") as folder, ExitStack() as running:
        cluster = _Cluster(root, Path(folder), running)
        cluster.start()
        options = {"endpoint_url": f"http://127.0.0.1:{cluster.port}", "region": "us-east-1", **RADOSGW_KEYS}
        _client(options).create_bucket(Bucket=bucket)
        yield options


def _client(options: dict[str, Any]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=options["endpoint_url"],
        region_name=options["region"],
        aws_access_key_id=options["key"],
        aws_secret_access_key=options["secret"],
        config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
    )


class _Cluster:
    """The daemons, in the order in which they need each other; `running` ends them in the reverse."""

    def __init__(self, root: Path, data: Path, running: ExitStack) -> None:
        self._root, self._data, self._running = root, data, running
        self._libraries = next(root.glob("usr/lib/*-linux-gnu"))
        self.port, self._mon = _free_port(), _free_port()
        self._settings = data / "ceph.conf"
        above = [
            self._libraries,
            self._libraries / "ceph",
            root / "usr/lib/ceph",
            *root.glob("lib/*-linux-gnu"),
        ]
        self._environment = {
            **os.environ,
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, above)),
            "PATH": f"{root}/usr/bin:{root}/usr/sbin:/usr/sbin:/usr/bin:/bin",
            "PYTHONPATH": f"{root}/usr/lib/python3/dist-packages",
            "CEPH_CONF": str(self._settings),
            "LC_ALL": "C",
        }

    def start(self) -> None:
        """Return when the gateway answers."""
        data, fsid = self._data, str(uuid.uuid4())
        for name in ("mon", "osd", "rgw", "log", "run"):
            (data / name).mkdir()
        self._settings.write_text(
            _SETTINGS.format(fsid=fsid, mon=self._mon, port=self.port, data=data, libraries=self._libraries)
        )
        where, keys = f"[v1:127.0.0.1:{self._mon}]", str(data / "keyring")
        self._tool("monmaptool", "--create", "--addv", "a", where, "--fsid", fsid, str(data / "monmap"))
        self._tool(
            "ceph-authtool", "--create-keyring", keys, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"
        )
        self._tool("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(data / "monmap"), "--keyring", keys)
        self._daemon("ceph-mon", "-i", "a")
        self._until("the monitor", lambda: "quorum" in self._ceph("-s"))
        store = str(uuid.uuid4())
        self._ceph("osd", "create", store)
        self._tool("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", store)
        self._ceph("osd", "crush", "add", "osd.0", "1.0", "root=default", "host=localhost")
        self._daemon("ceph-osd", "-i", "0")
        self._until("the store", lambda: "1 up" in self._ceph("osd", "stat"))
        keys = f"--access-key={RADOSGW_KEYS['key']}", f"--secret-key={RADOSGW_KEYS['secret']}"
        self._tool("radosgw-admin", "user", "create", "--uid=tests", "--display-name=tests", *keys)
        self._daemon("radosgw", "-n", "client.rgw")
        self._until("the gateway", self._answers)

    def _tool(self, *command: str) -> str:
        return _run(list(command), env=self._environment)

    def _ceph(self, *arguments: str) -> str:
        # the interpreter of the distribution, for which its bindings were built
        command = ["/usr/bin/python3", f"{self._root}/usr/bin/ceph", "-c", str(self._settings)]
        return self._tool(*command, "--connect-timeout", "5", *arguments)

    def _daemon(self, *command: str) -> None:
        process = subprocess.Popen(
            [*command, "-f"], env=self._environment, cwd=self._data, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._running.callback(_end, process)

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return True

    def _until(self, what: str, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                if ready():
                    return
            except (OSError, subprocess.SubprocessError) as error:
                last: object = getattr(error, "stderr", "") or error
            else:
                last = "not yet"
            if time.monotonic() > end:
                logs = "".join(
                    p.read_text(errors="replace")[-1500:] for p in (self._data / "log").glob("*.log")
                )
                raise RuntimeError(f"{what} of radosgw did not come up in {_PATIENCE:.0f} s: {last}\n{logs}")
            time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    print(install())
