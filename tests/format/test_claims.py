"""What a commit says of tables, and rows say of volumes, is held against these by validate.

Every byte is as the commit names it: hashes and checksums are made to fit, as by somebody who mended a
study by hand.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from radiobject import RadiObject, WriteConfig
from radiobject.errors import FormatError
from radiobject.format.commit import canonical
from radiobject.format.integrity import Report
from tests.hostile.crafting import (
    COMMIT,
    commit_bytes,
    edit_commit,
    edit_rows,
    good_study,
    object_of,
    volume_folder,
    write_commit,
    write_part,
)

Craft = Callable[[Path], object]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sound study in `study`."""
    place = tmp_path_factory.mktemp("good")
    good_study(place / "study", "zarr")
    return place


def report(good: Path, tmp_path: Path, craft: Craft, level: Any = "full") -> Report:
    shutil.copytree(good, tmp_path / "case")
    craft(tmp_path / "case")
    return RadiObject(tmp_path / "case/study").validate(level)


def row(**said: Any) -> Craft:
    """A craft that has the first image's row say this; functions get what it said."""

    def change(held: dict[str, Any]) -> None:
        if held["obs_id"] == "sub-01_CT":
            held.update({k: v(held[k]) if callable(v) else v for k, v in said.items()})

    return edit_rows(change)


def moved(affine: list[float]) -> list[float]:
    return [*affine[:3], affine[3] + 100, *affine[4:]]


def saying(**said: Any) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | said)


ROWS: dict[str, tuple[Craft, str]] = {
    "another place in the world": (row(affine=moved), "affine"),
    "another slope": (row(_volume=saying(scaling={"slope": 2, "inter": 0, "dtype": "int32"})), "scaling"),
    "another unit": (row(_volume=saying(space_unit="um")), "space_unit"),
    "labels instead of an image": (row(_volume=saying(kind="label")), "kind"),
    "other codes": (row(axcodes="LPS"), "axcodes"),
    "another spacing": (row(spacing_x=9.0), "spacing_x"),
    "a time axis": (row(dim_t=9), "(20, 18, 16, 9, None)"),
    "no affine": (row(affine=None), "affine"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_that_says_something_else_is_a_problem(good: Path, tmp_path: Path, name: str) -> None:
    craft, word = ROWS[name]
    (problem,) = report(good, tmp_path, craft).problems
    assert (problem.kind, problem.where) == ("row", "CT/sub-01_CT")
    assert word in problem.message


def exchanged(*columns: str) -> Craft:
    """A craft in which two rows have each other's columns."""

    def change(table: pa.Table) -> pa.Table:
        one, other = table.to_pylist()
        for name in columns:
            one[name], other[name] = other[name], one[name]
        return pa.Table.from_pylist([one, other], table.schema)

    return write_part(change)


def repeated(*columns: str) -> Craft:
    """A craft in which the second row has columns of the first."""

    def change(table: pa.Table) -> pa.Table:
        one, other = table.to_pylist()
        return pa.Table.from_pylist([one, other | {n: one[n] for n in columns}], table.schema)

    return write_part(change)


@pytest.mark.parametrize("craft", [exchanged("_path", "_objects"), repeated("_path", "_objects")])
def test_a_row_with_the_volume_of_another_is_a_problem(good: Path, tmp_path: Path, craft: Craft) -> None:
    problems = report(good, tmp_path, craft).problems
    assert [p.where for p in problems] == ["CT/sub-01_CT", "CT/sub-02_CT"]
    assert all("another" in p.message for p in problems)


@pytest.mark.parametrize("backend", ["zarr", "tiledb"])
@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_row_that_leaves_objects_out_is_a_problem(tmp_path: Path, backend: str, kept: int) -> None:
    pytest.importorskip(backend)
    good_study(tmp_path / "study", backend)
    row(_objects=lambda objects: objects[:kept])(tmp_path)
    (problem,) = RadiObject(tmp_path / "study").validate("full").problems
    assert "no checksum of" in problem.message


@pytest.mark.parametrize("backend", ["zarr", "tiledb"])
def test_a_sound_volume_with_all_that_one_may_have_is_no_problem(tmp_path: Path, backend: str) -> None:
    pytest.importorskip(backend)
    rng = np.random.default_rng(1)
    series = rng.integers(0, 99, (20, 18, 16, 3, 2)).astype("i2")
    made = RadiObject.from_niftis(
        tmp_path / "study",
        {"bold": [((series, np.diag([2.0, 2, 3, 1])), "a"), ((series[:, :9], None), "b")]},
        axis4="time",
        write=WriteConfig(pyramid=2),
        backend=backend,
        progress=False,
    )
    assert made.validate("full").ok


def test_a_document_that_cannot_be_read_is_a_problem_though_its_checksum_fits(
    good: Path, tmp_path: Path
) -> None:
    (problem,) = report(good, tmp_path, lambda place: object_of(place, "zarr.json", b"[]")).problems
    assert (problem.kind, problem.where) == ("row", "CT/sub-01_CT")


def test_damaged_bytes_are_told_once(good: Path, tmp_path: Path) -> None:
    def craft(place: Path) -> None:
        (volume_folder(place / "study") / "zarr.json").write_bytes(b"[]")

    assert {p.kind for p in report(good, tmp_path, craft).problems} == {"size", "object"}


def test_a_shape_that_no_volume_has_is_a_problem(good: Path, tmp_path: Path) -> None:
    (problem,) = report(good, tmp_path, edit_commit(collections__0__shape=[1, 2, 3]), "standard").problems
    assert (problem.where, "(20, 18, 16)" in problem.message) == ("CT", True)


def test_a_kind_that_no_volume_has_is_a_problem(good: Path, tmp_path: Path) -> None:
    problems = report(good, tmp_path, edit_commit(collections__0__kind="label")).problems
    assert [p.where for p in problems] == ["CT/sub-01_CT", "CT/sub-02_CT"]


@pytest.mark.parametrize("bound", ["min_id", "max_id"])
def test_bounds_that_hide_an_id_from_changes_are_a_problem(good: Path, tmp_path: Path, bound: str) -> None:
    craft = edit_commit(**{f"collections__0__tables__obs__0__{bound}": "sub-01_zz"})
    (problem,) = report(good, tmp_path, craft, "standard").problems
    assert problem.where.startswith("tables/CT/obs/")


def test_objects_without_a_digest_are_counted(good: Path, tmp_path: Path) -> None:
    craft = row(_objects=lambda objects: [{**o, "digest": None} for o in objects])
    found = report(good, tmp_path, craft)
    assert found.ok
    assert found.checked["of them by CRC-32C alone"] == 3


def test_volumes_of_a_backend_that_is_not_installed_are_counted(good: Path, tmp_path: Path) -> None:
    found = report(good, tmp_path, edit_commit(collections__0__backend="zarr9"))
    assert found.ok
    assert found.checked["volumes whose backend is not installed"] > 0


def test_a_history_without_its_beginning_is_refused(good: Path, tmp_path: Path) -> None:
    def craft(place: Path) -> None:
        said = commit_bytes(place / "study") | {"version": 3, "parent": None}
        (place / "study" / COMMIT).unlink()
        write_commit(place / "study", canonical(said), 3)

    with pytest.raises(FormatError, match="parent None of version 3"):
        report(good, tmp_path, craft)
