"""A process that dies at any call through the I/O door leaves the version before or after, nothing else."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from radiobject import RadiObject
from radiobject.errors import StudyNotFoundError
from radiobject.format import catalog
from radiobject.format.cleanup import cleanup
from radiobject.storage import Storage

pytestmark = pytest.mark.slow


class Dead(BaseException):
    """Like SIGKILL, it is caught by no `except Exception`."""


class Door:
    """Counts the calls through `Storage._call` and lets none pass from number `dies_at` on."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.dies_at: int | None = None
        self._lock = threading.Lock()

    def knock(self, operation: str) -> None:
        with self._lock:
            self.calls.append(operation)
            if self.dies_at is not None and len(self.calls) >= self.dies_at:
                raise Dead


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    door, real = Door(), Storage._call

    def call(self: Storage, operation: str, key: str, *rest: Any) -> Any:
        door.knock(operation)
        return real(self, operation, key, *rest)

    monkeypatch.setattr(Storage, "_call", call)
    return door


def scan(value: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((5, 4, 3), value, dtype=np.int16), np.eye(4)


def create(uri: str, *, resume: bool = False) -> None:
    images = {"T1w": [(scan(1), "a"), (scan(2), "b")], "seg": [(scan(3), "a")]}
    RadiObject.from_niftis(uri, images, executor="serial", resume=resume)


def append(uri: str) -> None:
    meta = pd.DataFrame({"obs_subject_id": ["c"], "age": [40]})
    RadiObject(uri).append({"T1w": [(scan(4), "c")]}, meta, executor="serial")


def replace(uri: str) -> None:
    RadiObject(uri).append({"T1w": [(scan(9), "a")]}, on_conflict="replace", executor="serial")


def delete(uri: str) -> None:
    RadiObject(uri).delete(subjects="b")


def transaction(uri: str) -> None:
    with RadiObject(uri).transaction() as t:
        t.append({"T1w": [(scan(4), "c")]}, {"obs_subject_id": ["c"]}, executor="serial")
        t.obs_meta.add_column("age", fill=40)
        t.obs_meta.update({"obs_subject_id": ["c"], "age": [41]})
        t.delete(subjects="b")


def clean(uri: str) -> None:
    cleanup(RadiObject(uri)._study.snapshot.storage, keep=1, older_than=-1, force=True)


def state(uri: str) -> dict[str, Any] | None:
    """Every voxel sum and every subject row of the study, None when there is no study."""
    try:
        radi = RadiObject(uri)
    except StudyNotFoundError:
        return None
    volumes = {v.obs_id: int(v.to_numpy().sum()) for n in radi for v in radi.collection(n)}
    return {"volumes": volumes, "subjects": radi.obs_meta.to_arrow().to_pylist()}


CASES: dict[str, Callable[[str], None]] = {
    "create": create,
    "append": append,
    "replace": replace,
    "delete": delete,
    "transaction": transaction,
    "cleanup": clean,
}


@pytest.mark.parametrize("name", CASES)
def test_dying_at_every_call_leaves_before_or_after(
    name: str, door: Door, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = CASES[name]
    base = tmp_path / "base"
    if name != "create":
        create(str(base))
    if name == "cleanup":
        append(str(base))
        replace(str(base))
    before = state(str(base))

    def fresh() -> str:
        target = tmp_path / "study"
        shutil.rmtree(target, ignore_errors=True)
        if base.exists():
            shutil.copytree(base, target)
        catalog._snapshots.clear()  # a process that begins has seen nothing yet
        return str(target)

    uri = fresh()
    door.calls.clear()
    change(uri)
    total = len(door.calls)
    after = state(uri)
    assert name == "cleanup" or after != before
    for number in range(1, total + 1):
        uri = fresh()
        door.calls.clear()
        door.dies_at = number
        with pytest.raises(Dead):
            change(uri)
        door.dies_at = None
        found = state(uri)
        assert found in (before, after), f"call {number} of {total}"
        if found != after or name == "cleanup":
            change(uri)  # a second run completes
        assert state(uri) == after
        report = RadiObject(uri).validate("full")
        # the one thing a crash may cost is the hint: opening works without it
        assert [p for p in report.problems if p.kind != "hint"] == []
    with capsys.disabled():
        print(f" [{name}: crashed at each of {total} calls]", end="")


def test_a_resumed_creation_equals_an_undisturbed_one(door: Door, tmp_path: Path) -> None:
    whole = str(tmp_path / "whole")
    create(whole)
    door.calls.clear()
    door.dies_at = 25
    with pytest.raises(Dead):
        create(str(tmp_path / "cut"))
    door.dies_at = None
    create(str(tmp_path / "cut"), resume=True)
    assert state(str(tmp_path / "cut")) == state(whole)
