"""Every call to a local disk may fail: a change is done and right, or an error of ours and all as before.

The failures of the first test are put in at the storage door: at one call in four in an ordinary run, at each
in CI, at each in every way by `make chaos`. Those below it are real: a full file system, one that turns
read-only, limits of the process, folders without rights.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radiobject.errors import RadiObjectError
from radiobject.format import exclusive
from radiobject.storage import Storage
from tests.faults.ground import (
    CHANGES,
    CHAOS,
    EVERY,
    assert_done_or_undone,
    build,
    create,
    dice,
    fresh,
    seed,
    state,
)

pytestmark = pytest.mark.slow

ERRORS = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.EMFILE)
STRIDE = 1 if EVERY else 4


class Door:
    """Lets the n-th call through `Storage._call` fail: before, after, or in the middle of what it does."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fails_at, self.lasting = 0, False
        self.code, self.when = 0, "before"

    def arm(self, fails_at: int = 0, code: int = 0, when: str = "before", *, lasting: bool = False) -> None:
        self.calls = []
        self.fails_at, self.code, self.when, self.lasting = fails_at, code, when, lasting

    def pass_through(self, operation: str, local: Callable[[str], Any], path: str) -> Any:
        self.calls.append(operation)
        count = len(self.calls)
        hit = self.fails_at and (count >= self.fails_at if self.lasting else count == self.fails_at)
        if not hit:
            return local(path)
        if self.when == "after":
            local(path)
        elif self.when == "middle" and operation == "write":
            local(path)
            os.truncate(path, os.path.getsize(path) // 2)
        raise OSError(self.code, os.strerror(self.code), path)


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    door, real = Door(), Storage._call
    monkeypatch.setattr(exclusive, "_FIRST_PAUSE", 0.0)

    def call(self: Storage, operation: str, key: str, local: Any, remote: Any) -> Any:
        return real(self, operation, key, lambda path: door.pass_through(operation, local, path), remote)

    monkeypatch.setattr(Storage, "_call", call)
    return door


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CHANGES)
def test_a_failing_call_leaves_a_change_done_or_undone(
    name: str, door: Door, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = seed()
    roll, change = dice(number), CHANGES[name][1]
    base, uri = tmp_path / "base", str(tmp_path / "study")
    build(str(base), {}, name)
    before = state(str(base), {})

    def renew() -> None:
        shutil.rmtree(uri, ignore_errors=True)
        if base.exists():
            shutil.copytree(base, uri)

    renew()
    door.arm()
    change(uri, {})
    calls = door.calls.copy()
    after = state(uri, {})
    total = len(calls)
    assert after is not None
    outcomes: Counter[str] = Counter()
    every = list(itertools.product(ERRORS, ("before", "middle", "after"), (False, True)))
    some = range(1 + roll.randrange(min(STRIDE, total)), total + 1, STRIDE)
    trials = [(n, *way) for n in some for way in (every if CHAOS else [roll.choice(every)])]
    # the call that decides, always: it was done, and is said to have failed
    created = [n for n, operation in enumerate(calls, 1) if operation == "create"]
    trials += [(n, errno.EIO, "after", lasting) for n in created for lasting in (False, True)]
    for index, code, when, lasting in trials:
        trial = f"seed {number}: {errno.errorcode[code]} {when} {index} of {total}, lasting: {lasting}"
        renew()
        door.arm(index, code, when, lasting=lasting)
        error = None
        try:
            change(uri, {})
        except RadiObjectError as found_out:
            error = found_out
        door.arm()
        found = state(uri, {})
        assert_done_or_undone(name, error, found, before, after, trial)
        outcomes["an error" if error else "done"] += 1
        if found != after or name == "cleanup":
            change(uri, {})  # a second try, when the trouble has passed
            again = state(uri, {})
            assert again is not None
            assert again["volumes"] == after["volumes"], trial
        if error is not None:
            report = fresh(uri, {}).validate("full")
            assert [p for p in report.problems if p.kind != "hint"] == [], trial
    with capsys.disabled():
        print(f" [seed {number}: {total} calls, {dict(outcomes)}]", end="")


def in_namespace(mounts: str, script: str, *args: str) -> str:
    """Run a script where mounts are its own; skips where that takes rights that we have not."""
    words = ["unshare", "-m", "sh", "-c", f'mount --make-rprivate / && {mounts} && exec "$@"', "sh"]
    probe = subprocess.run([*words, "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"no mounts of our own here: {probe.stderr.strip()}")
    return run([*words, sys.executable, "-W", "error", "-c", script, *args])


def run(words: list[str], **how: Any) -> str:
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[2], **how)
    assert done.returncode == 0, done.stderr
    return done.stdout


FULL = """
import json, os, sys
from radiobject.errors import StorageFullError
from tests.faults.ground import append, create, fresh, state
folder = sys.argv[1]
uri = folder + "/study"
create(uri, {})
before = state(uri, {})
outcomes = []
for left in range(0, 100_000, 4096):
    ballast = folder + "/ballast"
    room = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    with open(ballast, "wb") as file:
        file.write(bytes(max(room - left, 0)))
    try:
        append(uri, {})
        outcomes.append("done")
    except StorageFullError:
        outcomes.append("full")
    os.unlink(ballast)
    found = state(uri, {})
    assert (found != before) == (outcomes[-1] == "done"), (left, outcomes)
    if outcomes[-1] == "done":
        break
assert [p for p in fresh(uri, {}).validate("full").problems if p.kind != "hint"] == []
print(json.dumps(outcomes))
"""


def test_a_full_disk_is_said_and_leaves_the_study(tmp_path: Path) -> None:
    outcomes = json.loads(in_namespace(f"mount -t tmpfs -o size=4m none {tmp_path}", FULL, str(tmp_path)))
    assert outcomes[0] == "full"
    assert outcomes[-1] == "done"


READ_ONLY = """
import subprocess, sys
from radiobject.errors import StorageReadOnlyError
from tests.faults.ground import append, create, delete, fresh, restore, state, tag
folder = sys.argv[1]
uri = folder + "/study"
create(uri, {})
before = state(uri, {})
subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
for change in (append, delete, tag, restore):
    try:
        change(uri, {})
    except StorageReadOnlyError as error:
        assert uri in str(error), error
    else:
        raise AssertionError(change)
    assert state(uri, {}) == before
assert fresh(uri, {}).validate("full").ok
subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
append(uri, {})
assert state(uri, {}) != before
"""


def test_a_file_system_that_turns_read_only_is_said(tmp_path: Path) -> None:
    in_namespace(f"mount -t tmpfs -o size=8m none {tmp_path}", READ_ONLY, str(tmp_path))


LIMITED = """
import os, resource, signal, sys
from radiobject.errors import RadiObjectError
from tests.faults.ground import append, create, fresh, state
what, uri = sys.argv[1:]
create(uri, {})
before = state(uri, {})
append(uri, {})  # so that everything is imported
after = state(uri, {})
fresh(uri, {}).delete(subjects="c")
before = state(uri, {})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
name = getattr(resource, what)
soft, hard = resource.getrlimit(name)
open_now = len(os.listdir("/proc/self/fd"))
steps = range(64, 20_000, 512) if what == "RLIMIT_FSIZE" else range(open_now - 1, open_now + 4)
errors = 0
for limit in steps:
    resource.setrlimit(name, (limit, hard))
    try:
        append(uri, {})
        done = True
    except RadiObjectError as error:
        done, errors = False, errors + 1
    finally:
        resource.setrlimit(name, (soft, hard))
    found = state(uri, {})
    if done:
        assert found["volumes"] == after["volumes"], limit
        fresh(uri, {}).delete(subjects="c")
        before = state(uri, {})
    else:
        assert found == before, limit
    problems = [p for p in fresh(uri, {}).validate("full").problems if p.kind != "hint"]
    assert problems == [], (limit, problems)
print(errors)
"""


@pytest.mark.parametrize("what", ["RLIMIT_NOFILE", "RLIMIT_FSIZE"])
def test_limits_of_the_process_are_errors_of_ours(what: str, tmp_path: Path) -> None:
    out = run([sys.executable, "-W", "error", "-c", LIMITED, what, str(tmp_path / "study")])
    assert int(out) > 0


NO_RIGHTS = """
import os, sys
from radiobject.errors import StorageReadOnlyError
from tests.faults.ground import append, delete, fresh, state, tag
uri, name = sys.argv[1:]
before = state(uri, {})
folders = [folder for folder, _, _ in os.walk(os.path.join(uri, name))][: None if name else 1]
for folder in folders:
    os.chmod(folder, 0o555)
refused = 0
for change in (append, delete, tag):
    try:
        change(uri, {})
    except StorageReadOnlyError:
        refused += 1
        assert state(uri, {}) == before, change
    else:
        before = state(uri, {})
for folder in folders:
    os.chmod(folder, 0o755)
assert [p for p in fresh(uri, {}).validate("full").problems if p.kind != "hint"] == []
print(refused)
"""


@pytest.mark.parametrize("name", ["versions", "tables", "collections", "transactions", ""])
def test_a_folder_that_lost_its_rights_is_said(name: str, tmp_path: Path) -> None:
    uri = tmp_path / "study"
    create(str(uri), {})
    (uri / "transactions").mkdir(exist_ok=True)
    # no rights stop root, unless it does without these
    words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if words and shutil.which("setpriv") is None:
        pytest.skip("root that no rights stop, and no setpriv")
    assert int(run([*words, sys.executable, "-W", "error", "-c", NO_RIGHTS, str(uri), name])) > 0
