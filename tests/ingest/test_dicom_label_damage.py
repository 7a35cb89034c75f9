"""Damaged and hostile SEG and RTSTRUCT files: each is read, or refused by a `SourceError`."""

from __future__ import annotations

import io
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import JPEGLosslessSV1, JPEGLSLossless, RLELossless

from radiobject.errors import SourceCorruptError, SourceError, SourceNotFoundError, SourceUnsupportedError
from radiobject.geometry.affine import Affine
from radiobject.ingest.dicom.labelled import LabelVolume
from radiobject.ingest.dicom.rtstruct import ReferenceGrid, read_rtstruct
from radiobject.ingest.dicom.seg import read_seg, seg_parts

from .label_objects import contour, rtstruct, save, seg

GRID = ReferenceGrid(Affine.from_spacing((1, 1, 2)), (6, 5, 4), {"1.2.1": 1}, "1.2.3.5")
MASK = np.eye(4, 5) > 0


def binary() -> Dataset:
    return seg([(1, (0, 0, 0), MASK), (2, (0, 0, 5), MASK), (2, (0, 0, 15), MASK)])


def fractional() -> Dataset:
    return seg([(1, (0, 0, 0), MASK * 200), (1, (0, 0, 5), MASK * 9)], kind="FRACTIONAL")


def label_map() -> Dataset:
    return seg([(1, (0, 0, 0), MASK * 1), (1, (0, 0, 10), MASK * 1)], kind="LABELMAP", bits=16)


def structures() -> Dataset:
    square = np.array([[-1, -1, 2], [-3, -1, 2], [-3, -3, 2], [-1, -3, 2]])
    rois = {1: ("a", [contour(square, image="1.2.1")]), 2: ("b", [contour([[0, 0, 1]], "POINT")])}
    return rtstruct(rois, {1: (1, 2, 3)})


def read(path: Path) -> list[LabelVolume] | None:
    """What either reader makes of a file; None when refused by a `SourceError`, as any other error is not."""
    found: list[LabelVolume] = []
    refusals = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for reader in (read_seg, lambda p: read_rtstruct(p, GRID)):
            try:
                found += reader(path)
            except SourceError as error:
                refusals.append(str(error))
    assert all(str(path) in refusal for refusal in refusals)
    return found or None


PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"


@pytest.mark.parametrize("file", sorted(p for p in PYDICOM.rglob("*") if p.is_file()), ids=lambda f: f.name)
def test_each_of_pydicoms_files_is_refused_by_name(file: Path) -> None:
    # the two segmentations among them declare one frame and describe three; the contours lie elsewhere
    assert read(file) is None


@pytest.mark.parametrize("name", ["liver_1frame.dcm", "liver_expb_1frame.dcm"])
def test_pydicoms_segmentations_are_refused_for_what_is_wrong(name: str) -> None:
    with pytest.raises(SourceCorruptError, match="an item for each of 1 frames, got 3"):
        read_seg(PYDICOM / name)


def _turn_one_frame(made: Dataset) -> None:
    turned = Dataset()
    turned.ImageOrientationPatient = [1, 0, 0, 0, 0, 1]
    made.PerFrameFunctionalGroupsSequence[1].PlaneOrientationSequence = [turned]


