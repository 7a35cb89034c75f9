"""What becomes of stored values: bits, byte orders, scalings, one file or many."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from radiobject import RadiObject, Volume
from radiobject.errors import SourceError, SourceUnsupportedError

from .dicom_series import PARAMETRIC_MAP, enhanced, in_place, pixels_of, save, slices
from .label_objects import item


def stored(made: list[Dataset]) -> np.ndarray:
    """(x, y, z) of slices that lie in their order."""
    return np.stack([pixels_of(ds).T for ds in made], axis=-1)


@pytest.mark.parametrize("dtype", ["<u1", "<i1", "<u2", "<i2", "<u4", "<i4"])
def test_integers_keep_their_type(dtype: str, tmp_path: Path) -> None:
    made = slices(stored=dtype, start=-50)
    volume = Volume.from_dicom(save(tmp_path, made))
    array = volume.to_numpy()
    assert array.dtype == np.dtype(dtype)
    in_place(array, volume.affine, made)


def test_odd_numbers_of_bytes_are_padded_in_files_and_not_in_volumes(tmp_path: Path) -> None:
    made = slices(3, rows=3, columns=5, stored="<u1")
    volume = Volume.from_dicom(save(tmp_path, made))
    in_place(volume.to_numpy(), volume.affine, made)


@pytest.mark.parametrize(
    ("syntax", "bare"),
    [
        (ExplicitVRLittleEndian, False),
        (ImplicitVRLittleEndian, False),
        (ExplicitVRBigEndian, False),
        (DeflatedExplicitVRLittleEndian, False),
        (ExplicitVRLittleEndian, True),
        (ImplicitVRLittleEndian, True),
    ],
    ids=["explicit", "implicit", "big-endian", "deflated", "explicit without preamble", "implicit without"],
)
@pytest.mark.parametrize("dtype", ["<i2", "<u4"])
def test_every_plain_syntax_gives_the_same_voxels(
    dtype: str, syntax: str, bare: bool, tmp_path: Path
) -> None:
    made = slices(stored=dtype, start=-50 if dtype == "<i2" else 70000)
    save(tmp_path, slices(stored=dtype, start=-50 if dtype == "<i2" else 70000), syntax=syntax, bare=bare)
    volume = Volume.from_dicom(tmp_path)
    in_place(volume.to_numpy(), volume.affine, made)


def test_compressed_slices_give_the_same_voxels(tmp_path: Path) -> None:
    made = slices(stored="<i2", start=-200)
    for n, ds in enumerate(slices(stored="<i2", start=-200)):
        save(tmp_path, [ds], names=[f"{n}.dcm"])
        ds.compress(RLELossless, generate_instance_uid=False)
        ds.save_as(tmp_path / f"{n}.dcm")
    volume = Volume.from_dicom(tmp_path)
    in_place(volume.to_numpy(), volume.affine, made)


@pytest.mark.parametrize("signed", [0, 1])
def test_bits_above_those_stored_are_no_part_of_a_value(signed: int, tmp_path: Path) -> None:
    """Overlays once lived there. Of 12 signed bits the twelfth is the sign."""
    made = slices(PixelRepresentation=signed, BitsStored=12, HighBit=11)
    words = [np.arange(72, dtype="<u2") * 56 + n for n in range(5)]
    for ds, word in zip(made, words, strict=True):
        ds.PixelData = (word | 0xA000).tobytes()
    array = Volume.from_dicom(save(tmp_path, made)).to_numpy()
    wanted = np.stack(words).astype("i4")
    wanted -= 4096 * (signed and wanted >= 2048)
    assert array.dtype == ("i2" if signed else "u2")
    np.testing.assert_array_equal(array, wanted.reshape(5, 9, 8).T)


def test_types_that_change_within_a_stack_are_refused(tmp_path: Path) -> None:
    made = slices()
    made[3].PixelRepresentation = 1
    with pytest.raises(SourceUnsupportedError, match="16 bits signed and 16 bits unsigned"):
        Volume.from_dicom(save(tmp_path, made))


# Scalings.


def test_one_scaling_keeps_integers(tmp_path: Path) -> None:
    made = slices(RescaleSlope="2", RescaleIntercept="-1024")
    volume = Volume.from_dicom(save(tmp_path, made))
    np.testing.assert_array_equal(volume.to_numpy(raw=True), stored(made))
    np.testing.assert_array_equal(volume.to_numpy(), stored(made) * 2.0 - 1024)
    assert volume.to_numpy(raw=True).dtype == "u2"


def test_a_scaling_for_each_slice_gives_floats_and_keeps_the_scalings(tmp_path: Path) -> None:
    made = slices(RescaleSlope=lambda n: f"{0.1 * (n + 1):g}", RescaleIntercept=lambda n: f"{-n}")
    volume = Volume.from_dicom(save(tmp_path, made))
    slopes, inters = [0.1, 0.2, 0.3, 0.4, 0.5], [0, -1, -2, -3, -4]
    array = volume.to_numpy()
    assert array.dtype == "f4"
    np.testing.assert_array_equal(array, (stored(made) * np.array(slopes) + inters).astype("f4"))
    said = json.loads(volume.extra("dicom"))
    assert said["slope"] == [slopes]
    assert said["inter"] == [inters]


@pytest.mark.parametrize("slope", ["0", "-0.0"])
def test_a_slope_of_zero_is_refused(slope: str, tmp_path: Path) -> None:
    made = slices(RescaleSlope=slope, RescaleIntercept="5")
    with pytest.raises(SourceError, match="RescaleSlope"):
        Volume.from_dicom(save(tmp_path, made))


@pytest.mark.parametrize("slope", ["", "1\\2", "nan", "inf", "one"])
def test_a_slope_that_is_no_number_is_refused(slope: str, tmp_path: Path) -> None:
    made = slices(1)
    made[0].add_new("RescaleSlope", "LO", slope)
    place = save(tmp_path, made)
    if slope == "":
        assert Volume.from_dicom(place).meta.scaling is None
        return
    with pytest.raises(SourceError, match="RescaleSlope"):
        Volume.from_dicom(place)


def test_a_modality_table_is_refused(tmp_path: Path) -> None:
    table = item(LUTDescriptor=[4, 0, 16], ModalityLUTType="HU", LUTData=bytes(8))
    made = slices(ModalityLUTSequence=[table])
    with pytest.raises(SourceUnsupportedError, match="modality look-up table"):
        Volume.from_dicom(save(tmp_path, made))


def test_monochrome1_is_not_inverted(tmp_path: Path) -> None:
    made = slices(PhotometricInterpretation="MONOCHROME1")
    volume = Volume.from_dicom(save(tmp_path, made))
    in_place(volume.to_numpy(), volume.affine, made)


def test_padding_stays_as_it_is(tmp_path: Path) -> None:
    made = slices(stored="<i2", start=-5, PixelPaddingValue=-2000, RescaleSlope="1", RescaleIntercept="-1024")
    for ds in made:
        ds["PixelPaddingValue"].VR = "SS"
        ds.PixelData = np.where(pixels_of(ds) % 7 == 0, -2000, pixels_of(ds)).astype("<i2").tobytes()
    array = Volume.from_dicom(save(tmp_path, made)).to_numpy()
    assert array.min() == -3024
    np.testing.assert_array_equal(array, stored(made) - 1024)


@pytest.mark.parametrize("interpretation", ["RGB", "YBR_FULL", "PALETTE COLOR"])
def test_colour_is_skipped_and_counted(interpretation: str, tmp_path: Path) -> None:
    made = slices(3, stored="<u1", PhotometricInterpretation=interpretation)
    for ds in made:
        if not interpretation.startswith("PAL"):
            ds.SamplesPerPixel, ds.PlanarConfiguration, ds.PixelData = 3, 0, ds.PixelData * 3
    with pytest.raises(SourceUnsupportedError, match="3 colour"):
        Volume.from_dicom(save(tmp_path, made))


# One file with all frames.


def as_placed(volume: Volume, order: Any = range(5)) -> np.ndarray:
    """The frames of `enhanced`, in an order, whose affine the volume must have."""
    whole = np.arange(360, dtype="u2").reshape(5, 9, 8)
    np.testing.assert_array_equal(
        volume.affine, [[-0.5, 0, 0, 10], [0, -0.75, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]]
    )
    return whole[list(order)].T


def test_a_multi_frame_file_is_one_volume(tmp_path: Path) -> None:
    volume = Volume.from_dicom(save(tmp_path, [enhanced()]))
    np.testing.assert_array_equal(volume.to_numpy(), as_placed(volume))


def test_frames_are_sorted_by_position(tmp_path: Path) -> None:
    order = [3, 0, 4, 1, 2]
    made = enhanced(position=lambda n: (-10, 20, 30 + 2.5 * order.index(n)))
    volume = Volume.from_dicom(save(tmp_path, [made]))
    np.testing.assert_array_equal(volume.to_numpy(), as_placed(volume, order))


def test_each_frame_has_its_own_scaling(tmp_path: Path) -> None:
    made = enhanced(slope=lambda n: n + 0.5)
    array = Volume.from_dicom(save(tmp_path, [made])).to_numpy()
    assert array.dtype == "f4"
    whole = np.arange(360, dtype="f8").reshape(5, 9, 8) * (np.arange(5) + 0.5)[:, None, None] - 1
    np.testing.assert_array_equal(array, whole.T.astype("f4"))


def test_one_scaling_of_all_frames_keeps_integers(tmp_path: Path) -> None:
    volume = Volume.from_dicom(save(tmp_path, [enhanced(slope=lambda n: 0.5)]))
    assert (volume.meta.scaling.slope, volume.meta.scaling.inter) == (0.5, -1)
    np.testing.assert_array_equal(volume.to_numpy(raw=True), as_placed(volume))


def test_frames_of_two_times_are_a_series(tmp_path: Path) -> None:
    made = enhanced(
        10,
        position=lambda n: (-10, 20, 30 + 2.5 * (n // 2)),
        groups=lambda n: {"FrameContentSequence": [item(TemporalPositionIndex=2 - n % 2)]},
    )
    volume = Volume.from_dicom(save(tmp_path, [made]))
    whole = np.arange(720).reshape(5, 2, 9, 8)
    np.testing.assert_array_equal(volume.to_numpy(), np.moveaxis(whole[:, ::-1], 1, 0).T)


def test_multi_frame_files_of_several_times_are_a_series(tmp_path: Path) -> None:
    """As newer Siemens scanners write them: a file for each time, all numbered alike within."""
    made = [
        enhanced(
            SOPInstanceUID=f"1.2.3.4.{t + 1}",
            PixelData=(np.arange(360, dtype="<u2") + 1000 * t).tobytes(),
            groups=lambda n, t=t: {
                "FrameContentSequence": [
                    item(DimensionIndexValues=[1, n + 1], FrameAcquisitionDateTime=f"2020030112000{2 * t}")
                ]
            },
        )
        for t in (2, 0, 1)
    ]
    volume = Volume.from_dicom(save(tmp_path, made))
    first = as_placed(volume)
    np.testing.assert_array_equal(volume.to_numpy(), np.stack([first, first + 1000, first + 2000], axis=-1))
    assert volume.meta.time_step == 2.0


def test_frames_of_two_kinds_are_two_volumes(tmp_path: Path) -> None:
    kinds = [["ORIGINAL", "PRIMARY", "M", "NONE"], ["DERIVED", "PRIMARY", "PHASE MAP", "NONE"]]
    made = enhanced(
        10,
        position=lambda n: (-10, 20, 30 + 2.5 * (n % 5)),
        groups=lambda n: {"MRImageFrameTypeSequence": [item(FrameType=kinds[n // 5])]},
    )
    save(tmp_path / "in", [made])
    study = RadiObject.from_dicoms(tmp_path / "study", tmp_path / "in", deid_key="8f" * 32)
    assert sorted(v.to_numpy()[0, 0, 0] for v in study.MR) == [0, 360]


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_float_pixels_are_kept(dtype: str, tmp_path: Path) -> None:
    made = enhanced(stored=dtype, SOPClassUID=PARAMETRIC_MAP)
    volume = Volume.from_dicom(save(tmp_path, [made]))
    assert volume.to_numpy().dtype == np.dtype(dtype)
    np.testing.assert_array_equal(volume.to_numpy(), as_placed(volume))


def test_frames_without_their_groups_are_refused(tmp_path: Path) -> None:
    made = enhanced()
    del made.PerFrameFunctionalGroupsSequence[-1]
    with pytest.raises(SourceError, match="expected 5 items, one for each frame, got 4"):
        Volume.from_dicom(save(tmp_path, [made]))


def test_many_frames_without_any_groups_are_skipped_with_the_reason(tmp_path: Path) -> None:
    made = enhanced(SharedFunctionalGroupsSequence=None, PerFrameFunctionalGroupsSequence=None)
    with pytest.raises(SourceUnsupportedError, match="1 many frames without a position for each"):
        Volume.from_dicom(save(tmp_path, [made]))


# Files that contradict themselves.


def test_bits_that_stand_higher_than_usual_are_refused(tmp_path: Path) -> None:
    made = slices(BitsStored=12, HighBit=15)
    with pytest.raises(SourceUnsupportedError, match="HighBit"):
        Volume.from_dicom(save(tmp_path, made))


def test_more_pixels_than_the_header_says_are_refused(tmp_path: Path) -> None:
    made = slices(3)
    for ds in made:
        ds.PixelData = ds.PixelData * 2
    with pytest.raises(SourceError, match=r"144 bytes of pixels.* 288"):
        Volume.from_dicom(save(tmp_path, made))


def test_compressed_pixels_in_a_plain_syntax_are_refused(tmp_path: Path) -> None:
    made = slices(1, rows=2, columns=2)[0]
    save(tmp_path, [made])
    made.compress(RLELossless, generate_instance_uid=False)
    made.save_as(tmp_path / "1.dcm")
    path = tmp_path / "1.dcm"
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0"))
    with pytest.raises(SourceError, match=r"1\.dcm"):
        Volume.from_dicom(path)


@pytest.mark.parametrize("said", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_file_that_is_not_in_the_syntax_that_it_says_is_read_as_it_is(said: str, tmp_path: Path) -> None:
    other = ExplicitVRLittleEndian if said == ImplicitVRLittleEndian else ImplicitVRLittleEndian
    made = slices()
    save(tmp_path, made, syntax=other)
    for path in tmp_path.iterdir():
        data, meta = path.read_bytes(), pydicom.filereader.read_file_meta_info(path)
        rest = data[132 + 12 + meta.FileMetaInformationGroupLength :]
        meta.TransferSyntaxUID = said
        buffer = DicomBytesIO()
        write_file_meta_info(buffer, meta)
        # bytes behind the pixels would hide that all are read some too far on
        path.write_bytes(data[:132] + buffer.getvalue() + rest + bytes(8))
    volume = Volume.from_dicom(tmp_path)
    in_place(volume.to_numpy(), volume.affine, made)
