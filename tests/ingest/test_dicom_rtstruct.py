"""RTSTRUCT contours become label volumes: the voxels whose centres they cover, slice by slice."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pydicom")

from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from radiobject.errors import SourceCorruptError, SourceError, SourceUnsupportedError, UnknownIdError
from radiobject.format.meta import Label
from radiobject.geometry.affine import Affine
from radiobject.ingest.dicom.contours import fill
from radiobject.ingest.dicom.rtstruct import (
    ReferenceGrid,
    read_rtstruct,
    rtstruct_parts,
)

from .label_objects import SERIES, SPACE, contour, rtstruct, save

SHAPE = (40, 32, 5)
STRAIGHT = Affine(np.array([[-0.8, 0, 0, 100], [0, -0.9, 0, 50], [0, 0, 2.5, -30], [0, 0, 0, 1.0]]))
OBLIQUE = Affine(
    np.array([[0.64, -0.54, 0, 7], [0.288, 0.432, -2.0, 9], [0.384, 0.576, 1.5, -4], [0, 0, 0, 1]])
)
SHEARED = Affine(np.array([[-0.8, 0, 0, 100], [0, -0.9, 0.6, 50], [0, 0, 2.4, -30], [0, 0, 0, 1]]))
GRIDS = pytest.mark.parametrize(
    "affine", [STRAIGHT, OBLIQUE, SHEARED], ids=["straight", "oblique", "sheared"]
)


def grid(affine: Affine = STRAIGHT, shape: tuple[int, int, int] = SHAPE) -> ReferenceGrid:
    return ReferenceGrid(affine, shape, {f"1.2.{z}": z for z in range(shape[2])}, SPACE)


def drawn(xy: npt.ArrayLike, z: float, affine: Affine = STRAIGHT, **options: object) -> Dataset:
    """A contour through voxel coordinates (x, y) of a slice."""
    flat = np.asarray(xy, dtype=float)
    points = affine.apply(np.column_stack([flat, np.full(len(flat), z)]))
    return contour(points * (-1, -1, 1), **options)  # type: ignore[arg-type]


def box(
    low: float, high: float, start: float | None = None, stop: float | None = None
) -> npt.NDArray[np.float64]:
    """A rectangle from x = low to high and y = start to stop; a square without these."""
    start, stop = low if start is None else start, high if stop is None else stop
    return np.array([[low, start], [high, start], [high, stop], [low, stop]], float)


def ellipse(centre: Sequence[float], radii: Sequence[float], count: int = 720) -> npt.NDArray[np.float64]:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.column_stack([np.cos(angle), np.sin(angle)]) * radii + centre


# no voxel's centre comes closer than 0.04 to these ellipses, so that their formula decides
def inside(centre: Sequence[float], radii: Sequence[float]) -> npt.NDArray[np.bool_]:
    y, x = np.mgrid[: SHAPE[1], : SHAPE[0]]
    return ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1  # type: ignore[no-any-return]


def read(tmp_path: Path, made: Dataset, where: ReferenceGrid | None = None) -> npt.NDArray[np.uint8]:
    (volume,) = read_rtstruct(save(made, tmp_path / "a"), where or grid())
    return volume.loaded.voxels


# Thirds, among which no centre is exactly at the distance that decides from an edge as short as here.
THIRDS = st.tuples(st.integers(-6, 30), st.integers(-6, 27)).map(lambda p: (p[0] / 3, p[1] / 3))


def on_edge(a: tuple[Fraction, Fraction], b: tuple[Fraction, Fraction], x: int, y: int) -> bool:
    """Whether a voxel's centre is within a hundredth of a voxel of an edge."""
    along, to = (b[0] - a[0], b[1] - a[1]), (x - a[0], y - a[1])
    length = along[0] ** 2 + along[1] ** 2
    part = (to[0] * along[0] + to[1] * along[1]) / length if length else Fraction(0)
    part = min(max(part, Fraction(0)), Fraction(1))
    return (to[0] - part * along[0]) ** 2 + (to[1] - part * along[1]) ** 2 <= Fraction(1, 10000)