def _set(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda made: setattr(made, keyword, value)


def _of_frame(keyword: str, inner: str, value: object) -> Callable[[Dataset], None]:
    return lambda made: setattr(made.PerFrameFunctionalGroupsSequence[0][keyword].value[0], inner, value)


def _of_all(keyword: str, inner: str, value: object) -> Callable[[Dataset], None]:
    return lambda made: setattr(made.SharedFunctionalGroupsSequence[0][keyword].value[0], inner, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"), "got SOP class 1.2.840.10008.5.1.4.1.1.2"),
        (_set("SegmentationType", "OTHER"), "BINARY or FRACTIONAL or LABELMAP"),
        (_set("Rows", 0), "at least one frame, row and column"),
        (_set("NumberOfFrames", 2), "an item for each of 2 frames"),
        (_set("NumberOfFrames", 2**31 - 1), "bytes of pixels, as its header says"),
        (_set("Columns", 65535), "bytes of pixels, as its header says"),
        (_set("BitsAllocated", 32), "1, 8 or 16 bits"),
        (_set("PixelRepresentation", 1), "signed"),
        (_set("PixelData", b""), "pixel data"),
        (_set("SegmentSequence", []), "one of the 0 segments"),
        (lambda made: made.SegmentSequence.append(made.SegmentSequence[0]), "a number of its own"),
        (_of_frame("SegmentIdentificationSequence", "ReferencedSegmentNumber", 9), "one of the 2 segments"),
        (_of_frame("PlanePositionSequence", "ImagePositionPatient", [1e9, 0, 0]), "numbers up to"),
        (_of_frame("PlanePositionSequence", "ImagePositionPatient", []), "ImagePositionPatient"),
        (_of_all("PixelMeasuresSequence", "PixelSpacing", [-1, 1]), "PixelSpacing: expected above zero"),
        (_of_all("PlaneOrientationSequence", "ImageOrientationPatient", [2, 0, 0, 0, 1, 0]), "unit vectors"),
        (_turn_one_frame, "one orientation for all frames"),
        (lambda made: made.SharedFunctionalGroupsSequence.clear(), "no PixelMeasuresSequence"),
    ],
)
def test_segmentations_are_refused_for_what_is_wrong(
    tmp_path: Path, change: Callable[[Dataset], None], words: str
) -> None:
    made = binary()
    change(made)
    with pytest.raises(SourceError, match=words):
        read_seg(save(made, tmp_path / "a"))


def test_values_that_the_type_of_a_segmentation_excludes_are_refused(tmp_path: Path) -> None:
    twos = seg([(1, (0, 0, 0), MASK * 2)], bits=8)
    with pytest.raises(SourceCorruptError, match="0 and 1 in a binary frame, got 2"):
        read_seg(save(twos, tmp_path / "a"))
    unscaled = fractional()
    unscaled.MaximumFractionalValue = 0
    with pytest.raises(SourceCorruptError, match="MaximumFractionalValue"):
        read_seg(save(unscaled, tmp_path / "a"))


@pytest.mark.parametrize(("syntax", "encoder"), [(RLELossless, "pydicom"), (JPEGLSLossless, "pyjpegls")])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Rows": 17}, "readable DICOM object"),
        ({"NumberOfFrames": 60000}, "each of 8 bytes or more"),
        ({"Rows": 9000, "Columns": 9000}, "at most 67108864 pixels"),
    ],
)
def test_compressed_frames_of_other_sizes_are_refused(
    tmp_path: Path, syntax: str, encoder: str, change: dict[str, int], words: str
) -> None:
    made = seg([(1, (0, 0, 0), np.arange(256).reshape(16, 16) % 3)], kind="LABELMAP", bits=16)
    save(made, tmp_path / "plain")
    made.compress(syntax, encoding_plugin=encoder, generate_instance_uid=False)
    assert read_seg(save(made, tmp_path / "a", syntax))[0].loaded.voxels.max() == 2
    for keyword, value in change.items():
        setattr(made, keyword, value)
    with pytest.raises(SourceCorruptError, match=words):
        read_seg(save(made, tmp_path / "a", syntax))


def test_wider_values_than_the_header_says_are_refused(tmp_path: Path) -> None:
    made = seg([(1, (0, 0, 0), np.arange(256).reshape(16, 16) * 200)], kind="LABELMAP", bits=16)
    save(made, tmp_path / "plain")
    made.compress(JPEGLSLossless, encoding_plugin="pyjpegls", generate_instance_uid=False)
    made.BitsAllocated = made.BitsStored = 8
    with pytest.raises(SourceCorruptError, match="frames of 8 bits, got 16"):
        read_seg(save(made, tmp_path / "a", JPEGLSLossless))


def test_a_decoder_that_may_abort_is_not_tried(tmp_path: Path) -> None:
    made = label_map()
    save(made, tmp_path / "plain")
    made.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    with pytest.raises(SourceUnsupportedError, match="got JPEG Lossless"):
        read_seg(save(made, tmp_path / "a", JPEGLosslessSV1))


def test_what_pydicom_warns_about_is_read_without_a_word(tmp_path: Path) -> None:
    made = binary()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.SpecificCharacterSet = "ISO_IR 999"
        path = save(made, tmp_path / "a")
    assert read(path)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", SourceUnsupportedError),
        (b"\0" * 300, SourceError),
        (bytes(128) + b"DICM", SourceUnsupportedError),
    ],
)
def test_what_is_no_such_object_is_refused(tmp_path: Path, data: bytes, error: type[SourceError]) -> None:
    (tmp_path / "a").write_bytes(data)
    for reader in (read_seg, lambda p: read_rtstruct(p, GRID)):
        with pytest.raises(error):
            reader(tmp_path / "a")
    with pytest.raises(SourceNotFoundError):
        read_seg(tmp_path / "missing")
    with pytest.raises(SourceError, match="a readable file"):
        seg_parts(tmp_path)


