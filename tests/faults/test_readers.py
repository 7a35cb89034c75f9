"""Sixteen readers while a study is changed without a pause: each sees whole versions, and never an older one.

RADIOBJECT_SOAK_SECONDS says for how long: 10 in an ordinary run, 30 in CI, 600 by `make soak`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.ground import EVERY, seed

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("RADIOBJECT_SOAK_SECONDS", "30" if EVERY else "10"))

# Every version holds, for each subject, one value: in obs_meta, in all of T1w and in all of seg.
SOAK = """
import collections, json, os, random, sys, threading, time, traceback
import numpy as np
import radiobject.ingest, radiobject.backends.zarr.tensorstore_engine
from radiobject import RadiObject
from radiobject.errors import SnapshotExpiredError
from radiobject.format.cleanup import cleanup

uri, folder, seconds, seed = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
end = time.monotonic() + seconds

def scans(subject, value):
    scan = np.full((12, 10, 8), value, np.int16), np.eye(4)
    return {"T1w": [(scan, subject)], "seg": [(scan, subject)]}

def write():
    dice, held, number, kinds = random.Random(seed), ["s0"], 0, collections.Counter()
    while time.monotonic() < end:
        number += 1
        radi = RadiObject(uri)
        what = dice.choice(["append", "append", "replace", "delete", "restore", "cleanup"])
        if what == "delete" and len(held) > 3 or len(held) > 8:
            what = "delete"
            gone = held.pop(0)
            radi.delete(subjects=gone)
        elif what == "replace":
            one = dice.choice(held)
            with radi.transaction() as t:
                t.append(scans(one, number), on_conflict="replace", executor="serial", progress=False)
                t.obs_meta.update({"obs_subject_id": [one], "value": [number]})
        elif what == "cleanup":
            cleanup(radi._study.snapshot.storage, keep=2, older_than=-1, force=True)
        elif what == "restore":
            radi.restore(radi.version)
        else:
            what = "append"
            subject = f"s{number}"
            meta = {"obs_subject_id": [subject], "value": [number]}
            radi.append(scans(subject, number), meta, executor="serial", progress=False)
            held.append(subject)
        kinds[what] += 1
    return {"versions": RadiObject(uri).version, **kinds}

def look(dice, last):
    radi = RadiObject(uri)
    assert radi.version >= last, (radi.version, last)
    meta = dict(radi.obs_meta.read(["obs_subject_id", "value"]).itertuples(index=False))
    assert sorted(radi.T1w.obs_subject_ids) == sorted(radi.seg.obs_subject_ids) == sorted(meta), radi.version
    time.sleep(dice.choice([0, 0, 0.02]))  # a handle goes on showing its version
    for subject in dice.sample(sorted(meta), min(2, len(meta))):
        for name in ("T1w", "seg"):
            (volume,) = radi.loc[[subject]].collection(name)
            voxels = volume[:]
            assert voxels.shape == (12, 10, 8)
            assert (voxels == meta[subject]).all(), (radi.version, subject, name)
    return radi.version

def read(number, counts, lock):
    dice, last = random.Random(seed + number), 0
    while time.monotonic() < end:
        try:
            last = look(dice, last)
            what = "snapshots"
        except SnapshotExpiredError:
            what = "expired"
        except BaseException:
            traceback.print_exc()
            what = "mixed"
        with lock:
            counts[what] += 1

def readers(first):
    counts, lock = collections.Counter(), threading.Lock()
    threads = [threading.Thread(target=read, args=(first + n, counts, lock)) for n in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return counts

def child(name, work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with open(os.path.join(folder, name), "w") as file:
                json.dump(work(), file)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid

def first():
    meta = {"obs_subject_id": ["s0"], "value": [0]}
    RadiObject.from_niftis(uri, scans("s0", 0), meta, executor="serial", progress=False)

assert os.waitpid(child("first", first), 0)[1] == 0
end = time.monotonic() + seconds
names = ["writer", *(f"readers{n}" for n in range(1, 5))]
pids = [child(names[0], write)] + [child(n, lambda n=n: readers(4 * names.index(n))) for n in names[1:]]
assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 5
total = collections.Counter()
for name in names:
    with open(os.path.join(folder, name)) as file:
        total.update(json.load(file))
print(json.dumps(total))
"""


@pytest.mark.timeout(1800)
def test_readers_see_whole_versions_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    number = seed()
    words = [sys.executable, "-W", "error", "-c", SOAK, str(tmp_path / "study"), str(tmp_path), str(SECONDS)]
    done = subprocess.run([*words, str(number)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    with capsys.disabled():
        print(f" [seed {number}: {SECONDS:g} s, {counts}]", end="")
    assert counts.get("mixed", 0) == 0, done.stderr
    assert counts["snapshots"] > counts["versions"] > 1
    assert done.stderr == ""
