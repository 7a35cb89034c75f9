"""`python -m tests.fuzz commits --seed 3 --seconds 60`: inputs of one target. `--replay ZIP`: a kept case."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

from tests.fuzz.running import replay, run
from tests.fuzz.targets import TARGETS


def main() -> int:
    """0 when no input was a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument(
        "--folder",
        type=Path,
        help="an empty folder for what is kept; default: a new one",
    )
    parser.add_argument("--replay", type=Path, help="a case that was kept")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    target = TARGETS[asked.target]()
    if asked.replay is not None:
        ZipFile(asked.replay).extractall(folder)
        replay(target, folder)
        return 0
    report = run(asked.target, target, folder, asked.seed, asked.seconds, asked.first)
    print(report, flush=True)
    if not report.faults and asked.folder is None:
        shutil.rmtree(folder)
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
