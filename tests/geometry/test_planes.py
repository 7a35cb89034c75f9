"""Display planes: every axis order and direction shows the same anatomy in the same place."""

import itertools

import numpy as np
import pytest

from radiobject.errors import GeometryError
from radiobject.geometry.affine import Affine
from radiobject.geometry.planes import PLANES, display_spacing, plane_axis, to_display

# What the reader of a screen sees, written by hand and not by the code's own table.
ROWS = {"axial": "AP", "coronal": "SI", "sagittal": "SI"}
COLUMNS = {"axial": "RL", "coronal": "RL", "sagittal": "AP"}
CUT = {"axial": "SI", "coronal": "AP", "sagittal": "RL"}
WORLD = {"R": 0, "A": 1, "S": 2}

ORDERS = [
    "".join(codes)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*axes)
]


def turned(codes: str) -> tuple[np.ndarray, Affine]:
    """A volume of 2x3x4 cells, each holding its own RAS position, in the axis order `codes`."""
    ras = Affine.from_spacing((1.0, 2.0, 3.0), origin=(-5, 7, 11))
    where = np.moveaxis(np.indices((2, 3, 4)), 0, -1)  # (x, y, z, 3): right, anterior, superior
    turn = ras.reorientation(codes, (2, 3, 4))
    return turn.apply(where), turn.affine


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("codes", ORDERS)
def test_rows_and_columns_run_as_a_radiologist_expects(codes: str, plane: str) -> None:
    voxels, affine = turned(codes)
    axis = plane_axis(affine, plane)
    assert codes[axis] in CUT[plane]
    shown = to_display(voxels.take(1, axis=axis), affine, plane)
    top, bottom = shown[0, 0], shown[-1, 0]
    left, right = shown[0, 0], shown[0, -1]
    down, along = WORLD[ROWS[plane][0]], WORLD[COLUMNS[plane][0]]
    assert top[down] > bottom[down]
    assert left[along] > right[along]
    assert display_spacing(affine, plane) == ((1.0, 2.0, 3.0)[down], (1.0, 2.0, 3.0)[along])


def test_all_axis_orders_show_the_same_picture() -> None:
    assert len(ORDERS) == 48
    for plane in PLANES:
        pictures = []
        for codes in ORDERS:
            voxels, affine = turned(codes)
            axis = plane_axis(affine, plane)
            positions = np.moveaxis(voxels[..., WORLD[CUT[plane][0]]], axis, 0)[:, 0, 0]
            at = int(np.flatnonzero(positions == 1)[0])
            pictures.append(to_display(voxels.take(at, axis=axis), affine, plane))
        assert all((p == pictures[0]).all() for p in pictures)


def test_the_slice_is_a_view_and_trailing_axes_stay() -> None:
    voxels, affine = turned("LIP")
    slice2d = voxels[:, :, 0]
    shown = to_display(slice2d, affine, "coronal")
    assert np.shares_memory(shown, voxels)
    assert shown.shape == (4, 2, 3)


def test_an_oblique_volume_uses_the_nearest_plane() -> None:
    c, s = np.cos(0.4), np.sin(0.4)
    matrix = np.array([[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1.0]])
    assert plane_axis(Affine(matrix), "axial") == 2


@pytest.mark.parametrize("plane", ["frontal", "Axial", ""])
def test_other_names_are_refused(plane: str) -> None:
    with pytest.raises(GeometryError, match="axial, coronal or sagittal"):
        plane_axis(Affine.identity(), plane)  # type: ignore[arg-type]


def test_a_line_is_no_slice() -> None:
    with pytest.raises(GeometryError, match="two axes"):
        to_display(np.zeros(3), Affine.identity(), "axial")