@pytest.mark.parametrize(
    "sizes",
    [
        {"Rows": 65535, "Columns": 65535},
        {"NumberOfFrames": 2**31 - 1},
        {"NumberOfFrames": -3},
        {"Rows": 0},
        {"BitsAllocated": 32},
        {"SamplesPerPixel": 3},
        {"MaximumFractionalValue": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("compressed", [False, True])
def test_sizes_that_the_bytes_cannot_hold_cost_no_memory(
    tmp_path: Path, sizes: dict[str, int], compressed: bool
) -> None:
    made = fractional()
    if compressed:
        save(made, tmp_path / "plain")
        made.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    for keyword, value in sizes.items():
        setattr(made, keyword, value)
    path = save(made, tmp_path / "a", RLELossless if compressed else "1.2.840.10008.1.2.1")
    tracemalloc.start()
    try:
        with pytest.raises(SourceError):
            read_seg(path)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


def _elements(dataset: Dataset) -> Iterator[tuple[Dataset, BaseTag]]:
    """Every element, those of sequence items too."""
    for element in dataset:
        yield dataset, element.tag
        if element.VR == "SQ":
            for inner in element.value:
                yield from _elements(inner)


def damaged(made: Dataset, changes: list[tuple[int, bytes | None]]) -> Dataset:
    """Elements, by their number, deleted or replaced."""
    for number, value in changes:
        places = list(_elements(made))
        dataset, tag = places[number % len(places)]
        if value is None:
            del dataset[tag]
        else:  # bytes of unknown type, which pydicom takes for what the dictionary says
            dataset[tag] = DataElement(tag, "UN", value)
    return made


VALUES = st.one_of(
    st.sampled_from([
        b"", b"nan", b"-1", b"0", b"1e999", b"999999999999", b"abc ", b"1\\2", b"1\\0\\0\\0\\1\\0 ", b"\0\0",
        b"\xff\xff", b"\xff\xff\xff\xff", b"\1\0\1\0\1\0", b"ISO_IR 999", b"\\\\\\ ",
        b"\xfe\xff\0\xe0\xff\xff\xff\xff",
        b"\xfe\xff\0\xe0\0\0\0\0", b"CLOSED_PLANAR ", b"BINARY", b"LABELMAP", b"FRACTIONAL", b"0.00001 ",
    ]),
    st.binary(max_size=24),
)  # fmt: skip
Made = Callable[[], Dataset]
CHANGES = st.lists(st.tuples(st.integers(0, 10**6), st.none() | VALUES), min_size=1, max_size=3)
KINDS = st.sampled_from([binary, fractional, label_map, structures])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=KINDS, changes=st.lists(st.tuples(st.integers(0, 10**6), st.none() | VALUES), min_size=1, max_size=3)
)
@example(kind=structures, changes=[(0, b"ISO_IR 999")])
def test_deleted_and_replaced_elements_raise_only_our_errors(
    tmp_path: Path, kind: Made, changes: list[tuple[int, bytes | None]]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            path = save(damaged(kind(), changes), tmp_path / "a")
        except Exception:  # what pydicom cannot write is not read either
            reject()
    read(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=KINDS, data=st.data())
def test_changed_and_cut_bytes_raise_only_our_errors(tmp_path: Path, kind: Made, data: st.DataObject) -> None:
    content = bytearray(save(kind(), tmp_path / "a").read_bytes())
    for at in data.draw(st.lists(st.integers(128, len(content) - 1), max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    (tmp_path / "a").write_bytes(content[: data.draw(st.integers(128, len(content)))])
    read(tmp_path / "a")


@pytest.mark.parametrize("kind", [binary, fractional, label_map, structures])
def test_the_undamaged_ones_are_read(tmp_path: Path, kind: Made) -> None:
    assert read(save(kind(), tmp_path / "a"))


def test_a_file_without_prefix_is_read(tmp_path: Path) -> None:
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, binary(), implicit_vr=True, little_endian=True)
    (tmp_path / "a").write_bytes(stream.getvalue())
    assert len(read_seg(tmp_path / "a")) == 1
