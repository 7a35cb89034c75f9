"""Objects in memory as sources: Volumes, DataArrays, images, arrays; what of each is kept."""

from __future__ import annotations

import datetime
import gzip
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject import RadiObject, Volume
from radiobject.errors import (
    AxisAmbiguousError,
    DuplicateIdError,
    GeometryError,
    IngestError,
    MetadataError,
    SourceError,
    SourceUnsupportedError,
)
from radiobject.model.held import HeldHandle
from radiobject.writing.objects import from_object

OBLIQUE = np.array([[1.9, -0.4, 0.3, -7], [0.5, 2.4, -0.2, 30], [-0.2, 0.3, 2.9, 4], [0, 0, 0, 1]])


def voxels(*shape: int, dtype: str = "i2") -> np.ndarray:
    return np.random.default_rng(3).integers(0, 200, shape).astype(dtype)


@pytest.fixture
def scan(tmp_path: Path, make_nifti) -> Path:
    """Scaled integers, an extension, odd bytes behind the voxels, a caret's time step."""
    content = make_nifti(
        voxels(6, 5, 4, 3),
        affine=OBLIQUE,
        order=">",
        extensions=[(6, b"a comment")],
        fields={"scl_slope": 0.5, "scl_inter": -3, "descrip": b"scanner 7", "xyzt_units": 10, "pixdim": [
            1, 2, 2, 3, 2.5, 0, 0, 0]},
        tail=b"left over",
    )  # fmt: skip
    path = tmp_path / "sub-1_bold.nii.gz"
    path.write_bytes(gzip.compress(content))
    return path


def study_of(tmp_path: Path, source, name: str = "bold", **options) -> RadiObject:
    return RadiObject.from_niftis(
        tmp_path / f"made-{len(list(tmp_path.iterdir()))}", {name: source}, **options
    )


# Volumes


def test_an_untouched_volume_of_a_nifti_file_goes_back_byte_for_byte(scan, tmp_path) -> None:
    stored = study_of(tmp_path, scan).bold.iloc[0]
    single = Volume.from_nifti(scan, tmp_path / "single")
    for vol in (stored, single, Volume(tmp_path / "single"), Volume.from_nifti(scan)):
        made = study_of(tmp_path, [vol]).bold.iloc[0]
        assert made.meta == stored.meta
        np.testing.assert_array_equal(made[...], stored[...])
        made.to_nifti(tmp_path / "back.nii")
        assert (tmp_path / "back.nii").read_bytes() == gzip.decompress(scan.read_bytes())


def test_a_changed_volume_keeps_integers_scaling_and_header(scan, tmp_path) -> None:
    vol = study_of(tmp_path, scan).bold.iloc[0]
    for changed in (vol.slicer[1:5, ::-1], vol.reorient("LPS"), vol.slicer[..., 1:]):
        made = study_of(tmp_path, [changed]).bold.iloc[0]
        np.testing.assert_array_equal(made[...], changed[...])
        np.testing.assert_array_equal(made.to_numpy(raw=True), changed.to_numpy(raw=True))
        np.testing.assert_allclose(made.affine, changed.affine)
        assert (made.stored_dtype, made.dtype, made.meta.time_step) == (vol.stored_dtype, vol.dtype, 2.5)
        made.to_nifti(tmp_path / "back.nii")
        back = nibabel.load(tmp_path / "back.nii")
        assert back.header["descrip"] == b"scanner 7"
        assert (back.dataobj.slope, back.dataobj.inter) == (0.5, -3)
        np.testing.assert_allclose(back.affine, changed.affine, atol=1e-5)
        np.testing.assert_allclose(back.get_fdata(), changed[...])
    coarse = vol.resample(spacing=4.0)
    made = study_of(tmp_path, [coarse]).bold.iloc[0]
    np.testing.assert_array_equal(made[...], coarse[...])
    assert made.meta.scaling is None


