"""Floats kept as integers: every float comes back bit for bit, whatever it is, and so does its file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from radiobject import RadiObject, Volume, WriteConfig
from radiobject.format.meta import Label, Scaling, VolumeMeta
from radiobject.geometry.affine import Affine
from radiobject.writing.integers import as_floats, as_integers
from radiobject.writing.loaded import from_array, from_voxels

AFFINE = np.diag([-0.8, 0.95, 1.2, 1.0])


def bits(array: np.ndarray) -> bytes:
    """What tells -0.0 from 0 and one NaN from another."""
    return np.ascontiguousarray(array).tobytes()


def whole(*values: float, dtype: str = "f4") -> np.ndarray:
    return np.array(values, dtype).reshape(-1, 1, 1)


@st.composite
def floats(draw: Any) -> np.ndarray:
    """Whole numbers of some range, with now and then a value of any other kind among them."""
    dtype = np.dtype(draw(st.sampled_from(["f4", "f8"])))
    top = draw(st.sampled_from([100, 300, 40_000, 70_000, 2**31, 2**53]))
    numbers = st.integers(draw(st.sampled_from([0, -top])), top).map(float)
    odd = st.sampled_from([-0.0, np.nan, np.inf, -np.inf, 0.5, 1e-45, 2.0**15, -(2.0**31), 1e30])
    anything = st.floats(width=dtype.itemsize * 8)
    elements = draw(st.sampled_from([numbers, numbers, numbers | odd, anything]))
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=5))
    with np.errstate(over="ignore"):
        made: np.ndarray = np.array(draw(st.lists(elements, min_size=1, max_size=9)), np.float64).astype(
            dtype
        )
        return np.resize(made, shape)


@settings(deadline=None)
@given(floats())
@example(whole(-0.0, 1))
@example(whole(np.nan))
@example(whole(0, np.inf))
@example(whole(1e-45, 3))
@example(whole(2.0**31, -(2.0**31), dtype="f8"))
@example(whole(-(2.0**31), 2.0**31 - 1, dtype="f8"))
def test_every_float_comes_back_bit_for_bit(array: np.ndarray) -> None:
    loaded = from_array(array, None, "a")
    kept = as_integers(loaded)
    voxels, meta = as_floats(kept.voxels, kept.meta)
    assert voxels.dtype == array.dtype
    assert bits(voxels) == bits(loaded.voxels)
    assert meta == loaded.meta
    assert kept.voxels.nbytes < loaded.voxels.nbytes or kept is loaded


@settings(deadline=None, max_examples=25)
@given(floats())
def test_a_stored_volume_is_read_and_exported_the_same_either_way(array: np.ndarray) -> None:
    files = []
    with tempfile.TemporaryDirectory() as folder:
        for on in (True, False):
            place = Path(folder) / f"{on}.ome.zarr"
            made = Volume.from_numpy(array, AFFINE, uri=place, write=WriteConfig(store_integers=on))
            volume = Volume(made.uri)
            assert (volume.dtype, volume[...].dtype) == (array.dtype, array.dtype)
            assert bits(volume[...]) == bits(array)
            volume.to_nifti(Path(folder) / "out.nii")
            files.append((Path(folder) / "out.nii").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("values", "dtype", "stored"),
    [
        ((0, 255), "f4", "uint8"),
        ((-128, 127), "f4", "int8"),
        ((-1, 255), "f4", "int16"),
        ((0, 32767), "f4", "int16"),
        ((0, 65535), "f4", "uint16"),
        ((-1, 65535), "f4", "float32"),
        ((-1, 65535), "f8", "int32"),
        ((0, 2.0**31), "f8", "float64"),
        ((0, 0.5), "f4", "float32"),
        ((0, -0.0), "f4", "float32"),
        ((0, np.nan), "f4", "float32"),
        ((0, np.inf), "f8", "float64"),
    ],
)
def test_the_smallest_integers_of_fewer_bytes_are_taken(
    values: tuple[float, ...], dtype: str, stored: str
) -> None:
    assert as_integers(from_array(whole(*values, dtype=dtype), None, "a")).voxels.dtype == stored


@pytest.mark.parametrize("place", [0, 2**16 - 1, 2**16, 3 * 2**15, 2**17 - 1])
def test_one_fraction_anywhere_is_enough(place: int) -> None:
    array = np.ones((64, 64, 32), "f4", order="F")
    array.reshape(-1, order="F")[place] = 1.5
    assert as_integers(from_array(array, None, "a")).voxels.dtype == "f4"


def test_labels_integers_and_scaled_floats_stay_as_they_are() -> None:
    scaled = VolumeMeta(Affine(np.eye(4)), ("z", "y", "x"), scaling=Scaling(2.0, 1.0, "float32"))
    named = VolumeMeta(Affine(np.eye(4)), ("z", "y", "x"), kind="label", labels=(Label(1, "liver"),))
    for array, meta in ((whole(1, 2), scaled), (whole(1, 2, dtype="i4"), named)):
        loaded = from_voxels(array, meta, "a")
        assert as_integers(loaded) is loaded


@pytest.fixture(params=["zarr", "tiledb"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "tiledb":
        pytest.importorskip("tiledb")
    return str(request.param)


def scans(folder: Path) -> dict[str, str]:
    """Files of float32 and float64, 3D and 4D, both byte orders; one with fractions, one with -0.0."""
    ramp = np.arange(4 * 5 * 6 * 2).reshape(4, 5, 6, 2) - 7
    arrays = {
        "whole": ramp[..., 0].astype("<f4"),
        "swapped": ramp[..., 0].astype(">f4"),
        "series": ramp.astype("<f8"),
        "fractions": (ramp[..., 0] / 2).astype("<f4"),
        "zero": np.where(ramp[..., 0] == 3, -0.0, 1).astype("<f4"),
    }
    files = {}
    for name, array in arrays.items():
        order = array.dtype.byteorder if array.dtype.byteorder in "<>" else "<"
        header = nibabel.Nifti1Header(endianness=order)
        header.set_data_dtype(array.dtype)
        image = nibabel.Nifti1Image(array, AFFINE, header, dtype=array.dtype)
        image.header.set_xyzt_units("mm", "sec")
        nibabel.save(image, folder / f"{name}.nii")
        files[name] = str(folder / f"{name}.nii")
    return files


@pytest.fixture
def study(tmp_path: Path, backend: str) -> RadiObject:
    images = {"T1w": [(path, name) for name, path in scans(tmp_path).items()]}
    return RadiObject.from_niftis(tmp_path / "study", images, backend=backend, axis4="time", progress=False)


def test_reads_give_the_floats_of_the_source(study: RadiObject, tmp_path: Path) -> None:
    stored = {}
    for volume in study.T1w:
        source = np.asarray(nibabel.load(tmp_path / f"{volume.obs_subject_id}.nii").dataobj)
        assert (volume.dtype, volume[...].dtype) == (source.dtype.newbyteorder("="),) * 2
        assert bits(volume[...]) == bits(source.astype(volume.dtype))
        assert bits(volume[1, :, 2:4]) == bits(source[1, :, 2:4].astype(volume.dtype))
        raw = volume.to_numpy(raw=True)
        np.testing.assert_array_equal(raw, source)
        stored[volume.obs_subject_id] = str(raw.dtype)
        assert volume.stored_dtype == raw.dtype == volume.metadata["dtype"]
    kept = {
        "whole": "int16",
        "swapped": "int16",
        "series": "int16",
        "fractions": "float32",
        "zero": "float32",
    }
    assert stored == kept


@pytest.mark.parametrize("copied", [False, True], ids=["itself", "copied"])
def test_export_gives_the_bytes_of_the_source(study: RadiObject, tmp_path: Path, copied: bool) -> None:
    if copied:
        study = study.write(tmp_path / "copy", progress=False)
    for volume in study.T1w:
        volume.to_nifti(tmp_path / "out.nii")
        assert (tmp_path / "out.nii").read_bytes() == (tmp_path / f"{volume.obs_subject_id}.nii").read_bytes()
    assert study.validate("full").ok


def test_a_part_of_it_is_exported_as_floats(study: RadiObject, tmp_path: Path) -> None:
    study.get_volume("whole_T1w").slicer[1:, :, ::-1].to_nifti(tmp_path / "out.nii")
    part = nibabel.load(tmp_path / "out.nii")
    assert part.get_data_dtype() == np.float32
    assert part.header.get_slope_inter() == (None, None) or part.header.get_slope_inter() == (1, 0)
    np.testing.assert_array_equal(np.asarray(part.dataobj), study.get_volume("whole_T1w")[1:, :, ::-1])


def test_a_volume_written_again_has_the_digest_of_the_first(tmp_path: Path) -> None:
    array = np.arange(60, dtype="f4").reshape(3, 4, 5)
    studies = []
    for number, on in enumerate((True, False)):
        first = Volume.from_numpy(
            array, AFFINE, uri=tmp_path / f"{number}.ome.zarr", write=WriteConfig(store_integers=on)
        )
        assert first.stored_dtype == ("uint8" if on else "float32")
        studies.append(RadiObject.from_niftis(tmp_path / f"s{number}", {"a": [(first, "x")]}, progress=False))
    rows = [study.a.obs.read().iloc[0] for study in studies]
    assert rows[0]["source_digest"] == rows[1]["source_digest"]
    assert [str(study.a.iloc[0].stored_dtype) for study in studies] == ["uint8"] * 2
    assert [study.a.iloc[0].meta.scaling for study in studies] == [Scaling(1.0, 0.0, "float32")] * 2


def test_the_switch_leaves_floats_alone(tmp_path: Path) -> None:
    write = WriteConfig(store_integers=False)
    volume = Volume.from_numpy(whole(1, 2), uri=tmp_path / "a.ome.zarr", write=write)
    assert (volume.stored_dtype, volume.meta.scaling) == (np.float32, None)


def test_statistics_are_those_of_the_floats(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(-500, 3000, (20, 21, 22)).astype("f4")
    rows = [
        RadiObject.from_niftis(
            tmp_path / str(on), {"a": [((array, None), "x")]}, progress=False,
            write=WriteConfig(store_integers=on),
        ).a.obs.read().iloc[0]
        for on in (True, False)
    ]  # fmt: skip
    for name in rows[0].index:
        if name.startswith("intensity_") and name != "intensity_histogram":
            assert rows[0][name] == pytest.approx(rows[1][name], rel=1e-9), name
    assert list(rows[0]["nonzero_box"]) == list(rows[1]["nonzero_box"])
    assert sum(rows[0]["intensity_histogram"]) == sum(rows[1]["intensity_histogram"]) == array.size


def test_means_over_blocks_keep_their_fractions(tmp_path: Path) -> None:
    array = np.arange(8 * 8 * 8, dtype="f4").reshape(8, 8, 8) // 3
    plain = Volume.from_numpy(array, AFFINE)
    kept = Volume.from_numpy(array, AFFINE, uri=tmp_path / "a.ome.zarr")
    levels = Volume.from_numpy(array, AFFINE, uri=tmp_path / "b.ome.zarr", write=WriteConfig(pyramid=1))
    assert (kept.stored_dtype, levels.stored_dtype) == (np.uint8, np.float32)
    coarse = levels.level(1)[...]
    assert (coarse != np.rint(coarse)).any()
    wide = [v.resample(like=levels.level(1), antialias=True, order=0) for v in (plain, kept, levels)]
    for volume in wide:
        assert volume.dtype == np.float32
        assert bits(volume[...]) == bits(coarse)


def test_what_a_function_gives_is_kept_as_integers_too(study: RadiObject) -> None:
    study.add_collection("twice", study.T1w.lazy().map(lambda voxels, row: voxels * 2), progress=False)
    made = study.get_volume("whole_twice")
    assert (made.dtype, made.stored_dtype) == (np.float32, np.int16)
    np.testing.assert_array_equal(made[...], study.get_volume("whole_T1w")[...] * 2)
    assert study.get_volume("fractions_twice").stored_dtype == np.int16
