"""Every kind of change killed at a random moment: the study is as before or as after, and can be completed.

`RADIOBJECT_CHAOS_SECONDS` sets how long it goes on in all (`make chaos` sets more), but until there were
LEAST kills on each engine; the seed is printed.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.format import catalog
from radiobject.model.naming import derived_id

pytestmark = pytest.mark.slow

LEAST = 30

# One process that forks a child for every change and kills it: starting Python anew would take longer than
# any of them. It never opens an engine itself.
KILLER = """
import json, os, signal, sys, time, traceback
from radiobject import RadiObject

def double(volume, row):
    return volume * 2, {"parents_mean": float(volume.mean())}

def change(uri, what, args):
    args["images"] = {k: [tuple(pair) for pair in v] for k, v in args.get("images", {}).items()}
    if what == "ingest":
        RadiObject.from_niftis(uri, args["images"], backend=args["backend"], resume=args.get("resume", False))
        return
    radi = RadiObject(uri)
    if what in ("append", "replace"):
        known = set(radi.obs_subject_ids)
        new = [s for s in args["subjects"] if s not in known]
        conflict = "error" if what == "append" else "replace"
        meta = {"obs_subject_id": new} if new else None
        radi.append(args["images"], meta, on_conflict=conflict, resume=args.get("resume", False))
    elif what == "rename":
        radi.rename_collection(args["old"], args["new"])
    elif what == "delete":
        radi.delete(subjects=args["subjects"])
    else:
        radi.add_collection("double", radi.collection(args["parent"]).lazy().map(double),
                            resume=args.get("resume", False))

import radiobject.ingest, radiobject.model.adding
__import__(sys.argv[1])  # the engine's library: imported once, before all forks
for line in sys.stdin:
    uri, what, args, seconds = json.loads(line)
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            change(uri, what, args)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    status = None
    while seconds is not None and time.monotonic() - begun < seconds:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        status = None
    if status is None:
        if seconds is not None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    print(json.dumps([os.waitstatus_to_exitcode(status), time.monotonic() - begun]), flush=True)
"""

State = dict[str, Any]


class Killer:
    """Makes changes in a child process, whole or killed after some seconds."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def make(
        self, uri: str, what: str, args: dict[str, Any], seconds: float | None = None
    ) -> tuple[int, float]:
        """Exit code (negative: the signal) and seconds of one change."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([uri, what, args, seconds]) + "\n")
        self._process.stdin.flush()
        code, took = json.loads(self._process.stdout.readline())
        return code, took


@contextmanager
def killer(library: str) -> Iterator[Killer]:
    words = [sys.executable, "-c", KILLER, library]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Killer(process)
        assert process.stdin is not None
        process.stdin.close()


class Cohort:
    """NIfTI files with a number in each voxel, made when asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def images(self, collection: str, values: dict[str, int]) -> dict[str, list[tuple[str, str]]]:
        """Files as `images=` takes them."""
        found = []
        for subject, value in values.items():
            self._count += 1
            path = self._folder / f"{self._count}.nii"
            nib.save(nib.Nifti1Image(np.full((48, 40, 32), value, "i2"), np.eye(4)), path)
            found.append((str(path), subject))
        return {collection: found}


def seen(uri: str) -> State | None:
    """What a fresh handle finds: the voxel of every volume, by collection and id; None without a study."""
    catalog._snapshots.clear()
    try:
        radi = RadiObject(uri)
    except FileNotFoundError:
        return None
    return {
        "subjects": sorted(radi.obs_subject_ids),
        **{
            name: {v.obs_id: int(v[5, 5, 5]) for v in radi.collection(name)} for name in radi.collection_names
        },
    }