def test_a_volume_keeps_its_subject_session_run_and_time(tmp_path) -> None:
    when = datetime.datetime(2020, 5, 17, 12)  # noqa: DTZ001 - as scanners write it
    frame = pd.DataFrame(
        {"obs_id": ["sub-7_T1w"], "session": ["pre"], "run": [2], "acquisition_time": [pd.Timestamp(when)]}
    )
    images = {"T1w": [((voxels(4, 4, 4), None), "sub-7")]}
    vol = RadiObject.from_niftis(tmp_path / "source", images, obs={"T1w": frame}).T1w.iloc[0]
    made = study_of(tmp_path, [vol, (vol.slicer[1:], "sub-8"), (vol, "sub-9", "own id")], "T1w").T1w
    assert made.obs_ids == ["sub-7_T1w", "sub-8_T1w", "own id"]
    assert made.obs_subject_ids == ["sub-7", "sub-8", "sub-9"]
    rows = made.obs.read(["session", "run", "acquisition_time"])
    assert rows["session"].tolist() == ["pre"] * 3
    assert rows["run"].tolist() == [2] * 3
    assert rows["acquisition_time"].tolist() == [pd.Timestamp(when)] * 3
    held = Volume.from_numpy(voxels(4, 4, 4))
    assert study_of(tmp_path, [held], "T1w").T1w.obs_ids == ["T1w-0_T1w"]


def test_a_whole_collection_is_a_list_of_volumes(study) -> None:
    radi = study()
    radi.append({"again": radi.T1w, "seg2": list(radi.seg)})
    assert radi.again.obs_ids == ["sub-03_again", "sub-01_again", "sub-02_again"]
    assert (radi.again.kind, radi.seg2.kind) == ("image", "label")
    for subject in radi.obs_subject_ids:
        np.testing.assert_array_equal(
            radi.again.sel(subject=subject)[...], radi.T1w.sel(subject=subject)[...]
        )


def test_volumes_say_whether_they_are_labels(tmp_path) -> None:
    images = {"organs": [((voxels(4, 4, 4, dtype="u1"), None), "s")]}
    named = {"organs": {1: "liver", 2: "spleen"}}
    vol = RadiObject.from_niftis(tmp_path / "source", images, labels=named).organs.iloc[0]
    made = study_of(tmp_path, [vol], "organs").organs
    assert made.kind == "label"
    assert [x.name for x in made.iloc[0].meta.labels] == ["liver", "spleen"]
    assert study_of(tmp_path, [vol, (voxels(4, 4, 4), None)], "organs").organs.kind == "label"
    assert study_of(tmp_path, [vol], "organs", labels=[]).organs.kind == "image"
    both = [vol, Volume.from_numpy(voxels(4, 4, 4))]
    assert study_of(tmp_path, both, "organs").organs.kind == "image"
    renamed = study_of(tmp_path, [vol], "organs", labels={"organs": {1: "hepar"}}).organs.iloc[0]
    assert [x.name for x in renamed.meta.labels] == ["hepar"]


def test_update_sees_what_of_a_volume_changed(scan, tmp_path) -> None:
    vol = Volume.from_nifti(scan)
    radi = study_of(tmp_path, [(vol, "s")])
    for same in (vol, Volume.from_nifti(scan)):
        assert radi.append({"bold": [(same, "s")]}, on_conflict="update").version == 1
    for changed in (vol.slicer[1:], vol.reorient("RAS"), Volume.from_numpy(vol.to_numpy(raw=True), vol.affine,
                                                                            time_step=2.5)):  # fmt: skip
        before = radi.version
        radi.append({"bold": [(changed, "s")]}, on_conflict="update")
        assert radi.version == before + 1
        np.testing.assert_array_equal(radi.bold.iloc[0][...], changed[...])


def test_the_meaning_of_a_fourth_axis_is_part_of_what_changed() -> None:
    array = voxels(4, 4, 4, 2)
    digests = {from_object((array, None), "a", axis).digest for axis in ("time", "channel")}
    digests |= {from_object(Volume.from_numpy(array, time_step=s), "a").digest for s in (1.0, 2.0)}
    assert len(digests) == 4


