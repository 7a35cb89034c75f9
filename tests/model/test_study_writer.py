"""A study written collection by collection: any order, one commit, litter at worst."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest

import radiobject.writers
from radiobject import (
    RadiObject,
    RadiObjectWriter,
    VolumeCollectionWriter,
)
from radiobject.errors import (
    DuplicateIdError,
    MetadataError,
    StudyNotFoundError,
    WriterError,
)
from radiobject.format.cleanup import cleanup
from radiobject.format.journal import running
from radiobject.location import Location
from radiobject.storage import Storage

AFFINE = np.diag([2.0, 2.5, 3.0, 1.0])


def block(value: int = 1, shape: tuple[int, ...] = (5, 4, 3), dtype: str = "i2") -> np.ndarray:
    return np.full(shape, value, dtype)


def subjects(*ids: str, **columns) -> pd.DataFrame:
    return pd.DataFrame({"obs_subject_id": list(ids), **columns})


def refuses_to_open(uri) -> bool:
    with pytest.raises(StudyNotFoundError):
        RadiObject(uri)
    return True


def write_and_fail(writer, obs_id: str = "a", subject: str = "s") -> None:
    with writer:
        writer.write_volume(block(), obs_id, subject)
        _ = 1 / 0


@pytest.mark.parametrize("first", [True, False])
def test_a_study_is_written_in_any_order_and_committed_once(backend, first) -> None:
    people = subjects("sub-2", "sub-1", "sub-3", age=[61, 47, 70], dx=["a", None, "b"])
    with RadiObjectWriter(backend.uri(), backend=backend.backend, message="all") as writer:
        if first:
            writer.write_obs_meta(people)
        t1w, seg = writer.add_collection("T1w"), writer.add_collection("seg")
        for n in (1, 2):
            t1w.write_volume(block(n), f"sub-{n}_T1w", f"sub-{n}", AFFINE, tesla=3.0)
            seg.write_volume(block(n, dtype="u1"), f"sub-{n}_seg", f"sub-{n}", AFFINE)
        with writer.add_collection("FLAIR", shape=(5, 4, 3), kind="image") as flair:
            flair.write_volume(block(9), "sub-1_FLAIR", "sub-1")
        if not first:
            writer.write_obs_meta(people)
        assert writer.collection_names == ("T1w", "seg", "FLAIR")
        assert refuses_to_open(backend.uri())
    radi = RadiObject(backend.uri())
    assert (radi.version, radi.versions()[0]["message"]) == (1, "all")
    assert sorted(radi.collection_names) == ["FLAIR", "T1w", "seg"]
    assert radi.obs_meta.read()["age"].tolist() == [61, 47, 70]
    assert radi.obs_subject_ids == ["sub-2", "sub-1", "sub-3"]
    assert (radi.T1w.kind, radi.seg.kind, radi.FLAIR.kind) == ("image", "label", "image")
    assert radi.loc["sub-2"].T1w.obs_ids == ["sub-2_T1w"]
    assert radi.pairs("T1w", "seg")["seg"].tolist() == ["sub-1_seg", "sub-2_seg"]
    assert radi.T1w.obs.read(["tesla"])["tesla"].tolist() == [3.0, 3.0]
    assert radi.validate("full").ok
    assert writer.finalize().uri == radi.uri


def test_without_obs_meta_the_subjects_are_those_of_the_volumes(tmp_path) -> None:
    with RadiObjectWriter(tmp_path / "study") as writer:
        writer.add_collection("T1w").write_volume(block(), "b_T1w", "b")
        writer.add_collection("T2w").write_batch([(block(), "a_T2w", "a", {}), (block(), "b_T2w", "b", {})])
    assert writer.finalize().obs_subject_ids == ["b", "a"]


def test_subjects_without_a_row_are_named_before_anything_is_committed(tmp_path) -> None:
    with RadiObjectWriter(tmp_path / "study") as writer:
        writer.write_obs_meta(subjects("sub-1", age=[61]))
        t1w = writer.add_collection("T1w")
        for n in (1, 2, 3):
            t1w.write_volume(block(n), f"sub-{n}_T1w", f"sub-{n}")
        with pytest.raises(MetadataError, match=r"\['sub-2', 'sub-3'\].*a row for every subject"):
            writer.finalize()
        assert refuses_to_open(tmp_path / "study")
        writer.write_obs_meta(subjects("sub-3", "sub-2", age=[0.5, None]))
    radi = writer.finalize()
    assert radi.obs_subject_ids == ["sub-1", "sub-3", "sub-2"]
    assert radi.obs_meta.read()["age"].tolist()[:2] == [61, 0.5]
    other = RadiObjectWriter(tmp_path / "other").__enter__()
    other.write_obs_meta(subjects("sub-1"))
    other.add_collection("T1w").write_volume(block(), "x", "sub-7")
    with pytest.raises(MetadataError, match="sub-7"):
        other.__exit__(None, None, None)
    assert refuses_to_open(tmp_path / "other")


def test_columns_beyond_the_schemas_are_taken_not_lost(tmp_path) -> None:
    """The TileDB-based package fails here when the block ends, after hours of writing."""
    with RadiObjectWriter(tmp_path / "study", obs_meta_schema={"age": "int16", "weight": float}) as writer:
        writer.write_obs_meta(subjects("sub-1", age=[61], site=["A"]))
        t1w = writer.add_collection("T1w", obs_schema={"tesla": "float32"})
        t1w.write_volume(block(), "sub-1_T1w", "sub-1", tesla=3, scanner="X")
    radi = writer.finalize()
    types = {f.name: str(f.type) for f in radi.obs_meta.to_arrow().schema}
    assert (types["age"], types["weight"]) == ("int16", "double")
    row = radi.obs_meta.read().iloc[0]
    assert (row["age"], row["site"]) == (61, "A")
    assert np.isnan(row["weight"])
    obs = radi.T1w.obs.read(["tesla", "scanner"]).iloc[0]
    assert (obs["tesla"], obs["scanner"]) == (3, "X")
    assert radi.validate("full").ok


def test_rows_of_obs_meta_that_do_not_fit_are_refused_at_once(tmp_path) -> None:
    with RadiObjectWriter(tmp_path / "study", {"age": "int16"}) as writer:
        writer.write_obs_meta(subjects("sub-1", age=[61], dx=["a"]))
        for frame, error, match in (
            (subjects("sub-1", age=[61]), DuplicateIdError, "sub-1"),
            (subjects("sub-2", "sub-2", age=[61, 62]), DuplicateIdError, "sub-2"),
            (subjects("sub-2", age=["old"]), MetadataError, "'age'"),
            (subjects("sub-2", age=[61.5]), MetadataError, "'age'"),
            (subjects("sub-2", dx=[7]), MetadataError, "dx"),
            (pd.DataFrame({"age": [1]}), MetadataError, "obs_subject_id"),
            ("table", MetadataError, "DataFrame"),
        ):
            with pytest.raises(error, match=match):
                writer.write_obs_meta(frame)
    assert writer.finalize().obs_meta.read()["dx"].tolist() == ["a"]


def test_an_id_may_be_used_once_in_all_collections(tmp_path) -> None:
    with RadiObjectWriter(tmp_path / "study") as writer:
        t1w, t2w = writer.add_collection("T1w"), writer.add_collection("T2w")
        t1w.write_volume(block(1), "scan", "s")
        with pytest.raises(DuplicateIdError, match=r"'scan' for collection 'T2w'.*'T1w'"):
            t2w.write_volume(block(2), "scan", "s")
        t2w.write_volume(block(2), "scan 2", "s")
        with pytest.raises(DuplicateIdError, match="collection 'T1w'"):
            writer.add_collection("T1w")
    assert writer.finalize().all_obs_ids == ["scan", "scan 2"]


def test_a_collection_that_an_exception_leaves_is_taken_out(tmp_path) -> None:
    with RadiObjectWriter(tmp_path / "study") as writer:
        writer.add_collection("T1w").write_volume(block(1), "a", "s")
        t2w = writer.add_collection("T2w")
        with pytest.raises(ZeroDivisionError):
            write_and_fail(t2w, "b", "t")
        assert writer.collection_names == ("T1w",)
        with pytest.raises(WriterError, match="'T2w'"):
            t2w.write_volume(block(2), "c", "t")
        with writer.add_collection("T2w") as again:
            again.write_volume(block(3), "b", "s")
        with pytest.raises(WriterError, match="a closed writer"):
            again.write_volume(block(3), "c", "s")
    radi = writer.finalize()
    assert (radi.obs_subject_ids, radi.all_obs_ids) == (["s"], ["a", "b"])
    assert np.unique(radi.T2w.iloc[0][...]).tolist() == [3]
    assert radi.validate("full").ok


def test_an_exception_in_the_outer_block_commits_nothing(tmp_path) -> None:
    """The TileDB-based package leaves arrays without rows, and counts that lie."""
    writer = RadiObjectWriter(tmp_path / "study").__enter__()
    writer.write_obs_meta(subjects("s"))
    with writer.add_collection("T1w") as t1w:
        t1w.write_volume(block(), "a", "s")
    writer.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert refuses_to_open(tmp_path / "study")
    for use in (
        writer.finalize,
        lambda: writer.add_collection("T2w"),
        lambda: writer.write_obs_meta(subjects("t")),
        lambda: t1w.write_volume(block(), "b", "s"),
    ):
        with pytest.raises(WriterError, match="a closed writer"):
            use()


def test_a_study_writer_is_used_inside_its_block_and_once(tmp_path) -> None:
    writer = RadiObjectWriter(tmp_path / "study")
    for use in (
        writer.finalize,
        lambda: writer.add_collection("T1w"),
        lambda: writer.write_obs_meta(subjects("s")),
    ):
        with pytest.raises(WriterError, match="not entered yet"):
            use()
    with writer:
        with pytest.raises(WriterError, match="once"):
            writer.__enter__()
        t1w = writer.add_collection("T1w")
        with t1w, pytest.raises(WriterError, match="once"):
            t1w.__enter__()
        writer.add_collection("T2w").write_volume(block(), "a", "s")
        radi = writer.finalize()
        assert radi.all_obs_ids == ["a"]
        with pytest.raises(WriterError, match="a closed writer"):
            writer.add_collection("CT")
    assert RadiObject(tmp_path / "study").version == 1


def test_what_was_finalized_stays_whatever_happens_later_in_the_block(tmp_path) -> None:
    writer = RadiObjectWriter(tmp_path / "study").__enter__()
    t1w = writer.add_collection("T1w").__enter__()
    t1w.write_volume(block(), "a", "s")
    writer.finalize()
    t1w.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    writer.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert writer.collection_names == ("T1w",)
    assert writer.finalize().all_obs_ids == RadiObject(tmp_path / "study").all_obs_ids == ["a"]


def test_collections_without_volumes_are_there_and_studies_without_anything_are_not(tmp_path) -> None:
    with RadiObjectWriter(tmp_path / "study") as writer:
        writer.write_obs_meta(subjects("s"))
        writer.add_collection("seg")
    radi = writer.finalize()
    assert (len(radi.seg), radi.seg.kind, radi.seg.shape, radi.obs_subject_ids) == (0, "label", None, ["s"])
    assert radi.validate("full").ok
    radi.append({"seg": [((block(dtype="u1"), None), "s")]})
    assert RadiObject(tmp_path / "study").seg.obs_ids == ["s_seg"]
    with pytest.raises(WriterError, match="got nothing"), RadiObjectWriter(tmp_path / "empty"):
        pass
    assert refuses_to_open(tmp_path / "empty")


@pytest.mark.no_backend(reason="names alone")
def test_the_writers_are_where_they_are_looked_for() -> None:
    assert radiobject.writers.RadiObjectWriter is RadiObjectWriter
    assert radiobject.writers.VolumeCollectionWriter is VolumeCollectionWriter


KILLED = """
import os, sys
import numpy as np
from radiobject import RadiObjectWriter

