"""SEG objects become label volumes: every voxel, the affine, names and colours as their makers have them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

pytest.importorskip("pydicom")

import pydicom
from pydicom.sr.codedict import codes
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from radiobject.errors import SourceCorruptError, SourceUnsupportedError, UnknownIdError
from radiobject.format.meta import Label
from radiobject.geometry.affine import Affine
from radiobject.ingest.dicom.colours import cielab_rgba
from radiobject.ingest.dicom.labelled import LabelVolume, on_grid
from radiobject.ingest.dicom.seg import read_seg, seg_parts

from .label_objects import SERIES, SPACE, Plane, save, seg

LIVER = Label(1, "Liver", (221, 130, 101, 255))
BACKGROUND = Label(0, "Background", (0, 0, 1, 255))
# colours of 3D Slicer, in which the objects were drawn
OVERLAPPING = [
    Label(1, "GREEN", (128, 174, 128, 255)),
    Label(2, "ORANGE", (216, 101, 79, 255)),
    Label(3, "PURPLE", (183, 156, 220, 255)),
    Label(4, "LIGHT_BLUE", (140, 224, 228, 255)),
    Label(5, "DARK_BLUE", (0, 151, 206, 255)),
]


def one(path: Path) -> LabelVolume:
    (volume,) = read_seg(path)
    return volume


def truth(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (z, y, x) and RAS affine of an NRRD file, read by SimpleITK."""
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.ReadImage(str(path))
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image), np.diag([-1, -1, 1, 1]) @ matrix


@pytest.mark.parametrize(
    ("file", "nrrd", "labels"),
    [
        ("24x38x3/seg/label.seg", "24x38x3/nrrd/label.nrrd", (LIVER,)),
        ("23x38x3/seg/label.seg", "23x38x3/nrrd/label.nrrd", (LIVER,)),  # frames end within a byte
        ("liver.dcm", "liver_seg.nrrd", (LIVER,)),
        ("sparse-labelmap-noppv.dcm", "sparse_labelmap_noppv_seg.nrrd", (BACKGROUND, LIVER)),
        ("sparse-labelmap-ppv5.dcm", "sparse_labelmap_ppv5_seg.nrrd", (BACKGROUND, LIVER)),
    ],
)
def test_segmentations_of_dcmqi_equal_its_nrrd(
    real_data: Path, file: str, nrrd: str, labels: tuple[Label, ...]
) -> None:
    volume = one(real_data / "dcmqi" / file)
    voxels, affine = truth(real_data / "dcmqi" / nrrd)
    assert np.array_equal(volume.loaded.voxels, voxels)
    assert np.abs(volume.loaded.meta.affine.matrix - affine).max() < 1e-3
    assert volume.loaded.meta.kind == "label"
    assert volume.loaded.meta.labels == labels
    assert volume.part == ""


def test_overlapping_segments_become_a_volume_each(real_data: Path) -> None:
    folder = real_data / "dcmqi"
    volumes = read_seg(folder / "partial_overlaps.dcm")
    assert [v.part for v in volumes] == [f"segment-{n}" for n in range(1, 6)]
    assert [v.title for v in volumes] == [label.name for label in OVERLAPPING]
    assert [v.loaded.meta.labels for v in volumes] == [(label,) for label in OVERLAPPING]
    groups = [truth(folder / f"partial_overlaps-{n}.nrrd") for n in (1, 2, 3)]
    for number, volume in enumerate(volumes, 1):
        voxels, affine = next(g for g in groups if (g[0] == number).any())
        assert np.array_equal(volume.loaded.voxels, np.where(voxels == number, number, 0))
        assert np.abs(volume.loaded.meta.affine.matrix - affine).max() < 1e-3


def test_a_part_is_read_alone(real_data: Path) -> None:
    path = real_data / "dcmqi" / "partial_overlaps.dcm"
    parts = seg_parts(path)
    assert parts == tuple(v.part for v in read_seg(path))
    (alone,) = read_seg(path, "segment-3")
    assert alone.loaded.digest == read_seg(path)[2].loaded.digest
    with pytest.raises(UnknownIdError, match="segment-9"):
        read_seg(path, "segment-9")


