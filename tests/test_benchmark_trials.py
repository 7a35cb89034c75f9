"""The benchmark of trials runs, and what it says of sizes holds for small volumes too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

for package in ("nilearn", "torch", "psutil", "loky"):
    pytest.importorskip(package)

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "trials.py"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    folder = tmp_path_factory.mktemp("trials")
    subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--work", str(folder), "--json", str(folder / "out.json")],
        check=True, timeout=400, capture_output=True,
    )  # fmt: skip
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = json.loads((folder / "out.json").read_text())
    return found


def test_whole_numbers_are_smaller_as_integers_and_fractions_are_not_touched(report) -> None:
    tables = dict(report["integers"])
    floats, integers = tables.pop("fractions as float32").values()
    assert integers["MB"] == floats["MB"]
    assert len(tables) == 3
    for floats, integers in (rows.values() for rows in tables.values()):
        assert integers["MB"] < floats["MB"]


def test_each_codec_is_measured_on_each_volume(report) -> None:
    assert len(report["codecs"]) == 3
    for rows in report["codecs"].values():
        assert len(rows) == 6
        assert len({row["MB"] for row in rows.values()}) >= 4
        assert rows["zstd 3"]["MB"] < rows["lz4hc 5"]["MB"] < rows["lz4 5"]["MB"]
        assert all(value > 0 for row in rows.values() for value in row.values())


def test_each_executor_is_measured_with_all_its_processes(report) -> None:
    rows, locks = report["executors"].values()
    assert set(rows) == {"serial", "threads, 2", "threads, 4", "processes, 2"}
    idle = {name: row["peak memory, MB"] - row["of it beyond an idle process"] for name, row in rows.items()}
    assert max(idle.values()) < 2 * min(idle.values())
    assert (
        rows["processes, 2"]["of it beyond an idle process"] > rows["serial"]["of it beyond an idle process"]
    )
    assert rows["processes, 2"]["again, CPU s a volume"] > rows["serial"]["again, CPU s a volume"]
    free = {name: row["% of the time that another thread runs"] for name, row in locks.items()}
    assert len(free) == 8
    assert free["control: keeps the lock"] < free["control: waits"]
