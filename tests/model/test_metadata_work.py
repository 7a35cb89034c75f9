"""What questions to many subjects cost, and changes of their tables, in requests, row groups and bytes.

No clock: these hold on any machine, however busy.

20,000 subjects in two collections, as benchmarks/metadata.py makes them for its 100,000 in four.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiobject import RadiObject, measure
from radiobject.format import catalog
from radiobject.format.changes import Edit
from radiobject.format.commit import Commit
from radiobject.format.rows import MAX_PARTS, compacted
from radiobject.format.tables import Table, write_part
from radiobject.format.transaction import Transaction
from radiobject.location import Location
from radiobject.storage import Storage

pytestmark = pytest.mark.only("tensorstore", reason="tables; that no volume is opened for them is part of it")

N = 20_000
GROUPS = 1 + -(-(N - 1) // 4096)
"""Row groups of every table: the first subject was ingested, all others are a part of their own."""

MIDDLE = "sub-010000"
SPACED = "voxel_spacing == '(1.0, 1.0, 1.0)'"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """benchmarks/subjects.py, which is no package."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "subjects.py"
    spec = importlib.util.spec_from_file_location("benchmark_subjects", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def asked(maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> str:
    """URI of a study that is only asked."""
    place = str(tmp_path_factory.mktemp("asked") / "study")
    maker.write_subjects(place, N, ("T1w", "seg"))
    return place


@pytest.fixture(scope="module")
def changed(maker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> str:
    """URI of a study that grows."""
    place = str(tmp_path_factory.mktemp("changed") / "study")
    maker.write_subjects(place, N, ("T1w", "seg"))
    return place


def cost(uri: str, ask: Callable[[RadiObject], Any], expected: Any) -> measure:
    """What a question costs on a study opened anew."""
    catalog._snapshots.clear()
    with measure() as m:
        assert ask(RadiObject(uri)) == expected
    assert m["volumes_opened"] == m["chunks_decoded"] == 0
    return m


def test_opening_reads_one_commit(asked: str) -> None:
    m = cost(asked, lambda radi: (len(radi), len(radi.T1w)), (N, N))
    assert (m["requests"], m["row_groups"]) == (3, 0)  # hint, is there a newer one, commit
    assert m["bytes_read"] < 10_000


ASKED: dict[str, tuple[Callable[[RadiObject], Any], Any, int]] = {
    # ids of the subjects, whose the volumes are, and one row group of what opening one needs
    "loc": (lambda r: r.loc[MIDDLE].T1w.iloc[0].shape, (8, 8, 8), 2 * GROUPS + 1),
    "iloc": (lambda r: r.iloc[9].T1w.iloc[0].obs_id, "sub-000009_T1w", 2 * GROUPS + 1),
    "loc of a volume": (lambda r: r.T1w.loc[f"{MIDDLE}_T1w"].shape, (8, 8, 8), GROUPS + 1),
    "sel": (lambda r: r.T1w.sel(subject=MIDDLE).obs_id, f"{MIDDLE}_T1w", GROUPS + 1),
    "every subject": (lambda r: len(r.filter("age >= 0")), N, GROUPS),
    "one site": (lambda r: len(r.filter("site == 'site-07'")), N // 40, 1),
    "last site": (lambda r: len(r.filter("age >= 0 and site == 'site-39' and dx != ''")), N // 40, 1),
    "no site": (lambda r: len(r.filter("site == 'nowhere'")), 0, 0),
    "first volumes": (lambda r: len(r.T1w.filter("obs_id < 'sub-000100'")), 100, 2),
    "every size": (lambda r: len(r.T1w.filter("dim_x == 8")), N, GROUPS),
    "no size": (lambda r: len(r.T1w.filter("dim_x == 9")), 0, 0),
    # two to find the rows, and the same two for their spacing
    "alias": (lambda r: len(r.T1w.filter(f"obs_id < 'sub-000100' and {SPACED}")), 100, 4),
    # the site's row group, the ids of subjects, whose the volumes are
    "volumes of a site": (lambda r: len(r.T1w.filter("site == 'site-07'")), N // 40, 1 + 2 * GROUPS),
    "joined": (
        lambda r: len(r.T1w.filter("obs_id < 'sub-000100' and site == 'site-00'")), 100, 2 + 2 + 2 * GROUPS,
    ),
    "having": (lambda r: len(r.having("T1w", "seg")), N, 3 * GROUPS),
    "pairs": (lambda r: len(r.pairs("T1w", "seg")), N, 2 * GROUPS),
    "head": (lambda r: len(r.head(10).obs_meta.read(["age"])), 10, 2),
}  # fmt: skip
"""A question, its answer, and the row groups that it takes to answer."""


@pytest.mark.parametrize("question", ASKED)
def test_a_question_reads_the_row_groups_that_it_needs_once(asked: str, question: str) -> None:
    ask, expected, groups = ASKED[question]
    m = cost(asked, ask, expected)
    assert m["row_groups"] == groups
    assert m["bytes_read"] < 500_000  # mostly ids; the tables are 50 times that


def test_a_handle_that_was_asked_reads_no_ids_again(asked: str) -> None:
    radi = RadiObject(asked)
    assert radi.loc[MIDDLE].T1w.obs_ids == [f"{MIDDLE}_T1w"]
    with measure() as m:
        assert radi.loc["sub-000123"].T1w.obs_ids == ["sub-000123_T1w"]
        assert len(radi.having("T1w")) == N
    assert m["requests"] == 0


def test_an_append_reads_ids_and_writes_only_its_own_rows(changed: str, maker: ModuleType) -> None:
    def append(radi: RadiObject) -> int:
        radi.append({n: [(maker.tiny(), "new-0000")] for n in ("T1w", "seg")}, people("new-0000"))
        return radi.version

    before = parts_of(changed)
    m = cost(changed, append, RadiObject(changed).version + 1)
    assert m["row_groups"] <= GROUPS + 2 * 2 * (1 + GROUPS)  # of subjects; of volumes their ids and types
    assert m["bytes_read"] < 700_000
    written = {path: size for path, size in parts_of(changed).items() if path not in before}
    assert len(written) == 1 + 1 + 2 * 2  # obs_meta, ledger, and obs and thumbnails of each collection
    assert sum(written.values()) < 100_000
    assert set(before) < set(parts_of(changed))


def test_many_appends_never_write_the_large_part_anew(changed: str, maker: ModuleType) -> None:
    radi = RadiObject(changed)
    large = max(radi._study.obs("T1w").parts, key=lambda p: p.rows)
    for number in range(MAX_PARTS + 3):
        subject = f"more-{number:04d}"
        before = parts_of(changed)
        radi.append({"T1w": [(maker.tiny(), subject)]}, people(subject))
        written = sum(size for path, size in parts_of(changed).items() if path not in before)
        assert written < 200_000
        assert len(radi._study.obs("T1w").parts) <= MAX_PARTS
    assert large in radi._study.obs("T1w").parts
    new = [f"more-{number:04d}" for number in range(MAX_PARTS + 3)]
    assert radi.obs_subject_ids[-len(new) :] == radi.T1w.obs_subject_ids[-len(new) :] == new
    assert radi.validate("standard").problems == []


def test_an_update_of_one_row_writes_the_part_that_holds_it(changed: str) -> None:
    radi = RadiObject(changed)
    before = parts_of(changed)
    radi.obs_meta.update(pd.DataFrame({"obs_subject_id": [MIDDLE], "age": [7]}))
    written = [path for path in parts_of(changed) if path not in before]
    assert len(written) == 1
    assert written[0].startswith("obs_meta")
    assert RadiObject(changed).obs_meta.read(["age"], f"obs_subject_id == '{MIDDLE}'")["age"].to_list() == [7]


def people(subject: str) -> dict[str, list[Any]]:
    return {"obs_subject_id": [subject], "age": [50], "weight": [70.0], "dx": ["AD"], "site": ["site-99"]}


def parts_of(uri: str) -> dict[str, int]:
    """Size of every table part on disk."""
    tables = Path(uri) / "tables"
    return {str(p.relative_to(tables)): p.stat().st_size for p in tables.rglob("*.parquet")}


SIZES = st.lists(st.integers(1, 5) | st.integers(1, 3000), min_size=1, max_size=40)


@pytest.mark.no_backend(reason="tables alone")
@given(SIZES, st.sampled_from([1, 2, 8, MAX_PARTS]))
def test_a_fold_keeps_rows_and_order_and_never_writes_what_is_longer_than_the_rest(
    sizes: Any, most: int
) -> None:
    storage = Storage(Location("memory://folding"))
    ends = np.cumsum(sizes).tolist()
    parts = [
        write_part(
            storage, "obs_meta", pa.table({"obs_subject_id": [f"s{i:06d}" for i in range(end - n, end)]})
        )
        for n, end in zip(sizes, ends, strict=True)
    ]
    commit = Commit(1, None, None, "", "", "", "", "", "", None, None, {"obs_meta": tuple(parts)}, ())
    made = compacted(commit, storage, most).tables["obs_meta"]
    if len(parts) <= most:
        assert made == tuple(parts)
        return
    assert len(made) <= max(most // 2, 1)
    table = Table(storage, "obs_meta", made, pa.schema([("obs_subject_id", pa.string())]))
    assert table.ids() == [f"s{i:06d}" for i in range(ends[-1])]
    assert made[:-1] == tuple(parts[: len(made) - 1])
    if len(made) > 1:
        assert made[-2].rows > made[-1].rows


def test_compaction_on_request_leaves_one_part(changed: str) -> None:
    snapshot = RadiObject(changed)._study.snapshot
    made = Transaction(snapshot.storage, snapshot, "compact").commit(Edit(compact=True))
    assert {len(p) for c in made.commit.collections for p in c.tables.values()} == {1}
