"""Worker processes: no way to start them hangs, whatever this process has done before, on any backend."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from radiobject import RadiObject, TileConfig, WriteConfig
from tests.ml.ground import make_study

CODE = """
import json, sys, warnings
from radiobject import RadiObject
from radiobject.ml import PatchPlan, SampleSpec, Uniform
from radiobject.ml.torch_loader import PlanLoader

def starts(batches):
    return [[b["obs_id"], b["image"].sum().item(), b["image"][:, 0, 0, 1, 2].tolist()] for b in batches]

def main():
    uri, method = sys.argv[1:]
    # python and libtiledb warn of every fork of a process with threads
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", UserWarning)
    told = {}
    for state in ("untouched", "opened", "read"):
        radi = RadiObject(uri)
        plan = PatchPlan(SampleSpec("CT", patch_size=4), radi.CT, Uniform(3))
        if state != "untouched":
            plan.cohort.volume(0, 0).array  # the engine's own object: opened, nothing read
        if state == "read":
            for _ in range(3):
                starts(PlanLoader(plan, 3))
        plan.set_epoch(0)
        told[state] = starts(PlanLoader(plan, 3, num_workers=2, multiprocessing_context=method))
        print(state, "done", file=sys.stderr, flush=True)
    plan.set_epoch(0)
    told["none"] = starts(PlanLoader(plan, 3))
    print(json.dumps(told))

if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RadiObject]:
    """The same study on each backend, in many small chunks: engines use their threads for these."""
    write = WriteConfig(tile=TileConfig(chunks=(4, 4, 4)))
    return {
        name: make_study(tmp_path_factory.mktemp(name), backend=name, write=write)
        for name in ("zarr", "tiledb")
    }


@pytest.mark.parametrize(
    "method",
    ["fork", *(pytest.param(m, marks=pytest.mark.slow) for m in ("forkserver", "spawn"))],
)
@pytest.mark.parametrize("backend", ["zarr", "tiledb"])
def test_workers_give_the_batches_of_this_process(
    studies: dict[str, RadiObject], tmp_path: Path, backend: str, method: str
) -> None:
    script = tmp_path / "train.py"
    script.write_text(CODE, encoding="utf-8")
    command = [sys.executable, str(script), studies[backend].uri, method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["none"]) == 4
    assert all(told[state] == told["none"] for state in ("untouched", "opened", "read"))
