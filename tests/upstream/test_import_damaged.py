"""A study of the TileDB-based package with pieces missing: said, and nothing or all the rest comes in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.cli import main
from radiobject.errors import IngestError, MetadataError, SourceNotFoundError, StudyNotFoundError
from tests.upstream.conftest import Theirs

tiledb = pytest.importorskip("tiledb")

Copy = Callable[[str], Path]


def number_of(root: Path, collection: str, obs_id: str) -> Path:
    """The folder whose array holds an id."""
    for folder in (root / "collections" / collection / "volumes").iterdir():
        if not folder.name.startswith("__"):
            with tiledb.open(str(folder)) as array:
                if array.meta["obs_id"] == obs_id:
                    return folder
    raise AssertionError(obs_id)


def remove_array(root: Path) -> None:
    shutil.rmtree(number_of(root, "T1w", "sub-01_T1w"))


def remove_row(root: Path) -> None:
    with tiledb.open(str(root / "collections" / "T1w" / "obs"), "d") as array:
        array.query(cond="obs_id == 'sub-01_T1w'").submit()


def leave_unwritten(root: Path) -> None:
    shutil.rmtree(number_of(root, "T1w", "sub-01_T1w") / "__commits")


def break_schema(root: Path) -> None:
    for file in (number_of(root, "T1w", "sub-01_T1w") / "__schema").iterdir():
        if file.is_file():
            file.write_bytes(b"\0" * file.stat().st_size)


def break_voxels(root: Path) -> None:
    for file in number_of(root, "T1w", "sub-01_T1w").glob("__fragments/*/a0.tdb"):
        file.write_bytes(file.read_bytes()[:20])


def say_the_same_id(root: Path) -> None:
    with tiledb.open(str(number_of(root, "T1w", "sub-02_T1w")), "w") as array:
        array.meta["obs_id"] = "sub-01_T1w"


def say_no_id(root: Path) -> None:
    with tiledb.open(str(number_of(root, "T1w", "sub-01_T1w")), "w") as array:
        del array.meta["obs_id"]


def list_it_twice(root: Path) -> None:
    with tiledb.open(str(root / "collections" / "T1w" / "obs")) as array:
        rows = dict(array[:])
    first = {name: values[:1] for name, values in rows.items() if name not in ("obs_subject_id", "obs_id")}
    with tiledb.open(str(root / "collections" / "T1w" / "obs"), "w") as array:
        array[np.array(["sub-02"]), np.array(["sub-01_T1w"])] = first


CASES: list[Any] = [
    pytest.param(list_it_twice, {"sub-01_T1w": "DuplicateIdError"}, id="two rows of one id"),
    pytest.param(remove_array, {"sub-01_T1w": "SourceNotFoundError"}, id="array removed"),
    pytest.param(remove_row, {"sub-01_T1w": "MetadataError"}, id="row removed"),
    pytest.param(leave_unwritten, {"sub-01_T1w": "SourceCorruptError"}, id="never written"),
    pytest.param(
        break_schema, {"sub-01_T1w": "SourceNotFoundError", "": "SourceCorruptError"}, id="schema broken"
    ),
    pytest.param(break_voxels, {"sub-01_T1w": "SourceCorruptError"}, id="voxels broken"),
    pytest.param(
        say_the_same_id,
        {"sub-01_T1w": "DuplicateIdError", "sub-02_T1w": "SourceNotFoundError"},
        id="two arrays of one id",
    ),
    pytest.param(say_no_id, {"sub-01_T1w": "SourceNotFoundError", "": "MetadataError"}, id="no id"),
]


@pytest.mark.parametrize(("damage", "said"), CASES)
def test_damage_commits_nothing_or_all_the_rest(
    theirs: Theirs, tmp_path: Path, copy: Copy, damage: Callable[[Path], None], said: dict[str, str]
) -> None:
    root, ours = copy("unsorted"), tmp_path / "ours"
    damage(root)
    with pytest.raises(IngestError) as refused:
        RadiObject.from_upstream(root, ours)
    assert {row["obs_id"]: row["error"] for row in refused.value.report} == said
    with pytest.raises(StudyNotFoundError):
        RadiObject(ours)
    radi = RadiObject.from_upstream(root, ours, errors="collect")
    rows = radi.ledger.to_arrow().to_pylist()
    assert {r["obs_id"]: r["error"] for r in rows if r["outcome"] == "failed"} == said
    # which array it was, and nothing of the folders above
    assert all("T1w" in r["message"] for r in rows if r["outcome"] == "failed")
    assert not [r for r in rows if str(tmp_path) in (r["message"] or "")]
    left = [i for i in ("sub-01_T1w", "sub-02_T1w", "sub-03_T1w") if i not in said]
    assert radi.T1w.obs_ids == left
    for obs_id in left:
        source = nibabel.load(theirs.files["unsorted"]["T1w"][obs_id[:6]])
        np.testing.assert_array_equal(radi.T1w.loc[obs_id][...], np.asarray(source.dataobj))
    assert len(radi.seg) == 3
    assert radi.validate(level="full").ok


def test_shapes_and_counts_that_do_not_agree_are_reported(tmp_path: Path, copy: Copy) -> None:
    root = copy("turned")
    table = root / "collections" / "T1w" / "obs"
    with tiledb.open(str(table)) as array:
        rows = dict(array[:])
    keys = [rows.pop(name).astype(str) for name in ("obs_subject_id", "obs_id")]
    rows["dimensions"] = np.array(["(9, 9, 9)"])
    with tiledb.open(str(table), "w") as array:
        array[tuple(keys)] = rows
    with tiledb.Group(str(root / "collections" / "T1w"), "w") as group:
        group.meta["n_volumes"] = 4
    radi = RadiObject.from_upstream(root, tmp_path / "ours")
    told = {r["error"]: r["message"] for r in radi.ledger.to_arrow().to_pylist() if r["error"]}
    assert "(9, 9, 9)" in told["shape"]
    assert "n_volumes is 4, found were 1 arrays" in told["count"]
    assert list(radi.T1w.obs["dimensions"]) == ["(5, 4, 3)"]
    assert list(radi.T1w.obs["upstream_dimensions"]) == ["(9, 9, 9)"]


def test_subjects_without_a_row_get_one_and_a_lost_table_is_said(tmp_path: Path, copy: Copy) -> None:
    root = copy("unsorted")
    with tiledb.open(str(root / "obs_meta"), "d") as array:
        array.query(cond="obs_subject_id == 'sub-02'").submit()
    radi = RadiObject.from_upstream(root, tmp_path / "ours")
    assert radi.obs_meta.to_arrow(["obs_subject_id", "age"]).to_pylist() == [
        {"obs_subject_id": "sub-01", "age": 51},
        {"obs_subject_id": "sub-03", "age": 53},
        {"obs_subject_id": "sub-02", "age": None},
    ]
    told = [r for r in radi.ledger.to_arrow().to_pylist() if r["error"] == "subject"]
    assert [(r["outcome"], r["obs_subject_id"]) for r in told] == [("repaired", "sub-02")]
    shutil.rmtree(root / "obs_meta")
    with pytest.raises(IngestError, match="obs_meta"):
        RadiObject.from_upstream(root, tmp_path / "again")
    rest = RadiObject.from_upstream(root, tmp_path / "again", errors="collect")
    assert (len(rest), rest.obs_meta.columns) == (3, ["obs_subject_id"])


def test_a_run_goes_on_with_what_is_finished(tmp_path: Path, copy: Copy) -> None:
    root, ours = copy("unsorted"), tmp_path / "ours"
    (file,) = number_of(root, "T1w", "sub-01_T1w").glob("__fragments/*/a0.tdb")
    whole = file.read_bytes()
    break_voxels(root)
    with pytest.raises(IngestError):
        RadiObject.from_upstream(root, ours)
    file.write_bytes(whole)
    with tiledb.open(str(number_of(root, "T1w", "sub-02_T1w")), "w") as array:
        array.meta["orientation_affine"] = json.dumps(np.diag([2.0, 2, 2, 1]).tolist())
    with tiledb.open(str(number_of(root, "T1w", "sub-03_T1w")), "w") as array:
        array[:] = np.full((9, 8, 7), 3.5, "f4")
    radi = RadiObject.from_upstream(root, ours, resume=True)
    outcome = {r["obs_id"]: r["outcome"] for r in radi.ledger.to_arrow().to_pylist() if not r["error"]}
    fresh = [i for i, o in outcome.items() if o == "ingested"]
    assert sorted(fresh) == ["sub-01_T1w", "sub-02_T1w", "sub-03_T1w"]  # what failed, and what changed since
    assert set(outcome.values()) == {"ingested", "resumed"}
    assert radi.T1w.loc["sub-02_T1w"].spacing == (2, 2, 2)
    assert np.all(radi.T1w.loc["sub-03_T1w"][...] == 3.5)


def test_options_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match="errors="):
        RadiObject.from_upstream(tmp_path / "nowhere", tmp_path / "ours", errors="ignore")


def test_a_table_that_cannot_be_read_costs_its_collection(tmp_path: Path, copy: Copy) -> None:
    root = copy("unsorted")
    shutil.rmtree(root / "collections" / "seg" / "obs")
    with pytest.raises(IngestError) as refused:
        RadiObject.from_upstream(root, tmp_path / "ours")
    assert refused.value.report[0]["collection"] == "seg"
    radi = RadiObject.from_upstream(root, tmp_path / "ours", errors="collect")
    assert radi.collection_names == ("T1w",)
    shutil.rmtree(root / "collections" / "__group")
    (root / "collections" / "__tiledb_group.tdb").unlink()
    with pytest.raises(SourceNotFoundError, match="collections"):
        RadiObject.from_upstream(root, tmp_path / "more", errors="collect")


def test_the_command_imports_and_reports(
    theirs: Theirs, tmp_path: Path, copy: Copy, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(w) for w in words])
        return (int(left.value.code or 0), *capsys.readouterr())

    code, out, err = call("import-upstream", theirs.uri("unsorted"), tmp_path / "a", "--workers", 2)
    assert (code, err) == (0, "")
    assert "6 volumes of 3 subjects imported, version 1" in out
    assert "repaired   position" in out
    root = copy("unsorted")
    remove_array(root)
    code, out, err = call("import-upstream", root, tmp_path / "b")
    assert (code, out) == (1, "")
    assert "sub-01_T1w" in err
    assert "hint: Restore what is missing there" in err
    code, out, _ = call("import-upstream", root, tmp_path / "b", "--errors", "collect", "--json",
                        "--backend", "tiledb")  # fmt: skip
    document = json.loads(out)
    assert (code, document["collections"][0]["backend"]) == (0, "tiledb")
    failed = [row for row in document["report"] if row["outcome"] == "failed"]
    assert [(row["obs_id"], row["error"]) for row in failed] == [("sub-01_T1w", "SourceNotFoundError")]
