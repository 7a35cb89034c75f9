"""Sections: every pixel is at its place in the world, for any affine; no more is read than three planes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject import ReadConfig, TileConfig, Volume, WriteConfig, configure, measure
from radiobject.errors import ConfigError, GeometryError, IndexingError, SelectionError
from radiobject.geometry.affine import Affine
from radiobject.show.sections import frame_of, point_of, reaches, sections

OBLIQUE = np.array(
    [[-1.9, 0.3, 0.1, 40.0], [0.2, 2.1, -0.5, -60.0], [0.1, 0.4, 2.9, 12.5], [0.0, 0.0, 0.0, 1.0]]
)
ALONG = np.array([3.0, 5.0, 7.0])
"""How the value of the volumes below grows with each millimetre to R, A, S."""


def world_of(affine: Affine, shape: tuple[int, ...]) -> np.ndarray:
    """World coordinates of every voxel or pixel; index axes first."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return affine.apply(index)


def ramp(affine: np.ndarray, shape: tuple[int, int, int] = (12, 9, 7)) -> Volume:
    """A volume that linear interpolation reproduces: its value says where in the world it is."""
    return Volume.from_numpy(world_of(Affine(affine), shape) @ ALONG, affine)


def pixels_of(section: Any) -> np.ndarray:
    """World coordinates of every pixel, (rows, columns, 3)."""
    rows, columns = section.shape
    return world_of(section.affine, (columns, rows, 1))[:, :, 0].swapaxes(0, 1)


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Any direction, spacing and origin, sheared by up to some degrees."""
    turn = np.linalg.qr(np.array(draw(st.lists(st.floats(-1, 1), min_size=9, max_size=9))).reshape(3, 3))[0]
    lean = np.array(draw(st.lists(st.floats(-0.1, 0.1), min_size=9, max_size=9))).reshape(3, 3)
    spacing = draw(st.lists(st.floats(0.4, 6), min_size=3, max_size=3))
    affine = np.eye(4)
    affine[:3, :3] = turn @ (np.eye(3) + lean) * spacing
    affine[:3, 3] = draw(st.lists(st.floats(-200, 200), min_size=3, max_size=3))
    return affine


@settings(max_examples=60, deadline=None)
@given(affines(), affines(), st.sampled_from(["scan", "world"]), st.data())
def test_every_pixel_shows_its_place_in_the_world(
    affine: np.ndarray, other: np.ndarray, planes: Any, data: st.DataObject
) -> None:
    volume = ramp(affine)
    inside = data.draw(st.tuples(*(st.floats(0, n - 1) for n in volume.shape)))
    point = Affine(affine).apply(inside)
    other[:3, 3] = point - other[:3, :3] @ (5, 4, 3)  # so that both lie in one place
    for section in sections(volume, point, planes):
        place = pixels_of(section)
        for shown in (volume, ramp(other)):
            values = section.read(shown)
            index = shown.meta.affine.inverse().apply(place)
            ends = np.array(shown.shape) - 1
            # beyond the outermost centres the outermost voxel counts on, where the ramp goes on
            within = ((index >= 0) & (index <= ends)).all(axis=-1)
            outside = ((index < -0.5 - 1e-3) | (index > ends + 0.5 + 1e-3)).any(axis=-1)
            np.testing.assert_allclose(values[within], place[within] @ ALONG, rtol=1e-5, atol=1e-2)
            assert np.isnan(values[outside]).all()


@settings(max_examples=60, deadline=None)
@given(affines(), st.sampled_from(["scan", "world"]), st.data())
def test_the_cross_is_at_the_point_and_letters_say_where_a_step_leads(
    affine: np.ndarray, planes: Any, data: st.DataObject
) -> None:
    volume = ramp(affine)
    inside = data.draw(st.tuples(*(st.floats(0, n - 1) for n in volume.shape)))
    point = Affine(affine).apply(inside)
    for section, cut in zip(sections(volume, point, planes), (2, 1, 0), strict=True):
        (column, row), (rows, columns) = section.cross, section.shape
        off = section.affine.inverse().apply(point) - (column, row, 0)
        np.testing.assert_allclose(off[:2], 0, atol=1e-6)
        index = volume.meta.affine.inverse().apply(section.affine.apply((0, 0, 0)))
        if planes == "scan":  # these are voxels, nothing in between
            np.testing.assert_allclose(index, index.round(), atol=1e-6)
        assert abs(off[2]) <= (0.5 + 1e-6 if planes == "scan" or volume.obliquity < 1e-3 else 1e-6)
        assert -0.5 <= column <= columns - 0.5
        assert -0.5 <= row <= rows - 0.5
        left, right, top, bottom = section.bounds
        np.testing.assert_allclose(right - left, columns * section.spacing[1])
        np.testing.assert_allclose(bottom - top, rows * section.spacing[0])
        for letter, step in zip(section.letters, ((-1, 0), (1, 0), (0, -1), (0, 1)), strict=True):
            direction = section.affine.matrix[:3, :2] @ step
            largest = int(np.abs(direction).argmax())
            assert letter[0] == ("LPI", "RAS")[int(direction[largest] > 0)][largest]
        if planes == "world":
            assert [set(s) for s in section.letters] == [{s} for s in {2: "RLAP", 1: "RLSI", 0: "APSI"}[cut]]


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SRA", "AIL"])
def test_all_array_orders_show_the_planes_that_the_volume_gives(codes: str) -> None:
    straight = ramp(np.diag([2.0, 1.5, 3.0, 1.0]))
    turned = straight.reorient(codes)
    held = Volume.from_numpy(turned[...], turned.affine)
    for section, plane in zip(sections(held, (8, 6, 9)), ("axial", "coronal", "sagittal"), strict=True):
        mm = {"axial": 9, "coronal": 6, "sagittal": 8}[plane]
        expected = getattr(held, plane)(mm=mm, display=True)
        np.testing.assert_array_equal(section.read(held), expected)
        np.testing.assert_array_equal(getattr(straight, plane)(mm=mm, display=True), expected)


def test_an_oblique_scan_is_shown_as_it_was_scanned(nibabel_data: Path) -> None:
    scan = Volume.from_nifti(nibabel_data / "example4d.nii.gz", axis4="time")
    frame = frame_of(scan, t=1)
    axial, coronal, sagittal = sections(frame)
    assert axial.letters == ("R", "L", "AS", "PI")
    assert sagittal.letters == ("AS", "PI", "SP", "IA")
    assert axial.shape == (96, 128)
    np.testing.assert_allclose(axial.spacing, (2, 2), rtol=1e-5)
    np.testing.assert_array_equal(axial.read(frame), scan.axial(mm=None, z=11, t=1, display=True))
    world = sections(frame, planes="world")
    assert [s.letters for s in world] == [("R", "L", "A", "P"), ("R", "L", "S", "I"), ("A", "P", "S", "I")]
    assert coronal.spacing[0] == pytest.approx(2.2)


def test_labels_are_the_nearest_and_nothing_lies_outside(study: Any) -> None:
    labels = Volume.from_numpy(np.full((4, 4, 4), 9, "u2"), np.diag([3.0, 3.0, 3.0, 1.0]), kind="label")
    image = Volume.from_numpy(np.zeros((30, 30, 30), "i2"), np.diag([1.0, 1.0, 1.0, 1.0]))
    axial, *_ = sections(image, (5, 5, 5))
    shown = axial.read(labels)
    assert shown.dtype == "u2"
    # voxels of 3 mm from -1.5 to 10.5; the patient's left is on the right, front is up
    assert (np.argwhere(shown)[:, 1].min(), np.argwhere(shown)[:, 1].max()) == (19, 29)
    assert set(np.unique(shown)) == {0, 9}


def test_only_the_chunks_of_three_planes_are_read(study: Any) -> None:
    array = np.random.default_rng(0).integers(0, 900, (48, 56, 40), "i2")
    small = WriteConfig(tile=TileConfig(chunks=(8, 8, 8), shards=(64, 64, 64)))
    volume = study({"CT": {"s": array}}, write=small).CT.iloc[0]
    with configure(read=ReadConfig(cache_bytes=0)):
        with measure() as planes:
            volume.plane(2, 22), volume.plane(1, 21), volume.plane(0, 20)
        with measure() as shown:
            found = sections(volume, (20, 21, 22))
            assert shown["requests"] == 0
            for section in found:
                section.read(volume)
    assert shown["chunks_decoded"] == planes["chunks_decoded"] == 6 * 7 + 6 * 5 + 7 * 5


def test_across_another_volume_small_boxes_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    straight = Volume.from_numpy(np.zeros((64, 64, 64), "u1"))
    turn = np.array([[0.9, -0.4, 0.1], [0.4, 0.85, -0.35], [0, 0.35, 0.9]])
    tilted = np.eye(4)
    tilted[:3, :3], tilted[:3, 3] = turn, 31.5 - turn @ np.full(3, 31.5)
    other = Volume.from_numpy(np.random.default_rng(0).integers(0, 900, (64, 64, 64), "i2"), tilted)
    for section in sections(straight):
        with measure() as at_once:
            whole = section.read(other)
        with monkeypatch.context() as patch:
            patch.setattr("radiobject.show.sections._MOST_VOXELS", 2**10)
            with measure() as in_parts:
                np.testing.assert_array_equal(section.read(other), whole)
        assert in_parts["bytes_used"] < at_once["bytes_used"] / 2


def test_the_middle_is_that_of_what_is_not_background(study: Any) -> None:
    array = np.zeros((30, 20, 10), "i2")
    array[20:25, 2:5, 6:9] = 7
    radi = study({"a": {"s": (array, np.diag([-2.0, 2.0, 3.0, 1.0]))}})
    volume = radi.a.iloc[0]
    assert point_of(volume) == (-44.0, 6.0, 21.0)
    for other in (volume.reorient("SAR"), volume.resample(spacing=2), volume.slicer[15:]):
        np.testing.assert_allclose(point_of(other), (-44, 6, 21), atol=1)
    # a part without it, and a volume without a row, have their own middle
    assert point_of(volume.slicer[:10]) == pytest.approx((-10.0, 18.0, 12.0))
    assert point_of(Volume.from_numpy(array)) == (14.0, 9.0, 4.0)
    assert point_of(Volume.from_numpy(array[::-1], np.diag([-1.0, 1, 1, 1]))) == (-15.0, 9.0, 4.0)


def test_points_and_planes_that_are_none_are_refused() -> None:
    volume = ramp(np.diag([2.0, 2.0, 2.0, 1.0]))
    with pytest.raises(IndexingError, match=r"-1\.0 to 23\.0 by -1\.0 to 17\.0 by -1\.0 to 13\.0 mm"):
        sections(volume, (0, 0, 13.5))
    assert reaches(volume, (23, 17, 13))
    for wrong in ((1, 2), "middle", (1, 2, None)):
        with pytest.raises(GeometryError, match="three numbers"):
            sections(volume, wrong)  # type: ignore[arg-type]
    with pytest.raises(IndexingError):
        sections(volume, (np.nan, 0, 0))
    with pytest.raises(ConfigError, match="planes="):
        sections(volume, planes="patient")  # type: ignore[arg-type]


def test_a_frame_is_one_time_point_and_channel() -> None:
    array = np.arange(2 * 3 * 4 * 5 * 2).reshape(2, 3, 4, 5, 2)
    five = Volume.from_numpy(array)
    assert five.axes == ("x", "y", "z", "t", "c")
    np.testing.assert_array_equal(frame_of(five, t=-1, c=1)[...], array[..., 4, 1])
    np.testing.assert_array_equal(frame_of(five)[...], array[..., 0, 0])
    with pytest.raises(IndexingError):
        frame_of(five, t=5)
    with pytest.raises(SelectionError, match="t= of volume"):
        frame_of(frame_of(five), t=0)
