"""An ingest of many volumes that is killed again and again and resumed; one whose dask workers die under it.

An ordinary run kills an ingest of 40 volumes 6 times; `make chaos` one of 200 volumes 50 times.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.errors import RadiObjectError
from tests.faults.ground import CHAOS, dice, fresh, seed

pytestmark = pytest.mark.slow

VOLUMES, KILLS = (200, 50) if CHAOS else (40, 6)

KILLED = """
import json, os, random, signal, sys, time, traceback
import numpy as np
import radiobject.ingest, radiobject.backends.zarr.tensorstore_engine
from radiobject import RadiObject

uri, volumes, kills, seed = sys.argv[1], *map(int, sys.argv[2:])
dice = random.Random(seed)
rng = np.random.default_rng(0)
scans = [rng.integers(0, 900, (24, 20, 16), dtype=np.int16) for _ in range(volumes)]
images = {"T1w": [((scan, np.eye(4)), f"s{n}") for n, scan in enumerate(scans)]}

def ingest(place):
    RadiObject.from_niftis(place, images, executor="serial", resume=True, progress=False)

def child(place):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            ingest(place)
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    return pid

begun = time.monotonic()
assert os.waitpid(child(uri + "-whole"), 0)[1] == 0
whole = time.monotonic() - begun
done = 0
for kill in range(kills):
    pid = child(uri)
    time.sleep(dice.uniform(0, 2 * whole / kills))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) == 0:
        break  # it had finished
    done += 1
    assert not os.path.exists(uri + "/versions/000000000002.json")
if not os.path.exists(uri + "/versions/000000000001.json"):
    assert os.waitpid(child(uri), 0)[1] == 0
print(done)
"""


def contents(uri: str) -> dict[str, dict[str, str]]:
    """The digest of every object of every volume."""
    radi = fresh(uri, {})
    rows = radi._study.snapshot.table("obs", "T1w").read(["obs_id", "_path"]).to_pylist()
    assert len({row["obs_id"] for row in rows}) == len(rows)
    found = {}
    for row in rows:
        top = Path(uri, row["_path"])
        files = {str(p.relative_to(top)): hashlib.sha256(p.read_bytes()).hexdigest()
                 for p in top.rglob("*") if p.is_file()}  # fmt: skip
        found[row["obs_id"]] = files
    return found


@pytest.mark.timeout(3600)
def test_an_ingest_killed_again_and_again_equals_an_undisturbed_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number, uri = seed(), str(tmp_path / "study")
    words = [sys.executable, "-W", "error", "-c", KILLED, uri, str(VOLUMES), str(KILLS), str(number)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with capsys.disabled():
        print(f" [seed {number}: {done.stdout.strip()} kills, {VOLUMES} volumes]", end="")
    assert int(done.stdout) > 0
    found = contents(uri)
    assert len(found) == VOLUMES
    assert found == contents(f"{uri}-whole")
    assert [p for p in fresh(uri, {}).validate("full").problems if p.kind != "hint"] == []


@pytest.mark.timeout(600)
def test_dask_workers_that_die_leave_no_volume_twice_and_none_by_half(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distributed = pytest.importorskip("distributed")
    number = seed()
    roll = dice(number)
    rng = np.random.default_rng(0)
    scans = {f"s{n}": rng.integers(0, 900, (24, 20, 16), dtype=np.int16) for n in range(24)}
    images = {"T1w": [((scan, np.eye(4)), subject) for subject, scan in scans.items()]}
    kills, stop = 0, threading.Event()
    uri = str(tmp_path / "study")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):

        def kill() -> None:
            nonlocal kills
            while not stop.wait(roll.uniform(0.05, 0.6)) and kills < (20 if CHAOS else 3):
                # a nanny whose worker dies while it starts gives up, and dask waits for workers for ever
                alive = [w.pid for w in cluster.workers.values() if w.status.name == "running" and w.pid]
                if alive:
                    os.kill(roll.choice(alive), signal.SIGKILL)
                    kills += 1

        thread = threading.Thread(target=kill)
        thread.start()
        errors = 0
        try:
            while True:
                try:
                    RadiObject.from_niftis(uri, images, executor=client, resume=True, progress=False)
                    break
                except RadiObjectError:
                    errors += 1
                    assert errors < 200
        finally:
            stop.set()
            thread.join()
    with capsys.disabled():
        print(f" [seed {number}: {kills} workers killed, {errors} tries failed]", end="")
    radi: Any = fresh(uri, {})
    assert sorted(radi.T1w.obs_subject_ids) == sorted(scans)
    assert all((v.to_numpy() == scans[v.obs_subject_id]).all() for v in radi.T1w)
    assert [p for p in radi.validate("full").problems if p.kind != "hint"] == []
    assert json.loads(Path(uri, "hint.json").read_text())["latest"] == 1
