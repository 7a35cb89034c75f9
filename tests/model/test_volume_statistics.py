"""Statistics, histogram, SimpleITK and what a volume says of its orientation."""

from __future__ import annotations

import math

import nibabel
import numpy as np
import pytest

from radiobject import RadiObject, SliceOrientation, TileConfig, Volume, WriteConfig, measure
from radiobject.errors import SelectionError

IN_PLACE = True

OBLIQUE = np.array(
    [[-1.9, 0.3, 0.1, 40.0], [0.2, 2.1, -0.5, -60.0], [0.1, 0.4, 2.9, 12.5], [0.0, 0.0, 0.0, 1.0]]
)
STORED = (0.5, 1, 50, 99, 99.5)


@pytest.fixture(scope="module")
def array() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 3000, (12, 11, 10)).astype("i2")


@pytest.fixture(scope="module")
def uri(module_study, array) -> str:
    return module_study({"CT": {"s": (array, OBLIQUE)}}).uri


@pytest.fixture
def vol(uri: str) -> Volume:
    return RadiObject(uri).CT.iloc[0]


def expected(array: np.ndarray, percentiles: tuple[float, ...]) -> dict[str, float]:
    found = {"mean": array.mean(), "std": array.std(), "min": array.min(), "max": array.max()}
    found["median"] = np.percentile(array, 50, method="inverted_cdf")
    ranks = {f"p{q:g}": np.percentile(array, q, method="inverted_cdf") for q in percentiles}
    return {k: float(v) for k, v in (found | ranks).items()}


@pytest.mark.gap("files", reason="statistics need voxels, which nobody has read", raises=AssertionError)
def test_statistics_of_a_whole_volume_read_no_voxel(vol, array) -> None:
    vol.metadata  # noqa: B018 - the table itself is read once
    with measure() as m:
        assert vol.get_statistics() == pytest.approx(expected(array, ()))
        assert vol.get_statistics(STORED) == pytest.approx(expected(array, STORED))
    assert m["bytes_used"] == m["chunks_decoded"] == 0


def test_other_percentiles_come_from_the_voxels(vol, array) -> None:
    with measure() as m:
        assert vol.get_statistics([25, 99]) == pytest.approx(expected(array, (25, 99)))
    assert m["bytes_used"] == array.nbytes


@pytest.mark.gap("files", reason="statistics need voxels, which nobody has read", raises=AssertionError)
def test_a_turned_volume_has_the_statistics_of_its_voxels(vol, array) -> None:
    with measure() as m:
        assert vol.reorient("PIR").get_statistics(STORED) == pytest.approx(expected(array, STORED))
        assert vol.slicer[::-1].get_statistics() == pytest.approx(expected(array, ()))
    assert m["bytes_used"] == 0


def test_a_part_and_a_resampled_volume_are_counted_anew(vol, array) -> None:
    part = array[2:9, ::2]
    assert vol.slicer[2:9, ::2].get_statistics(STORED) == pytest.approx(expected(part, STORED))
    made = vol.resample(5.0)
    assert made.get_statistics([99]) == pytest.approx(expected(made[...].astype("f8"), (99,)), rel=1e-6)
    assert vol.slicer[2:9].compute_histogram()[0].sum() == array[2:9].size


def test_scaled_values_are_what_is_counted(study, make_nifti, tmp_path, array) -> None:
    path = tmp_path / "s.nii"
    path.write_bytes(make_nifti(array, fields={"scl_slope": -0.5, "scl_inter": 10}))
    vol = study({"v": {"s": path}}).v.iloc[0]
    assert vol.get_statistics([1, 99]) == pytest.approx(expected(vol[...].astype("f8"), (1, 99)))
    assert vol.slicer[1:].get_statistics([1]) == pytest.approx(expected(vol[1:].astype("f8"), (1,)))


