"""Findings of a report between volumes: partners, grids, subjects, copies, the ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radiobject import RadiObject

StudyMaker = Callable[..., RadiObject]

HERE = np.diag([2.0, 2.0, 3.0, 1.0])
THERE = HERE + np.array([[0, 0, 0, 0.5]] + 3 * [[0, 0, 0, 0]])
rng = np.random.default_rng(0)


def image() -> Any:
    return rng.integers(0, 1000, (6, 5, 4)).astype("i2")


def label() -> Any:
    return rng.integers(0, 3, (6, 5, 4)).astype("u1")


def told(radi: RadiObject, kind: str) -> dict[str, str]:
    """Messages by volume, or by subject or collection where no volume is meant."""
    rows = radi.report().findings
    rows = rows[rows["kind"] == kind]
    names = rows["obs_id"].where(rows["obs_id"] != "", rows["obs_subject_id"])
    return dict(zip(names.where(names != "", rows["collection"]), rows["message"], strict=True))


def test_a_label_is_held_against_the_images_on_whose_grid_most_labels_lie(study: StudyMaker) -> None:
    subjects = [f"s{i}" for i in range(4)]
    radi = study(
        {
            "T1w": {s: (image(), HERE) for s in subjects},
            "PET": {s: (image(), THERE) for s in subjects},
            "seg": {s: (label(), THERE if s == "s2" else HERE) for s in subjects},
        },
        labels=["seg"],
    )
    assert told(radi, "grid") == {"s2_seg": "corners 0.5 mm apart: s2_T1w in T1w"}


def test_labels_on_no_image_s_grid_are_told_once(study: StudyMaker) -> None:
    subjects = [f"s{i}" for i in range(4)]
    radi = study(
        {"T1w": {s: (image(), HERE) for s in subjects}, "seg": {s: (label(), THERE) for s in subjects}},
        labels=["seg"],
    )
    assert told(radi, "grid") == {"seg": "most of its volumes lie on no grid of their partners in T1w"}


def test_several_readers_labels_of_one_image_are_each_held_against_it(study: StudyMaker) -> None:
    radi = study(
        {
            "T1w": {"s1": (image(), HERE), "s2": (image(), HERE)},
            "seg": {"s1": [(label(), HERE), (label(), THERE)], "s2": [(label(), HERE), (label(), HERE)]},
        },
        labels=["seg"],
    )
    assert list(told(radi, "grid")) == [radi.seg.obs_ids[1]]


def test_a_label_may_belong_to_any_image_of_its_visit(study: StudyMaker) -> None:
    radi = study(
        {
            "T1w": {s: [(image(), HERE), (image(), THERE)] for s in ("s1", "s2")},
            "seg": {"s1": (label(), HERE), "s2": (label(), THERE)},
        },
        labels=["seg"],
    )
    assert told(radi, "grid") == {}


def test_a_visit_without_its_label_is_told(study: StudyMaker) -> None:
    subjects = [f"s{i}" for i in range(6)]
    sessions = {s: [(image(), HERE), (image(), HERE)] for s in subjects}
    labels = {s: [(label(), HERE)] if s == "s3" else [(label(), HERE), (label(), HERE)] for s in subjects}
    radi = study({"T1w": sessions, "seg": labels}, labels=["seg"])
    ids = radi.T1w.obs_ids
    frame = {"obs_id": ids, "session": [str(i % 2 + 1) for i in range(12)]}
    radi.T1w.obs.update(frame)
    radi.seg.obs.update({"obs_id": radi.seg.obs_ids, "session": ["1", "2"] * 3 + ["1"] + ["1", "2"] * 2})
    assert told(radi, "partner") == {
        ids[7]: "no volume of the same session and run in seg; 11 of 12 have one"
    }
    assert told(radi, "grid") == {}


def test_subjects_are_missing_where_most_have_a_volume(study: StudyMaker) -> None:
    subjects = [f"s{i}" for i in range(10)]
    radi = study(
        {
            "T1w": {s: image() for s in subjects},
            "T2w": {s: image() for s in subjects[:9]},
            "PET": {s: image() for s in subjects[:3]},
        },
        pd.DataFrame({"obs_subject_id": [*subjects, "s10"]}),
    )
    assert told(radi, "missing") == {"s9": "no volume; 9 of 10 subjects have one"}
    assert told(radi, "no_volumes") == {"s10": "in no collection"}


def test_equal_bytes_are_a_copy_unless_they_are_all_one_value(study: StudyMaker) -> None:
    twin, empty = image(), np.zeros((6, 5, 4), "u1")
    radi = study(
        {
            "T1w": {"s1": twin, "s2": image(), "s3": twin},
            "again": {"s1": twin, "s2": image()},
            "seg": {"s1": empty, "s2": empty, "s3": label()},
        },
        labels=["seg"],
    )
    assert told(radi, "duplicate") == {
        "s3_T1w": "the same bytes as s1_T1w in T1w of s1, another subject",
        "s1_again": "the same bytes as s1_T1w in T1w",
    }


def test_a_failure_is_told_until_the_volume_is_there(tmp_path: Path) -> None:
    bad = tmp_path / "s2_T1w.nii.gz"
    bad.write_bytes(b"junk")
    subjects = pd.DataFrame({"obs_subject_id": ["s1", "s2"]})
    radi = RadiObject.from_images(
        tmp_path / "study", {"T1w": [((image(), HERE), "s1"), (str(bad), "s2")]}, subjects, errors="collect"
    )
    assert told(radi, "failed") == {"T1w": "s2_T1w: the ledger says why"}
    assert told(radi, "no_volumes") == {"": "s2: their sources failed"}
    page = radi.report().html
    assert "SourceCorruptError" in page
    assert str(tmp_path) not in page
    radi.append({"T1w": [((image(), HERE), "s2", "s2_T1w")]})
    assert told(radi, "failed") == told(radi, "no_volumes") == {}
