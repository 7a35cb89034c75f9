"""Memory of a long pass: as many volumes as workers, however many there are in all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject

MIB = 2**20
SHAPE = (256, 256, 128)
VOLUME_MIB = 4 * np.prod(SHAPE) / MIB
WORKERS = 2

# VmHWM and not ru_maxrss, which a child inherits from the test runner that started it
SCRIPT = """
import json, sys
from radiobject import RadiObject

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))

def fn(volume, row):
    return volume * 2, {"worker_peak": peak()}

uri, out, count, executor = sys.argv[1:]
query = RadiObject(uri).T1w.lazy().head(int(count)).map(fn)
made = query.write(out, executor=executor, workers=2, progress=False)
assert len(made) == int(count)
print(json.dumps([peak(), made.obs.read()["worker_peak"].max()]))
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peaks are read from Linux's /proc"
)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("memory") / "study"
    voxels = (np.arange(np.prod(SHAPE), dtype="f4") % 251).reshape(SHAPE)
    RadiObject.from_niftis(place, {"T1w": [((voxels, np.eye(4)), f"s{n:02d}") for n in range(64)]})
    return str(place)


def peaks(uri: str, out: Path, count: int, executor: str) -> tuple[float, float]:
    """MiB at most in the calling process, and in the worker that needed most."""
    words = [sys.executable, "-c", SCRIPT, uri, str(out / f"{executor}-{count}"), str(count), executor]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    own, worker = json.loads(ran.stdout)
    return own, worker


def test_memory_of_a_written_map_is_bounded_by_the_workers(uri: str, tmp_path: Path) -> None:
    few, _ = peaks(uri, tmp_path, 16, "threads")
    many, _ = peaks(uri, tmp_path, 64, "threads")
    assert many < 1.15 * few
    assert many < 5 * WORKERS * VOLUME_MIB + 100


def test_memory_of_worker_processes_does_not_grow_with_the_number_of_volumes(
    uri: str, tmp_path: Path
) -> None:
    few = peaks(uri, tmp_path, 16, "processes")
    many = peaks(uri, tmp_path, 64, "processes")
    assert many[0] < 1.15 * few[0]
    assert many[1] < 1.15 * few[1]
    # one volume at a time in each worker, beside what the interpreter and its libraries take
    assert many[1] < 5 * VOLUME_MIB + 250
