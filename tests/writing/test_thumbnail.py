"""The thumbnail: right side up, left on the right, in proportion, small."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from radiobject.errors import FormatError
from radiobject.format.meta import Label, Scaling
from radiobject.geometry.affine import Affine
from radiobject.writing.thumbnail import HEIGHT, thumbnail_jpeg

AXCODES = [
    "".join(codes)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*axes)
]
SHAPE = (40, 60, 50)  # mm of the head below: right, anterior, superior


def picture(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)


def marked(codes: str, spacing: tuple[float, float, float] = (1, 1, 1)) -> tuple[np.ndarray, Affine]:
    """Black but for bright bars along the patient's right, front and top faces, in the axis order `codes`."""
    shape = tuple(round(n / s) for n, s in zip(SHAPE, spacing, strict=True))
    voxels = np.zeros(shape, np.int16)
    voxels[round(-8 / spacing[0]) :, :, :] = 300
    voxels[:, round(-8 / spacing[1]) :, :] = 600
    voxels[:, :, round(-10 / spacing[2]) :] = 1000
    turn = Affine.from_spacing(spacing).reorientation(codes, shape)
    return turn.apply(voxels), turn.affine


def panels(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three planes; the highest is the axial one, from front to back."""
    mm = 60 / HEIGHT
    widths = [round(40 / mm), round(40 / mm), round(60 / mm)]
    assert image.shape == (HEIGHT, sum(widths))
    first, second, third = np.split(image, np.cumsum(widths)[:2], axis=1)
    return first, second, third


@pytest.mark.parametrize("codes", AXCODES)
def test_right_front_and_top_are_where_a_radiologist_looks_for_them(codes: str) -> None:
    voxels, affine = marked(codes)
    axial, coronal, sagittal = panels(picture(thumbnail_jpeg(voxels, "xyz", affine, (0, 1000))))
    middle, pad = HEIGHT // 2, round(5 / 60 * HEIGHT)  # coronal and sagittal are 50 of 60 mm high, centred
    # axial: front (600) on top, right (300) on the left
    assert axial[3, -10] == pytest.approx(153, abs=12)
    assert axial[middle, 3] == pytest.approx(76, abs=12)
    assert axial[-10, -10] < 12
    # coronal: top (1000) on top, right (300) on the left
    assert coronal[pad + 5, -10] > 240
    assert coronal[middle, 3] == pytest.approx(76, abs=12)
    assert coronal[-pad - 10, -10] < 12
    # sagittal: top on top, front on the left
    assert sagittal[pad + 5, -10] > 240
    assert sagittal[middle, 3] == pytest.approx(153, abs=12)
    assert sagittal[-pad - 10, -10] < 12


def test_planes_have_their_physical_proportions() -> None:
    fine = picture(thumbnail_jpeg(*_args(marked("RAS"))))
    for codes in ("RAS", "LIP"):
        coarse = picture(thumbnail_jpeg(*_args(marked(codes, (1, 2, 5)))))
        assert coarse.shape == fine.shape
        assert np.abs(coarse - fine).mean() < 15


def _args(of: tuple[np.ndarray, Affine]) -> tuple[Any, ...]:
    return of[0], "xyz", of[1], (0, 1000)


def test_disk_order_time_and_channel_show_the_same_picture() -> None:
    voxels, affine = marked("LPS")
    expected = thumbnail_jpeg(voxels, "xyz", affine, (0, 1000))
    assert thumbnail_jpeg(voxels.T, ("z", "y", "x"), affine, (0, 1000)) == expected
    five = np.stack([np.stack([voxels.T, 0 * voxels.T]), np.ones((2, *voxels.T.shape), np.int16)])
    assert thumbnail_jpeg(five, ("t", "c", "z", "y", "x"), affine, (0, 1000)) == expected


def test_the_planes_go_through_the_middle_of_the_box() -> None:
    voxels = np.zeros((30, 30, 30), np.uint8)
    voxels[22:25, 22:25, 22:25] = 255
    args = (voxels, "xyz", Affine.identity(), (0, 255))
    assert picture(thumbnail_jpeg(*args)).max() < 40
    assert picture(thumbnail_jpeg(*args, box=(22, 22, 22, 25, 25, 25))).max() > 200


def test_the_window_is_in_scaled_units() -> None:
    voxels = np.full((20, 20, 20), 100, np.int16)
    grey = picture(thumbnail_jpeg(voxels, "xyz", Affine.identity(), (0, 1000), scaling=Scaling(2.0, 300.0)))
    assert grey.mean() == pytest.approx(127.5, abs=2)


def test_labels_are_shown_in_their_colours() -> None:
    voxels = np.zeros((20, 20, 20), np.uint8)
    voxels[:, :, :] = 3
    args = (voxels, "xyz", Affine.identity(), None, "label")
    colours = picture(thumbnail_jpeg(*args, labels=[Label(3, "vessel", (0, 200, 40, 255))]))
    assert np.abs(colours.reshape(-1, 3).mean(axis=0) - (0, 200, 40)).max() < 6
    default = picture(thumbnail_jpeg(*args)).reshape(-1, 3)
    assert np.ptp(default.mean(axis=0)) > 60


def test_a_noisy_brain_sized_volume_stays_small() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:240j, -1:1:240j]
    disc = np.where(x**2 + y**2 < 0.7, 500 + 200 * np.sin(9 * x) * np.cos(7 * y), 0)
    voxels = (disc + rng.normal(0, 25, (155, 240, 240))).astype(np.int16)
    jpeg = thumbnail_jpeg(voxels, ("z", "y", "x"), Affine.identity(), (0, 800))
    assert len(jpeg) < 12_000
    image = Image.open(io.BytesIO(jpeg))
    assert (image.format, image.mode, image.height) == ("JPEG", "L", HEIGHT)


@settings(max_examples=40)
@given(
    hnp.arrays(
        st.sampled_from(["f4", "f8", "i2", "u1"]).map(np.dtype), hnp.array_shapes(min_dims=3, max_dims=3)
    ),
    st.sampled_from(AXCODES),
    st.none() | st.tuples(st.floats(), st.floats()),
)
def test_any_voxels_and_window_give_a_picture(voxels: np.ndarray, codes: str, window: Any) -> None:
    affine = Affine.from_spacing((1, 2, 50)).reorientation(codes, voxels.shape).affine
    assert picture(thumbnail_jpeg(voxels, "xyz", affine, window)).shape[0] == HEIGHT


def test_one_slice_of_a_wide_plane_is_a_stripe_not_an_error() -> None:
    image = picture(thumbnail_jpeg(np.ones((1, 1, 900), "u1"), "xyz", Affine.identity(), None))
    assert image.shape[0] == HEIGHT


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(FormatError, match="integer dtype"):
        thumbnail_jpeg(np.zeros((2, 2, 2), "f4"), "xyz", Affine.identity(), None, "label")
    with pytest.raises(FormatError, match="dims"):
        thumbnail_jpeg(np.zeros((2, 2, 2, 2), "u1"), "xyz", Affine.identity(), None)
