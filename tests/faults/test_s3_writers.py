"""Writers on one study over S3, killed at random: nothing acknowledged is lost, nothing is wrong.

An ordinary run kills LEAST writers; `make chaos` goes on for RADIOBJECT_CHAOS_SECONDS. The seed is printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from radiobject import RadiObject
from tests.faults.ground import EVERY, fresh, scan, seed
from tests.servers.s3 import s3_server

pytestmark = pytest.mark.slow

pytest.importorskip("s3fs")
pytest.importorskip("moto")

LEAST = 40
RACES = int(os.environ.get("RADIOBJECT_RACE_ROUNDS", "10"))
RACERS = 16 if EVERY else 6

# The parent forks the writers, so that each begins at once, and uses neither engine nor client itself.
WRITERS = """
import json, os, random, signal, sys, time
import numpy as np
import radiobject.ingest, s3fs
from radiobject import RadiObject
from radiobject.errors import RadiObjectError
import radiobject.backends.zarr.zarr_engine, radiobject.backends.zarr.tensorstore_engine

uri, options, acks = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
least, seconds, seed = map(float, sys.argv[4:])
dice = random.Random(int(seed))
log = os.open(acks, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def write(writer):
    for number in range(10_000):
        subject, value = f"w{writer}-{number}", (writer * 100 + number) % 30_000
        scan = np.full((6, 5, 4), value, np.int16), np.eye(4)
        RadiObject(uri, storage_options=options).append(
            {"T1w": [(scan, subject)]}, {"obs_subject_id": [subject]}, executor="serial", progress=False
        )
        os.write(log, f"{subject} {value}\\n".encode())

def start(writer):
    pid = os.fork()
    if pid == 0:
        try:
            write(writer)
        except BaseException:
            import traceback
            traceback.print_exc()
        os._exit(1)
    # it dies after so many commits of its own and so long, in whatever it does then
    return pid, writer, dice.choice([0, 0, 1, 1]), dice.uniform(0, 0.7)

def done(writer):
    with open(acks) as file:
        return sum(line.startswith(f"w{writer}-") for line in file)

started, kills = 2, 0
running = [start(1), start(2)]
end = time.monotonic() + seconds
while kills < least or time.monotonic() < end:
    pid, writer, commits, more = running.pop(0)
    patience = time.monotonic() + 60
    while done(writer) < commits and time.monotonic() < patience:
        time.sleep(0.01)
    time.sleep(more)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "a writer ended by itself"
    kills, started = kills + 1, started + 1
    running.append(start(started))
for pid, *_ in running:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
print(kills + 2)
"""

RACE = """
import dataclasses, json, multiprocessing, sys
from radiobject.format.commit import Change, Commit
from radiobject.format.exclusive import publish
from radiobject.format.layout import version_key
from radiobject.location import Location
from radiobject.storage import Storage

BASE = Commit(1, None, None, "s", "", "race", "", "", "", Change(), None, {}, ())

def racer(uri, options, number, barrier, rounds, wins):
    storage = Storage(Location(uri, options))
    for version in range(1, rounds + 1):
        told = {"version": version, "parent": version - 1 or None, "txn_id": f"{number}-{version}"}
        mine = dataclasses.replace(BASE, **told)
        data, _ = mine.to_bytes()
        ours = lambda held: Commit.from_bytes(held, "").txn_id == mine.txn_id
        barrier.wait()
        if publish(storage, version_key(version), data, ours):
            wins.put((version, number))

if __name__ == "__main__":
    uri, options, n, rounds = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    context = multiprocessing.get_context("fork")
    barrier, wins = context.Barrier(n), context.Queue()
    racers = [context.Process(target=racer, args=(uri, options, i, barrier, rounds, wins)) for i in range(n)]
    for r in racers: r.start()
    won = [wins.get(timeout=120) for _ in range(rounds)]
    for r in racers: r.join()
    print(json.dumps([won, wins.empty()]))
"""


@pytest.fixture(scope="module")
def options() -> Iterator[dict[str, Any]]:
    with s3_server("bucket") as found:
        yield found


def run(script: str, *args: Any) -> str:
    words = [sys.executable, "-W", "error", "-c", script, *(str(a) for a in args)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.timeout(3600)
def test_writers_over_s3_killed_at_random_lose_nothing_acknowledged(
    options: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number, uri, acks = seed(), "s3://bucket/killed", tmp_path / "acks"
    acks.touch()
    RadiObject.from_niftis(uri, {"T1w": [(scan(0), "a")]}, executor="serial", storage_options=options)
    seconds = os.environ.get("RADIOBJECT_CHAOS_SECONDS", "0")
    kills = int(run(WRITERS, uri, json.dumps(options), acks, LEAST - 2, seconds, number))
    acknowledged = dict(line.split() for line in acks.read_text().splitlines())
    radi = fresh(uri, options)
    held = {v.obs_subject_id: v[:] for v in radi.T1w}
    lost = set(acknowledged) - set(held)
    wrong = {s for s, v in acknowledged.items() if s in held and (held[s] != int(v)).any()}
    report = radi.validate("full")
    with capsys.disabled():
        print(f" [seed {number}: {kills} kills, {len(acknowledged)} acknowledged, version {radi.version},"
              f" {report.litter} objects of litter]", end="")  # fmt: skip
    assert (lost, wrong) == (set(), set())
    assert [p for p in report.problems if p.kind != "hint"] == []
    assert sorted(radi.obs_subject_ids) == sorted(held)
    assert acknowledged


@pytest.mark.timeout(3600)
def test_processes_race_over_s3_and_exactly_one_wins_each_version(options: dict[str, Any]) -> None:
    out = run(RACE, "s3://bucket/race", json.dumps(options), RACERS, RACES)
    won, nobody_else = json.loads(out)
    assert sorted(version for version, _ in won) == list(range(1, RACES + 1))
    assert nobody_else