def covered(polygons: Sequence[Sequence[Sequence[float]]], x: int, y: int) -> bool:
    """The rule of `fill`, voxel by voxel in exact fractions."""
    crossings = 0
    for polygon in polygons:
        exact = [(Fraction(px), Fraction(py)) for px, py in polygon]
        for a, b in zip(exact, exact[1:] + exact[:1], strict=True):
            if on_edge(a, b, x, y):
                return True
            if (a[1] <= y) != (b[1] <= y):
                crossings += a[0] + (y - a[1]) * (b[0] - a[0]) / (b[1] - a[1]) <= x
    return crossings % 2 == 1


@settings(deadline=None)
@given(polygons=st.lists(st.lists(THIRDS, min_size=1, max_size=8), min_size=1, max_size=3))
def test_a_voxel_belongs_by_the_written_rule(polygons: list[list[tuple[float, float]]]) -> None:
    found = fill([np.array(p) for p in polygons], (7, 8))
    assert found.tolist() == [[covered(polygons, x, y) for x in range(8)] for y in range(7)]


@given(
    radii=st.lists(st.floats(0.5, 6), min_size=3, max_size=12),
    centre=st.tuples(st.floats(2, 8), st.floats(2, 8)),
)
def test_matplotlib_agrees_off_the_edges(radii: list[float], centre: tuple[float, float]) -> None:
    path = pytest.importorskip("matplotlib.path")
    angle = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    star = np.column_stack([np.cos(angle), np.sin(angle)]) * np.array(radii)[:, np.newaxis] + centre
    y, x = np.mgrid[:11, :12]
    points = np.column_stack([x.ravel(), y.ravel()])
    shape = path.Path(np.vstack([star, star[:1]]), closed=True)
    within = shape.contains_points(points, radius=-0.03)
    beyond = shape.contains_points(points, radius=0.03)
    sure = within == beyond
    assert np.array_equal(fill([star], (11, 12)).ravel()[sure], within[sure])


@GRIDS
def test_ellipses_equal_their_formula_on_any_grid(tmp_path: Path, affine: Affine) -> None:
    centre, radii = (18.3, 15.65), [(11.55, 9.25), (7.2, 8.15)]
    made = rtstruct({3: ("liver", [drawn(ellipse(centre, r), z, affine) for z, r in enumerate(radii, 1)])})
    voxels = read(tmp_path, made, grid(affine))
    for z, r in enumerate(radii, 1):
        assert np.array_equal(voxels[z], inside(centre, r) * 3)
    assert not voxels[[0, 3, 4]].any()


def test_the_affine_is_the_grids_and_names_and_colours_are_kept(tmp_path: Path) -> None:
    made = rtstruct(
        {7: ("Leber ä", [drawn(box(1, 5), 2)]), 9: ("", [drawn(box(10, 12), 2)])}, {7: (1, 200, 3)}
    )
    (volume,) = read_rtstruct(save(made, tmp_path / "a"), grid())
    meta = volume.loaded.meta
    assert (meta.affine, meta.kind, meta.dims) == (STRAIGHT, "label", ("z", "y", "x"))
    assert meta.labels == (Label(7, "Leber ä", (1, 200, 3, 255)), Label(9, "region 9", None))
    assert (volume.part, volume.series_uid, volume.frame_of_reference_uid) == ("", SERIES, SPACE)


RING = [ellipse((18.3, 15.65), (11.55, 9.25)), ellipse((18.3, 15.65), (6.15, 4.95))]
ISLAND = ellipse((18.3, 15.65), (2.0, 2.0))


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_inner_contours_cut_holes_and_islands_fill_them_again(tmp_path: Path, kind: str) -> None:
    ring = inside((18.3, 15.65), (11.55, 9.25)) & ~inside((18.3, 15.65), (6.15, 4.95))
    island = inside((18.3, 15.65), (2.0, 2.0))
    made = rtstruct({1: ("a", [drawn(p, 1, kind=kind) for p in (RING[1], RING[0], ISLAND)])})
    assert np.array_equal(read(tmp_path, made)[1], ring | island)


