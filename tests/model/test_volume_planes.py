"""Anatomical planes: found by anatomy whatever the array order, and laid on a screen alike."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from radiobject import RadiObject, Volume
from radiobject.errors import IndexingError, SelectionError

IN_PLACE = True

SHAPE = (6, 7, 8)
ARRAY = np.arange(np.prod(SHAPE), dtype="i2").reshape(SHAPE)


def volume(study, affine: np.ndarray, array: np.ndarray = ARRAY, **options) -> Volume:
    return study({"a": {"s": (array, affine)}}, **options).a.iloc[0]


@pytest.fixture
def ras(study) -> Volume:
    return volume(study, nibabel.affines.from_matvec(np.diag([2.0, 2.5, 3.0]), [-10, -20, -30]))


def test_planes_of_a_ras_volume_are_the_array_planes(ras) -> None:
    np.testing.assert_array_equal(ras.axial(2), ARRAY[:, :, 2])
    np.testing.assert_array_equal(ras.coronal(-1), ARRAY[:, -1])
    np.testing.assert_array_equal(ras.sagittal(0), ARRAY[0])
    np.testing.assert_array_equal(ras.axial(), ARRAY[:, :, 4])
    np.testing.assert_array_equal(ras.plane(1, 3), ARRAY[:, 3])


def test_planes_follow_the_anatomy_of_other_orders(study) -> None:
    # array axes run P, S, R: sagittal cuts the third, coronal the first, axial the second
    affine = np.array([[0, 0, 2.0, 5], [-3.0, 0, 0, 7], [0, 1.5, 0, -9], [0, 0, 0, 1]])
    vol = volume(study, affine)
    assert vol.axcodes == ("P", "S", "R")
    np.testing.assert_array_equal(vol.sagittal(1), ARRAY[:, :, 1])
    np.testing.assert_array_equal(vol.coronal(1), ARRAY[1])
    np.testing.assert_array_equal(vol.axial(1), ARRAY[:, 1])
    np.testing.assert_array_equal(vol.plane(0, 1), ARRAY[1])


def test_mm_picks_the_nearest_plane(ras, study) -> None:
    np.testing.assert_array_equal(ras.axial(mm=-30), ARRAY[:, :, 0])
    np.testing.assert_array_equal(ras.axial(mm=-25.4), ARRAY[:, :, 2])
    np.testing.assert_array_equal(ras.coronal(mm=-20 + 2.5 * 6 + 1.2), ARRAY[:, 6])
    las = volume(study, nibabel.affines.from_matvec(np.diag([-2.0, 2.5, 3.0]), [10, -20, -30]))
    np.testing.assert_array_equal(las.sagittal(mm=4.1), ARRAY[3])
    np.testing.assert_array_equal(las.slicer[::-1].sagittal(mm=4.1), ARRAY[3])


def test_mm_of_an_oblique_volume_is_that_of_the_planes_centre(study) -> None:
    turn = nibabel.eulerangles.euler2mat(x=0.2)
    affine = nibabel.affines.from_matvec(turn @ np.diag([2.0, 2.0, 3.0]), [-5, 11, 40])
    vol = volume(study, affine)
    for k in range(SHAPE[2]):
        centre = (affine @ [(SHAPE[0] - 1) / 2, (SHAPE[1] - 1) / 2, k, 1])[2]
        np.testing.assert_array_equal(vol.axial(mm=centre + 1.0), ARRAY[:, :, k])


def test_display_turns_the_plane_for_a_screen(ras) -> None:
    # rows from anterior (top), columns from the patient's right (left of the screen)
    np.testing.assert_array_equal(ras.axial(2, display=True), ARRAY[::-1, ::-1, 2].T)
    np.testing.assert_array_equal(ras.coronal(2, display=True), ARRAY[::-1, 2, ::-1].T)
    np.testing.assert_array_equal(ras.sagittal(2, display=True), ARRAY[2, ::-1, ::-1].T)


def test_four_axes_need_t(study) -> None:
    array = np.arange(3 * 4 * 5 * 2, dtype="i2").reshape(3, 4, 5, 2)
    vol = volume(study, np.eye(4), array, axis4="time")
    np.testing.assert_array_equal(vol.axial(1, t=1), array[:, :, 1, 1])
    np.testing.assert_array_equal(vol.sagittal(1, t=0, display=True), array[1, ::-1, ::-1, 0].T)
    np.testing.assert_array_equal(vol.plane(1, 2, t=-1), array[:, 2, :, -1])
    for call in (vol.axial, vol.coronal, vol.sagittal):
        with pytest.raises(SelectionError, match="t= given"):
            call(0)
    with pytest.raises(SelectionError, match="t= given"):
        vol.plane(0, 0)
    channels = volume(study, np.eye(4), array, axis4="channel")
    np.testing.assert_array_equal(channels.coronal(1, c=1), array[:, 1, :, 1])
    with pytest.raises(SelectionError, match="c= given"):
        channels.coronal(1)


def test_what_planes_refuse(ras) -> None:
    with pytest.raises(SelectionError, match="got both"):
        ras.axial(1, mm=2.0)
    with pytest.raises(SelectionError, match="t= left out"):
        ras.axial(1, t=0)
    with pytest.raises(SelectionError, match=r"0 .x., 1"):
        ras.plane(3, 0)
    with pytest.raises(IndexingError, match="-8 to 7"):
        ras.axial(8)
    for outside in (-32.0, 1e9, np.nan, np.inf):
        with pytest.raises(IndexingError, match=r"-30\.0 to -9\.0 mm"):
            ras.axial(mm=outside)


@pytest.fixture(scope="module")
def orders(everywhere: None, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RadiObject:
    """One brain, stored in 24 axis orders."""
    uri = tmp_path_factory.mktemp("orders") / "study"
    return RadiObject.from_niftis(uri, {"T1w": str(real_data / "niivue" / "nifti_space")})


def test_all_axis_orders_of_one_brain_are_there(orders) -> None:
    assert len(orders.T1w) == 24
    assert {"".join(vol.axcodes) for vol in orders.T1w} == set(orders.T1w.obs_subject_ids)


def test_all_axis_orders_are_the_same_image_in_the_world(orders) -> None:
    reference = orders.T1w.loc["LPS_T1w"]
    voxels = reference.to_numpy()
    grid = np.stack(np.meshgrid(*(range(n) for n in reference.shape), indexing="ij"), axis=-1)
    places = nibabel.affines.apply_affine(reference.affine, grid)
    for vol in orders.T1w:
        index = nibabel.affines.apply_affine(np.linalg.inv(vol.affine), places)
        nearest = index.round().astype(int)
        assert np.abs(index - nearest).max() < 1e-3, vol
        np.testing.assert_array_equal(vol.to_numpy()[tuple(np.moveaxis(nearest, -1, 0))], voxels, str(vol))


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_all_axis_orders_give_the_same_picture(orders, plane) -> None:
    """Without an index, and at the same millimetre."""
    reference = orders.T1w.loc["LPS_T1w"]
    axis = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
    corners = nibabel.affines.apply_affine(reference.affine, [[0, 0, 0], np.array(reference.shape) - 1])
    low, high = sorted(corners[:, axis])
    for part in (None, 0.33, 0.77):
        where = {} if part is None else {"mm": low + part * (high - low)}
        pictures = [getattr(vol, plane)(**where, display=True) for vol in orders.T1w]
        assert pictures[0].std() > 0
        for vol, picture in zip(orders.T1w, pictures, strict=True):
            np.testing.assert_array_equal(picture, pictures[0], str(vol))


@pytest.mark.gap("files", reason="thumbnails need voxels, which nobody has read", raises=AssertionError)
def test_thumbnails_of_all_axis_orders_are_one_picture(orders) -> None:
    rows = orders._study.snapshot.table("thumbnails", "T1w").read(["jpeg"])
    assert len(set(rows["jpeg"].to_pylist())) == 1
