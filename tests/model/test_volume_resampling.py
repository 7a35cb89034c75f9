"""`reorient`, `resample`, `read_mm`: lazy, exact where they can be, and reading no more than they need."""

from __future__ import annotations

import pickle

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine

from radiobject import RadiObject, TileConfig, Volume, WriteConfig, measure
from radiobject.errors import CapabilityError, ConfigError, GeometryError, SelectionError

IN_PLACE = True

OBLIQUE = np.array(
    [[-1.9, 0.3, 0.1, 40.0], [0.2, 2.1, -0.5, -60.0], [0.1, 0.4, 2.9, 12.5], [0.0, 0.0, 0.0, 1.0]]
)
STRAIGHT = np.diag([-2.0, 1.5, 3.0, 1.0])
SHAPE = (15, 14, 13)
CODES = ["".join(p) for p in ("RAS", "LPS", "PIR", "SRA", "AIL", "LAS")]
SMALL = WriteConfig(tile=TileConfig(chunks=(4, 4, 4), shards=(16, 16, 16)))


@pytest.fixture(scope="module")
def array() -> np.ndarray:
    smooth = np.add.outer(np.add.outer(np.arange(15) ** 2, np.arange(14) * 7), np.arange(13) * 11)
    return (smooth + np.random.default_rng(0).integers(0, 300, SHAPE)).astype("i2")


@pytest.fixture(scope="module")
def uri(module_study, array) -> str:
    labels = (array > 200).astype("u1") + (array > 400)
    four = np.stack([array, array[::-1], -array], axis=-1)
    radi = module_study(
        {
            "CT": {"s": (array, OBLIQUE)},
            "straight": {"s": (array, STRAIGHT)},
            "seg": {"s": (labels.astype("u1"), OBLIQUE)},
            "bold": {"s": (four, OBLIQUE)},
        },
        axis4="time",
        write=SMALL,
    )
    return radi.uri


@pytest.fixture
def radi(uri: str) -> RadiObject:
    return RadiObject(uri)


@pytest.fixture
def vol(radi) -> Volume:
    return radi.CT.iloc[0]


def points(vol: Volume) -> np.ndarray:
    """World position of every voxel."""
    return apply_affine(vol.affine, np.moveaxis(np.indices(vol.shape[:3]), 0, -1))


# --- reorient


@pytest.mark.parametrize("codes", CODES)
def test_reorient_is_nibabels(vol, array, codes) -> None:
    turned = vol.reorient(codes)
    ornt = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(OBLIQUE), nibabel.orientations.axcodes2ornt(codes)
    )
    expected = nibabel.Nifti1Image(array, OBLIQUE).as_reoriented(ornt)
    assert turned.axcodes == tuple(codes)
    assert turned.shape == expected.shape
    np.testing.assert_array_equal(turned[...], expected.dataobj)
    np.testing.assert_allclose(turned.affine, expected.affine, atol=1e-12)


def test_reorient_composes_with_slicer_and_index(vol, array) -> None:
    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        made, values, place = vol, array, points(vol)
        for _ in range(4):
            if data.draw(st.booleans()):
                codes = data.draw(st.sampled_from(CODES))
                turn = made._cropped().reorientation(codes, made.shape)
                made, values, place = made.reorient(codes), turn.apply(values), turn.apply(place)
            else:
                bound = st.none() | st.integers(-5, 5)
                step = st.sampled_from([None, -1, 2])
                key = tuple(slice(data.draw(bound), data.draw(bound), data.draw(step)) for _ in range(3))
                if 0 in values[key].shape:
                    continue
                made, values, place = made.slicer[key], values[key], place[key]
        assert made.shape == values.shape
        np.testing.assert_array_equal(made[...], values)
        np.testing.assert_allclose(points(made), place, atol=1e-9)
        part = tuple(data.draw(st.slices(n)) for n in made.shape)
        np.testing.assert_array_equal(made[part], values[part])

    check()


@pytest.mark.parametrize("codes", CODES)
def test_there_and_back_is_exact(radi, codes) -> None:
    for collection in (radi.CT, radi.bold):
        vol = collection.iloc[0]
        back = vol.reorient(codes).reorient(vol.axcodes)
        assert back.shape == vol.shape
        np.testing.assert_array_equal(back[...], vol[...])
        np.testing.assert_array_equal(back.affine, vol.affine)


