"""Power cuts: an ext4 file system on a loop device is shut down while studies are appended to.

Needs root, a loop device and mounts of its own, which no package can bring: skipped with the reason where
they are missing, in CI too. An ordinary run makes 5 cuts, `make chaos` 25. That cuts can show a fault is
shown by mutants: without syncing data, and without syncing folders, something must be lost.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.ground import CHAOS, seed

pytestmark = pytest.mark.slow

CUTS = 25 if CHAOS else 5

POWER = """
import fcntl, json, os, random, signal, struct, subprocess, sys, time, traceback
import numpy as np
from radiobject import RadiObject, local_disk, storage
from radiobject.errors import StudyNotFoundError
import radiobject.ingest, radiobject.backends.zarr.zarr_engine
import tests.faults.ground

work, cuts, mode, seed = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
dice = random.Random(seed)
image, mount, acks, found = (os.path.join(work, n) for n in ("image", "mount", "acks", "found"))
uri = os.path.join(mount, "study")
EXT4_IOC_SHUTDOWN, NOLOGFLUSH = 0x8004587D, 2
total = dict(cuts=0, acknowledged=0, lost=0, unfinished=0, wrong_voxels=0, damaged=0, not_opened=0)

if mode == "no data sync":
    storage.Storage.make_durable = lambda self: None
elif mode == "no folder sync":
    local_disk.sync_folder = lambda folder, sync=os.fsync: None

def scan(value):
    return np.full((20, 18, 16), value, np.int16), np.eye(4)

def write(log):
    single = {"single_writer": True} if mode == "single writer" else {}
    RadiObject.from_niftis(uri, {"T1w": [(scan(0), "s0")]}, executor="serial", progress=False, **single)
    os.write(log, b"0 ")
    for n in range(1, 10_000):
        meta = {"obs_subject_id": [f"s{n}"], "age": [n % 90]}
        images = {"T1w": [(scan(n), f"s{n}")]}
        RadiObject(uri).append(images, meta, progress=False, executor="serial", **single)
        os.write(log, f"{n} ".encode())

def look():
    with open(acks) as file:
        acknowledged = {f"s{n}": int(n) for n in file.read().split()}
    result = {name: 0 for name in total if name != "cuts"} | {"acknowledged": len(acknowledged)}
    try:
        radi = RadiObject(uri)
        subjects = radi.T1w.obs_subject_ids
    except StudyNotFoundError:
        # before the first version there is no study, and nobody was told of one
        result["lost"] = len(acknowledged)
        return result
    except Exception:
        return {**result, "not_opened": 1, "lost": len(acknowledged)}
    held = {}
    for subject in subjects:
        try:
            voxels = radi.loc[[subject]].T1w.iloc[0].to_numpy()
            held[subject] = int(subject[1:])
            result["wrong_voxels"] += bool((voxels != held[subject]).any())
        except Exception:
            result["damaged"] += 1
    result["lost"] = len(set(acknowledged) - set(held))
    result["unfinished"] = len(set(held) - set(acknowledged))
    try:
        problems = [p for p in radi.validate("full").problems if p.kind != "hint"]
        result["damaged"] += len(problems)
    except Exception:
        result["damaged"] += 1
    if not result["damaged"]:
        radi.append({"T1w": [(scan(1), "after")]}, {"obs_subject_id": ["after"]}, executor="serial")
    return result

def child(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except OSError:
            pass  # what a writer gets to see when the power fails
        except BaseException:
            traceback.print_exc()
            code = 2
        finally:
            os._exit(code)
    return pid

os.makedirs(mount, exist_ok=True)
for cut in range(cuts):
    with open(image, "wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    log = os.open(acks, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC)
    writer = child(lambda: write(log))
    wanted, end = dice.randrange(0, 12), time.monotonic() + 60
    while os.stat(acks).st_size < 2 * wanted and time.monotonic() < end:
        time.sleep(0.001)
    time.sleep(dice.uniform(0, 0.15))
    handle = os.open(mount, os.O_RDONLY)
    fcntl.ioctl(handle, EXT4_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
    os.close(handle)
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    os.close(log)
    subprocess.run(["umount", mount], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    def report():
        try:
            result = json.dumps(look())
        except OSError as error:
            raise RuntimeError("what a reader must not see") from error
        with open(found, "w") as file:
            file.write(result)
    _, status = os.waitpid(child(report), 0)
    assert status == 0, status
    subprocess.run(["umount", mount], check=True)
    total["cuts"] += 1
    with open(found) as file:
        for name, count in json.load(file).items():
            total[name] += count
    if mode.startswith("no ") and total["lost"] + total["damaged"] + total["not_opened"]:
        break  # the mutant is caught
print(json.dumps(total))
"""


def cut(work: Path, mode: str, cuts: int, number: int) -> dict[str, Any]:
    """Counts of what was acknowledged, and of what was lost, after so many cuts."""
    words = ["unshare", "-m", "sh", "-c", 'mount --make-rprivate / && exec "$@"', "sh"]
    words += [sys.executable, "-W", "error", "-c", POWER, str(work), str(cuts), mode, str(number)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    counts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return counts


@pytest.fixture(scope="module", autouse=True)
def _can_cut_power(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One mount of a loop device, and its shutdown."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("power cuts need Linux and root")
    folder = tmp_path_factory.mktemp("probe")
    (folder / "mount").mkdir()
    steps = (
        "mount --make-rprivate / && truncate -s 8M image && mkfs.ext4 -q image && mount -o loop image mount"
    )
    done = subprocess.run(["unshare", "-m", "sh", "-c", steps], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"power cuts need a loop device and mounts of their own: {done.stderr.strip()}")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", ["several writers", "single writer"])
def test_a_power_cut_loses_nothing_acknowledged(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = seed()
    counts = cut(tmp_path, mode, CUTS, number)
    with capsys.disabled():
        print(f" [{mode}, seed {number}: {counts}]", end="")
    assert counts["acknowledged"] > 0
    for what in ("lost", "wrong_voxels", "damaged", "not_opened"):
        assert counts[what] == 0, (number, counts)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mutant", ["no data sync", "no folder sync"])
def test_without_syncing_the_cuts_show_a_loss(
    mutant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = seed()
    counts = cut(tmp_path, mutant, 25, number)
    with capsys.disabled():
        print(f" [{mutant}, seed {number}: {counts}]", end="")
    assert counts["lost"] + counts["damaged"] + counts["not_opened"] > 0
