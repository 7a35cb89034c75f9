"""Materialize killed at random moments: no volume is lost, the study is valid, and the next run finishes.

`RADIOBJECT_CHAOS_SECONDS` sets how long it goes on (`make chaos` sets more), but until there were LEAST
kills; the seed is printed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.format import catalog
from tests.conftest import NiftiMaker

LEAST = 30

# One process that forks a child for every run and kills it: starting Python anew would take longer. It never
# opens an engine itself.
KILLER = """
import json, os, select, signal, sys, time, traceback
from radiobject import RadiObject
import radiobject.backends.files, radiobject.ingest.registering, tensorstore

for line in sys.stdin:
    uri, every, seconds = json.loads(line)
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            RadiObject(uri).materialize(commit_every=every, workers=2)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    ended = os.pidfd_open(child)
    if not select.select([ended], [], [], seconds)[0]:
        os.kill(child, signal.SIGKILL)
    os.close(ended)
    _, status = os.waitpid(child, 0)
    print(json.dumps([os.waitstatus_to_exitcode(status), time.monotonic() - begun]), flush=True)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.only("tensorstore", reason="commits and journals are the same on every engine"),
]


def seen(uri: Path) -> dict[str, tuple[str, bytes]]:
    """What a fresh handle reads of every volume, with its user's column."""
    catalog._snapshots.clear()
    radi = RadiObject(uri)
    ratings = {n: radi.collection(n).obs.to_arrow(["obs_id", "rating"]).to_pylist() for n in radi}
    said = {row["obs_id"]: str(row["rating"]) for rows in ratings.values() for row in rows}
    return {v.obs_id: (said[v.obs_id], v.to_numpy().tobytes()) for n in radi for v in radi.collection(n)}


def stored(uri: Path) -> set[str]:
    """Which volumes are stored, and where."""
    radi = RadiObject(uri)
    paths = [p for n in radi for p in radi.collection(n).obs.to_arrow(["_path"])["_path"].to_pylist()]
    return {p for p in paths if not p.endswith(".files")}


@pytest.mark.timeout(3600)
def test_kills_lose_nothing_and_the_next_run_finishes(
    tmp_path: Path, make_nifti: NiftiMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = float(os.environ.get("RADIOBJECT_CHAOS_SECONDS", "0")) / 2
    seed = int(os.environ.get("RADIOBJECT_CHAOS_SEED", str(random.SystemRandom().randrange(2**32))))
    dice = random.Random(seed)
    for name, count in (("CT", 13), ("seg", 6)):
        for n in range(count):
            voxels = np.full((24, 20, 16), n, "i2") + np.arange(16, dtype="i2")
            (tmp_path / f"s{n}_{name}.nii").write_bytes(make_nifti(voxels))
    images = {name: str(tmp_path / f"*_{name}.nii") for name in ("CT", "seg")}
    radi = RadiObject.from_niftis(tmp_path / "registered", images, copy=False, progress=False)
    for name in radi.collection_names:
        said = [f"said of {i}" for i in radi.collection(name).obs_ids]
        radi.collection(name).obs.add_column("rating", values=said)
    truth = seen(tmp_path / "registered")
    assert len(truth) == 19
    kills, takeovers, took, end = 0, 0, None, time.monotonic() + seconds
    with (
        capsys.disabled(),
        subprocess.Popen(
            [sys.executable, "-c", KILLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as hand,
    ):

        def run(uri: Path, every: int, seconds: float | None) -> tuple[int, float]:
            assert hand.stdin is not None
            assert hand.stdout is not None
            hand.stdin.write(json.dumps([str(uri), every, seconds]) + "\n")
            hand.stdin.flush()
            code, lasted = json.loads(hand.stdout.readline())
            return code, lasted

        print(f" [seed {seed}", end="", flush=True)
        while kills < LEAST or time.monotonic() < end:
            uri = tmp_path / "study"
            shutil.rmtree(uri, ignore_errors=True)
            shutil.copytree(tmp_path / "registered", uri)
            code, committed, every = -9, set[str](), dice.choice([3, 100])
            if took is None:
                code, took = run(uri, every, None)
            while code < 0:
                # the same study again and again: what one has finished the next takes over
                code, _ = run(uri, every, dice.uniform(0, 1.1) * took)
                kills += code < 0
                assert seen(uri) == truth
                assert committed <= stored(uri)
                committed = stored(uri)
                report = RadiObject(uri).validate("full")
                assert [p for p in report.problems if p.kind != "hint"] == []
                if code < 0 and dice.random() < 0.3:
                    code, _ = run(uri, every, None)
            assert code == 0
            assert seen(uri) == truth
            radi = RadiObject(uri)
            assert {radi.collection(n).backend for n in radi} == {"zarr"}
            takeovers += radi.ledger.read()["outcome"].tolist().count("resumed")
            version = radi.version
            assert radi.materialize().version == version
        print(f": {kills} kills, {takeovers} volumes taken over]", end="")
        assert hand.stdin is not None
        hand.stdin.close()