def test_reorient_reads_only_what_is_asked(vol, array) -> None:
    with measure() as m:
        turned = vol.reorient("PIR")
        assert (turned.shape, turned.axcodes) == ((14, 13, 15), ("P", "I", "R"))
    assert m["requests"] == m["bytes_used"] == 0
    with measure() as m:
        part = turned[0:2, 3:6, 1]
    assert m["bytes_used"] == part.nbytes == 2 * 3 * array.itemsize


def test_reorient_to_its_own_codes_is_the_volume_itself(vol) -> None:
    assert vol.reorient(vol.axcodes) is vol


def test_reoriented_export_opens_right_elsewhere(radi, tmp_path) -> None:
    for name in ("CT", "bold"):
        vol = radi.collection(name).iloc[0]
        turned = vol.reorient("SRA")
        turned.to_nifti(tmp_path / f"{name}.nii.gz")
        image = nibabel.load(tmp_path / f"{name}.nii.gz")
        assert nibabel.aff2axcodes(image.affine) == ("S", "R", "A")
        np.testing.assert_array_equal(np.asarray(image.dataobj), turned[...])
        np.testing.assert_allclose(image.affine, turned.affine, atol=1e-5)
        ras = nibabel.as_closest_canonical(image)
        np.testing.assert_array_equal(np.asarray(ras.dataobj), vol.reorient("RAS")[...])


def test_reoriented_planes_are_the_same_planes(vol) -> None:
    turned = vol.reorient("PIR")
    np.testing.assert_array_equal(turned.axial(mm=20, display=True), vol.axial(mm=20, display=True))
    np.testing.assert_array_equal(turned.sagittal(display=True), vol.sagittal(display=True))


@pytest.mark.parametrize("codes", ["RAR", "XYZ", "RA", ""])
def test_codes_that_are_none_are_refused(vol, codes) -> None:
    with pytest.raises(GeometryError, match="axis codes"):
        vol.reorient(codes)


# --- resample


@pytest.mark.gap("files", reason="NIfTI keeps an affine in float32", raises=AssertionError)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_resampling_to_its_own_grid_is_exact(vol, array, order) -> None:
    for same in (
        vol.resample(like=vol, order=order),
        vol.resample(spacing=vol.spacing, order=order),
        vol.resample(like=(SHAPE, OBLIQUE), order=order),
        vol.resample(like=nibabel.Nifti1Image(array, OBLIQUE), order=order),
    ):
        assert same.dtype == (np.int16 if order == 0 else np.float32)
        np.testing.assert_array_equal(same[...], array)
        np.testing.assert_array_equal(same.affine, vol.affine)


def test_a_linear_field_stays_itself_on_another_grid(study) -> None:
    field = points_of(OBLIQUE, SHAPE) @ [3.0, -2.0, 1.0]
    vol = study({"v": {"s": (field.astype("f8"), OBLIQUE)}}).v.iloc[0]
    turned = np.array([[0.8, 0.1, 0, 18.0], [-0.1, 1.1, 0.2, -50.0], [0, -0.2, 1.3, 30.0], [0, 0, 0, 1]])
    for made in (vol.resample(spacing=(1.0, 2.5, 1.7)), vol.resample(like=((8, 9, 7), turned), fill=np.nan)):
        at = apply_affine(np.linalg.inv(OBLIQUE), points(made))
        interior = ((at >= 0) & (at <= np.array(SHAPE) - 1)).all(axis=-1)
        assert interior.mean() > 0.5
        expected = points(made) @ [3.0, -2.0, 1.0]
        np.testing.assert_allclose(made[...][interior], expected[interior], atol=1e-3)


def points_of(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))


def test_a_part_of_a_resampled_volume_is_the_part_of_the_whole(radi) -> None:
    grids = {
        "spacing": lambda v: v.resample(spacing=(1.3, 3.1, 2.0)),
        "oblique": lambda v: v.resample(like=((9, 10, 11), np.diag([1.7, 2.2, 2.1, 1.0]) + SHIFT)),
        "turned": lambda v: v.reorient("PIR").slicer[1:, ::-2].resample(2.4),
        "cubic": lambda v: v.resample(2.5, order=3),
    }

    @settings(max_examples=60, deadline=None)
    @given(st.sampled_from(sorted(grids)), st.sampled_from(["CT", "straight", "seg", "bold"]), st.data())
    def check(grid: str, name: str, data: st.DataObject) -> None:
        if name == "seg" and grid == "cubic":
            return
        made = grids[grid](radi.collection(name).iloc[0])
        key = tuple(data.draw(st.slices(n)) for n in made.shape)
        np.testing.assert_array_equal(made[key], made[...][key])
        if 0 not in made[...][key].shape:
            np.testing.assert_array_equal(made.slicer[key][...], made[...][key])

    check()