def test_what_is_not_finite_does_not_count(study, array) -> None:
    values = array.astype("f4")
    values[0, 0, :2] = np.nan, np.inf
    vol = study({"v": {"s": values}}).v.iloc[0]
    finite = values[np.isfinite(values)]
    assert vol.get_statistics([99]) == pytest.approx(expected(finite, (99,)))
    assert vol.get_statistics([25]) == pytest.approx(expected(finite, (25,)))
    nothing = vol.slicer[:1, :1, :2].get_statistics([25])
    assert set(nothing) == {"mean", "std", "min", "max", "median", "p25"}
    assert all(math.isnan(v) for v in nothing.values())


@pytest.mark.parametrize("percentiles", [[101], [-1], ["p5"], [math.nan]])
def test_percentiles_that_are_none_are_refused(vol, percentiles) -> None:
    with pytest.raises(SelectionError, match="0 to 100"):
        vol.get_statistics(percentiles)


@pytest.mark.gap("files", reason="statistics need voxels, which nobody has read", raises=AssertionError)
def test_the_histogram_of_a_whole_volume_reads_no_voxel(vol, array) -> None:
    vol.metadata  # noqa: B018 - the table itself is read once
    with measure() as m:
        counts, edges = vol.compute_histogram()
    assert m["bytes_used"] == 0
    reference, reference_edges = np.histogram(array, bins=256)
    np.testing.assert_allclose(edges, reference_edges)
    # integers that lie on an edge may fall to either side of NumPy's rounded one
    np.testing.assert_array_equal(counts.sum(), reference.sum())
    assert np.abs(np.cumsum(counts) - np.cumsum(reference)).max() <= np.bincount(array.ravel() + 1000).max()
    assert (counts.dtype, edges.dtype) == (np.int64, np.float64)


def test_other_histograms_are_numpys(vol, array) -> None:
    for options in ({"bins": 10}, {"value_range": (0, 500)}, {"bins": 7, "value_range": (-100.0, 900.0)}):
        counts, edges = vol.compute_histogram(**options)
        reference = np.histogram(array, options.get("bins", 256), options.get("value_range"))
        np.testing.assert_array_equal(counts, reference[0])
        np.testing.assert_array_equal(edges, reference[1])
    for bad in ({"bins": 0}, {"value_range": (5, 1)}, {"value_range": 3}):
        with pytest.raises(SelectionError, match="histogram"):
            vol.compute_histogram(**bad)


def test_a_constant_volume_has_a_histogram(study) -> None:
    vol = study().T1w.iloc[0]
    counts, edges = vol.compute_histogram(4)
    assert counts.sum() == 120
    assert edges[0] < 3 < edges[-1]


# --- SimpleITK


@pytest.mark.parametrize("codes", ["LAS", "RAS", "PIR"])
def test_sitk_has_the_same_voxel_at_the_same_place(vol, codes) -> None:
    pytest.importorskip("SimpleITK", reason="SimpleITK is not installed (it is in the dev extra)")
    turned = vol.reorient(codes)
    image = turned.to_sitk()
    assert image.GetSize() == turned.shape
    assert image.GetSpacing() == pytest.approx(turned.spacing)
    for index in ((0, 0, 0), (3, 7, 5), (9, 1, 8)):
        x, y, z, _ = turned.affine @ [*index, 1]
        assert image.TransformIndexToPhysicalPoint(index) == pytest.approx((-x, -y, z))
        assert image.GetPixel(*index) == turned[index]


def test_sitk_agrees_with_its_own_reading_of_our_file(study, make_nifti, tmp_path, array) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed (it is in the dev extra)")
    affine = nibabel.affines.from_matvec(
        nibabel.eulerangles.euler2mat(0.2, -0.1, 0.3) @ np.diag([2.0, 2.5, 3.0]), [-10, 20, 30]
    )
    vol = study({"v": {"s": (array, affine)}}).v.iloc[0]
    vol.to_nifti(tmp_path / "v.nii.gz")
    theirs, ours = sitk.ReadImage(str(tmp_path / "v.nii.gz")), vol.to_sitk()
    assert ours.GetOrigin() == pytest.approx(theirs.GetOrigin(), abs=1e-4)
    assert ours.GetDirection() == pytest.approx(theirs.GetDirection(), abs=1e-5)
    assert ours.GetSpacing() == pytest.approx(theirs.GetSpacing())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))


