"""Clean-up beside a write that began days ago and commits at any moment of it: nothing that counts goes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from radiobject import RadiObject
from radiobject.errors import SnapshotExpiredError
from radiobject.format import catalog
from radiobject.format.cleanup import cleanup
from radiobject.format.integrity import Problem
from radiobject.format.journal import LIVE_SECONDS
from radiobject.location import Location
from radiobject.storage import Storage
from tests.faults.ground import append, create, fresh, replace

pytestmark = pytest.mark.slow

DAYS = 3 * 24 * 3600.0


WRITER = """
import sys
from radiobject.storage import Storage
from tests.faults.ground import append, fresh
real = Storage._call

def call(self, operation, key, *rest):
    if operation == "create" and key.startswith("versions/"):
        print("arrived", flush=True)
        sys.stdin.readline()
    return real(self, operation, key, *rest)

Storage._call = call
for line in sys.stdin:
    append(line.strip(), {})
    print("done", flush=True)
"""


class Crossing:
    """A writer in another process, held back before its commit until clean-up has come to some call."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.calls, self.crosses_at, self.held = 0, 0, False

    def knock(self) -> None:
        """A call of clean-up."""
        self.calls += 1
        if self.held and self.calls == self.crosses_at:
            self.commit()

    def begin(self, uri: str) -> None:
        """Let a write begin, three days ago, and come as far as its commit."""
        before = set(Path(uri).rglob("*"))
        assert self._tell(uri) == "arrived"
        then = time.time() - DAYS
        for path in Path(uri).rglob("*"):
            if path not in before and path.is_file():
                os.utime(path, (then, then))
        # its sign of life is young
        (journal,) = [p for p in Path(uri, "transactions").iterdir() if p.is_dir()]
        (journal / "alive").touch()
        self.held = True

    def commit(self) -> None:
        """Let the write go on to its end."""
        self.held = False
        answer = self._tell("go")
        while answer == "arrived":  # clean-up has committed first: once more on top of that
            answer = self._tell("go")
        assert answer == "done"

    def _tell(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@pytest.fixture
def crossing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Crossing]:
    words = [sys.executable, "-W", "error", "-c", WRITER]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        crossing, real = Crossing(process), Storage._call

        def call(self: Storage, *what: Any) -> Any:
            crossing.knock()
            return real(self, *what)

        monkeypatch.setattr(Storage, "_call", call)
        yield crossing
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def crossed(tmp_path: Path, crossing: Crossing) -> list[tuple[int, list[Problem]]]:
    """What is wrong after the write has committed at each call of clean-up."""
    base, uri = tmp_path / "base", str(tmp_path / "study")
    for step in (create, append, replace):
        step(str(base), {})
    RadiObject(base).delete(subjects="c")
    then = time.time() - DAYS
    for path in base.rglob("*"):
        os.utime(path, (then, then))

    def run(at: int) -> int:
        shutil.rmtree(uri, ignore_errors=True)
        shutil.copytree(base, uri)
        crossing.begin(uri)
        catalog._snapshots.clear()
        crossing.calls, crossing.crosses_at = 0, at
        cleanup(Storage(Location(uri)), keep=1, older_than=LIVE_SECONDS)
        calls = crossing.calls
        if crossing.held:
            crossing.commit()
        return calls

    found = []
    for at in range(1, run(0) + 1):
        run(at)
        radi = fresh(uri, {})
        assert (radi.loc[["c"]].T1w.iloc[0].to_numpy() == 4).all(), at
        found.append((at, [p for p in radi.validate("full").problems if p.kind != "hint"]))
    assert len(found) > 30
    return found


def test_a_long_write_that_commits_during_clean_up_keeps_its_objects(crossed: Any) -> None:
    assert [(at, p) for at, problems in crossed for p in problems] == []


def test_readers_of_what_was_cleaned_up_are_told(tmp_path: Path) -> None:
    uri = str(tmp_path / "study")
    create(uri, {})
    readers = []
    for step in (append, replace):
        readers.append(fresh(uri, {}))
        step(uri, {})
    cleanup(Storage(Location(uri)), keep=1, older_than=-1, force=True)
    told = 0
    for radi in readers:
        for name, value in (("T1w", 1), ("seg", 3)):
            try:
                assert (radi.collection(name).loc[f"a_{name}"].to_numpy() == value).all()
            except SnapshotExpiredError:
                told += 1
    assert told > 0
