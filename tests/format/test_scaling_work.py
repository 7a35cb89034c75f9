"""What grows with the number of subjects and what does not, as counts: 1,000 and 10,000 in four collections.

No clock: these hold on any machine, however busy. benchmarks/scaling.py has the times.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from radiobject import RadiObject, measure
from radiobject.format import catalog
from radiobject.format.changes import Edit
from radiobject.format.transaction import MAX_IDS_IN_COMMIT, Transaction

pytestmark = pytest.mark.only("tensorstore", reason="tables and commits; no voxel is read")

SIZES = (1000, 10_000)
NAMES = ("T1w", "FLAIR", "T2w", "seg")
Studies = dict[int, str]


def benchmark(name: str) -> ModuleType:
    """A module of benchmarks/, which is no package."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[f"benchmark_{name}"] = module  # dataclasses look for their module by name
    spec.loader.exec_module(module)
    return module


operations = benchmark("scaling_operations")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Studies:
    """URIs of studies that are only asked, by their number of subjects."""
    return made(tmp_path_factory.mktemp("asked"))


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Studies:
    """URIs of studies that grow."""
    return made(tmp_path_factory.mktemp("changed"))


def made(folder: Path) -> Studies:
    write = benchmark("subjects").write_subjects
    for n in SIZES:
        write(folder / str(n), n, NAMES, objects=True, stored=False, pictures=200)
    return {n: str(folder / str(n)) for n in SIZES}


def opened(uri: str) -> RadiObject:
    catalog._snapshots.clear()
    return RadiObject(uri)


def cost(uri: str, ask: Callable[[Any], object], ready: Callable[[RadiObject], Any] = lambda r: r) -> measure:
    """What `ask` costs of a study opened anew, or of what `ready` makes of it, which is not counted."""
    what = ready(opened(uri))
    with measure() as m:
        ask(what)
    return m


def appended(uri: str, subjects: int) -> measure:
    return cost(uri, operations.commit, operations._to_append(subjects))


def row_groups(n: int) -> int:
    """Of every table: the first subject was ingested, all others are a part of their own."""
    return 1 + -(-(n - 1) // 4096)


ID_COLUMNS = (1 + len(NAMES)) * (row_groups(SIZES[1]) - row_groups(SIZES[0]))
"""Row groups of ids, of subjects and of the volumes of each collection, that the larger study has more."""


def test_opening_is_three_requests_at_every_size(asked: Studies) -> None:
    for uri in asked.values():
        m = cost(uri, lambda _, uri=uri: opened(uri))
        assert (m["requests"], m["row_groups"]) == (3, 0)  # the hint, whether a version follows, the commit
        assert m["bytes_read"] < MAX_IDS_IN_COMMIT * 20  # a commit names what it changed, up to that many ids


def test_a_subject_costs_the_id_columns_and_one_row_group_of_the_rest(asked: Studies) -> None:
    for n, uri in asked.items():
        m = cost(uri, lambda r: r.loc["sub-000500"].T1w.iloc[0].shape)
        assert m["row_groups"] == 2 * row_groups(n) + 1


def test_the_next_subject_costs_the_same_at_every_size(asked: Studies) -> None:
    def ready(radi: RadiObject) -> RadiObject:
        radi.loc["sub-000500"].T1w.iloc[0]
        return radi

    for uri in asked.values():
        same, other = (
            cost(uri, lambda r, s=s: r.loc[s].T1w.iloc[0].shape, ready) for s in ("sub-000600", "sub-000000")
        )
        assert same["requests"] == 0
        assert other["row_groups"] == 1


def test_a_filter_on_a_sorted_column_reads_one_row_group(asked: Studies) -> None:
    for uri in asked.values():
        assert cost(uri, lambda r: len(r.filter("site == 'site-39'")))["row_groups"] == 1


@pytest.mark.parametrize("subjects", [1, 100])
def test_an_append_writes_the_same_bytes_at_every_size(changed: Studies, subjects: int) -> None:
    small, large = (appended(uri, subjects) for uri in changed.values())
    assert large["requests"] - small["requests"] == ID_COLUMNS
    assert 0.95 < large["bytes_written"] / small["bytes_written"] < 1.05
    assert large["bytes_written"] < 120_000 + 2000 * subjects


def test_what_measure_says_was_written_is_what_stands_on_disk(changed: Studies) -> None:
    for uri in changed.values():
        before = files(uri)
        m = appended(uri, 1)
        after = files(uri)
        new = sum(size for path, size in after.items() if path not in before)
        assert m["bytes_written"] == new + after[Path("hint.json")]


def test_a_lost_race_writes_the_same_bytes_at_every_size(changed: Studies) -> None:
    small, large = (cost(uri, operations.commit, operations._to_race) for uri in changed.values())
    assert large["requests"] - small["requests"] == 2 * ID_COLUMNS  # those of the version that came first too
    assert 0.95 < large["bytes_written"] / small["bytes_written"] < 1.05


def test_a_difference_reads_the_rows_that_differ(changed: Studies) -> None:
    costs = []
    for uri in changed.values():
        radi = opened(uri)
        operations.commit((radi, operations.append_edit(radi, ["differs"])))
        assert opened(uri).diff(radi.version).subjects.added == ("differs",)
        costs.append(cost(uri, lambda r, old=radi.version: r.diff(old)))
    small, large = costs
    assert small["row_groups"] == large["row_groups"]
    assert large["bytes_read"] < 1.2 * small["bytes_read"]  # footers name each row group of each column


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda r: r.obs_meta.update({"obs_subject_id": ["sub-000500"], "age": [3]}), 1),
        (
            lambda r: r.delete(subjects="sub-000400"),
            1 + len(NAMES) + 1,
        ),  # and the thumbnails of one collection
    ],
    ids=["update", "delete"],
)
def test_a_change_of_rows_writes_the_parts_that_hold_them(
    changed: Studies, change: Callable[[RadiObject], object], parts: int
) -> None:
    for uri in changed.values():
        before = files(uri)
        cost(uri, change)
        new = [path for path in files(uri) if path not in before and path.suffix == ".parquet"]
        assert len(new) == parts


def test_opening_after_many_commits_costs_what_it_did(changed: Studies) -> None:
    uri = changed[SIZES[0]]
    operations.grow(uri, 40)
    m = cost(uri, lambda _: opened(uri))
    assert m["requests"] == 3
    Path(uri, "hint.json").unlink()
    with measure() as lost:
        opened(uri)
    assert lost["requests"] <= 5  # a listing of the versions, whatever their number, takes the hint's place


def test_clean_up_reads_what_versions_share_once(changed: Studies) -> None:
    uri = changed[SIZES[0]]
    snapshot = opened(uri)._study.snapshot
    Transaction(snapshot.storage, snapshot, "compact").commit(Edit(compact=True))

    def reads(radi: RadiObject, keep: int) -> int:
        with measure() as m:
            radi.cleanup(keep=keep, older_than=0, force=True, dry_run=True)
        return m["row_groups"]

    one = reads(opened(uri), 1)
    operations.grow(uri, 10)  # these share all of their volume tables
    assert reads(opened(uri), 11) == one == len(NAMES)


def files(uri: str) -> dict[Path, int]:
    """Size of every file of a study but those of volumes."""
    place = Path(uri)
    found = [p for p in place.rglob("*") if p.is_file() and "collections" not in p.parts]
    return {p.relative_to(place): p.stat().st_size for p in found}