class Rounds:
    """Random changes of one study, and what the study must be after each."""

    def __init__(self, dice: random.Random, cohort: Cohort) -> None:
        self._dice, self._cohort, self._number = dice, cohort, 0
        self.parent = "T1w"
        self._derived: dict[str, str] = {}

    def next(self, state: State) -> tuple[str, dict[str, Any], State]:
        """A change, its arguments, and the state after it."""
        after = {k: dict(v) if isinstance(v, dict) else list(v) for k, v in state.items()}
        what = self._dice.choice(["append", "append", "replace", "rename", "delete", "add_collection"])
        self._number += 1
        held = after[self.parent]
        if what == "delete" and len(after["subjects"]) < 4:
            what = "append"
        if what == "append":
            values = {f"s{self._number}-{n}": self._dice.randrange(1, 1000) for n in range(3)}
            after["subjects"] = sorted([*after["subjects"], *values])
            held.update({f"{s}_{self.parent}": v for s, v in values.items()})
            return what, {"images": self._cohort.images(self.parent, values), "subjects": list(values)}, after
        if what == "replace":
            fitting = sorted(i for i in held if i.endswith(f"_{self.parent}"))
            chosen = self._dice.sample(fitting, min(2, len(fitting)))
            values = {i.removesuffix(f"_{self.parent}"): self._dice.randrange(1, 1000) for i in chosen}
            if not values:
                return self.next(state)
            held.update({f"{s}_{self.parent}": v for s, v in values.items()})
            return what, {"images": self._cohort.images(self.parent, values), "subjects": list(values)}, after
        if what == "rename":
            new = f"name{self._number}"
            args = {"old": self.parent, "new": new}
            return what, args, {new if k == self.parent else k: v for k, v in after.items()}
        if what == "delete":
            gone = self._dice.choice(after["subjects"])
            after["subjects"].remove(gone)
            for name in [k for k in after if k != "subjects"]:
                after[name] = {i: v for i, v in after[name].items() if i.split("_")[0] != gone}
            return what, {"subjects": [gone]}, after
        for i in held:  # a volume keeps the id that it was given under an earlier name of the collection
            self._derived.setdefault(i, derived_id(i, self.parent, "double"))
        made = {self._derived[i]: v * 2 for i, v in held.items()}
        after["double"] = {**after.get("double", {}), **made}
        return what, {"parent": self.parent}, after


@pytest.mark.timeout(3600)
@pytest.mark.only("tensorstore", "tiledb", reason="what is killed in memory is gone")
def test_killed_changes_leave_the_state_before_or_after_and_can_be_completed(
    backend: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = float(os.environ.get("RADIOBJECT_CHAOS_SECONDS", "20")) / 2
    seed = int(os.environ.get("RADIOBJECT_CHAOS_SEED", str(random.SystemRandom().randrange(2**32))))
    dice = random.Random(seed)
    cohort = Cohort(tmp_path)
    kills: dict[str, int] = {}
    took: dict[str, float] = {}
    end = time.monotonic() + seconds
    with capsys.disabled():
        print(f" [{backend.engine}, seed {seed}", end="", flush=True)
    with killer(backend.engine) as hand:

        def killed(uri: str, what: str, args: dict[str, Any], after: State) -> None:
            before = seen(uri)
            code, lasted = hand.make(uri, what, args, dice.uniform(0, 1.1) * took.get(what, 0.1))
            kills[what] = kills.get(what, 0) + (code < 0)
            if code == 0:
                took[what] = lasted
            now = seen(uri)
            assert now in (before, after), (what, args)
            if now != after:
                code, _ = hand.make(uri, what, {**args, "resume": True})
                assert code == 0, (what, args)
            # what a run that nobody disturbed would have made
            assert seen(uri) == after, (what, args)
            report = RadiObject(uri).validate("full")
            assert [p for p in report.problems if p.kind != "hint"] == [], (what, args)

        def over() -> bool:
            return time.monotonic() >= end and sum(kills.values()) >= LEAST

        while not over():
            uri = str(tmp_path / f"study-{sum(kills.values())}-{dice.randrange(10**9)}")
            first = {f"a{n}": dice.randrange(1, 1000) for n in range(4)}
            state: State = {"subjects": sorted(first), "T1w": {f"{s}_T1w": v for s, v in first.items()}}
            ingest = {"images": cohort.images("T1w", first), "backend": backend.backend}
            killed(uri, "ingest", ingest, state)
            rounds = Rounds(dice, cohort)
            for _ in range(12):
                if over():
                    break
                what, args, after = rounds.next(state)
                killed(uri, what, args, after)
                if what == "rename":
                    rounds.parent = args["new"]
                state = after
    with capsys.disabled():
        print(f": {sum(kills.values())} kills {kills}]", end="")
