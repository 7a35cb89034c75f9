"""Any stored file that is removed, emptied, cut or changed is named; wrong voxels never come back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radiobject import RadiObject
from radiobject.errors import IntegrityError, RadiObjectError
from radiobject.format import catalog

DAMAGES: dict[str, Callable[[bytes, float], bytes | None]] = {
    "removed": lambda data, _: None,
    "emptied": lambda data, _: b"",
    "truncated": lambda data, where: data[: int(where * len(data))],
    "flipped": lambda data, where: flipped(data, int(where * len(data) * 8)),
}


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


@dataclass
class Truth:
    root: Path
    files: list[str]
    volumes: dict[str, np.ndarray]
    subjects: list[Any]


def contents(uri: str) -> tuple[dict[str, np.ndarray], list[Any]]:
    radi = RadiObject(uri)
    volumes = {v.obs_id: v.to_numpy() for n in radi for v in radi.collection(n)}
    return volumes, radi.obs_meta.to_arrow().to_pylist()


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    import nibabel as nib

    rng = np.random.default_rng(7)
    root = tmp_path_factory.mktemp("integrity") / "study"
    folder = tmp_path_factory.mktemp("niftis")
    scan = rng.integers(-500, 500, (40, 36, 33), dtype=np.int16)
    nib.Nifti1Image(scan, np.diag([1, 2, 3, 1])).to_filename(folder / "a.nii.gz")
    meta = pd.DataFrame({"obs_subject_id": ["a", "b"], "age": [30, 40]})
    zeros = np.zeros((8, 8, 8), np.uint8)
    images = {"T1w": [(str(folder / "a.nii.gz"), "a")], "seg": [((zeros, np.eye(4)), "b")]}
    first = RadiObject.from_niftis(str(root), images, meta)
    first.tag("paper")
    first.append({"T1w": [((scan[:5], np.eye(4)), "b")]})
    files = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
    volumes, subjects = contents(str(root))
    return Truth(root, files, volumes, subjects)


def check(truth: Truth, place: Path, name: str, damage: str, where: float) -> None:
    """Damage one file of a copy; reading must raise or be right, and reading or validate must name it."""
    shutil.copytree(truth.root, place)
    path = place / name
    good = path.read_bytes()
    bad = DAMAGES[damage](good, where)
    if bad == good:
        return
    if bad is None:
        path.unlink()
    else:
        path.write_bytes(bad)
    catalog._snapshots.clear()
    messages = ""
    try:
        volumes, subjects = contents(str(place))
    except RadiObjectError as error:
        messages += str(error)
    else:
        # an older version was opened when the newest commit is gone: what it shows must still be true
        for obs_id, voxels in volumes.items():
            np.testing.assert_array_equal(voxels, truth.volumes[obs_id])
        assert all(s in truth.subjects for s in subjects)
    catalog._snapshots.clear()
    try:
        report = RadiObject(str(place)).validate("full")
        messages += " ".join(f"{p.where} {p.message}" for p in report.problems)
    except RadiObjectError as error:
        messages += str(error)
    key = name if not name.endswith("zarr.json") else name.removesuffix("/zarr.json")
    assert key in messages, f"{damage} {name} went unnoticed: {messages}"


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_file_damaged_once(truth: Truth, damage: str, tmp_path: Path) -> None:
    for number, name in enumerate(truth.files):
        if damage == "removed" and name.startswith("tags/"):
            continue  # only the tag itself says that it was there: its name is then unknown
        check(truth, tmp_path / str(number), name, damage, 0.5)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_damage_anywhere(
    truth: Truth, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(truth.files))
    damage = data.draw(st.sampled_from(["truncated", "flipped"]))
    where = data.draw(st.floats(0, 1, exclude_max=True))
    check(truth, tmp_path_factory.mktemp("damage") / "s", name, damage, where)


def test_a_whole_study_is_ok_at_every_level(truth: Truth) -> None:
    for level in ("quick", "standard", "full"):
        report = RadiObject(str(truth.root)).validate(level)
        assert report.ok, report
        assert report.litter == 0
        assert "ok" in repr(report)


def test_levels_find_what_they_promise(truth: Truth, tmp_path: Path) -> None:
    shard = next(f for f in truth.files if f.endswith("0/c/0/0/0"))
    part = next(f for f in truth.files if f.startswith("tables/T1w/thumbnails"))
    place = tmp_path / "s"
    shutil.copytree(truth.root, place)
    for name in (shard, part):
        path = place / name
        path.write_bytes(flipped(path.read_bytes(), 8 * 40))
    found = {
        level: {p.where for p in RadiObject(str(place)).validate(level).problems}
        for level in ("quick", "standard", "full")
    }
    assert shard not in found["standard"]
    assert part in found["standard"]
    assert {shard, part} <= found["full"]


def test_litter_is_counted_and_no_problem(truth: Truth, tmp_path: Path) -> None:
    place = tmp_path / "s"
    shutil.copytree(truth.root, place)
    (place / "collections" / "T1w" / "stray.bin").write_bytes(b"x")
    report = RadiObject(str(place)).validate("full")
    assert (report.ok, report.litter) == (True, 1)


def test_strict_raises_with_the_problems(truth: Truth, tmp_path: Path) -> None:
    place = tmp_path / "s"
    shutil.copytree(truth.root, place)
    (place / "hint.json").unlink()
    with pytest.raises(IntegrityError, match=r"hint\.json"):
        RadiObject(str(place)).validate(strict=True)
