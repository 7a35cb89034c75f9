"""The samples of the text on architecture: indexes, and contexts of TileDB."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from radiobject import Index, RadiObject, Volume


def test_indexes_compare_collections_and_parts(study) -> None:
    radi = study()
    train, val = radi.iloc[:2], radi.iloc[2:]

    assert radi.T1w.subjects.is_aligned(radi.seg.subjects)
    common = radi.T1w.subjects & radi.seg.subjects
    assert list(common) == radi.obs_subject_ids
    everyone = train.index | val.index
    assert everyone == radi.index
    overlap = train.index & val.index
    assert len(overlap) == 0


def test_each_level_has_its_index(study) -> None:
    radi = study()
    assert radi.index == Index(["sub-03", "sub-01", "sub-02"], name="obs_subject_id")
    assert radi.T1w.index.name == "obs_id"
    assert radi.T1w.subjects.name == "obs_subject_id"


def test_a_handle_takes_a_context(study) -> None:
    pytest.importorskip("tiledb")
    from radiobject import get_tiledb_ctx

    radi = study(backend="tiledb")
    volume = Volume(radi.T1w.iloc[0].uri, ctx=get_tiledb_ctx())
    assert volume.shape == (6, 5, 4)


def test_threads_share_a_context(study) -> None:
    pytest.importorskip("tiledb")
    from radiobject import get_tiledb_ctx
    from radiobject.parallel import ctx_for_threads

    assert ctx_for_threads() is get_tiledb_ctx()
    assert ctx_for_threads(get_tiledb_ctx()) is get_tiledb_ctx()


def test_processes_get_contexts_of_their_own() -> None:
    pytest.importorskip("tiledb")
    from radiobject import get_tiledb_ctx
    from radiobject.parallel import ctx_for_process

    assert ctx_for_process() is not get_tiledb_ctx()
    assert ctx_for_process(get_tiledb_ctx()) is not get_tiledb_ctx()


def test_without_contexts_threads_share_a_handle(study) -> None:
    radi: RadiObject = study()
    with ThreadPoolExecutor(max_workers=4) as pool:
        found = list(pool.map(lambda i: int(radi.T1w.loc[i][0, 0, 0]), radi.T1w.obs_ids * 4))
    assert found == [3, 1, 2] * 4