def test_what_a_volume_says_of_itself_is_part_of_what_changed() -> None:
    array = voxels(4, 4, 4, dtype="u1")
    kinds = ("image", "label")
    assert len({from_object(Volume.from_numpy(array, kind=k), "a").digest for k in kinds}) == 2
    assert len({from_object(Volume.from_numpy(array), "a").digest for _ in range(2)}) == 1


# DataArrays

xarray = pytest.importorskip("xarray")


def cube(*dims: str, **options) -> xarray.DataArray:
    """4x5x6 voxels, 3 time points, 2 channels: as many of these axes as asked for, in that order."""
    sizes = {"x": 4, "y": 5, "z": 6, "t": 3, "time": 3, "c": 2, "channel": 2}
    return xarray.DataArray(voxels(*(sizes[d] for d in dims)), dims=dims, **options)


@pytest.mark.parametrize(
    ("dims", "axes"),
    [
        ("x y z", "xyz"), ("z y x", "xyz"), ("y z x", "xyz"), ("t z y x", "xyzt"), ("x y z time", "xyzt"),
        ("channel x y z", "xyzc"), ("z c y x", "xyzc"), ("c t z y x", "xyztc"),
        ("x time y channel z", "xyztc"),
    ],
)  # fmt: skip
def test_dims_come_in_any_order(tmp_path, dims, axes) -> None:
    array = cube(*dims.split(), attrs={"affine": OBLIQUE.tolist()})
    made = study_of(tmp_path, [(array, "s")]).bold.iloc[0]
    names = {"t": "time", "c": "channel"}
    order = [a if a in array.dims else names[a] for a in axes]
    np.testing.assert_array_equal(made[...], array.transpose(*order).to_numpy())
    np.testing.assert_array_equal(made.affine, OBLIQUE)
    assert made.axes == tuple(axes)
    assert made.meta.time_step is None


def test_even_coordinates_are_an_affine(tmp_path) -> None:
    coords = {"x": [3.0, 1.0, -1.0, -3.0], "y": np.arange(5) * 0.7 + 0.1, "z": range(10, 16)}
    made = study_of(tmp_path, cube("z", "y", "x", coords=coords)).bold.iloc[0]
    np.testing.assert_allclose(made.affine, [[-2, 0, 0, 3], [0, 0.7, 0, 0.1], [0, 0, 1, 10], [0, 0, 0, 1]])
    assert made.axcodes == ("L", "A", "S")
    turned = cube("z", "y", "x", coords=coords, attrs={"affine": np.eye(4)})
    np.testing.assert_array_equal(study_of(tmp_path, turned).bold.iloc[0].affine, np.eye(4))
    single = cube("x", "y", "z", coords=coords).isel(z=slice(2, 3))
    np.testing.assert_allclose(study_of(tmp_path, single).bold.iloc[0].affine[2], [0, 0, 1, 12])


def test_units_of_coordinates_are_heard(tmp_path) -> None:
    array = cube(
        "x", "y", "z", "t", coords={a: np.arange(n) * 0.2 for a, n in zip("xyzt", (4, 5, 6, 3), strict=True)}
    )
    for axis, unit in {"x": "cm", "y": "m", "t": "min"}.items():
        array[axis].attrs["units"] = unit
    made = study_of(tmp_path, array).bold.iloc[0]
    np.testing.assert_allclose(made.spacing, (2, 200, 0.2))
    assert made.meta.time_step == pytest.approx(12)
    array.x.attrs["units"] = "inch"
    with pytest.raises(IngestError, match=r"coordinates of 'x'.*mm, cm, m, um.*'inch'"):
        study_of(tmp_path, array)


@pytest.mark.parametrize(
    "times",
    [
        [0.0, 2.5, 5.0],
        np.array([0, 2500, 5000], "m8[ms]"),
        np.array(["2020-01-01T00:00:00", "2020-01-01T00:00:02.500", "2020-01-01T00:00:05"], "M8[ns]"),
    ],
)
def test_time_coordinates_give_the_time_step(tmp_path, times) -> None:
    array = cube("t", "z", "y", "x", coords={"t": times}, attrs={"affine": np.eye(4)})
    vol = study_of(tmp_path, array).bold.iloc[0]
    assert (vol.meta.time_step, vol.meta.time_unit) == (2.5, "s")


