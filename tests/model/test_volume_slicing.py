"""`vol.slicer[...]`: the array is NumPy's, and every voxel stays where it was in the world."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject import RadiObject, TileConfig, Volume, WriteConfig
from radiobject.errors import IndexingError, SelectionError

IN_PLACE = True

OBLIQUE = np.array(
    [[-1.9, 0.3, 0.1, 40.0], [0.2, 2.1, -0.5, -60.0], [0.1, 0.4, 2.9, 12.5], [0.0, 0.0, 0.0, 1.0]]
)
SHAPE = (9, 8, 7, 5)


@pytest.fixture(scope="module")
def array() -> np.ndarray:
    return np.arange(np.prod(SHAPE), dtype="i4").reshape(SHAPE)


@pytest.fixture(scope="module")
def uri(module_study, array) -> str:
    write = WriteConfig(tile=TileConfig(chunks=(4, 4, 4), shards=(4, 8, 8)))
    return module_study({"bold": {"s": (array, OBLIQUE)}}, axis4="time", write=write).uri


@pytest.fixture
def vol(uri: str) -> Volume:
    return RadiObject(uri).bold.iloc[0]


def world(affine: np.ndarray, *index: int) -> np.ndarray:
    return (affine @ [*index, 1.0])[:3]


def slices(n: int) -> st.SearchStrategy[slice]:
    """Slices of every sign and step that pick at least one of n."""
    bound = st.none() | st.integers(-n - 2, n + 2)
    made = st.builds(slice, bound, bound, st.none() | st.integers(-3, 3).filter(bool))
    return made.filter(lambda s: len(range(n)[s]) > 0)


def check_same(sliced: Volume, expected: np.ndarray, positions: tuple[list[int], ...]) -> None:
    """Values, and the world place of the corner voxels, where `positions` are stored indices an axis."""
    assert sliced.shape == expected.shape
    np.testing.assert_array_equal(sliced[...], expected)
    for corner in np.ndindex(2, 2, 2):
        own = [-1 if far else 0 for far in corner]
        index = [own[a] % sliced.shape[a] for a in range(3)]
        origin = [positions[a][own[a]] for a in range(3)]
        np.testing.assert_allclose(world(sliced.affine, *index), world(OBLIQUE, *origin), atol=1e-9)


def test_voxels_keep_their_places_in_the_world(vol, array) -> None:
    @settings(max_examples=80, deadline=None)
    @given(st.tuples(*(slices(n) for n in SHAPE)))
    def check(key: tuple[slice, ...]) -> None:
        positions = tuple(list(range(n))[s] for n, s in zip(SHAPE, key, strict=True))
        check_same(vol.slicer[key], array[key], positions)

    check()


def test_a_slice_of_a_slice_is_the_slice_of_both(vol, array) -> None:
    @settings(max_examples=30, deadline=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        sliced, expected = vol, array
        positions: list[list[int]] = [list(range(n)) for n in SHAPE]
        for _ in range(3):
            key = tuple(data.draw(slices(n)) for n in expected.shape)
            sliced, expected = sliced.slicer[key], expected[key]
            positions = [p[s] for p, s in zip(positions, key, strict=True)]
        check_same(sliced, expected, tuple(positions))
        part = tuple(data.draw(slices(n)) for n in expected.shape)
        np.testing.assert_array_equal(sliced[part], expected[part])
        point = tuple(data.draw(st.integers(-n, n - 1)) for n in expected.shape)
        assert sliced[point] == expected[point]

    check()


def test_a_time_point_drops_the_axis(vol, array) -> None:
    at = vol.slicer[..., 3]
    assert (at.shape, at.axes) == (SHAPE[:3], ("x", "y", "z"))
    np.testing.assert_array_equal(at[...], array[..., 3])
    np.testing.assert_array_equal(at.axial(2), array[:, :, 2, 3])
    again = at.slicer[1:8:3, :, ::-1]
    np.testing.assert_array_equal(again[...], array[1:8:3, :, ::-1, 3])
    assert vol.slicer[:, :, :, 1:3].slicer[..., -1][0, 0, 0] == array[0, 0, 0, 2]


def test_a_step_in_time_lengthens_the_time_step(study, make_nifti, tmp_path) -> None:
    path = tmp_path / "bold.nii"
    path.write_bytes(
        make_nifti(
            np.zeros((3, 3, 3, 6), "i2"), fields={"xyzt_units": 10, "pixdim": [1, 2, 2, 2, 1.5, 0, 0, 0]}
        )
    )
    vol = study({"bold": {"s": path}}).bold.iloc[0]
    assert vol.meta.time_step == 1.5
    assert vol.slicer[..., ::2].meta.time_step == 3.0
    assert vol.slicer[..., ::2].slicer[..., ::-1].meta.time_step == 3.0
    assert vol.slicer[..., 2].meta.time_step is None
    assert vol.slicer[..., ::2].to_nibabel().header["pixdim"][4] == 3.0


@pytest.mark.gap("files", reason="NIfTI keeps an affine in float32", raises=AssertionError)
def test_whole_slicer_is_the_volume(vol, array) -> None:
    np.testing.assert_array_equal(vol.slicer[...][...], array)
    np.testing.assert_array_equal(vol.slicer[...].affine, OBLIQUE)
    np.testing.assert_array_equal(vol.slicer[:][...], array)


def test_spacing_and_axcodes_follow(vol) -> None:
    turned = vol.slicer[::-2, :, ::3]
    assert vol.axcodes == ("L", "A", "S")
    assert turned.axcodes == ("R", "A", "S")
    np.testing.assert_allclose(turned.spacing, np.array(vol.spacing) * (2, 1, 3))
    assert turned.obliquity == pytest.approx(vol.obliquity)


def test_a_slice_with_its_channels(study) -> None:
    array = np.arange(4 * 5 * 6 * 2 * 3, dtype="f4").reshape(4, 5, 6, 2, 3)
    vol = study({"v": {"s": array}}).v.iloc[0]
    assert vol.axes == ("x", "y", "z", "t", "c")
    np.testing.assert_array_equal(vol.slicer[..., 1, :][...], array[:, :, :, 1])
    np.testing.assert_array_equal(vol.slicer[1:, ::-1, 2:5, :, 2][...], array[1:, ::-1, 2:5, :, 2])
    np.testing.assert_array_equal(vol.slicer[..., 0, 2].slicer[::2][...], array[::2, :, :, 0, 2])
    assert vol.slicer[..., 1, :].axes == ("x", "y", "z", "c")


@pytest.mark.parametrize(
    ("key", "kind", "words"),
    [
        ((3,), SelectionError, "axis 0.*a slice"),
        ((slice(None), [1, 2]), SelectionError, "axis 1"),
        ((np.array([1, 2]),), SelectionError, "axis 0"),
        ((slice(None),) * 3 + (True,), SelectionError, "axis 3"),
        ((slice(None),) * 3 + (np.array(1),), SelectionError, "axis 3"),
        ((None,), SelectionError, "axis 0"),
        ((slice(4, 4),), IndexingError, "at least one voxel"),
        ((slice(None, None, 0),), SelectionError, "zero"),
        ((slice("a", None),), SelectionError, "integers"),
        ((slice(None),) * 3 + (5,), IndexingError, "-5 to 4"),
        ((slice(None),) * 5, IndexingError, "at most 4 axes"),
        ((..., ...), IndexingError, "one Ellipsis"),
    ],
)
def test_what_slicer_refuses(vol, key: Any, kind, words) -> None:
    with pytest.raises(kind, match=words) as caught:
        vol.slicer[key]
    assert "s_bold" in str(caught.value)
