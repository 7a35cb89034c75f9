"""Real DICOM series against what others made of them: reference NIfTI files, and dcm2niix."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pydicom
import pytest

from radiobject import RadiObject, Volume
from radiobject.errors import SourceUnsupportedError

Array = npt.NDArray[Any]

DOCS = Path(__file__).resolve().parents[2] / "docs"

# Series beside which a reference lies.
WITH_REFERENCE = [
    f"dicom2nifti/{name}"
    for name in (
        "failing/slicecount/001", "ge/anatomical/001", "ge/anatomical/001_implicit",
        "ge/anatomical/001_single_slice", "ge/dti/001", "ge/dti/001_implicit", "ge/dti/002", "ge/fmri/001",
        "ge/fmri/001_implicit", "generic/anatomical/001", "generic/anatomical/001_implicit",
        "generic/anatomical/002_non_isotropic", "generic/compressed/001", "generic/compressed_j2k/001",
        "generic/compressed_jpeg/001", "generic/compressed_jpegls/001", "generic/compressed_rle/001",
        "hitachi/anatomical/001", "hitachi/anatomical/001_implicit", "hyperfine/anatomical/001",
        "philips_enhanced/anatomical/001", "philips_enhanced/fmri/001", "siemens_multiframe/anatomical/001",
    )
]  # fmt: skip
# Series whose reference is what dcm2niix makes of them now: folder -> parts, "" for a series of one volume.
WITH_DCM2NIIX = {
    "dcmqi/ct-3slice": [""],
    "dcmqi/23x38x3/image": [""],
    "dcmqi/23x38x3/multiframe": [""],
    "dcmqi/24x38x3/image": [""],
    "dcmqi/24x38x3/multiframe": [""],
    "dicom2nifti/failing/sliceorientation/001": ["axial", "sagittal"],
    "dicom2nifti/philips/anatomical/002": [" m ", " p "],
}
MOSAICS = ["dicom2nifti/siemens/fmri/001", "dicom2nifti/siemens/fmri/001_implicit"]
DIFFUSION = "dicom2nifti/philips_enhanced/dti/001"
TILTED = "dicom2nifti/failing/gantrytilting/001"
COLOUR = "dicom2nifti/generic/rgb/001"
# What is refused, and what the error tells.
REFUSED = {
    "dcm_qa_ct": r"usually .* mm, but .* mm after slice \d+ \(at [\d.]+ mm\)",
    "dicom2nifti/failing/notavolume/001": "4 images at one position",
    "dicom2nifti/failing/sliceincrement/001": r"1 missing of 5: .* 10 mm after slice 2 \(at 10 mm\)",
    "dicom2nifti/failing/sliceincrement/002": r"1 missing of 5: .* 1.499 mm after slice 2 \(at 1.499 mm\)",
}
LABELS = ["dcmqi/23x38x3/seg", "dcmqi/24x38x3/seg", "dcmqi"]


def canonical(array: Array, affine: Array) -> nibabel.Nifti1Image:
    """The image with its axes turned as close to RAS+ as they come, and its last axes of length 1 dropped."""
    image = nibabel.Nifti1Image(np.ascontiguousarray(array, "f8"), affine, dtype="f8")
    turned = nibabel.as_closest_canonical(image)
    return nibabel.Nifti1Image(np.asarray(turned.dataobj), turned.affine)


def reference(path: Path) -> nibabel.Nifti1Image:
    image = nibabel.load(path)
    return canonical(image.get_fdata(), image.affine)


def compare(found: nibabel.Nifti1Image, truth: nibabel.Nifti1Image, affine: float = 1e-3) -> None:
    """Equal voxels (to the float32 in which references keep slopes) and equal places, mm."""
    a, b = found.get_fdata(), truth.get_fdata()
    a, b = (x.reshape(x.shape[:3] + x.shape[3:]) if x.ndim > 3 else x[..., None] for x in (a, b))
    whole = np.array_equal(b, b.round())
    if whole:
        np.testing.assert_array_equal(a, b)
    else:
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-7 * np.abs(b).max())
    np.testing.assert_allclose(found.affine, truth.affine, atol=affine)


def volume_of(place: Path, **options: Any) -> nibabel.Nifti1Image:
    volume = Volume.from_dicom(place, **options)
    return canonical(volume.to_numpy(), volume.affine)


def dcm2niix(place: Path, into: Path) -> list[Path]:
    """The files that dcm2niix writes, without those that it resampled. Used as in its help: no cropping, no
    turning, RescaleSlope rather than private scaling."""
    into.mkdir(exist_ok=True)
    command = Path(sys.executable).with_name("dcm2niix")
    words = ["-x", "i", "-p", "n", "-b", "n", "-z", "n", "-f", "%s_%j", "-o", str(into), str(place)]
    ran = subprocess.run([command, *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return sorted(p for p in into.glob("*.nii") if not re.search(r"_(Tilt|Eq)", p.name))


def headers(place: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(p) for p in sorted(place.iterdir()) if p.suffix != ".md"]


def ras(lps: Any) -> Array:
    return np.asarray(lps, float) * [-1, -1, 1]


def test_every_series_is_in_a_table_of_this_file(real_data: Path) -> None:
    tables = [*WITH_REFERENCE, *WITH_DCM2NIIX, *MOSAICS, DIFFUSION, TILTED, COLOUR, *REFUSED, *LABELS]
    assert _series_folders(real_data) == set(tables)


def test_the_page_of_cases_says_what_becomes_of_each(
    real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(DOCS / "pictures")
    import cases

    text = (DOCS / "dicom-cases.md").read_text(encoding="utf-8")
    assert cases.page(text, real_data) == text
    folders = {os.path.dirname(name) if "*" in name else name for name, _, _ in cases.SERIES}
    assert folders == set(_series_folders(real_data))


def test_without_real_data_the_page_of_cases_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(DOCS / "pictures")
    monkeypatch.setenv("RADIOBJECT_TEST_DATA", str(tmp_path))
    import cases

    place = tmp_path / "page.md"
    place.write_text("as it was")
    cases.write(place)
    assert place.read_text() == "as it was"
    assert "page.md stays as it is" in capsys.readouterr().out


def _series_folders(root: Path) -> set[str]:
    return {p.parent.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and _dicom(p)}


def _dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_voxels_and_affine_are_those_of_the_reference(name: str, real_data: Path) -> None:
    compare(volume_of(real_data / name), reference(real_data / f"{name}_ground_truth.nii.gz"))


@pytest.mark.parametrize("name", WITH_DCM2NIIX)
def test_voxels_and_affine_are_those_of_dcm2niix(name: str, real_data: Path, tmp_path: Path) -> None:
    parts = WITH_DCM2NIIX[name]
    images = [reference(path) for path in dcm2niix(real_data / name, tmp_path)]
    assert len(images) == len(parts)
    for part in parts:
        found = volume_of(real_data / name, part=part.strip() or None)
        (alike,) = [i for i in images if _alike(found, i)]
        compare(found, alike)


def _alike(one: nibabel.Nifti1Image, other: nibabel.Nifti1Image) -> bool:
    """Whether an image can be meant: the sizes are those, and half of the values nearly."""
    if one.shape != other.shape:
        return False
    return float(np.median(np.abs(one.get_fdata() - other.get_fdata()))) < 1


def test_diffusion_volumes_come_with_their_own_b_values(real_data: Path, tmp_path: Path) -> None:
    """dcm2niix orders them otherwise. The reference beside the series has but one volume that is not zero."""
    place = real_data / DIFFUSION
    (path,) = dcm2niix(place, tmp_path / "out")
    truth, found = reference(path), volume_of(place)
    study = RadiObject.from_dicoms(tmp_path / "study", place, deid_key="8f" * 32)
    b_values = study.MR.obs.read()["b_values"].iloc[0]
    said = np.loadtxt(path.with_suffix(".bval"))
    pairs = [
        (t, u) for t in range(4) for u in range(4)
        if np.allclose(found.get_fdata()[..., t], truth.get_fdata()[..., u], rtol=0, atol=1e-4)
    ]  # fmt: skip
    assert sorted(t for t, _ in pairs) == sorted(u for _, u in pairs) == [0, 1, 2, 3]
    assert [b_values[t] for t, _ in pairs] == [said[u] for _, u in pairs]
    np.testing.assert_allclose(found.affine, truth.affine, atol=1e-3)


@pytest.mark.parametrize("name", MOSAICS)
def test_tiles_of_a_mosaic_lie_where_the_protocol_says(name: str, real_data: Path) -> None:
    volume, place = Volume.from_dicom(real_data / name), real_data / name
    array = volume.to_numpy()
    assert array.shape == (80, 80, 50, 2)
    # dicom2nifti has the same voxels, but places them elsewhere
    truth = reference(real_data / f"{name}_ground_truth.nii.gz")
    np.testing.assert_array_equal(canonical(array, volume.affine).get_fdata(), truth.get_fdata())
    protocol = headers(place)[0][0x0029, 0x1020].value.decode("latin-1")
    centres = np.zeros((50, 3))
    for number, axis, value in re.findall(
        r"sSliceArray\.asSlice\[(\d+)\]\.sPosition\.d(Sag|Cor|Tra)\s*=\s*(\S+)", protocol
    ):
        centres[int(number), ("Sag", "Cor", "Tra").index(axis)] = float(value)
    # what the protocol calls a slice's centre is the place of voxel n / 2
    found = [(volume.affine @ [40, 40, z, 1])[:3] for z in range(50)]
    np.testing.assert_allclose(found, ras(centres), atol=1e-3)
    # the sheet is centred where its first tile lies, and that is the protocol's last slice
    sheet = headers(place)[0]
    turn, (down, right) = np.array(sheet.ImageOrientationPatient, float), sheet.PixelSpacing
    middle = np.array(sheet.ImagePositionPatient) + 320 * (turn[:3] * right + turn[3:] * down)
    np.testing.assert_allclose(middle, centres[-1], atol=1e-3)
    tile = sheet.pixel_array[:80, :80].T
    assert [t for t in range(2) if np.array_equal(array[:, :, -1, t], tile)] == [0]


def test_a_tilted_stack_keeps_its_voxels_and_is_sheared(real_data: Path, tmp_path: Path) -> None:
    place = real_data / TILTED
    volume = Volume.from_dicom(place)
    sorted_ = sorted(headers(place), key=lambda ds: ds.ImagePositionPatient[2])
    for z in range(4):
        for column, row in ((0, 0), (511, 0), (0, 511), (511, 511)):
            ds = sorted_[z]
            turn, (down, right) = np.array(ds.ImageOrientationPatient, float), ds.PixelSpacing
            at = np.array(ds.ImagePositionPatient) + turn[:3] * right * column + turn[3:] * down * row
            np.testing.assert_allclose((volume.affine @ [column, row, z, 1])[:3], ras(at), atol=1e-3)
    normal = np.cross(volume.affine[:3, 0], volume.affine[:3, 1])
    cosine = normal @ volume.affine[:3, 2] / np.linalg.norm(normal) / np.linalg.norm(volume.affine[:3, 2])
    assert np.degrees(np.arccos(abs(cosine))) == pytest.approx(14, abs=0.01)
    (uncorrected,) = dcm2niix(place, tmp_path)
    found = canonical(volume.to_numpy(), volume.affine)
    np.testing.assert_array_equal(found.get_fdata(), reference(uncorrected).get_fdata())


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_regular_volume_is_refused_with_the_positions(name: str, real_data: Path) -> None:
    with pytest.raises(SourceUnsupportedError, match=REFUSED[name]):
        Volume.from_dicom(real_data / name)


@pytest.mark.parametrize("name", [n for n in REFUSED if "notavolume" not in n])
def test_irregular_slices_are_kept_as_they_are_on_request(name: str, real_data: Path, tmp_path: Path) -> None:
    found = volume_of(real_data / name, irregular="keep")
    (uncorrected,) = dcm2niix(real_data / name, tmp_path)
    np.testing.assert_array_equal(found.get_fdata(), reference(uncorrected).get_fdata())


def test_a_secondary_capture_in_colour_is_skipped_and_counted(real_data: Path) -> None:
    with pytest.raises(SourceUnsupportedError, match="4 secondary capture"):
        Volume.from_dicom(real_data / COLOUR)