EVEN = {"x": range(4), "y": range(5), "z": range(6)}


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (cube("x", "y", "z"), "attrs.*no coordinates along x, y, z"),
        (cube("x", "y", "z", coords={"x": range(4), "z": range(6)}), "no coordinates along y"),
        (cube("x", "y", "z", coords={**EVEN, "z": [0, 1, 2, 3, 4, 6]}), "coordinates of 'z'.*1 to 2"),
        (cube("x", "y", "z", coords={**EVEN, "x": [1, 1, 1, 1]}), "coordinates of 'x'.*even steps"),
        (cube("x", "y", "z", coords={**EVEN, "x": [0, 1, 2, np.nan]}), "coordinates of 'x'.*finite numbers"),
        (cube("x", "y", "z", coords={**EVEN, "x": [0, 1, np.inf, np.inf]}), "coordinates of 'x'.*finite"),
        (cube("x", "y", "z", coords={**EVEN, "x": list("abcd")}), "coordinates of 'x'.*numbers"),
        (cube("x", "y", "z", coords={**EVEN, "x": np.arange(4).astype("M8[s]")}), "of 'x'.*numbers"),
        (cube("x", "y", "z", "t", coords={**EVEN, "t": [5, 4, 3]}), "coordinates of 't'.*even steps forward"),
        (cube("x", "y", "z", "t", coords={**EVEN, "t": [0, 1, 5]}), "coordinates of 't'.*even steps forward"),
        (cube("x", "y", coords={}), r"dims x, y, z.*\('x', 'y'\)"),
        (cube("x", "y", "z").rename(x="row"), r"dims x, y, z.*'row'"),
        (cube("x", "y", "z").expand_dims("batch"), r"dims x, y, z.*'batch'"),
        (cube("x", "y", "z", "t").expand_dims("time"), r"dims x, y, z.*'time'"),
        (cube("x", "y", "z", attrs={"affine": np.eye(3)}), "affine"),
        (cube("x", "y", "z", attrs={"affine": "RAS"}), "affine"),
        (cube("x", "y", "z", attrs={"affine": np.eye(4)}).astype(complex), "complex128"),
    ],
)  # fmt: skip
def test_dataarrays_that_are_no_volume_say_why(tmp_path, array, match) -> None:
    with pytest.raises(IngestError, match=match) as caught:
        study_of(tmp_path, [(array, "s")])
    assert caught.value.report[0]["error"] == "SourceUnsupportedError"
    with pytest.raises(SourceUnsupportedError, match=match):
        from_object(array, "one")


@settings(max_examples=60, deadline=None)
@given(
    order=st.permutations(["x", "y", "z", "time", "channel"]),
    drop=st.sets(st.sampled_from(["time", "channel"])),
    step=st.tuples(*[st.floats(0.1, 9).map(lambda v: round(v, 3))] * 3),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    start=st.tuples(*[st.integers(-99, 99)] * 3),
)
def test_every_voxel_of_a_dataarray_stays_where_its_coordinates_are(order, drop, step, signs, start) -> None:
    array = cube(*(d for d in order if d not in drop))
    sizes = dict(zip(array.dims, array.shape, strict=True))
    array = array.assign_coords(
        {a: start[i] + signs[i] * step[i] * np.arange(sizes[a]) for i, a in enumerate("xyz")}
    )
    loaded = from_object(array, "one")
    vol = Volume._of(HeldHandle.of(loaded), loaded.meta)
    at = {"x": 2, "y": 3, "z": 1, "time": 1, "channel": 1}
    point = vol.affine @ [2, 3, 1, 1]
    np.testing.assert_allclose(point[:3], [float(array[a][at[a]]) for a in "xyz"], atol=1e-6)
    index = tuple(at[{"t": "time", "c": "channel"}.get(a, a)] for a in vol.axes)
    assert vol[index] == array.isel({d: at[d] for d in array.dims})