@pytest.mark.filterwarnings("ignore:The string .* is unlikely to represent the intended person name")
@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_what_highdicom_writes_is_read(real_data: Path, tmp_path: Path, kind: str) -> None:
    highdicom = pytest.importorskip("highdicom")
    images = [pydicom.dcmread(f) for f in sorted((real_data / "dcmqi" / "ct-3slice").glob("*.dcm"))]
    images.sort(key=lambda image: image.ImagePositionPatient[2])
    for image in images:
        image.SpecificCharacterSet = "ISO_IR 100"  # they have none, which highdicom refuses
    shape = (3, images[0].Rows, images[0].Columns)
    truth = np.random.default_rng(0).integers(0, 3, shape).astype("u1")
    pixels = truth
    if kind == "FRACTIONAL":
        pixels = (np.random.default_rng(1).integers(0, 256, (*shape, 2)) / 255).astype("f4")
    written = highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=[
            highdicom.seg.SegmentDescription(n, name, codes.SCT.Organ, codes.SCT.Liver, "MANUAL",
                display_color=highdicom.color.CIELabColor.from_rgb(221, 130, 101))
            for n, name in ((1, "one"), (2, "two"))
        ],
        series_instance_uid="1.2.3", series_number=1, sop_instance_uid="1.2.4", instance_number=1,
        manufacturer="a", manufacturer_model_name="b", software_versions="c", device_serial_number="d",
    )  # fmt: skip
    written.save_as(tmp_path / "a")
    volumes = read_seg(tmp_path / "a")
    if kind == "FRACTIONAL":
        found = np.stack([v.loaded.voxels for v in volumes], axis=-1)
        assert np.array_equal(found, pixels)
        assert [v.title for v in volumes] == ["one", "two"]
    else:
        assert [v.part for v in volumes] == [""]
        assert np.array_equal(volumes[0].loaded.voxels, truth)
        assert volumes[0].loaded.meta.labels[-2:] == (
            Label(1, "one", LIVER.rgba),
            Label(2, "two", LIVER.rgba),
        )
    assert volumes[0].series_uid == images[0].SeriesInstanceUID
    first = np.array(images[0].ImagePositionPatient, float) * (-1, -1, 1)
    assert volumes[0].loaded.meta.affine.translation == pytest.approx(tuple(first), abs=1e-3)


def test_fractions_become_images_from_0_to_1(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pixels = np.array([[0, 50], [100, 200]], "u1")
    path = save(seg([(1, (0, 0, 0), pixels), (2, (0, 0, 0), pixels.T)], kind="FRACTIONAL"), tmp_path / "a")
    with caplog.at_level(logging.WARNING):
        first, second = read_seg(path)
    assert "fractional: 2 float32 image(s)" in caplog.text
    assert first.loaded.meta.kind == "image"
    assert first.loaded.voxels.dtype == "f4"
    assert first.loaded.voxels[0].tolist() == [[0, 0.25], [0.5, 1]]
    assert (second.part, second.title, second.loaded.meta.labels) == ("segment-2", "organ 2", ())


OBLIQUE = np.array([[0.8, 0.36, 0.48], [-0.6, 0.48, 0.64], [0.0, -0.8, 0.6]])
"""Rows: along a row, along a column, the normal."""


@pytest.mark.parametrize("shift", [(0, 0), (0.7, -0.4)], ids=["straight", "sheared"])
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]], ids=["in order", "shuffled"])
def test_voxels_lie_where_their_frames_say(
    tmp_path: Path, shift: tuple[float, float], order: list[int]
) -> None:
    row, column, normal = OBLIQUE
    step = 2.5 * normal + shift[0] * row + shift[1] * column
    position = [np.array([10.5, -20.25, 30.0]) + n * step for n in range(4)]
    masks = [np.arange(12).reshape(3, 4) % (n + 2) == 0 for n in range(4)]
    frames: list[Plane] = [(1, position[n], masks[n]) for n in order]
    made = seg(frames, orientation=[*row, *column], pixel_spacing=(0.5, 0.75), between=2.5)
    volume = one(save(made, tmp_path / "a")).loaded
    for n in range(4):
        assert np.array_equal(volume.voxels[n], masks[n])
        for x, y in ((0, 0), (3, 2)):
            lps = position[n] + x * 0.75 * row + y * 0.5 * column
            assert np.abs(volume.meta.affine.apply((x, y, n)) - lps * (-1, -1, 1)).max() < 1e-5


MASK = np.eye(3, 4) > 0


def stack(*heights: float, segment: int = 1) -> list[Plane]:
    return [(segment, (0, 0, z), MASK) for z in heights]


@pytest.mark.parametrize(
    ("heights", "between", "filled"),
    [
        ((0, 5, 20), 5, [0, 1, 4]),
        ((0, 10), 5, [0, 2]),  # what lies between is known from the stated spacing alone
        ((0, 2.371, 4.742), 2.5, [0, 1, 2]),  # as gantry tilt has it: the stated spacing is another one
        ((0, 3, 9), None, [0, 1, 3]),
        ((7,), 5, [0]),
        ((0, 5.0001, 10), 5, [0, 1, 2]),
    ],
)
def test_planes_without_a_frame_are_background(
    tmp_path: Path, heights: tuple[float, ...], between: float | None, filled: list[int]
) -> None:
    volume = one(save(seg(stack(*heights), between=between), tmp_path / "a")).loaded
    assert volume.voxels.any(axis=(1, 2)).nonzero()[0].tolist() == filled
    top = volume.meta.affine.apply((0, 0, filled[-1]))
    assert top[2] == pytest.approx(heights[-1], abs=1e-3)