def test_the_channel_of_a_keyhole_does_not_show(tmp_path: Path) -> None:
    outer, inner = box(2, 20), box(6.5, 15.5)
    keyhole = np.vstack([outer, outer[:1], inner[::-1], inner[-1:]])
    two = rtstruct({1: ("a", [drawn(outer, 0), drawn(inner, 0)])})
    assert np.array_equal(read(tmp_path, rtstruct({1: ("a", [drawn(keyhole, 0)])})), read(tmp_path, two))
    level = np.vstack(
        [outer[1:], outer[:1], [[2, 8], [6.5, 8]], np.roll(inner, -1, axis=0)[::-1], [[6.5, 8], [2, 8]]]
    )
    assert read(tmp_path, rtstruct({1: ("a", [drawn(level, 0)])}))[0, 8, 2:7].all()


@given(noise=st.lists(st.floats(-0.006, 0.006), min_size=8, max_size=8))
def test_the_rounding_of_decimals_moves_no_voxel(noise: list[float]) -> None:
    rough = box(2, 5, 1, 6) + np.reshape(noise, (4, 2))
    assert np.array_equal(fill([rough], (8, 8)), fill([box(2, 5, 1, 6)], (8, 8)))


def test_an_edge_ends_at_its_vertices() -> None:
    assert not fill([np.array([[1.008, 1.008], [3, 3], [3, 1.5]])], (4, 4))[1, 1]
    assert fill([np.array([[1.006, 1.006], [3, 3], [3, 1.5]])], (4, 4))[1, 1]


@GRIDS
def test_contours_through_the_outermost_centres_give_the_mask_back(tmp_path: Path, affine: Affine) -> None:
    made = rtstruct({1: ("a", [drawn(box(3, 9, 4, 6), 2, affine, decimals=2)])})
    expected = np.zeros(SHAPE[::-1])
    expected[2, 4:7, 3:10] = 1
    assert np.array_equal(read(tmp_path, made, grid(affine)), expected)


def test_touching_regions_share_a_volume(tmp_path: Path) -> None:
    made = rtstruct({1: ("left", [drawn(box(2, 8.5), 1)]), 2: ("right", [drawn(box(8.5, 14, 2, 8), 1)])})
    voxels = read(tmp_path, made)
    assert voxels[1, 5].tolist()[:16] == [0] * 2 + [1] * 7 + [2] * 6 + [0]
    assert rtstruct_parts(tmp_path / "a", grid()) == ("",)


def test_overlapping_regions_become_a_volume_each(tmp_path: Path) -> None:
    made = rtstruct(
        {4: ("body", [drawn(box(0, 20), 1)]), 5: ("liver", [drawn(box(5, 8), 1), drawn(box(5, 8), 2)])}
    )
    path = save(made, tmp_path / "a")
    body, liver = read_rtstruct(path, grid())
    assert (body.part, body.title, liver.part, liver.title) == ("roi-4", "body", "roi-5", "liver")
    assert ((body.loaded.voxels > 0).sum(), (liver.loaded.voxels > 0).sum()) == (21 * 21, 2 * 4 * 4)
    assert liver.loaded.meta.labels == (Label(5, "liver", None),)
    assert set(np.unique(liver.loaded.voxels)) == {0, 5}
    assert rtstruct_parts(path, grid()) == ("roi-4", "roi-5")
    (alone,) = read_rtstruct(path, grid(), "roi-5")
    assert alone.loaded.digest == liver.loaded.digest
    with pytest.raises(UnknownIdError, match="roi-6"):
        read_rtstruct(path, grid(), "roi-6")


def test_points_and_open_contours_are_kept_as_json_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = rtstruct(
        {
            1: ("cord", [drawn(box(1, 4), 3), drawn([[1, 1], [9, 9]], 3, kind="OPEN_PLANAR")]),
            2: ("isocentre", [contour([[-10.5, 20, 5]], "POINT")]),
        }
    )
    with caplog.at_level(logging.WARNING):
        (volume,) = read_rtstruct(save(made, tmp_path / "a"), grid())
    assert "2 contours are kept, not filled" in caplog.text
    assert [label.name for label in volume.loaded.meta.labels] == ["cord"]
    assert volume.loaded.meta.source.extras == ("rtstruct",)
    kept = volume.loaded.extras["rtstruct"]
    cord, point = json.loads(kept)["rois"]
    assert (cord["number"], cord["name"], cord["value"]) == (1, "cord", 1)
    assert [(c["type"], c["slice"]) for c in cord["contours"]] == [
        ("CLOSED_PLANAR", 3),
        ("OPEN_PLANAR", None),
    ]
    assert np.allclose(
        cord["contours"][0]["points"], STRAIGHT.apply(np.column_stack([box(1, 4), [3] * 4])), atol=1e-5
    )
    assert point["value"] is None
    assert point["contours"] == [{"type": "POINT", "slice": None, "points": [[10.5, -20.0, 5.0]]}]
    assert not any(word in kept for word in (b"Nobody", SERIES.encode(), SPACE.encode(), b"1.2."))


