"""Studies inside of studies: none is created there, and clean-up leaves those alone that were put there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject, measure
from radiobject.errors import StudyExistsError, StudyNotFoundError
from radiobject.format.cleanup import cleanup
from radiobject.location import Location


def scan(value: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((3, 4, 5), value, "i2"), np.eye(4)


def made(place: Any, value: int = 1) -> RadiObject:
    return RadiObject.from_niftis(place, {"T1w": [(scan(value), "sub-1")]})


def clean(radi: RadiObject) -> int:
    """Clean up whatever is litter, however young; how many objects went."""
    return cleanup(radi._study.snapshot.storage, keep=1, older_than=-1, force=True).objects


def files(place: Path) -> set[Path]:
    return {path for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("inside", ["copy", "collections/copy", "a/b/c/d/e/f/copy"])
@pytest.mark.parametrize("kind", ["file", "memory"])
def test_no_study_is_created_inside_another(tmp_path: Path, kind: str, inside: str) -> None:
    place = str(tmp_path / "outer") if kind == "file" else f"memory://{tmp_path.name}/outer"
    radi = made(place)
    with pytest.raises(StudyExistsError, match=r"inside the study .*outer"):
        made(f"{place}/{inside}")
    with pytest.raises(StudyExistsError, match=r"inside the study .*outer"):
        radi.write(f"{place}/{inside}")
    with pytest.raises(StudyNotFoundError):
        RadiObject(f"{place}/{inside}")


def test_a_link_into_a_study_is_inside_it(tmp_path: Path) -> None:
    made(tmp_path / "outer")
    (tmp_path / "outer" / "room").mkdir()
    (tmp_path / "elsewhere").symlink_to(tmp_path / "outer" / "room")
    with pytest.raises(StudyExistsError, match="inside the study"):
        made(tmp_path / "elsewhere" / "study")


def test_a_study_may_lie_in_a_zarr_group(tmp_path: Path) -> None:
    group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    (tmp_path / "zarr.json").write_text(json.dumps(group))
    assert made(tmp_path / "study").version == 1


def test_a_store_elsewhere_is_asked_for_four_folders_at_most() -> None:
    def above(uri: str) -> list[str]:
        return [place.uri for place in Location(uri).parents(4)]

    assert above("s3://bucket") == []
    assert above("s3://bucket/study") == ["s3://bucket"]
    assert above("s3://bucket/a/b/c/d/e/study")[-1] == "s3://bucket/a/b"
    assert len(above("s3://bucket/a/b/c/d/e/study")) == 4


@pytest.mark.parametrize("place", ["inner", "collections/T1w/inner", "transactions/inner"])
def test_cleanup_spares_a_study_that_was_put_inside(tmp_path: Path, place: str) -> None:
    radi = made(tmp_path / "outer")
    made(tmp_path / "inner", 7)
    shutil.move(tmp_path / "inner", tmp_path / "outer" / place)
    before = files(tmp_path / "outer" / place)
    clean(radi)
    assert files(tmp_path / "outer" / place) == before
    inner = RadiObject(tmp_path / "outer" / place)
    assert int(inner.T1w.iloc[0][0, 0, 0]) == 7


def test_cleanup_removes_only_below_the_folders_of_the_format(tmp_path: Path) -> None:
    radi = made(tmp_path / "study")
    ours = ["tables/obs_meta/old.parquet", "collections/T1w/sub/old.ome.zarr/zarr.json", "transactions/x/1",
            "hint.json.0123456789abcdef.tmp"]  # fmt: skip
    theirs = ["README.md", "notes/zarr.json", "code/versions/1.json"]
    for name in ours + theirs:
        path = tmp_path / "study" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    assert radi.validate().litter == len(ours)
    assert clean(radi) == len(ours)
    assert [n for n in ours + theirs if (tmp_path / "study" / n).exists()] == theirs


def test_looking_for_a_study_above_is_cheap_in_memory() -> None:
    with measure() as shallow:
        made("memory://cheap-shallow")
    with measure() as deep:
        made("memory://cheap-deep/a/b/c")
    assert deep["requests"] - shallow["requests"] == 3
