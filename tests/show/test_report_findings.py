"""Findings of a report: each planted oddity is found, with its reason, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from radiobject import RadiObject
from radiobject.geometry.affine import Affine
from tests.show.planted import N, Planted

Floats = npt.NDArray[np.float64]
Found = set[tuple[str, str, str]]
"""Kind, collection and subject of each finding; what is about a whole collection has no subject."""


def found(radi: RadiObject) -> Found:
    rows = radi.report().findings
    return set(zip(rows["kind"], rows["collection"], rows["obs_subject_id"], strict=True))


def both(planted: Planted, row: int, change: Callable[[Floats], Floats]) -> None:
    """Change image and label alike, so that their grids agree."""
    for side in (planted.images, planted.labels):
        side[row] = (side[row][0], change(side[row][1]))


def scaled(planted: Planted, row: int) -> None:
    image, affine = planted.images[row]
    planted.images[row] = ((image * 9.0).astype("i2"), affine)


def shifted(planted: Planted, row: int) -> None:
    image, affine = planted.images[row]
    planted.images[row] = (image - 1024, affine)


def saturated(planted: Planted, row: int) -> None:
    image, affine = planted.images[row]
    planted.images[row] = (np.minimum(image, np.quantile(image, 0.98)).astype("i2"), affine)


def constant(planted: Planted, row: int) -> None:
    planted.images[row] = (np.full_like(planted.images[row][0], 7), planted.images[row][1])


def half_the_slices(planted: Planted, row: int) -> None:
    for side in (planted.images, planted.labels):
        voxels, affine = side[row]
        side[row] = (voxels[:, :, ::2], affine @ np.diag([1, 1, 2, 1]))


def fewer_slices(planted: Planted, row: int) -> None:
    for side in (planted.images, planted.labels):
        side[row] = (side[row][0][:, :, 1:], side[row][1])


def inches(planted: Planted, row: int) -> None:
    both(planted, row, lambda a: np.diag([25.4, 25.4, 25.4, 1.0]) @ a)


def tilted(planted: Planted, row: int) -> None:
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    both(planted, row, lambda a: turn @ a)


def sheared(planted: Planted, row: int) -> None:
    skew = np.eye(4)
    skew[0, 1] = 0.05
    both(planted, row, lambda a: a @ skew)


def mirrored(planted: Planted, row: int) -> None:
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = planted.images[row][0].shape[0] - 1
    both(planted, row, lambda a: a @ flip)


def far_away(planted: Planted, row: int) -> None:
    shift = np.eye(4)
    shift[2, 3] = 900
    both(planted, row, lambda a: shift @ a)


def off_by_a_voxel(planted: Planted, row: int) -> None:
    voxels, affine = planted.labels[row]
    shift = np.eye(4)
    shift[0, 3] = 1
    planted.labels[row] = (voxels, affine @ shift)


def with_holes(planted: Planted, row: int) -> None:
    image, affine = planted.images[row]
    holes = image.astype("f4")
    holes[6:8, 7:9, 5:7] = [np.nan, np.inf]
    planted.images[row] = (holes, affine)


def cut_off(planted: Planted, row: int) -> None:
    image, affine = planted.images[row]
    moved = np.roll(image, -3, axis=1)
    planted.images[row] = (moved, affine)


def specks(planted: Planted, row: int) -> None:
    image, affine = planted.images[row]
    small = np.zeros_like(image)
    small[6:9, 7:10, 5:8] = image[6:9, 7:10, 5:8]
    planted.images[row] = (small, affine)


def with_time(planted: Planted, row: int) -> None:
    image, affine = planted.images[row]
    planted.images[row] = (np.stack([image, image], axis=3), affine)


def empty(planted: Planted, row: int) -> None:
    planted.labels[row] = (np.zeros_like(planted.labels[row][0]), planted.labels[row][1])


def strange_value(planted: Planted, row: int) -> None:
    planted.labels[row][0][6, 7, 5] = 7


def negative_value(planted: Planted, row: int) -> None:
    voxels, affine = planted.labels[row]
    signed = voxels.astype("i1")
    signed[6, 7, 5] = -1
    planted.labels[row] = (signed, affine)


def one_label(planted: Planted, row: int) -> None:
    voxels, _ = planted.labels[row]
    voxels[voxels == 2] = 1


def sliver(planted: Planted, row: int) -> None:
    voxels, _ = planted.labels[row]
    inside = np.argwhere(voxels == 2)
    voxels[tuple(inside[3:].T)] = 1


def unlabelled(planted: Planted, row: int) -> None:
    planted.labels[row] = None


def twice(planted: Planted, row: int) -> None:
    planted.images[row] = planted.images[row - 1]
    planted.labels[row] = planted.labels[row - 1]


PLANTED: dict[Callable[[Planted, int], None], list[tuple[str, str]]] = {
    scaled: [("intensity", "T1w")],
    shifted: [("intensity", "T1w"), ("border", "T1w")],
    saturated: [("clipped", "T1w")],
    constant: [("constant", "T1w")],
    half_the_slices: [("shape", "T1w"), ("shape", "seg"), ("spacing", "T1w"), ("spacing", "seg")],
    fewer_slices: [("shape", "T1w"), ("shape", "seg")],
    inches: [("spacing", "T1w"), ("spacing", "seg"), ("label_size", "seg")],
    tilted: [("obliquity", "T1w"), ("obliquity", "seg")],
    sheared: [("shear", "T1w"), ("shear", "seg")],
    mirrored: [("axcodes", "T1w"), ("axcodes", "seg")],
    far_away: [("position", "T1w"), ("position", "seg")],
    off_by_a_voxel: [("grid", "seg")],
    with_holes: [("nonfinite", "T1w"), ("dtype", "T1w")],
    cut_off: [("border", "T1w")],
    specks: [("tiny", "T1w")],
    with_time: [("axes", "T1w")],
    empty: [("empty_label", "seg")],
    strange_value: [("unnamed_label", "seg")],
    negative_value: [("negative_label", "seg"), ("dtype", "seg")],
    one_label: [("absent_label", "seg")],
    sliver: [("label_size", "seg")],
    unlabelled: [("missing", "seg")],
    twice: [("duplicate", "T1w"), ("duplicate", "seg")],
}


@pytest.mark.parametrize("seed", range(4))
def test_a_cohort_without_oddities_has_no_findings(tmp_path: Path, seed: int) -> None:
    assert found(Planted(seed).write(tmp_path / "study")) == set()


@pytest.mark.parametrize("number", range(len(PLANTED)), ids=[f.__name__ for f in PLANTED])
def test_what_was_planted_is_found_and_nothing_else(tmp_path: Path, number: int) -> None:
    plant, kinds = list(PLANTED.items())[number]
    planted, row = Planted(number), number * 7 % (N - 1) + 1
    plant(planted, row)
    radi = planted.write(tmp_path / "study", axis4="time")
    assert found(radi) == {(kind, collection, planted.subjects[row]) for kind, collection in kinds}


@pytest.mark.parametrize("codes", ["LPS", "RSA", "SAR", "IPL", "ALI"])
def test_the_order_of_the_axes_is_the_only_oddity_of_a_turned_volume(tmp_path: Path, codes: str) -> None:
    planted = Planted(1)
    for side in (planted.images, planted.labels):
        voxels, affine = side[4]
        turn = Affine(affine).reorientation(codes, voxels.shape)
        side[4] = (turn.apply(voxels), turn.affine.matrix)
    assert found(planted.write(tmp_path / "study")) == {
        ("axcodes", "T1w", "sub-05"),
        ("axcodes", "seg", "sub-05"),
    }


@pytest.mark.parametrize("codes", ["RAS", "LPS", "IPR"])
def test_a_border_is_named_by_where_it_lies_in_the_body(tmp_path: Path, codes: str) -> None:
    planted = Planted(1)
    cut_off(planted, 4)
    for side in (planted.images, planted.labels):
        for row, (voxels, affine) in enumerate(side):
            turn = Affine(affine).reorientation(codes, voxels.shape)
            side[row] = (turn.apply(voxels), turn.affine.matrix)
    (message,) = planted.write(tmp_path / "study").report().findings["message"]
    assert message == "reaches the posterior border, 15 of 16 do not"


def test_an_extent_is_odd_where_shapes_and_spacings_alone_are_not(tmp_path: Path) -> None:
    planted = Planted(2)
    for row in range(0, N, 2):
        for side in (planted.images, planted.labels):
            voxels, affine = side[row]
            side[row] = (np.repeat(voxels, 2, axis=2), affine @ np.diag([1, 1, 0.5, 1]))
    assert found(planted.write(tmp_path / "before")) == set()
    both(planted, 6, lambda a: a @ np.diag([1, 1, 2, 1]))
    assert found(planted.write(tmp_path / "after")) == {
        ("field_of_view", "T1w", "sub-07"),
        ("field_of_view", "seg", "sub-07"),
    }


def test_micrometres_are_compared_as_millimetres_and_told(tmp_path: Path) -> None:
    planted = Planted(3)
    sources = []
    for row, (voxels, affine) in enumerate(planted.images):
        unit, scale = ("micron", 1000) if row == 5 else ("mm", 1)
        image = nib.Nifti1Image(voxels, np.diag([scale, scale, scale, 1]) @ affine)
        image.header.set_xyzt_units(xyz=unit)
        path = tmp_path / f"{planted.subjects[row]}.nii"
        nib.save(image, path)
        sources.append((str(path), planted.subjects[row]))
    radi = RadiObject.from_images(tmp_path / "study", {"T1w": sources})
    assert found(radi) == {("unit", "T1w", "sub-06")}


def test_the_lowest_value_is_a_limit_where_few_voxels_usually_have_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scans = [(rng.normal(0, 100, (14, 16, 12)).astype("i2"), np.eye(4)) for _ in range(10)]
    scans[3] = (np.maximum(scans[3][0], -80), np.eye(4))
    radi = RadiObject.from_images(tmp_path / "study", {"CT": [(s, f"s{i}") for i, s in enumerate(scans)]})
    assert ("clipped", "CT", "s3") in found(radi)


def test_a_second_group_is_told_in_one_line(tmp_path: Path) -> None:
    planted = Planted(4)
    for row in (1, 5, 9, 13):
        scaled(planted, row)
    rows = planted.write(tmp_path / "study").report().findings
    assert list(zip(rows["kind"], rows["obs_id"], rows["volumes"], strict=True)) == [("intensity", "", 4)]
    assert "4 of 16 volumes: sub-02_T1w, sub-06_T1w, sub-10_T1w" in rows["message"][0]


def test_what_most_volumes_have_is_told_once(tmp_path: Path) -> None:
    planted = Planted(5)
    for row in range(10):
        with_holes(planted, row)
    for row in range(10, N):
        planted.images[row] = (planted.images[row][0].astype("f4"), planted.images[row][1])
    rows = planted.write(tmp_path / "study").report().findings
    assert list(zip(rows["kind"], rows["volumes"], strict=True)) == [("nonfinite", 10)]


def test_of_few_volumes_nothing_is_said_to_be_usual(tmp_path: Path) -> None:
    planted = Planted(6)
    scaled(planted, 1)
    tilted(planted, 2)
    constant(planted, 3)
    for side in (planted.images, planted.labels, planted.subjects):
        del side[6:]
    report = planted.write(tmp_path / "study").report()
    assert list(report.findings["kind"]) == ["constant"]
    assert "fewer than 8): T1w, seg" in report.html


def test_integers_that_float64_cannot_tell_apart_are_not_constant(tmp_path: Path) -> None:
    planted = Planted()
    planted.images = [(image.astype("u8") + 2**63, affine) for image, affine in planted.images]
    assert "constant" not in set(planted.write(tmp_path / "study").report().findings["kind"])


def test_images_that_are_nearly_all_background_are_compared_without_a_warning(tmp_path: Path) -> None:
    planted = Planted()
    for number, (image, affine) in enumerate(planted.images):
        sparse = np.zeros_like(image)
        sparse[5, 6, 4] = 100 + number
        planted.images[number] = (sparse, affine)
    assert "constant" not in set(planted.write(tmp_path / "study").report().findings["kind"])