def test_touching_segments_share_a_volume_and_names_are_unicode(tmp_path: Path) -> None:
    made = seg([(2, (0, 0, 0), MASK), (300, (0, 0, 0), ~MASK)], names={2: "Müller", 300: "肝\x07", 7: ""})
    volume = one(save(made, tmp_path / "a"))
    assert volume.loaded.voxels.dtype == "u2"
    assert np.array_equal(volume.loaded.voxels[0], np.where(MASK, 2, 300))
    assert [(x.value, x.name) for x in volume.loaded.meta.labels] == [
        (2, "Müller"),
        (7, "segment 7"),
        (300, "肝?"),
    ]
    assert (volume.series_uid, volume.frame_of_reference_uid) == (SERIES, SPACE)


@given(masks=arrays.arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 7))))
def test_bits_are_those_that_pydicom_packed(
    tmp_path_factory: pytest.TempPathFactory, masks: np.ndarray
) -> None:
    path = tmp_path_factory.mktemp("seg") / "a"
    made = seg([(3, (0, 0, 5.0 * n), mask) for n, mask in enumerate(masks)], names={3: "x"})
    assert np.array_equal(one(save(made, path)).loaded.voxels, masks * 3)


@pytest.mark.parametrize(
    ("syntax", "encoder"),
    [
        (RLELossless, "pydicom"),
        (JPEGLSLossless, "pyjpegls"),
        (JPEG2000Lossless, "pylibjpeg"),
        (DeflatedExplicitVRLittleEndian, None),
    ],
)
@pytest.mark.parametrize("bits", [8, 16])
def test_compressed_label_maps_are_exact(tmp_path: Path, syntax: str, encoder: str | None, bits: int) -> None:
    pixels = np.arange(2 * 71 * 67).reshape(2, 71, 67) * 13 % 2**bits
    made = seg([(1, (0, 0, 5.0 * n), frame) for n, frame in enumerate(pixels)], kind="LABELMAP", bits=bits)
    if encoder:
        save(made, tmp_path / "plain", ExplicitVRLittleEndian)
        made.compress(syntax, encoding_plugin=encoder, generate_instance_uid=False)
    assert np.array_equal(one(save(made, tmp_path / "a", syntax)).loaded.voxels, pixels)


def test_missing_planes_of_a_label_map_hold_its_padding_value(tmp_path: Path) -> None:
    made = seg([(1, (0, 0, 0), MASK), (1, (0, 0, 10), MASK)], kind="LABELMAP")
    made.PixelPaddingValue = 9
    assert (one(save(made, tmp_path / "a")).loaded.voxels[1] == 9).all()


@pytest.mark.parametrize(
    ("frames", "change", "words"),
    [
        (stack(0, 5, 12), {}, "whole multiples of one spacing"),
        ([(1, (0, 0, 0), MASK), (1, (12, 0, 0), MASK)], {}, "shifted in their own plane"),
        (
            [(1, (0, 0, 0), MASK), (1, (12, 0, 5), MASK), (1, (0, 0, 10), MASK)],
            {},
            "shifted in their own plane",
        ),
        (stack(0, 0), {}, "one frame for each segment and plane"),
        (stack(0, 900000), {"between": 0.1}, "planes"),
        (stack(0), {"between": None}, "Spacing Between Slices or Slice Thickness"),
        (stack(0), {"orientation": (1, 0, 0, 1, 0, 0)}, "right angle"),
        (stack(0), {"pixel_spacing": (0, 1)}, "above zero"),
    ],
)
def test_what_is_no_grid_is_refused(tmp_path: Path, frames: list[Plane], change: dict, words: str) -> None:
    path = save(seg(frames, **change), tmp_path / "a")
    with pytest.raises((SourceUnsupportedError, SourceCorruptError), match=words) as caught:
        read_seg(path)
    assert str(path) in str(caught.value)


def test_segments_are_put_on_the_grid_of_their_image(tmp_path: Path) -> None:
    volume = one(save(seg(stack(10, 15)), tmp_path / "a"))
    affine = volume.loaded.meta.affine
    whole = on_grid(volume, affine.crop((0, -1, -2)), (6, 5, 7))
    assert whole is not None
    assert whole.loaded.meta.affine == affine.crop((0, -1, -2))
    assert np.array_equal(whole.loaded.voxels[2:4, 1:4, :4], volume.loaded.voxels)
    assert whole.loaded.voxels.sum() == volume.loaded.voxels.sum()
    assert whole.loaded.meta.labels == volume.loaded.meta.labels
    assert on_grid(volume, affine.crop((0, 0, 1)), (4, 3, 9)) is None  # its first plane is outside
    assert on_grid(volume, affine, (4, 3, 1)) is None  # its last plane is outside
    half = affine.matrix.copy()
    half[0, 3] += 0.5
    assert on_grid(volume, Affine(half), (6, 5, 7)) is None  # between the image's voxels
    assert on_grid(volume, affine.crop((0, 0, 0), (1, 1, 2)), (4, 3, 9)) is None  # another spacing


def test_black_white_and_colours_out_of_range() -> None:
    assert cielab_rgba((65535, 32896, 32896)) == (255, 255, 255, 255)
    assert cielab_rgba((0, 32896, 32896)) == (0, 0, 0, 255)
    assert cielab_rgba((65535, 65535, 0))[0] == 255
