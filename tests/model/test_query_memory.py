"""Memory of a long pass: as many volumes as workers, however many there are in all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject

MIB = 2**20
WORKERS = 2
SMALL, LARGE = (128, 128, 128), (256, 256, 128)
SMALL_MIB, LARGE_MIB = (4 * np.prod(shape) / MIB for shape in (SMALL, LARGE))

# VmHWM and not ru_maxrss, which a child inherits from the test runner that started it
SCRIPT = """
import json, sys
from radiobject import RadiObject

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))

def fn(volume, row):
    return volume * 2, {"peak": peak()}

uri, out, executor = sys.argv[1:]
own = []
query = RadiObject(uri).T1w.lazy().map(fn)
made = query.write(out, executor=executor, workers=2, progress=lambda done, total: own.append(peak()))
print(json.dumps([own, made.obs.read()["peak"].to_list()]))
"""

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from Linux's /proc"),
    pytest.mark.only("tensorstore", "tiledb", reason="an engine of each format, for it takes seconds"),
]


def study_of(place: Path, shape: tuple[int, int, int], count: int) -> str:
    """URI of a study of `count` float32 volumes."""
    voxels = (np.arange(np.prod(shape), dtype="f4") % 251).reshape(shape)
    images = {"T1w": [((voxels, np.eye(4)), f"s{n:02d}") for n in range(count)]}
    return str(RadiObject.from_niftis(place, images).uri)


def peaks(uri: str, out: Path, executor: str) -> tuple[list[float], list[float]]:
    """MiB at most so far: of the calling process after each volume, and where each volume was computed."""
    words = [sys.executable, "-c", SCRIPT, uri, str(out), executor]
    # what is freed goes to the next volume, whichever thread reads it: the C library would keep some for each
    env = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    ran = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
    assert ran.returncode == 0, ran.stderr
    own, workers = json.loads(ran.stdout)
    return own, workers


@pytest.fixture(scope="module")
def many_small(tmp_path_factory: pytest.TempPathFactory, everywhere: None) -> str:
    return study_of(tmp_path_factory.mktemp("small") / "study", SMALL, 48)


@pytest.mark.only("tensorstore", reason="what is held, wherever it was read")
@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_memory_does_not_grow_with_the_number_of_volumes(
    many_small: str, tmp_path: Path, executor: str
) -> None:
    own, workers = peaks(many_small, tmp_path / "out", executor)
    assert len(own) == len(workers) == 48
    # 36 volumes later: rows and their histograms take some, volumes that stayed would take 36 times SMALL_MIB
    assert own[-1] < own[11] + 2 * SMALL_MIB
    assert max(workers) < max(workers[:12]) + 2 * SMALL_MIB


def test_memory_of_a_written_map_is_bounded_by_the_workers(tmp_path: Path) -> None:
    uri = study_of(tmp_path / "study", LARGE, 4)
    own, _ = peaks(uri, tmp_path / "threads", "threads")
    assert own[-1] < 5 * WORKERS * LARGE_MIB + 100
    _, workers = peaks(uri, tmp_path / "processes", "processes")
    # one volume at a time in each worker, beside what the interpreter and its libraries take
    assert max(workers) < 5 * LARGE_MIB + 250
