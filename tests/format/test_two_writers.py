"""Two processes that write to one study at the same moment: what both may keep, and what only one may win.

Both open the study, then begin at one instant of the machine's clock, or some milliseconds apart, so that
they meet in every phase of a commit. `RADIOBJECT_RACE_ROUNDS` sets how often (`make chaos` sets more).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject

ROUNDS = int(os.environ.get("RADIOBJECT_RACE_ROUNDS", "20"))
A_STUDY = 20
"""Rounds in one study: as many as fold its tables once. More would only make each check longer."""

each_study = pytest.mark.parametrize(
    "rounds", [min(A_STUDY, ROUNDS - done) for done in range(0, ROUNDS, A_STUDY)], ids=lambda n: f"{n} rounds"
)

WRITER = """
import json, sys, time
import numpy as np
from radiobject import RadiObject
from radiobject.errors import RadiObjectError

for line in sys.stdin:
    task = json.loads(line)
    radi = RadiObject(task["uri"])
    scan = np.full((6, 5, 4), task["value"], np.int16), np.eye(4)
    print(json.dumps({"ready": radi.version}), flush=True)
    begin = float(sys.stdin.readline())
    while time.monotonic() < begin:
        pass
    try:
        images = {task["collection"]: [(scan, task["subject"])]}
        radi.append(images, task["obs_meta"], on_conflict=task["on_conflict"], executor="serial")
        print(json.dumps({"version": radi.version}), flush=True)
    except RadiObjectError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
"""


class Writer:
    """A process of its own that appends what it is told, when it is told."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WRITER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def tell(self, message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{json.dumps(message)}\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            pytest.fail(f"a writer ended: {self.process.communicate()[1]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> str:
        return self.process.communicate()[1]


@pytest.fixture(scope="module")
def writers() -> Iterator[tuple[Writer, Writer]]:
    pair = Writer(), Writer()
    yield pair
    assert [writer.end() for writer in pair] == ["", ""]


@pytest.fixture
def uri(tmp_path: Path) -> str:
    place = str(tmp_path / "study")
    RadiObject.from_niftis(place, {"T1w": [((np.zeros((6, 5, 4), np.int16), np.eye(4)), "a")]})
    return place


@pytest.fixture
def dice(capsys: pytest.CaptureFixture[str]) -> random.Random:
    seed = int(os.environ.get("RADIOBJECT_CHAOS_SEED", str(random.SystemRandom().randrange(2**32))))
    with capsys.disabled():
        print(f" [seed {seed}]", end="")
    return random.Random(seed)


def task(uri: str, collection: str, subject: str, value: int, **more: Any) -> dict[str, Any]:
    given = {"obs_meta": {"obs_subject_id": [subject], "age": [value % 90]}, "on_conflict": "error", **more}
    return {"uri": uri, "collection": collection, "subject": subject, "value": value, **given}


def race(writers: tuple[Writer, Writer], tasks: tuple[Any, Any], dice: random.Random) -> list[dict[str, Any]]:
    """Both tasks at once, from the same version; their answers."""
    for writer, one in zip(writers, tasks, strict=True):
        writer.tell(one)
    assert len({writer.hear()["ready"] for writer in writers}) == 1
    begin = time.monotonic() + 0.003
    for writer in writers:
        writer.tell(begin + dice.choice([0, 0, dice.uniform(0, 0.03)]))
    return [writer.hear() for writer in writers]


def held(radi: RadiObject, collection: str, subjects: Iterable[str] | None = None) -> dict[str, int]:
    """The value of each volume, or of those of some subjects, by subject."""
    volumes = (
        radi.collection(collection) if subjects is None else radi.loc[list(subjects)].collection(collection)
    )
    return {v.obs_subject_id: int(v[0, 0, 0]) for v in volumes}


def assert_sound(uri: str, level: str) -> RadiObject:
    radi = RadiObject(uri)
    # a hint is best effort: the slower of two may write the older one last
    assert [p for p in radi.validate(level).problems if p.kind != "hint"] == []
    return radi


@each_study
def test_appends_of_different_subjects_are_both_kept(
    uri: str, rounds: int, writers, dice: random.Random
) -> None:
    wanted = {"a": 0}
    for number in range(rounds):
        values = {f"s{number}-{side}": 10 * number + side for side in (1, 2)}
        answers = race(writers, tuple(task(uri, "T1w", s, v) for s, v in values.items()), dice)
        assert sorted(answer["version"] for answer in answers) == [2 * number + 2, 2 * number + 3], answers
        wanted |= values
        radi = assert_sound(uri, "quick")
        assert held(radi, "T1w", values) == values
        assert sorted(radi.T1w.obs_subject_ids) == sorted(radi.obs_subject_ids) == sorted(wanted)
    radi = assert_sound(uri, "full")
    assert held(radi, "T1w") == wanted
    ages = radi.obs_meta.read(["obs_subject_id", "age"], "age is not None")
    assert dict(ages.itertuples(index=False)) == {s: v % 90 for s, v in wanted.items() if s != "a"}


@each_study
def test_two_layers_of_one_new_subject_lose_nothing(
    uri: str, rounds: int, writers, dice: random.Random
) -> None:
    wanted: dict[str, dict[str, int]] = {"T1w": {"a": 0}, "FLAIR": {}}
    for number in range(rounds):
        subject, meta = f"s{number}", {"obs_subject_id": [f"s{number}"], "age": [number]}
        sides = list(enumerate(wanted, start=10 * number + 1))
        answers = race(writers, tuple(task(uri, n, subject, v, obs_meta=meta) for v, n in sides), dice)
        assert sorted(answer["version"] for answer in answers) == [2 * number + 2, 2 * number + 3], answers
        for value, name in sides:
            wanted[name][subject] = value
        radi = assert_sound(uri, "quick")
        assert [held(radi, name, [subject]) for _, name in sides] == [{subject: value} for value, _ in sides]
        assert sorted(radi.T1w.obs_subject_ids) == sorted(radi.obs_subject_ids) == sorted(wanted["T1w"])
        assert sorted(radi.FLAIR.obs_subject_ids) == sorted(wanted["FLAIR"])
    radi = assert_sound(uri, "full")
    assert {name: held(radi, name) for name in wanted} == wanted
    ages = radi.obs_meta.read(["obs_subject_id", "age"], "age is not None")
    assert dict(ages.itertuples(index=False)) == {f"s{number}": number for number in range(rounds)}


@each_study
def test_of_two_who_replace_one_volume_one_wins_and_the_other_is_told(
    uri: str, rounds: int, writers, dice
) -> None:
    for number in range(rounds):
        values = [10 * number + side for side in (1, 2)]
        told = [task(uri, "T1w", "a", v, obs_meta=None, on_conflict="replace") for v in values]
        answers = race(writers, (told[0], told[1]), dice)
        (winner,) = (side for side, answer in enumerate(answers) if "version" in answer)
        loser = answers[1 - winner]
        assert answers[winner]["version"] == number + 2
        assert loser["error"] == "ConflictError"
        assert "['a_T1w']" in loser["message"]
        assert f"version {number + 2}" in loser["message"]
        assert held(assert_sound(uri, "quick"), "T1w") == {"a": values[winner]}
    assert assert_sound(uri, "full").version == rounds + 1