def test_sitk_time_is_the_fourth_dimension_and_channels_are_components(study, array) -> None:
    pytest.importorskip("SimpleITK", reason="SimpleITK is not installed (it is in the dev extra)")
    four = np.stack([array, -array], axis=-1)
    bold = study({"v": {"s": (four, OBLIQUE)}}, axis4="time").v.iloc[0].to_sitk()
    assert (bold.GetDimension(), bold.GetSize()) == (4, (12, 11, 10, 2))
    assert bold.GetPixel(3, 2, 1, 1) == -array[3, 2, 1]
    colour = study({"v": {"s": (four, OBLIQUE)}}, axis4="channel").v.iloc[0].to_sitk()
    assert (colour.GetDimension(), colour.GetNumberOfComponentsPerPixel()) == (3, 2)
    assert colour.GetPixel(3, 2, 1) == (array[3, 2, 1], -array[3, 2, 1])


# --- orientation


def test_orientation_info_says_who_says_so(study, make_nifti, tmp_path, array) -> None:
    fields = {"sform": {"sform_code": 1, "qform_code": 1}, "neither": {"sform_code": 0, "qform_code": 0},
              "qform": {"sform_code": 0, "qform_code": 1, "pixdim": [1, 2, 2, 2, 0, 0, 0, 0]}}  # fmt: skip
    found = {}
    for name, header in fields.items():
        for version, order in ((1, ">"), (2, "<")):
            path = tmp_path / f"{name}.nii"
            path.write_bytes(make_nifti(array, version=version, order=order, fields=header))
            info = study({"v": {"s": path}}).v.iloc[0].orientation_info
            assert found.setdefault(name, (info.source, info.confidence)) == (info.source, info.confidence)
    assert found == {
        "sform": ("nifti_sform", "header"),
        "qform": ("nifti_qform", "header"),
        "neither": ("nifti_pixdim", "unknown"),
    }


@pytest.mark.gap("files", reason="a NIfTI file says itself where its affine is from", raises=AssertionError)
def test_orientation_info_follows_a_turn(study, vol, array) -> None:
    info, turned = vol.orientation_info, vol.reorient("RAS").orientation_info
    assert (info.axcodes, info.is_canonical, info.source) == (("L", "A", "S"), False, "affine")
    assert (turned.axcodes, turned.is_canonical, turned.source) == (("R", "A", "S"), True, "affine")
    np.testing.assert_array_equal(turned.affine, vol.reorient("RAS").affine)
    plain = study({"v": {"s": array}}).v.iloc[0].orientation_info
    assert (plain.source, plain.confidence) == ("identity", "unknown")


@pytest.mark.parametrize("orientation", list(SliceOrientation))
def test_tile_orientation_is_that_of_the_config(study, orientation) -> None:
    array = np.zeros((40, 36, 34), "u1")
    write = WriteConfig(tile=TileConfig(orientation=orientation))
    vol = study({"v": {"s": (array, OBLIQUE)}}, write=write).v.iloc[0]
    assert vol.tile_orientation is orientation
    # array axis 2 becomes array axis 0
    turned = {"axial": "sagittal", "sagittal": "coronal", "coronal": "axial", "isotropic": "isotropic"}
    assert vol.reorient("SLA").tile_orientation is SliceOrientation(turned[orientation.value])
    assert vol.resample(3.0).tile_orientation is None


def test_chunks_of_no_orientation_have_none(study) -> None:
    write = WriteConfig(tile=TileConfig(chunks=(4, 8, 4)))
    assert study({"v": {"s": np.zeros((20, 20, 20), "u1")}}, write=write).v.iloc[0].tile_orientation is None
