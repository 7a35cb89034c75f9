"""Whatever stands in a file, what comes of it is well-formed or an error of ours; `make fuzz` is for long.

RADIOBJECT_FUZZ_SECONDS is for all targets together, and RADIOBJECT_CHAOS_SEED gives a run its seed again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from random import Random, SystemRandom

import pytest

from radiobject.errors import FormatError
from tests.fuzz.mutation import as_json, changed_bytes, changed_json
from tests.fuzz.running import run
from tests.fuzz.seconds import seconds
from tests.fuzz.targets import TARGETS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.no_backend(reason="damaged files, of each backend that has some"),
    pytest.mark.skipif(sys.platform == "win32", reason="children are forked"),
]


@pytest.mark.parametrize("name", TARGETS)
def test_every_damaged_input_is_read_soundly_or_refused(name: str) -> None:
    if name == "tiledb":
        pytest.importorskip("tiledb")
    seed = int(os.environ.get("RADIOBJECT_CHAOS_SEED") or SystemRandom().getrandbits(32))
    # an interpreter of its own: what this one has used may not survive a fork
    words = [name, "--seed", seed, "--seconds", seconds(1.5)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *map(str, words)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "accepted" in done.stdout


class Broken:
    """A reader with one fault of each kind, picked by the file's one byte."""

    def prepare(self, place: Path) -> None:
        (place / "kind").write_bytes(b"0")

    def open(self, place: Path) -> None:
        self.file = place / "kind"

    def damage(self, rng: Random) -> Mapping[str, bytes]:
        return {"kind": str(rng.randrange(7)).encode()}

    def look(self) -> None:
        kind = self.file.read_bytes()
        if kind == b"1":
            raise FormatError("it", expected="0", got="1")
        if kind == b"2":
            raise KeyError("foreign")
        if kind == b"3":
            os.abort()
        if kind == b"4":
            while True:
                pass
        if kind == b"5":
            bytearray(b"x" * 600_000_000)
        assert kind != b"6", "not well-formed"


def test_a_reader_with_faults_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.running.MOST_SECONDS", 0.5)
    report = run("broken", Broken(), tmp_path, seed=1, seconds=0, least=30)
    kinds = " ".join(report.faults)
    for kind in ("KeyError", "process ended with -6", "hang", "memory", "AssertionError"):
        assert kind in kinds
    assert report.accepted
    assert set(report.refused) == {"FormatError"}
    assert len(list(tmp_path.rglob("*.zip"))) >= 5
    assert "kept in" in str(next(iter(report.faults.values())))


def test_an_input_is_its_seed_and_number_alone() -> None:
    value = {"a": [1, {"b": "text"}], "c": None}
    for number in range(50):
        one, other = (changed_json(Random(f"7/{number}"), value) for _ in range(2))
        assert as_json(one) == as_json(other)
        assert value == {"a": [1, {"b": "text"}], "c": None}
        assert changed_bytes(Random(number), b"0123456789") == changed_bytes(Random(number), b"0123456789")
