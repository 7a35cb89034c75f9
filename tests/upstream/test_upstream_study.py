"""A study that the TileDB-based package wrote is recognised and left as it is; the error says what to do."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pytest

import radiobject
from radiobject import RadiObject, VolumeCollection
from radiobject.errors import FormatError, StudyExistsError, StudyNotFoundError, UpstreamStudyError
from tests.conftest import as_sources

GROUPS = ["", "collections", "collections/T1w", "collections/T1w/volumes"]
ARRAYS = ["obs_meta", "collections/T1w/obs", "collections/T1w/volumes/0", "collections/T1w/volumes/1"]
STAMP = "__1700000000000_1700000000000_0123456789abcdef0123456789abcdef_22"


def tree() -> list[str]:
    """The files of a study of two volumes, as TileDB lays them out: groups, arrays, one fragment each."""
    files = []
    for group in GROUPS:
        files += [f"{group}/__tiledb_group.tdb", f"{group}/__group/{STAMP}", f"{group}/__meta/{STAMP}"]
    for array in ARRAYS:
        fragment = f"{array}/__fragments/{STAMP}"
        files += [f"{array}/__schema/{STAMP}", f"{array}/__commits/{STAMP}.wrt", f"{array}/__meta/{STAMP}"]
        files += [f"{fragment}/__fragment_metadata.tdb", f"{fragment}/a0.tdb"]
    return [f.lstrip("/") for f in files]


@pytest.fixture(params=["local", "memory"])
def upstream(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    root = str(tmp_path / "theirs") if request.param == "local" else f"memory://{tmp_path.name}/theirs"
    fs, path = fsspec.core.url_to_fs(root)
    for file in tree():
        fs.makedirs(f"{path}/{file}".rpartition("/")[0], exist_ok=True)
        fs.pipe_file(f"{path}/{file}", b"" if file.endswith(".tdb") else b"\0" * 16)
    return root


def test_opening_it_says_how_to_import_it(upstream: str) -> None:
    with pytest.raises(UpstreamStudyError, match="radiobject import-upstream") as caught:
        RadiObject(upstream)
    assert f"radiobject import-upstream {upstream} DST" in str(caught.value)
    assert isinstance(caught.value, FormatError)
    assert isinstance(caught.value, ValueError)


def test_so_does_opening_one_of_its_collections(upstream: str) -> None:
    for uri in (f"{upstream}/collections/T1w", f"{upstream}#T1w"):
        with pytest.raises(UpstreamStudyError, match="import-upstream"):
            VolumeCollection(uri)


def test_it_exists_and_is_not_written_over(upstream: str) -> None:
    fs, path = fsspec.core.url_to_fs(upstream)
    before = sorted(fs.find(path))
    assert radiobject.uri_exists(upstream)
    assert not radiobject.uri_exists(f"{upstream}#T1w")
    with pytest.raises(StudyExistsError):
        RadiObject.from_niftis(upstream, as_sources({"x": {"a": np.zeros((2, 2, 2), "i2")}}))
    assert sorted(fs.find(path)) == before


def test_an_empty_place_and_other_files_are_simply_no_study(tmp_path: Path) -> None:
    for name in ("", "notes.txt"):
        if name:
            (tmp_path / name).write_text("nothing")
        with pytest.raises(StudyNotFoundError):
            RadiObject(tmp_path)
        assert not radiobject.uri_exists(tmp_path)
