"""What a caller points at, as rows of a plan: collections, subjects, ids, order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from radiobject.errors import DuplicateIdError, MetadataError, SourceError, SourceNotFoundError
from radiobject.ingest.sources import resolve
from radiobject.location import Location


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = [
        "sub-2_T1w.nii.gz",
        "sub-10_T1w.nii.gz",
        "sub-1_ses-post_run-02_T1w.nii",
        "sub-1_ses-pre_T1w.nii.gz",
        "._sub-1_T1w.nii.gz",
        "readme.txt",
        "pair.hdr",
        "pair.img",
    ]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "sub-3_T1w.nii").write_bytes(b"")
    return tmp_path


def told(sources) -> list[tuple[str, str]]:
    return [(Path(s.name).name, s.obs_id) for s in sources]


def test_a_folder_gives_its_images_in_natural_order(folder) -> None:
    assert told(resolve({"T1w": folder}, None)) == [
        ("pair.hdr", "pair_T1w"),
        ("sub-1_ses-post_run-02_T1w.nii", "sub-1_T1w"),
        ("sub-1_ses-pre_T1w.nii.gz", "sub-1_T1w_acq-1"),
        ("sub-2_T1w.nii.gz", "sub-2_T1w"),
        ("sub-10_T1w.nii.gz", "sub-10_T1w"),
    ]


def test_globs_go_as_deep_as_they_say(folder) -> None:
    flat = resolve({"T1w": f"{folder}/*_T1w.nii*"}, None)
    assert [s.obs_subject_id for s in flat] == ["sub-1", "sub-1", "sub-2", "sub-10"]
    deep = resolve({"T1w": f"{folder}/**/sub-[23]_*"}, None)
    assert [s.obs_subject_id for s in deep] == ["sub-3", "sub-2"]


def test_session_and_run_come_from_the_name(folder) -> None:
    by_name = {Path(s.name).name: s for s in resolve({"T1w": folder}, None)}
    post = by_name["sub-1_ses-post_run-02_T1w.nii"]
    assert (post.session, post.run) == ("post", 2)
    assert (by_name["sub-2_T1w.nii.gz"].session, by_name["sub-2_T1w.nii.gz"].run) == (None, None)


def test_one_file_is_a_source_too(folder) -> None:
    for value in (folder / "sub-2_T1w.nii.gz", str(folder / "sub-2_T1w.nii.gz")):
        assert told(resolve({"T1w": value}, None)) == [("sub-2_T1w.nii.gz", "sub-2_T1w")]


def test_lists_keep_their_order_and_their_subjects(folder) -> None:
    paths = [
        folder / "sub-10_T1w.nii.gz",
        (folder / "sub-2_T1w.nii.gz", "patient 7"),
        str(folder / "pair.hdr"),
    ]
    assert told(resolve({"a": paths}, None)) == [
        ("sub-10_T1w.nii.gz", "sub-10_a"),
        ("sub-2_T1w.nii.gz", "patient 7_a"),
        ("pair.hdr", "pair_a"),
    ]


def test_subjects_that_are_known_win_over_guesses(tmp_path) -> None:
    for stem in ("P7_T1w", "sub-1x_T1w", "case_7"):
        (tmp_path / f"{stem}.nii").write_bytes(b"")
    guessed = resolve({"T1w": tmp_path}, None)
    assert [s.obs_subject_id for s in guessed] == ["P7", "case_7", "sub-1x"]
    known = resolve({"T1w": tmp_path}, ["P7_T1w", "case_7"])
    assert [s.obs_subject_id for s in known] == ["P7_T1w", "case_7", "sub-1x"]


def test_arrays_and_images_are_named_by_their_place() -> None:
    array = np.zeros((2, 2, 2), "u1")
    sources = resolve({"a": [(array, np.eye(4)), ((array, np.eye(4)), "s")], "b": (array, np.eye(4))}, None)
    assert [(s.obs_subject_id, s.obs_id, s.name) for s in sources] == [
        ("a-0", "a-0_a", "a[0]"),
        ("s", "s_a", "a[1]"),
        ("b-0", "b-0_b", "b[0]"),
    ]


def test_ids_are_unique_in_the_whole_study() -> None:
    source = ((np.zeros((2, 2, 2), "u1"), np.eye(4)), "s")
    sources = resolve({"b": [source] * 3, "c_acq-1": [source]}, None)
    assert [s.obs_id for s in sources] == ["s_b", "s_b_acq-1", "s_b_acq-2", "s_c_acq-1"]
    clash = resolve({"b": [source] * 2, "b_acq-1": [source]}, None)
    assert len({s.obs_id for s in clash}) == 3


def test_urls_are_listed_by_their_store() -> None:
    place = Location("memory://sources-test/in")
    fs, root = place.filesystem()
    for name in ("sub-2_T1w.nii", "sub-10_T1w.nii", "deep/sub-3_T1w.nii", "notes.txt"):
        fs.pipe_file(f"{root}/{name}", b"")
    try:
        for value in (place.uri, f"{place.uri}/*.nii"):
            assert [s.obs_subject_id for s in resolve({"T1w": value}, None)] == ["sub-2", "sub-10"]
        deep = resolve({"T1w": f"{place.uri}/**/sub-[23]*"}, None)
        assert [s.obs_subject_id for s in deep] == ["sub-3", "sub-2"]
        assert told(resolve({"T1w": f"{place.uri}/*/*.nii"}, None)) == [("sub-3_T1w.nii", "sub-3_T1w")]
        assert told(resolve({"T1w": f"{place.uri}/sub-2_T1w.nii"}, None)) == [("sub-2_T1w.nii", "sub-2_T1w")]
        with pytest.raises(SourceNotFoundError, match="at least one"):
            resolve({"T1w": f"{place.uri}/*.gz"}, None)
    finally:
        fs.rm(root, recursive=True)


@pytest.mark.parametrize(
    ("images", "kind", "words"),
    [
        ({}, MetadataError, "collection: glob"),
        ([], MetadataError, "collection: glob"),
        ({"": "x"}, MetadataError, "collection names"),
        ({"_a": "x"}, MetadataError, "collection names"),
        ({3: "x"}, MetadataError, "collection names"),
        ({"a": 7}, MetadataError, "a glob"),
        ({"a": None}, MetadataError, "a glob"),
        ({"a": [7]}, SourceError, "a path, "),
        ({"a": [("x.nii", 7)]}, MetadataError, "subject as text"),
        ({"a": [("x.nii", "")]}, MetadataError, "subject as text"),
        ({"a": "nowhere.nii"}, SourceNotFoundError, "nowhere.nii"),
        ({"a": "nowhere/*.nii"}, SourceNotFoundError, "at least one"),
    ],
)
def test_what_is_no_source(images, kind, words, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=words):
        resolve(images, None)


def test_a_folder_without_images_and_a_file_listed_twice(folder) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(SourceNotFoundError, match="empty"):
        resolve({"a": folder / "empty"}, None)
    path = folder / "sub-2_T1w.nii.gz"
    with pytest.raises(DuplicateIdError, match=r"sub-2_T1w\.nii\.gz"):
        resolve({"a": [path, (path, "other")]}, None)
    # one image may well serve two collections
    assert len(resolve({"a": [path], "b": [path]}, None)) == 2