# images and arrays


def test_images_in_memory_keep_their_time_step(tmp_path) -> None:
    image = nibabel.Nifti1Image(voxels(4, 4, 4, 2), np.eye(4))
    image.header.set_zooms((1, 1, 1, 1500))
    image.header.set_xyzt_units("mm", "msec")
    assert study_of(tmp_path, [image]).bold.iloc[0].meta.time_step == 1.5
    with pytest.raises(IngestError, match="axis4"):
        study_of(tmp_path, [nibabel.Nifti1Image(voxels(4, 4, 4, 2), np.eye(4))])


def test_an_array_alone_needs_its_affine(tmp_path) -> None:
    array = voxels(4, 4, 4)
    for source in (array, [array], [(array, "s")]):
        with pytest.raises(SourceError, match="needs its 4x4 affine"):
            study_of(tmp_path, source)
    for source in ({"s": (array, None)}, 7, xarray.Dataset({"a": cube("x", "y", "z")})):
        with pytest.raises(MetadataError, match="expected a glob, a folder, a list or an image"):
            study_of(tmp_path, source)
    with pytest.raises(IngestError, match="filled"):
        study_of(tmp_path, [(np.ma.masked_less(array, 50), None)])
    with pytest.raises(AxisAmbiguousError):
        from_object((voxels(4, 4, 4, 2), None), "a")


def test_sources_may_bring_their_ids(tmp_path, scan) -> None:
    array = (voxels(4, 4, 4), None)
    made = study_of(tmp_path, [(array, "s", "first"), (array, "s"), (scan, "t", "third")]).bold
    assert (made.obs_ids, made.obs_subject_ids) == (["first", "s_bold", "third"], ["s", "s", "t"])
    # an id that is given is nobody else's
    made = study_of(tmp_path, [(array, "s"), (array, "t", "s_bold")]).bold
    assert made.obs_ids == ["s_bold_acq-1", "s_bold"]
    with pytest.raises(DuplicateIdError, match="'x'"):
        RadiObject.from_niftis(tmp_path / "study", {"a": [(array, "s", "x")], "b": [(array, "t", "x")]})
    assert not (tmp_path / "study").exists()
    for ids in (("s", 7), ("s", ""), (None, "x")):
        with pytest.raises(MetadataError, match="obs_id as text"):
            study_of(tmp_path, [(array, *ids)])


# turned on the way in


def test_reorient_overrides_the_settings(tmp_path, scan) -> None:
    plain = study_of(tmp_path, scan).bold.iloc[0]
    for reorient, codes in ((True, "RAS"), ("PIR", "PIR"), (("L", "P", "S"), "LPS"), (False, plain.axcodes)):
        radi = study_of(tmp_path, [(scan, "a"), (plain, "b")], reorient=reorient)
        for vol in radi.bold:
            assert vol.axcodes == tuple(codes)
            np.testing.assert_array_equal(vol[...], plain.reorient(codes)[...])
            np.testing.assert_allclose(vol.affine, plain.reorient(codes).affine)
    radi.append({"bold": [(scan, "c")]}, pd.DataFrame({"obs_subject_id": ["c"]}), reorient="LPS")
    assert radi.bold.sel(subject="c").axcodes == ("L", "P", "S")
    with pytest.raises(GeometryError, match="RAX"):
        RadiObject.from_niftis(tmp_path / "never", {"bold": scan}, reorient="RAX")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("word", "unit"), [("mm", "mm"), ("micron", "um"), ("meter", "m"), ("unknown", "mm")]
)
def test_an_image_in_memory_says_its_unit_of_length_as_its_file_does(
    tmp_path: Path, word: str, unit: str
) -> None:
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.diag([20.0, 20, 30, 1]))
    image.header.set_xyzt_units(word)
    nibabel.save(image, tmp_path / "scan.nii")
    for source in (image, tmp_path / "scan.nii"):
        assert Volume.from_nifti(source).meta.space_unit == unit
