"""Eager maps: results in memory or in mapped files, chained, shown and written."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject, ReadConfig, Volume, configure
from radiobject.errors import ConfigError, TransformError

META = {"obs_subject_id": ["sub-03", "sub-01", "sub-02"], "age": [70, 40, 55]}


@pytest.fixture(scope="module")
def uri(module_study) -> str:
    return module_study(None, META).uri


@pytest.fixture
def radi(uri: str) -> RadiObject:
    return RadiObject(uri)


def test_map_runs_now_and_keeps_the_order(radi) -> None:
    called = []

    def fn(volume, row):
        called.append(row.name)
        return volume * 2

    query = radi.T1w.map(fn, executor="serial")
    assert called == radi.T1w.obs_ids == query.obs_ids
    assert [int(v[0, 0, 0]) for v in query] == [6, 2, 4]
    assert int(query[1][0, 0, 0]) == 2
    assert len(query) == 3


def test_results_may_be_anything_and_are_shown(radi) -> None:
    query = radi.T1w.map(lambda v, row: (float(v.mean()), {"bright": bool(v.mean() > 1.5)}))
    assert [result for result, _ in query.to_list()] == [3.0, 1.0, 2.0]
    assert [row["bright"] for _, row in query.to_list()] == [True, False, True]
    frame = query.to_dataframe(["obs_id", "age", "bright"])
    assert frame.columns.tolist() == ["obs_id", "age", "bright", "result"]
    assert frame["result"].tolist() == [3.0, 1.0, 2.0]
    assert radi.T1w.map(lambda v, row: v).to_dataframe()["result"][0] == "int16 (6, 5, 4)"
    html = query._repr_html_()
    assert "sub-03_T1w" in html
    assert "bright" in html


def test_chained_functions_see_results_and_columns_of_the_ones_before(radi) -> None:
    query = (
        radi.T1w.map(lambda v, row: (v, {"level": int(v.max())}))
        .map(lambda v, row: (v + row["level"], {"twice": row["level"] * 2}))
        .map_batches(lambda batch: [v.sum() for v, _ in batch], 2)
    )
    assert list(query) == [6 * 120, 2 * 120, 4 * 120]
    assert query.to_dataframe(["level", "twice"])["twice"].tolist() == [6, 2, 4]


def test_a_function_that_works_in_place_leaves_earlier_results_alone(radi) -> None:
    first = radi.T1w.map(lambda v, row: v.copy())

    def spoil(volume, row):
        volume[:] = -1
        return volume

    second = first.map(spoil)
    assert [int(v.max()) for v in second] == [-1, -1, -1]
    assert [int(v[0, 0, 0]) for v in first] == [3, 1, 2]


def test_results_beyond_the_budget_lie_in_mapped_files(study) -> None:
    big = {s: np.full((64, 64, 64), n, "f4") for n, s in enumerate("abcd")}
    radi = study({"T1w": big})
    with configure(read=ReadConfig(memory_budget_mb=2)):
        query = radi.T1w.map(lambda v, row: v + 1)
        assert [isinstance(v, np.memmap) for v in query] == [False, False, True, True]
        again = query.map(lambda v, row: v * 2)
    assert [float(v[0, 0, 0]) for v in again] == [2.0, 4.0, 6.0, 8.0]
    folder = Path(again[3].filename).parent
    assert folder.is_dir()
    del query, again
    gc.collect()
    assert not folder.exists()


def test_results_are_written_with_rows_and_provenance(radi, tmp_path: Path) -> None:
    query = radi.T1w.map(lambda v, row: (v * 2, {"level": float(v.max())}))
    made = query.map(lambda v, row: v + 1).write(tmp_path / "out", "doubled")
    assert made.name == "doubled"
    assert made.obs_ids == radi.T1w.obs_ids
    assert [int(v[0, 0, 0]) for v in made] == [7, 3, 5]
    rows = made.obs.read()
    assert rows["level"].tolist() == [3.0, 1.0, 2.0]
    assert rows["parent_function"][0].count("#") == 2
    assert RadiObject(tmp_path / "out").validate("full").ok
    with pytest.raises(TransformError, match=r"a volume.*float"):
        radi.T1w.map(lambda v, row: float(v.mean())).write(tmp_path / "no")


def test_volumes_and_images_are_results_too(radi, tmp_path: Path) -> None:
    turned = radi.T1w.map(lambda v, row: v.reorient("LPS"), format="volume")
    assert all(isinstance(v, Volume) for v in turned)
    assert "".join(turned.write(tmp_path / "lps").iloc[0].axcodes) == "LPS"


def test_failures_can_be_collected_and_go_along(radi) -> None:
    def picky(volume, row):
        if row["age"] == 40:
            raise ValueError("too young")
        return volume

    query = radi.T1w.map(picky, errors="collect").map(lambda v, row: v)
    assert query.obs_ids == ["sub-03_T1w", "sub-02_T1w"]
    assert [(f.obs_ids, "too young" in str(f)) for f in query.failures] == [(("sub-01_T1w",), True)]
    assert "1 failed" in repr(query)
    with pytest.raises(TransformError, match="too young"):
        radi.T1w.map(picky)


def test_a_view_maps_only_its_own_volumes(radi) -> None:
    assert radi.loc["sub-02"].T1w.map(lambda v, row: int(v.max())).to_dataframe()["result"].tolist() == [2]
    assert len(radi.T1w.filter("age > 999").map(lambda v, row: v)) == 0


def test_wrong_arguments_are_told(radi) -> None:
    with pytest.raises(ConfigError, match="format"):
        radi.T1w.map(lambda v, row: v, format="jax")
    with pytest.raises(ConfigError, match="batch_size"):
        radi.T1w.map_batches(lambda batch: batch, 0)


def test_volumes_in_memory_count_and_are_mapped_too(study) -> None:
    radi = study({"T1w": {s: np.full((64, 64, 64), n, "f4") for n, s in enumerate("abcd")}})
    with configure(read=ReadConfig(memory_budget_mb=2)):
        query = radi.T1w.map(lambda v, row: Volume.from_numpy(v + 1, row["affine"]))
    assert [isinstance(v.array, np.memmap) for v in query] == [False, False, True, True]
    assert [float(v[0, 0, 0]) for v in query] == [1.0, 2.0, 3.0, 4.0]
    assert [float(v[0, 0, 0]) for v in query[2:]] == [3.0, 4.0]


def test_another_try_begins_with_what_the_first_one_got(radi) -> None:
    tries: dict[str, int] = {}

    def flaky(volume, row):
        volume += 1
        tries[row.name] = tries.get(row.name, 0) + 1
        if tries[row.name] == 1:
            raise OSError("busy")
        return volume

    assert [int(v.max()) for v in radi.T1w.map(lambda v, row: v).map(flaky, retries=1)] == [4, 2, 3]
