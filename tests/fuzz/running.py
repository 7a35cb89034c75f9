"""Inputs of one target, tried in child processes: what kills, stops or bloats one is a finding, not the end.

Input number `n` of a seed is always the same change, whatever was tried before it. Faults are told apart by
the kind of error and where in radiobject it was raised; of each the first is kept as an archive that
reproduces it.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import resource
import shutil
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any, Protocol

import psutil

from radiobject.errors import RadiObjectError

__all__ = ["Report", "Target", "replay", "run"]

BATCH = 400
MOST_SECONDS = 5.0
"""Of processor time: a busy machine is no fault. Ten times as long on the clock is one too."""
MOST_BYTES = 500 * 10**6
_ADDRESSES = 6 * 2**30  # what a child may ask for beyond what it has: the machine is not to suffer
_fork = multiprocessing.get_context("fork")


class Target(Protocol):
    """What is attacked. All of it lies in files of one folder, so that a copy of the folder is the case."""

    def prepare(self, place: Path) -> None:
        """Write sound files into an empty folder."""

    def open(self, place: Path) -> None:
        """Read what `damage` and `look` need of the sound files. Called once in each child."""

    def damage(self, rng: Random) -> Mapping[str, bytes]:
        """Files, by path in the folder, to put in the place of sound ones."""

    def look(self) -> None:
        """Read it all. An error of ours is fine; `AssertionError` says that what came is not well-formed."""


@dataclass
class Report:
    """What became of the inputs."""

    name: str
    seed: int
    tried: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)
    repeated: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {n:,}" for kind, n in self.refused.most_common())
        told = f"{self.name}: seed {self.seed}, {self.tried:,} inputs in {self.seconds:.0f} s: "
        told += f"{self.accepted:,} accepted, {self.refused.total():,} refused ({kinds}), "
        told += f"{len(self.faults)} faults"
        lines = [told]
        if self.repeated:
            lines.append(f"  and {self.repeated:,} more inputs with these faults")
        return "\n".join([*lines, *(f"  FAULT {key}\n    {told}" for key, told in self.faults.items())])


def run(
    name: str, target: Target, folder: Path, seed: int, seconds: float, first: int = 0, least: int = 1
) -> Report:
    """Try inputs from number `first` on for some `seconds`, at `least` so many. Faults stay in `folder`."""
    report, place = Report(name, seed), folder / name
    place.mkdir(parents=True)
    _in_child(target.prepare, place)
    sound = folder / f"{name}-sound"
    shutil.copytree(place, sound)
    started, number = time.monotonic(), first
    while time.monotonic() - started < seconds or number < first + least:
        number = _batch(report, target, place, number, max(started + seconds, time.monotonic() + 0.2))
        shutil.rmtree(place)
        shutil.copytree(sound, place)
    report.seconds = time.monotonic() - started
    return report


def replay(target: Target, place: Path) -> None:
    """Look at the files of a kept case in this process, so that its error is seen whole."""
    target.open(place)
    target.look()


def _in_child(work: Any, *args: Any) -> None:
    """In a process of its own: this one must not have used what does not survive a fork."""
    child = _fork.Process(target=work, args=args)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # TileDB's, where another test has used it
        child.start()
    child.join()
    assert child.exitcode == 0, f"{work} ended with {child.exitcode}"


def _batch(report: Report, target: Target, place: Path, first: int, until: float) -> int:
    """One child's inputs; the number of the next one."""
    here, there = _fork.Pipe(duplex=False)
    said = place.with_suffix(".stderr")
    child = _fork.Process(target=_child, args=(target, place, said, report.seed, first, until, there))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        child.start()
    there.close()
    number, began = first - 1, False
    try:
        while True:
            told = _heard(here, child.pid or 0)
            if told is None:
                child.kill()
                raise EOFError
            if told[0] == "done":
                return number + 1
            if told[0] == "begin":
                number, began = told[1], True
                continue
            began = False
            _count(report, place, number, *told)
    except EOFError:
        child.join()
        code = child.exitcode
        what = "hang" if code == -9 else f"process ended with {code}"
        stack = said.read_text(errors="replace").partition("Extension modules")[0][:3_000]
        assert began, f"{report.name}: the child ended outside any input: {what}\n{stack}"
        frames = [line.strip() for line in stack.splitlines() if "/radiobject/" in line and "File" in line]
        _count(report, place, number, "fault", f"{what} at {frames[0] if frames else '?'}", stack)
        return number + 1
    finally:
        child.join(10)
        here.close()


def _heard(pipe: Connection, pid: int) -> tuple[Any, ...] | None:
    """What the child says next; None when it works for too long on one input."""
    began, before = time.monotonic(), _worked(pid)
    while not pipe.poll(0.5):
        if _worked(pid) - before > MOST_SECONDS or time.monotonic() - began > 10 * MOST_SECONDS:
            return None
    told: tuple[Any, ...] = pipe.recv()
    return told


def _worked(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _count(report: Report, place: Path, number: int, outcome: str, kind: str, told: str) -> None:
    report.tried += 1
    if outcome == "accepted":
        report.accepted += 1
    elif outcome == "refused":
        report.refused[kind] += 1
    elif kind in report.faults:
        report.repeated += 1
    else:
        kept = shutil.make_archive(str(place.with_name(f"{place.name}-{report.seed}-{number}")), "zip", place)
        indented = told.replace("\n", "\n    ")
        report.faults[kind] = f"input {number} of seed {report.seed}, kept in {kept}\n    {indented}"


def _child(
    target: Target, place: Path, said: Path, seed: int, first: int, until: float, pipe: Connection
) -> None:
    warnings.simplefilter("error")
    with said.open("w") as log:
        faulthandler.enable(log)
        target.open(place)
        target.look()  # sound files are accepted; and what is loaded once is loaded
        resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + _ADDRESSES,) * 2)
        base = _most_memory()
        for number in range(first, first + BATCH):
            pipe.send(("begin", number))
            rng = Random(f"{seed}/{number}")
            damaged = target.damage(rng)
            sound = {name: _swapped(place / name, data) for name, data in damaged.items()}
            outcome = _outcome(target)
            if (grown := _most_memory() - base) > MOST_BYTES:
                outcome = ("fault", f"memory, after {outcome[:2]}", f"{grown:,} bytes more\n{outcome[2]}")
                base += grown
            pipe.send(outcome)
            if outcome[0] == "fault":
                break  # what was damaged stays, for the parent to keep
            for name, data in sound.items():
                _swapped(place / name, data)
            if time.monotonic() > until:
                break
        pipe.send(("done",))


def _swapped(file: Path, data: bytes | None) -> bytes | None:
    """Put bytes, or with None nothing, in a file's place, and give back what was there."""
    before = file.read_bytes() if file.exists() else None
    if data is None:
        file.unlink()
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return before


def _outcome(target: Target) -> tuple[str, str, str]:
    try:
        target.look()
    except RadiObjectError as error:
        return (
            ("refused", type(error).__name__, "") if str(error) else ("fault", "an error without words", "")
        )
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "/radiobject/" in f.filename]
        frames = frames or list(traceback.extract_tb(error.__traceback__))
        last = frames[-1]
        key = f"{type(error).__name__} in {Path(last.filename).name}:{last.name}"
        return "fault", key, "".join(traceback.format_exception(error)[-8:])[-3_000:]
    return "accepted", "", ""


def _most_memory() -> int:
    """The most this process has had so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