def test_of_planes_closer_than_the_slices_the_nearest_is_filled(tmp_path: Path) -> None:
    contours = [drawn(box(2, 2 + n), z) for n, z in ((1, 0.7), (2, 0.95), (3, 1.3), (4, 1.6), (5, 2.4))]
    voxels = read(tmp_path, rtstruct({1: ("a", contours)}))
    assert [(v > 0).sum() for v in voxels] == [0, 3 * 3, 5 * 5, 0, 0]


def test_a_contour_that_stands_there_twice_counts_once(tmp_path: Path) -> None:
    twice = [drawn(box(2, 6), 1), drawn(np.roll(box(2, 6)[::-1], 2, axis=0), 1)]
    assert (read(tmp_path, rtstruct({1: ("a", twice)}))[1] > 0).sum() == 25


def test_the_referenced_slice_decides_within_half_a_spacing(tmp_path: Path) -> None:
    made = rtstruct({1: ("a", [drawn(box(2, 6), 1.45, image="1.2.1"), drawn(box(2, 6), 3.1, image="9.9")])})
    assert read(tmp_path, made).any(axis=(1, 2)).tolist() == [False, True, False, True, False]
    far = rtstruct({1: ("spleen", [drawn(box(2, 6), 1.6, image="1.2.1")])})
    with pytest.raises(SourceUnsupportedError, match="'spleen'"):
        read(tmp_path, far)


@pytest.mark.parametrize("z", [-0.6, 4.6, 50])
def test_contours_on_no_slice_are_refused_by_name(tmp_path: Path, z: float) -> None:
    made = rtstruct({1: ("a", [drawn(box(2, 6), 1)]), 2: ("lost one", [drawn(box(2, 6), z)])})
    with pytest.raises(SourceUnsupportedError, match=r"'lost one' \(1\)"):
        read(tmp_path, made)


def test_contours_across_slices_are_refused(tmp_path: Path) -> None:
    upright = STRAIGHT.apply([[3, 3, 0.6], [9, 3, 0.6], [9, 3, 1.4]]) * (-1, -1, 1)
    with pytest.raises(SourceUnsupportedError, match="'a'"):
        read(tmp_path, rtstruct({1: ("a", [contour(upright)])}))


def test_another_frame_of_reference_is_refused_by_name(tmp_path: Path) -> None:
    path = save(rtstruct({1: ("tongue", [drawn(box(2, 6), 1)])}), tmp_path / "a")
    elsewhere = ReferenceGrid(STRAIGHT, SHAPE, {}, "7.7")
    with pytest.raises(SourceUnsupportedError, match=r"'tongue'.*frame of reference"):
        read_rtstruct(path, elsewhere)


def test_names_follow_the_character_set_of_their_item_and_several_series_are_none(tmp_path: Path) -> None:
    made = rtstruct({1: ("Å", [drawn(box(2, 6), 1)])})
    made.StructureSetROISequence[0].SpecificCharacterSet = "ISO_IR 100"
    study = made.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    study.RTReferencedSeriesSequence.append(Dataset())
    study.RTReferencedSeriesSequence[1].SeriesInstanceUID = "1.2.3.99"
    (volume,) = read_rtstruct(save(made, tmp_path / "a"), grid())
    assert [label.name for label in volume.loaded.meta.labels] == ["Å"]
    assert volume.series_uid is None


