"""Volumes back to nibabel and NIfTI, whole and sliced."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from radiobject import RadiObject, Volume

IN_PLACE = True

OBLIQUE = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.2, -0.1, 0.3) @ np.diag([2.0, 2.5, 3.0]), [-10, 20, 30]
)


@pytest.fixture
def source(tmp_path: Path, make_nifti) -> Path:
    """A scaled file with both transforms, different codes, an extension and a description."""
    image = nibabel.Nifti1Image(np.arange(4 * 5 * 6, dtype="i2").reshape(4, 5, 6), OBLIQUE)
    image.set_sform(OBLIQUE, 4)
    image.set_qform(OBLIQUE, 1)
    transforms = ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c",
                  "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "pixdim")  # fmt: skip
    fields = {name: image.header[name] for name in transforms}
    content = make_nifti(
        np.asarray(image.dataobj),
        extensions=[(6, b"a comment")],
        fields={**fields, "descrip": b"scanner 7", "scl_slope": 0.5, "scl_inter": 2, "xyzt_units": 2},
    )
    path = tmp_path / "sub-1.nii.gz"
    path.write_bytes(gzip.compress(content))
    return path


@pytest.fixture
def vol(source: Path, tmp_path: Path) -> Volume:
    return RadiObject.from_niftis(tmp_path / "study", {"T1w": [(source, "sub-1")]}).T1w.iloc[0]


def test_nibabel_gets_values_affine_codes_and_extensions(vol, source) -> None:
    reference, made = nibabel.load(source), vol.to_nibabel()
    assert isinstance(made, nibabel.Nifti1Image)
    np.testing.assert_allclose(np.asarray(made.dataobj), reference.get_fdata(), rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(made.dataobj), vol[...])
    np.testing.assert_allclose(made.affine, reference.affine, atol=1e-6)
    for name in ("qform_code", "sform_code", "descrip"):
        assert made.header[name] == reference.header[name]
    np.testing.assert_allclose(made.get_qform(), reference.get_qform(), atol=1e-5)
    assert [e.get_code() for e in made.header.extensions] == [6]


def test_a_whole_volume_goes_back_byte_for_byte(vol, source, tmp_path) -> None:
    vol.to_nifti(tmp_path / "back.nii.gz")
    vol.to_nifti(str(tmp_path / "back.nii"))
    original = gzip.decompress(source.read_bytes())
    assert gzip.decompress((tmp_path / "back.nii.gz").read_bytes()) == original
    assert (tmp_path / "back.nii").read_bytes() == original


@pytest.mark.parametrize(
    "key", [(slice(1, 3),), (slice(None, None, -1), slice(None), slice(1, None, 2)), (slice(None),)]
)
def test_a_sliced_volume_has_its_own_geometry_and_its_stored_integers(vol, source, tmp_path, key) -> None:
    reference, part = nibabel.load(source), vol.slicer[key]
    part.to_nifti(tmp_path / "part.nii.gz")
    back = nibabel.load(tmp_path / "part.nii.gz")
    np.testing.assert_array_equal(back.dataobj.get_unscaled(), reference.dataobj.get_unscaled()[key])
    np.testing.assert_array_equal(back.get_fdata(), reference.get_fdata()[key])
    np.testing.assert_allclose(back.affine, part.affine, atol=1e-5)
    np.testing.assert_allclose(back.get_qform(), part.affine, atol=1e-4)
    assert (int(back.header["sform_code"]), int(back.header["qform_code"])) == (4, 1)
    assert back.header["descrip"] == reference.header["descrip"]
    image = part.to_nibabel()
    np.testing.assert_array_equal(np.asarray(image.dataobj), part[...])
    np.testing.assert_allclose(image.affine, part.affine, atol=1e-5)


def test_a_sliced_volume_ingests_again_as_what_it_is(vol, tmp_path) -> None:
    part = vol.slicer[::-1, 1:, ::2]
    part.to_nifti(tmp_path / "part.nii")
    again = RadiObject.from_niftis(tmp_path / "again", {"T1w": [(tmp_path / "part.nii", "s")]}).T1w.iloc[0]
    np.testing.assert_array_equal(again[...], part[...])
    np.testing.assert_allclose(again.affine, part.affine, atol=1e-5)
    assert again.dtype == part.dtype


def test_one_time_point_becomes_a_three_dimensional_file(study, tmp_path) -> None:
    array = np.arange(3 * 4 * 5 * 2, dtype="i2").reshape(3, 4, 5, 2)
    vol = study({"bold": {"s": (array, OBLIQUE)}}, axis4="time").bold.iloc[0]
    vol.slicer[..., 1].to_nifti(tmp_path / "t1.nii")
    back = nibabel.load(tmp_path / "t1.nii")
    assert back.shape == (3, 4, 5)
    np.testing.assert_array_equal(np.asarray(back.dataobj), array[..., 1])
    vol.to_nifti(tmp_path / "whole.nii")
    np.testing.assert_array_equal(np.asarray(nibabel.load(tmp_path / "whole.nii").dataobj), array)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_an_array_becomes_a_file_with_its_type_and_affine(study, tmp_path, dtype) -> None:
    array = np.arange(60).astype(dtype).reshape(3, 4, 5)
    vol = study({"a": {"s": (array, OBLIQUE)}}).a.iloc[0]
    vol.to_nifti(tmp_path / "a.nii.gz")
    for back in (nibabel.load(tmp_path / "a.nii.gz"), vol.to_nibabel()):
        assert back.get_data_dtype() == np.dtype(dtype)
        np.testing.assert_array_equal(np.asarray(back.dataobj), array)
        np.testing.assert_allclose(back.affine, OBLIQUE, atol=1e-5)


def test_labels_are_exported_as_stored(tmp_path, make_nifti) -> None:
    stored = np.arange(60, dtype="u1").reshape(3, 4, 5)
    path = tmp_path / "sub-1_seg.nii"
    path.write_bytes(make_nifti(stored, fields={"scl_slope": 2}))
    vol = RadiObject.from_niftis(tmp_path / "study", {"seg": [path]}).seg.iloc[0]
    np.testing.assert_array_equal(np.asarray(vol.to_nibabel().dataobj), stored)
    vol.to_nifti(tmp_path / "back.nii")
    assert (tmp_path / "back.nii").read_bytes() == path.read_bytes()
