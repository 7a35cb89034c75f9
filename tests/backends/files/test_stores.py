"""Source files in a store: asked for often enough, each root by itself, and never other voxels."""

from __future__ import annotations

import gzip
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.backends.files import changed
from radiobject.errors import MissingObjectError, SourceChangedError
from radiobject.location import Location
from tests.backends.files.shelf import Shelf, served
from tests.conftest import NiftiMaker

RAMP = np.arange(12 * 10 * 8, dtype="i2").reshape(12, 10, 8)
NAMES = ("a.nii", "b.nii.gz")


@pytest.fixture
def contents(make_nifti: NiftiMaker) -> dict[bool, dict[str, bytes]]:
    """Two files; and, under True, others of the same size and header."""
    return {
        other: {"a.nii": make_nifti(RAMP + other), "b.nii.gz": gzip.compress(make_nifti(RAMP + other), 0)}
        for other in (False, True)
    }


@pytest.fixture
def shelf(contents: dict[bool, dict[str, bytes]]) -> Iterator[Shelf]:
    with served() as made:
        made.files = {("", name): data for name, data in contents[False].items()}
        yield made


@pytest.fixture
def radi(shelf: Shelf) -> RadiObject:
    sources = {"T1w": [(f"{shelf.url}/{name}", name) for name in NAMES]}
    study = f"memory://{uuid.uuid4().hex}/study"
    return RadiObject.from_niftis(study, sources, copy=False, source_root=shelf.url, progress=False)


@pytest.fixture
def change(shelf: Shelf, contents: dict[bool, dict[str, bytes]]) -> Callable[[str], None]:
    """Puts the other file of that name there."""

    def put(name: str) -> None:
        shelf.files["", name] = contents[True][name]

    return put


def place(name: str) -> int:
    return NAMES.index(name)


@pytest.mark.parametrize("name", NAMES)
def test_roots_of_one_url_and_other_credentials_know_nothing_of_one_another(
    radi: RadiObject, shelf: Shelf, contents: dict[bool, dict[str, bytes]], name: str
) -> None:
    np.testing.assert_array_equal(radi.T1w.iloc[place(name)].to_numpy(), RAMP)
    shelf.files["b", name] = contents[True][name]
    theirs = Location(shelf.url, {"headers": {"who": "b"}})
    volume = RadiObject(radi.uri, source_root=theirs).T1w.iloc[place(name)]
    for key in (..., np.s_[2:4, 3:5, 1:3]):
        with pytest.raises(SourceChangedError, match=name):
            volume[key]
    np.testing.assert_array_equal(radi.T1w.iloc[place(name)].to_numpy(), RAMP)


def test_what_answers_are_kept_by_tells_no_secret() -> None:
    one, same, other = (
        Location("https://x.org/a", {"headers": {"Authorization": key}, "n": (1, None)})
        for key in ("opensesame", "opensesame", "sesameopen")
    )
    assert one.identity == same.identity != other.identity
    assert "opensesame" not in repr(one.identity)
    assert Location("https://x.org/b", one.options).identity != one.identity


@pytest.mark.parametrize("name", NAMES)
def test_a_store_is_asked_again_after_some_seconds(
    radi: RadiObject, change: Callable[[str], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = radi.T1w.iloc[place(name)]
    np.testing.assert_array_equal(volume.to_numpy(), RAMP)
    change(name)
    monkeypatch.setattr(changed, "ASKED", 0.0)  # as if they had passed
    for key in (..., np.s_[2:4, 3:5, 1:3]):
        with pytest.raises(SourceChangedError, match="ETag"):
            volume[key]


def test_a_volume_that_is_read_whole_is_asked_for_afterwards(
    radi: RadiObject, change: Callable[[str], None]
) -> None:
    volume = radi.T1w.iloc[0]
    np.testing.assert_array_equal(volume[2:4, 3:5, 1:3], RAMP[2:4, 3:5, 1:3])
    change("a.nii")
    for read in (volume.to_numpy, lambda: volume.array):
        with pytest.raises(SourceChangedError, match="ETag"):
            read()


@pytest.mark.parametrize("name", NAMES)
def test_validate_and_materialize_take_no_answer_from_before(
    radi: RadiObject, change: Callable[[str], None], name: str
) -> None:
    np.testing.assert_array_equal(radi.T1w.iloc[place(name)].to_numpy(), RAMP)
    change(name)
    assert [p.where for p in radi.validate("full").problems] == [f"T1w/{radi.T1w.obs_ids[place(name)]}"]
    with pytest.raises(SourceChangedError, match="ETag"):
        radi.materialize(progress=False)
    assert radi.T1w.backend == "files"


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_changes_while_a_store_sends_it_is_not_stored(
    radi: RadiObject, shelf: Shelf, change: Callable[[str], None], name: str
) -> None:
    radi.delete(obs_ids=[radi.T1w.obs_ids[1 - place(name)]])
    shelf.before_get = lambda: change(name)
    with pytest.raises(SourceChangedError, match=name):
        radi.materialize(progress=False)
    assert radi.T1w.backend == "files"


def test_a_file_that_changes_while_it_is_decoded_is_seen(
    radi: RadiObject, shelf: Shelf, change: Callable[[str], None]
) -> None:
    assert radi.validate("full").ok
    shelf.before_get = lambda: change("b.nii.gz")
    with pytest.raises(SourceChangedError, match="ETag"):
        radi.T1w.iloc[1][2:4, 3:5, 1:3]


@pytest.mark.parametrize("cut", [0, 100, 1500])
def test_a_file_that_is_shorter_than_it_was_is_another(radi: RadiObject, shelf: Shelf, cut: int) -> None:
    volume = radi.T1w.iloc[0]
    np.testing.assert_array_equal(volume.to_numpy(), RAMP)
    shelf.files["", "a.nii"] = shelf.files["", "a.nii"][:cut]
    for key in (..., np.s_[2:4, 3:5, 6:8]):
        with pytest.raises(SourceChangedError, match="bytes"):
            volume[key]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_gone_is_missed_below_its_root(radi: RadiObject, shelf: Shelf, name: str) -> None:
    volume = radi.T1w.iloc[place(name)]
    if name == "a.nii":
        volume.to_numpy()
    del shelf.files["", name]
    with pytest.raises(MissingObjectError, match=f"source_root.*{shelf.url}"):
        volume[2:4, 3:5, 6:8]


def test_a_store_without_etags_is_held_to_its_times(radi: RadiObject, contents: Any) -> None:
    root = f"memory://{uuid.uuid4().hex}"
    fs, path = Location(root).filesystem()
    fs.pipe_file(f"{path}/a.nii", contents[False]["a.nii"])
    here = RadiObject.from_niftis(
        f"{root}/study", {"T1w": [(f"{root}/a.nii", "a")]}, copy=False, progress=False
    )
    np.testing.assert_array_equal(here.T1w.iloc[0].to_numpy(), RAMP)
    fs.pipe_file(f"{path}/a.nii", contents[True]["a.nii"])
    with pytest.raises(SourceChangedError, match="last changed"):
        here.materialize(progress=False)
    fs.rm(path, recursive=True)