with RadiObjectWriter(sys.argv[1]) as writer:
    t1w = writer.add_collection("T1w")
    for n in range(3):
        t1w.write_volume(np.full((4, 4, 4), n, "i2"), f"sub-{n}_T1w", f"sub-{n}")
    print("written", flush=True)
    sys.stdin.read()
"""


def test_a_killed_writer_leaves_litter_only(tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(KILLED))
    uri = tmp_path / "study"
    with subprocess.Popen(
        [sys.executable, script, uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "written\n"
        os.kill(process.pid, signal.SIGKILL)
    storage = Storage(Location(uri))
    assert refuses_to_open(uri)
    (left,) = running(storage)
    litter = {info.key for info in storage.list("collections") if ".ome.zarr/" in info.key}
    assert len({key.split("/")[2] for key in litter}) == 3
    with RadiObjectWriter(uri) as writer:
        writer.add_collection("T1w").write_volume(block(7), "sub-0_T1w", "sub-0")
    assert RadiObject(uri).validate("full").ok
    # clean-up believes the journal: what was written since may belong to a writer that still lives
    cleanup(storage, keep=1, older_than=1e-9, force=True)
    assert litter <= {info.key for info in storage.list("collections")}
    storage.delete_tree(f"transactions/{left.txn_id}")
    cleanup(storage, keep=1, older_than=0, force=True)
    assert not litter & {info.key for info in storage.list("collections")}
    assert np.unique(RadiObject(uri).T1w.iloc[0][...]).tolist() == [7]
