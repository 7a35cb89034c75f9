"""After a power cut at any call, whatever the disk kept of what was not synced: as before or as after.

An ordinary run takes an append, and all or none of what was not synced; CI and `make chaos` every change, and
each name alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from radiobject.errors import RadiObjectError
from tests.faults.crash_states import Call, Recorder, Tree, states
from tests.faults.ground import CHANGES, EVERY, build, fresh, scan, state

pytestmark = pytest.mark.slow


def append_alone(uri: str) -> None:
    """As somebody appends who has promised that nobody else writes."""
    images, subject = {"T1w": [(scan(9), "z")]}, {"obs_subject_id": ["z"]}
    fresh(uri, {}).append(images, subject, executor="serial", progress=False, single_writer=True)


def recorded(
    name: str, folder: Path, change: Callable[[str], None] | None = None
) -> tuple[Tree, list[Call], object, object]:
    """The files of a study, the calls of one change to it, and what it says before and after."""
    uri = folder / "study"
    build(str(uri), {}, name)
    base = {str(p.relative_to(uri)): p.read_bytes() for p in uri.rglob("*") if p.is_file()}
    before = state(str(uri), {})
    recorder = Recorder(str(uri))
    with pytest.MonkeyPatch.context() as patch:
        recorder.attach(patch)
        change(str(uri)) if change else CHANGES[name][1](str(uri), {})
    recorder.settle()
    return base, recorder.calls, before, state(str(uri), {})


def wrong(
    folder: Path, base: Tree, calls: list[Call], acknowledged: int, before: object, after: object
) -> Iterator[str]:
    """States that are neither before nor after, or before although so many calls acknowledged the change."""
    for number, what, tree in states(base, calls, single=EVERY):
        uri = folder / "state"
        shutil.rmtree(uri, ignore_errors=True)
        for path, data in tree.items():
            (uri / path).parent.mkdir(parents=True, exist_ok=True)
            (uri / path).write_bytes(data)
        found: object
        try:
            found = state(str(uri), {})
        except RadiObjectError as error:
            found = error
        if found != after and (found != before or number >= acknowledged):
            yield f"after {number} of {len(calls)} calls, {what}: {found}"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [n for n in CHANGES if n != "cleanup"] if EVERY else ["append"])
def test_every_state_that_a_cut_may_leave_is_before_or_after(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, calls, before, after = recorded(name, tmp_path)
    synced = [n for n, c in enumerate(calls) if c.what == "fsync folder" and c.path in ("versions", "tags")]
    with capsys.disabled():
        print(
            f" [{name}: {sum(1 for _ in states(base, calls, single=EVERY))} states of {len(calls)} calls]",
            end="",
        )
    assert list(wrong(tmp_path, base, calls, synced[-1] + 1, before, after)) == []


def test_every_state_that_a_cut_may_leave_of_a_single_writer_is_before_or_after(tmp_path: Path) -> None:
    base, calls, before, after = recorded("append", tmp_path, append_alone)
    assert before != after
    synced = [n for n, c in enumerate(calls) if c.what == "syncfs"]
    assert list(wrong(tmp_path, base, calls, synced[-1] + 1, before, after)) == []


@pytest.mark.parametrize("missing", ["syncfs", "fsync", "fsync folder"])
def test_without_any_one_sync_a_state_is_wrong(missing: str, tmp_path: Path) -> None:
    base, calls, before, after = recorded("append", tmp_path)
    left = [call for call in calls if call.what != missing]
    assert any(wrong(tmp_path, base, left, len(left), before, after))