SHIFT = np.array([[0, 0, 0, 15.0], [0, 0, 0, -58.0], [0, 0, 0, 16.0], [0, 0, 0, 0]])


def test_nothing_asked_for_is_nothing_read(radi) -> None:
    for made in (
        radi.bold.iloc[0].resample(2.0),
        radi.bold.iloc[0].resample(like=((4, 5, 6), np.eye(4) + SHIFT)),
    ):
        with measure() as m:
            assert made[..., :0].shape == (*made.shape[:3], 0)
            assert made[2:2, :3].shape == (0, 3, *made.shape[2:])
        assert m["requests"] == 0


def test_a_read_costs_the_source_box_and_its_margin(vol, array) -> None:
    fine = vol.resample(spacing=np.array(vol.spacing) / 2)
    assert fine.shape == (30, 28, 26)
    with measure() as m:
        fine[10:14, 10:14, 10:14]
    # target voxels 10 to 13 lie at 4.75, 5.25, 5.75 and 6.25: source voxels 4 to 7
    assert m["bytes_used"] == 4**3 * array.itemsize
    oblique = vol.resample(like=((40, 40, 40), np.diag([1.0, 1.0, 1.0, 1.0]) + SHIFT))
    with measure() as m:
        oblique[10:13, 10:13, 10:13]
    assert 0 < m["bytes_used"] <= 5**3 * array.itemsize
    with measure() as m:
        assert (oblique.slicer[:1].resample(like=((2, 2, 2), np.eye(4) * 1.0), fill=3)[...] == 3).all()
    assert m["requests"] == 0


def test_labels_keep_their_values_and_their_type(radi) -> None:
    seg = radi.seg.iloc[0]
    assert seg.meta.kind == "label"
    made = seg.resample(spacing=1.1)
    assert made.dtype == made[...].dtype == np.uint8
    assert set(np.unique(made[...])) <= {0, 1, 2}
    assert made.meta.kind == "label"
    with pytest.raises(ConfigError, match=r"s_seg.*order=0"):
        seg.resample(spacing=1.1, order=1)


def test_each_time_point_goes_by_itself(radi, array) -> None:
    bold = radi.bold.iloc[0]
    made = bold.resample(spacing=(3.0, 2.0, 2.0))
    assert made.axes == ("x", "y", "z", "t")
    assert made.shape[3] == 3
    for t in range(3):
        alone = bold.slicer[..., t].resample(spacing=(3.0, 2.0, 2.0))
        np.testing.assert_array_equal(made[..., t], alone[...])
    np.testing.assert_array_equal(made[..., 2], -made[..., 0])
    with measure() as m:
        made[2:4, 2:4, 2:4, 1]
    assert m["bytes_used"] <= 5**3 * array.itemsize


def test_scaled_values_are_interpolated_not_stored_ones(study, make_nifti, tmp_path) -> None:
    path = tmp_path / "scaled.nii"
    path.write_bytes(
        make_nifti(
            np.arange(4 * 5 * 6, dtype="i2").reshape(4, 5, 6),
            fields={"scl_slope": 0.5, "scl_inter": -3, "sform_code": 4},
        )
    )
    vol = study({"v": {"s": path}}).v.iloc[0]
    made = vol.resample(like=vol)
    np.testing.assert_array_equal(made[...], vol[...])
    np.testing.assert_array_equal(made.to_numpy(raw=True), vol[...])
    made = vol.resample(spacing=1.5)
    made.to_nifti(tmp_path / "out.nii.gz")
    image = nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(image.get_fdata(), made[...])
    np.testing.assert_allclose(image.affine, made.affine, atol=1e-6)
    assert image.header["sform_code"] == 4
    assert image.header.get_zooms() == pytest.approx((1.5, 1.5, 1.5))