def test_without_closed_contours_there_is_no_volume(tmp_path: Path) -> None:
    with pytest.raises(SourceUnsupportedError, match="closed contours"):
        read(tmp_path, rtstruct({1: ("a", [contour([[0, 0, 0]], "POINT")]), 2: ("b", [])}))


@pytest.mark.parametrize("first", [0, -1, 70000])
def test_numbers_that_are_no_label_values_are_replaced_in_their_order(tmp_path: Path, first: int) -> None:
    made = rtstruct({first: ("a", [drawn(box(2, 6), 1)]), 5: ("b", [drawn(box(10, 11), 1)])})
    (volume,) = read_rtstruct(save(made, tmp_path / "a"), grid())
    assert [x.name for x in volume.loaded.meta.labels] == (["a", "b"] if first < 5 else ["b", "a"])
    assert [x.value for x in volume.loaded.meta.labels] == [1, 2]
    assert [r["number"] for r in json.loads(volume.loaded.extras["rtstruct"])["rois"]] == sorted([first, 5])


def test_parts_outside_the_slice_are_left_out(tmp_path: Path) -> None:
    voxels = read(tmp_path, rtstruct({1: ("a", [drawn(box(-50, 3), 0), drawn(box(35, 400, 30, 500), 0)])}))
    assert (voxels[0] > 0).sum() == 4 * 4 + 5 * 2


def _break(made: Dataset, how: str) -> None:
    roi = made.ROIContourSequence[0]
    points = roi.ContourSequence[0]
    if how == "odd":
        points.ContourData = points.ContourData[:-1]
    elif how == "nan":
        points.ContourData = ["nan", *points.ContourData[1:]]
    elif how == "words":
        points["ContourData"] = points["ContourData"].__class__(0x30060050, "LO", "left\\right\\up")
    elif how == "far":
        points.ContourData = ["9e99", *points.ContourData[1:]]
    elif how == "cut":
        points.ContourData = points.ContourData[:-3]
    elif how == "none":
        del points.ContourData
    elif how == "unknown":
        roi.ReferencedROINumber = 8
    elif how == "twice":
        made.StructureSetROISequence.append(made.StructureSetROISequence[0])
    elif how == "unnumbered":
        del made.StructureSetROISequence[0].ROINumber
    else:
        del made.StructureSetROISequence


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("odd", "x, y, z for each point"),
        ("nan", "finite|numbers"),
        ("words", "numbers"),
        ("far", "points within"),
        ("cut", "as it says itself"),
        ("none", "x, y, z for each point"),
        ("unknown", "a region of this file"),
        ("twice", "a number of its own"),
        ("unnumbered", "ROINumber"),
        ("no regions", "a region of this file"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_damaged_elements_are_named(tmp_path: Path, how: str, words: str) -> None:
    made = rtstruct({1: ("a", [drawn(box(2, 6), 1)])})
    _break(made, how)
    with pytest.raises(SourceCorruptError, match=words) as caught:
        read(tmp_path, made)
    assert str(tmp_path) in str(caught.value)


def test_pydicoms_own_structure_set_is_filled(tmp_path: Path) -> None:
    path = get_testdata_file("rtstruct.dcm")
    # slices of 10 mm from -200 mm on, pixels of 50 mm around the origin
    affine = Affine(np.array([[-50, 0, 0, 250], [0, -50, 0, 200], [0, 0, 10, -200], [0, 0, 0, 1.0]]))
    (volume,) = read_rtstruct(path, ReferenceGrid(affine, (11, 9, 21)))
    assert volume.loaded.meta.labels == (Label(1, "patient", (220, 160, 120, 255)),)
    rois = json.loads(volume.loaded.extras["rtstruct"])["rois"]
    assert [r["name"] for r in rois] == ["patient", "Isocenter 1", "Isocenter 2"]
    inverse = affine.inverse()
    for outline in rois[0]["contours"]:
        polygon = inverse.apply(outline["points"])[:, :2].tolist()
        expected = [[covered([polygon], x, y) for x in range(11)] for y in range(9)]
        assert volume.loaded.voxels[outline["slice"]].astype(bool).tolist() == expected
    with pytest.raises(SourceError, match="'patient'"):
        read_rtstruct(path, ReferenceGrid(affine, (11, 9, 1)))
