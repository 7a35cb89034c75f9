"""Writers that race for a version, and writers that are killed: nothing acknowledged is lost.

`RADIOBJECT_CHAOS_SECONDS` sets how long the killing goes on (`make chaos` sets more), but until there were
LEAST kills; the seed is printed.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.format import catalog

pytestmark = pytest.mark.slow

LEAST = 30

RACE = """
import dataclasses, json, multiprocessing, sys
from radiobject.format.commit import Change, Commit
from radiobject.format.layout import version_key
from radiobject.format.exclusive import publish
from radiobject.location import Location
from radiobject.storage import Storage

BASE = Commit(1, None, None, "s", "", "race", "", "", "", Change(), None, {}, ())

def racer(uri, number, barrier, rounds, wins):
    storage = Storage(Location(uri))
    for version in range(1, rounds + 1):
        told = {"version": version, "parent": version - 1 or None, "txn_id": f"{number}-{version}"}
        mine = dataclasses.replace(BASE, **told)
        data, _ = mine.to_bytes()
        ours = lambda held: Commit.from_bytes(held, "").txn_id == mine.txn_id
        barrier.wait()
        if publish(storage, version_key(version), data, ours):
            wins.put((version, number))

if __name__ == "__main__":
    uri, n, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    context = multiprocessing.get_context("fork")
    barrier, wins = context.Barrier(n), context.Queue()
    racers = [context.Process(target=racer, args=(uri, i, barrier, rounds, wins)) for i in range(n)]
    for r in racers: r.start()
    won = [wins.get(timeout=60) for _ in range(rounds)]
    for r in racers: r.join()
    extra = wins.empty()
    print(json.dumps([won, extra]))
"""

WRITER = """
import os, sys
import numpy as np
from radiobject import RadiObject
uri, acks, name = sys.argv[1:]
log = os.open(acks, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for number in range(1_000_000):
    subject = f"{name}-{number}"
    value = (sum(name.encode()) * 7 + number) % 250
    RadiObject(uri).append(
        {"T1w": [((np.full((6, 5, 4), value, np.uint8), np.eye(4)), subject)]},
        {"obs_subject_id": [subject]}, executor="serial", message=str(value),
    )
    os.write(log, f"{subject} {value}\\n".encode())
"""

KILLED = """
import os, signal, sys, time
import numpy as np
from radiobject import RadiObject
import radiobject.ingest
uri, moments = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(0)
big = rng.integers(0, 4000, (256, 256, 96), dtype=np.int16)

def append(value):
    big[0, 0, 0] = value
    RadiObject(uri).append({"big": [((big, np.eye(4)), "a")]}, on_conflict="replace", executor="serial")

def child(value):
    pid = os.fork()
    if pid == 0:
        append(value)
        os._exit(0)
    return pid

begun = time.monotonic()
assert os.waitpid(child(-1), 0)[1] == 0
whole = time.monotonic() - begun
for moment in range(moments):
    pid = child(moment)
    end = time.monotonic() + whole * (moment + 0.5) / moments
    while time.monotonic() < end:
        pass
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    print(moment, flush=True)
"""


@pytest.fixture
def uri(tmp_path: Path) -> str:
    place = str(tmp_path / "study")
    RadiObject.from_niftis(place, {"T1w": [((np.zeros((6, 5, 4), np.uint8), np.eye(4)), "a")]})
    return place


def test_sixteen_processes_race_and_exactly_one_wins_each_version(tmp_path: Path) -> None:
    out = subprocess.run(
        [sys.executable, "-c", RACE, str(tmp_path), "16", "50"], capture_output=True, text=True, timeout=120
    )
    assert out.returncode == 0, out.stderr
    won, nobody_else = json.loads(out.stdout)
    assert sorted(version for version, _ in won) == list(range(1, 51))
    assert nobody_else
    for version, number in won:
        held = json.loads(Path(tmp_path, "versions", f"{version:012d}.json").read_text())
        assert held["txn_id"] == f"{number}-{version}"
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.timeout(900)
def test_writers_killed_at_random_lose_nothing_acknowledged(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = float(os.environ.get("RADIOBJECT_CHAOS_SECONDS", "20"))
    seed = int(os.environ.get("RADIOBJECT_CHAOS_SEED", str(random.SystemRandom().randrange(2**32))))
    dice = random.Random(seed)
    acks = tmp_path / "acks"
    acks.touch()
    started, kills = 0, 0

    def start() -> tuple[subprocess.Popen[bytes], float]:
        nonlocal started
        started += 1
        args = [sys.executable, "-c", WRITER, uri, str(acks), f"w{started}"]
        return subprocess.Popen(args, stderr=subprocess.PIPE), time.monotonic() + dice.uniform(1.0, 4.0)

    writers = [start() for _ in range(4)]
    end = time.monotonic() + seconds
    while time.monotonic() < end or kills < LEAST:
        writer, due = min(writers, key=lambda w: w[1])
        writers.remove((writer, due))
        try:
            _, err = writer.communicate(timeout=max(due - time.monotonic(), 0.01))
            pytest.fail(f"a writer ended by itself: {err.decode()}")
        except subprocess.TimeoutExpired:
            writer.kill()
            writer.communicate()
            kills += 1
        writers.append(start())
    for writer, _ in writers:
        writer.kill()
        writer.communicate()
        kills += 1
    acknowledged = dict(line.split() for line in acks.read_text().splitlines())
    catalog._snapshots.clear()
    radi = RadiObject(uri)
    held = {v.obs_subject_id: int(v[0, 0, 0]) for v in radi.T1w}
    lost = {s: v for s, v in acknowledged.items() if held.get(s) != int(v)}
    report = radi.validate("full")
    with capsys.disabled():
        print(f" [seed {seed}: {kills} kills, {len(acknowledged)} acknowledged, version {radi.version},"
              f" {report.litter} objects of litter]", end="")  # fmt: skip
    assert not lost
    assert [p for p in report.problems if p.kind != "hint"] == []
    assert len(acknowledged) > 0


def test_killing_a_volume_write_at_twenty_moments_leaves_the_version_before_or_after(uri: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, uri, "20"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            catalog._snapshots.clear()
            radi = RadiObject(uri)
            assert radi.big.obs_ids == ["a_big"]
            seen.append(int(radi.big.iloc[0][0, 0, 0]))
            assert seen[-1] == int(line) or seen[-1] == (seen[-2] if len(seen) > 1 else -1)
        assert process.wait() == 0, process.stderr and process.stderr.read()
    assert len(seen) == 20
    report = RadiObject(uri).validate("full")
    assert [p for p in report.problems if p.kind != "hint"] == []