def test_a_resampled_volume_is_a_volume(vol) -> None:
    made = vol.resample(2.0).reorient("RAS").slicer[2:-1]
    again = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(again[...], made[...])
    assert made.obs_id == vol.obs_id
    assert made.metadata["obs_subject_id"] == "s"
    assert "2x2x2 mm RAS" in repr(made)
    np.testing.assert_array_equal(made.axial(3), made[:, :, 3])
    assert made.to_nibabel().shape == made.shape
    with pytest.raises(CapabilityError, match="resampled"):
        _ = made.array


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({}, SelectionError, "either spacing= or like="),
        ({"spacing": 1, "like": ((1, 1, 1), np.eye(4))}, SelectionError, "either"),
        ({"spacing": -1}, GeometryError, "spacing"),
        ({"spacing": 1, "order": 2}, ConfigError, "0, 1 or 3"),
        ({"like": 3}, GeometryError, "shape, affine"),
        ({"like": ((0, 1, 1), np.eye(4))}, GeometryError, "above zero"),
        ({"like": ((1, 1, 1), np.zeros((4, 4)))}, GeometryError, "affine"),
        ({"spacing": 1, "order": 0, "fill": np.nan}, ConfigError, "fill"),
        ({"spacing": 1, "order": 0, "fill": 40_000}, ConfigError, "int16"),
    ],
)
def test_what_resample_refuses(vol, options, kind, words) -> None:
    with pytest.raises(kind, match=words):
        vol.resample(**options)


# --- read_mm


def test_read_mm_is_reorient_resample_then_crop(radi) -> None:
    """Within 1e-4 of the range, on oblique and anisotropic grids, beyond the edge too."""

    @settings(max_examples=80, deadline=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        vol = radi.collection(data.draw(st.sampled_from(["CT", "straight", "seg", "bold"]))).iloc[0]
        codes = data.draw(st.none() | st.sampled_from(CODES))
        order = 0 if vol.meta.kind == "label" else data.draw(st.sampled_from([0, 1, 3]))
        turned = vol if codes is None else vol.reorient(codes)
        spacing = data.draw(st.none() | st.tuples(*[st.floats(0.8, 5)] * 3))
        whole = turned if spacing is None else turned.resample(spacing, order=order)
        start = [data.draw(st.integers(0, n - 1)) for n in whole.shape[:3]]
        stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, whole.shape, strict=False)]
        count = np.subtract(stop, start)
        centre = apply_affine(whole.affine, start + (count - 1) / 2)
        found = vol.read_mm(centre, count * whole.spacing, spacing, codes, order=order)
        expected = whole[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        assert found.shape == expected.shape
        scale = float(np.ptp(vol[...]))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * scale)

    check()


def test_read_mm_reads_the_box_and_its_margin(vol, array) -> None:
    centre = apply_affine(OBLIQUE, (7, 7, 6))
    with measure() as m:
        found = vol.read_mm(centre, np.array(vol.spacing) * 3)
    np.testing.assert_array_equal(found, array[6:9, 6:9, 5:8])
    assert m["bytes_used"] == 27 * array.itemsize
    with measure() as m:
        found = vol.read_mm(centre, np.array(vol.spacing) * 3, spacing=np.array(vol.spacing) * 0.75)
    assert found.shape == (4, 4, 4)
    assert m["bytes_used"] == 5**3 * array.itemsize  # -1.125 ... 1.125 voxels around the centre


def test_read_mm_outside_is_fill_and_reads_nothing(vol) -> None:
    with measure() as m:
        found = vol.read_mm((900, 0, 0), 6.0, spacing=2.0, fill=-1024)
    assert found.shape == (3, 3, 3)
    assert (found == -1024).all()
    assert m["requests"] == 0
    edge = vol.read_mm(apply_affine(OBLIQUE, (0, 7, 6)), np.array(vol.spacing) * 3, fill=-1024)
    assert (edge[0] == -1024).all()
    assert (edge[1:] != -1024).all()


def test_read_mm_of_time_has_all_time_points(radi) -> None:
    bold = radi.bold.iloc[0]
    assert bold.read_mm((20, -30, 40), 8.0, spacing=2.0).shape == (4, 4, 4, 3)
    assert bold.slicer[..., 1].read_mm((20, -30, 40), 8.0, spacing=2.0).shape == (4, 4, 4)


def test_a_grid_in_another_unit_of_length_is_refused(tmp_path, make_nifti) -> None:
    (tmp_path / "slide.nii").write_bytes(make_nifti(np.zeros((4, 5, 6), "u1"), fields={"xyzt_units": 3}))
    slide = Volume.from_nifti(tmp_path / "slide.nii")
    scan = Volume.from_numpy(np.zeros((4, 5, 6), "u1"), np.diag([2.0, 2.5, 3.0, 1.0]))
    assert "2x2.5x3 um" in repr(slide)
    for one, other in ((slide, scan), (scan, slide)):
        with pytest.raises(GeometryError, match=r"in (um|mm)"):
            one.resample(like=other)
    assert slide.resample(like=(scan.shape, slide.affine)).shape == (4, 5, 6)
