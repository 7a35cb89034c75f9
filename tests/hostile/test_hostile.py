"""What strangers send: each of these is refused with an error of ours, in bounded time and memory.

Each case runs in a child of a process that has imported everything, with 200 MB of memory more and
2 s of CPU a door. Nothing may be written but below `out`, and voxels are the true ones or none.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile import cases_documents, cases_sources, cases_tables, cases_volumes
from tests.hostile.confined import Zygote
from tests.hostile.crafting import Case, good_study
from tests.hostile.doors import STUDY_DOORS

pytestmark = pytest.mark.slow

CASES = [*cases_documents.CASES, *cases_tables.CASES, *cases_volumes.CASES, *cases_sources.CASES]


def prepared(place: Path, case: Case, kept: Path) -> Path:
    """The folder of a case: the good study and something outside of it, changed by `craft`."""
    good = kept / f"good-{case.backend}"
    if not good.is_dir():
        good_study(good, case.backend)
    shutil.copytree(good, place / "study")
    (place / "outside").mkdir()
    (place / "outside/secret").write_text("another patient")
    shutil.copy(good / "versions/000000000001.json", place / "outside/commit")
    (place / "out").mkdir()
    case.craft(place)
    return place


def snapshot(place: Path) -> dict[str, str]:
    """Every file of a case that nobody may write, by its content."""
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 2**30
        else str(path.lstat().st_mode)
        for path in sorted(place.rglob("*"))
        if path.relative_to(place).parts[0] != "out"
    }


def faults(zygote: Zygote, place: Path, case: Case) -> list[list[str]]:
    """What is wrong with how the doors took a case; empty when nothing is."""
    before = snapshot(place)
    doors = case.doors or STUDY_DOORS
    said = zygote.run(place, tuple(dict.fromkeys((*doors, *([case.refuses] if case.refuses else ())))))
    wrong = [line for line in said if line[1] not in ("refused", "done")]
    wrong += [line for line in said if line[0] == case.refuses and line[1] == "done"]
    if case.refuses is None:
        wrong += [line for line in said if line[0] == "read" and line[1] == "refused"]
    if (after := snapshot(place)) != before:
        changed = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
        wrong.append(["outside", "written", " ".join(changed)])
    return wrong


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    process = Zygote()
    yield process
    process.close()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("good")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_hostile_is_refused(case: Case, zygote: Zygote, kept: Path, tmp_path: Path) -> None:
    assert faults(zygote, prepared(tmp_path / "case", case, kept), case) == []
