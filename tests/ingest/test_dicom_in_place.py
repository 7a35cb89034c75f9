"""Where the voxels of a series lie: read from there, they are those of the ingest, and no other byte is."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from radiobject.backends.files.changed import SourceFiles
from radiobject.backends.files.reading import decode, read_frames
from radiobject.backends.files.source import Bits, Frames, Run, Whole, source_from_json
from radiobject.errors import FormatError, SourceCorruptError, SourceUnsupportedError
from radiobject.geometry.box import Box
from radiobject.ingest.dicom.in_place import decode_dicom
from radiobject.ingest.dicom.scan import scan_dicom
from radiobject.ingest.dicom.series import Irregular
from radiobject.ingest.dicom.volume import DicomVolume
from radiobject.ingest.walking import is_dicom
from radiobject.location import Location
from radiobject.writing.in_place import InPlace

from .dicom_series import enhanced, save, slices

Array = npt.NDArray[Any]
Source = Frames | Whole


def volumes(place: Path, irregular: Irregular = "error") -> list[DicomVolume]:
    return [DicomVolume(v) for v in scan_dicom([place], irregular=irregular, progress=False).volumes]


def in_place(volume: DicomVolume, root: Path) -> InPlace:
    return volume.in_place(lambda folder: os.path.relpath(folder, root).removeprefix("."))


def source(volume: DicomVolume, root: Path) -> Source:
    """Where it lies, as a study keeps that."""
    made = in_place(volume, root).source
    kept = source_from_json(json.loads(json.dumps(made.to_json())), "volume.json")
    assert kept == made
    return kept


def read(found: Source, root: Path, box: Box | None = None) -> Array:
    files = SourceFiles(Location(str(root)))
    if isinstance(found, Frames):
        return read_frames(files, found, box or Box((0,) * len(found.shape), found.shape))
    voxels = decode(files, found, "volume").voxels
    return voxels if box is None else voxels[box.slices]


def boxes(shape: tuple[int, ...], count: int = 8) -> list[Box]:
    """Planes along each axis, and random boxes."""
    rng = np.random.default_rng(1)
    found = []
    for axis, size in enumerate(shape):
        at = size // 2
        start = [at if n == axis else 0 for n in range(len(shape))]
        stop = [at + 1 if n == axis else size for n, size in enumerate(shape)]
        found.append(Box(tuple(start), tuple(stop)))
    for _ in range(count):
        low = [int(rng.integers(size)) for size in shape]
        high = [int(rng.integers(a + 1, size + 1)) for a, size in zip(low, shape, strict=True)]
        found.append(Box(tuple(low), tuple(high)))
    return found


def check(place: Path, root: Path, irregular: Irregular = "error") -> list[Source]:
    """Every volume of a place as it lies there: its voxels are those that an ingest reads."""
    found = []
    for volume in volumes(place, irregular):
        truth, one = volume.load().voxels, source(volume, root)
        got = read(one, root)
        assert got.dtype == truth.dtype
        np.testing.assert_array_equal(got, truth)
        for box in boxes(truth.shape) if isinstance(one, Frames) else []:
            np.testing.assert_array_equal(read(one, root, box), truth[box.slices])
        found.append(one)
    return found


def one(place: Path) -> Source:
    (found,) = check(place, place)
    return found


def frames(place: Path) -> Frames:
    found = one(place)
    assert isinstance(found, Frames)
    return found


def whole(place: Path) -> Whole:
    found = one(place)
    assert isinstance(found, Whole)
    return found


# Real files.

BARE = 31
"""Volumes of the real data that lie bare in their files; the others are compressed, tiled, or scaled image by
image."""
DECODED = 8


def test_every_real_series_reads_as_the_ingest_does(real_data: Path) -> None:
    folders = {p.parent for p in real_data.rglob("*") if p.is_file() and is_dicom(str(p))}
    found = [s for folder in sorted(folders) for s in check(folder, real_data, "keep")]
    # a folder that lies in another is read twice
    distinct = {json.dumps(s.to_json()): s for s in found}.values()
    assert sum(isinstance(s, Frames) for s in distinct) == BARE
    assert sum(isinstance(s, Whole) for s in distinct) == DECODED


# What lies bare.


PLAIN = [
    *itertools.product([ExplicitVRLittleEndian, ImplicitVRLittleEndian], ["<u1", "<u2", "<i2", "<i4"]),
    *itertools.product([ExplicitVRBigEndian], ["<u2", "<i2", "<i4"]),
]


@pytest.mark.parametrize(("syntax", "stored"), PLAIN)
def test_plain_numbers_of_any_size_and_order_lie_bare(tmp_path: Path, syntax: str, stored: str) -> None:
    found = frames(save(tmp_path, slices(stored=stored), syntax=syntax))
    assert found.byteorder == (">" if syntax == ExplicitVRBigEndian else "<")
    assert found.dtype == np.dtype(stored).newbyteorder("=")


def test_files_without_preamble_lie_bare(tmp_path: Path) -> None:
    assert frames(save(tmp_path, slices(), syntax=ImplicitVRLittleEndian, bare=True)).bits is None


def test_only_stored_bits_are_values(tmp_path: Path) -> None:
    made = slices(stored="<i2", start=-30, BitsStored=5, HighBit=4)
    assert frames(save(tmp_path, made)).bits == Bits(5, 4, True)
    (volume,) = volumes(tmp_path)
    assert in_place(volume, tmp_path).stored_range == (-16, 15)


def test_frames_of_one_file_are_one_place(tmp_path: Path) -> None:
    found = frames(save(tmp_path, [enhanced(6)]))
    assert [(r.member, r.stride, r.count) for r in found.places] == [(0, 9 * 8 * 2, 6)]


def test_frames_in_another_order_are_found_where_they_are(tmp_path: Path) -> None:
    found = frames(save(tmp_path, [enhanced(5, position=lambda n: (0, 0, -2.5 * n))]))
    assert [run.count for run in found.places] == [1] * 5
    offsets = [run.offset for run in found.places]
    assert offsets == sorted(offsets, reverse=True)


def test_floats_lie_bare(tmp_path: Path) -> None:
    made = enhanced(3, stored="<f4", BitsStored=None, HighBit=None, PixelRepresentation=None)
    found = frames(save(tmp_path, [made]))
    assert (found.dtype, found.bits) == (np.dtype("f4"), None)


def test_a_header_longer_than_what_is_read_first_is_read_to_its_end(tmp_path: Path) -> None:
    made = slices(count=3)
    for ds in made:
        ds.add_new(0x00290010, "LO", "SOMEBODY")
        ds.add_new(0x00291020, "OB", bytes(2**17))
    found = frames(save(tmp_path, made))
    assert all(2**17 < member.head < 2**17 + 2000 for member in found.members)


def test_of_a_very_long_header_the_first_mebibyte_is_kept_in_mind(tmp_path: Path) -> None:
    made = slices(count=2)
    for ds in made:
        ds.add_new(0x00290010, "LO", "SOMEBODY")
        ds.add_new(0x00291020, "OB", bytes(2**20))
    assert [member.head for member in frames(save(tmp_path, made)).members] == [2**20] * 2


# What is decoded.


def test_bytes_in_big_endian_words_are_decoded(tmp_path: Path) -> None:
    whole(save(tmp_path, slices(rows=8, stored="<u1"), syntax=ExplicitVRBigEndian))


def test_deflated_files_are_decoded(tmp_path: Path) -> None:
    whole(save(tmp_path, slices(), syntax=DeflatedExplicitVRLittleEndian))


def test_compressed_files_are_decoded(tmp_path: Path) -> None:
    folder = save(tmp_path, slices())
    for path in folder.iterdir():
        ds = dcmread(path)
        ds.compress(RLELossless, generate_instance_uid=False)
        ds.save_as(path)
    found = whole(folder)
    assert found.arguments == {"times": 1, "scaled": False, "images": [[0, 0, 1, 0, 5]]}


def test_images_with_scalings_of_their_own_are_decoded(tmp_path: Path) -> None:
    made = slices(RescaleSlope=lambda n: f"{n + 1}", RescaleIntercept="-3")
    found = whole(save(tmp_path, made))
    assert found.arguments["scaled"] is True
    (volume,) = volumes(tmp_path)
    assert in_place(volume, tmp_path).stored_range is None


def test_slices_of_other_stored_bits_are_decoded(tmp_path: Path) -> None:
    made = slices(BitsStored=lambda n: 12 if n else 16, HighBit=lambda n: 11 if n else 15)
    whole(save(tmp_path, made))


def test_times_and_order_of_decoded_frames_are_kept(tmp_path: Path) -> None:
    def position(n: int) -> tuple[float, float, float]:
        return 0, 0, 2.5 * (n // 3)  # three times of each slice, one after the other

    made = enhanced(12, position=position, slope=lambda n: n + 1.0)
    found = whole(save(tmp_path, [made]))
    assert found.arguments["times"] == 3
    assert found.arguments["images"] == [[0, t, 0, 3, 4] for t in range(3)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": [[0, 0, 0, 0, 5]]},
        {"images": [[0, 0, 1, 0, 10**15]]},
        {"images": [[0, 0, -1, 0, 2]]},
        {"images": [[0, 0, 0, 1, 2]]},
        {"images": [[0, 0, 1]]},
        {"images": 5},
        {"images": []},
        {"times": 2},
        {"times": 0},
        {"times": True},
        {"scaled": 1},
    ],
    ids=str,
)  # fmt: skip
def test_other_arguments_of_the_decoder_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    folder = save(tmp_path, slices(count=5))
    names = [f"{n + 1}.dcm" for n in range(5)]
    good = {"times": 1, "scaled": False, "images": [[0, 0, 1, 0, 5]]}
    with pytest.raises(FormatError, match="which image is where"):
        decode_dicom(names, {**good, **wrong}, lambda name: (folder / name).read_bytes())


@pytest.mark.parametrize("other", [{"rows": 10}, {"stored": "<i2"}], ids=str)
def test_images_of_several_kinds_are_refused_by_the_decoder(tmp_path: Path, other: dict[str, Any]) -> None:
    folder = save(tmp_path, [*slices(count=1), *slices(count=1, **other)])
    good = {"times": 1, "scaled": False, "images": [[0, 0, 1, 0, 2]]}
    with pytest.raises(FormatError, match="one size and type"):
        decode_dicom(["1.dcm", "2.dcm"], good, lambda name: (folder / name).read_bytes())


def test_a_file_that_is_no_image_is_refused_by_the_decoder(tmp_path: Path) -> None:
    folder = save(tmp_path, slices(count=1, ImagePositionPatient=None))
    good = {"times": 1, "scaled": False, "images": [[0, 0, 0, 0, 1]]}
    with pytest.raises(SourceCorruptError, match="images of a volume"):
        decode_dicom(["1.dcm"], good, lambda name: (folder / name).read_bytes())


def test_more_disorder_than_a_document_may_say_is_refused(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(6000).tolist()
    made = enhanced(
        6000, rows=2, columns=2, position=lambda n: (0, 0, float(order[n])), slope=lambda n: n + 1.0
    )
    (volume,) = volumes(save(tmp_path, [made]))
    with pytest.raises(SourceUnsupportedError, match="copy=True"):
        source(volume, tmp_path)


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    folder = os.path.join(os.fsencode(tmp_path), b"\xff")
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("a file system that takes UTF-8 only")
    save(Path(os.fsdecode(folder)), slices(count=3))
    (volume,) = volumes(tmp_path)
    with pytest.raises(SourceUnsupportedError, match="UTF-8"):
        in_place(volume, tmp_path)


SHUFFLED = st.permutations(range(9))


@settings(max_examples=25)
@given(places=SHUFFLED, times=st.sampled_from([1, 3]), scaled=st.booleans(), bits=st.sampled_from([12, 16]))
def test_frames_in_any_order_are_found(places: list[int], times: int, scaled: bool, bits: int) -> None:
    """One file, the frames of which lie in any order of positions, and of times at each."""

    def position(n: int) -> tuple[float, float, float]:
        return 0, 0, 2.0 * (places[n] // times)

    made = enhanced(
        9, rows=3, columns=2, position=position, slope=(lambda n: n + 1.0) if scaled else None,
        BitsStored=bits, HighBit=bits - 1,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        found = one(save(Path(folder), [made]))
    assert isinstance(found, Whole) == scaled


# What is read.


def test_paths_are_below_the_root(tmp_path: Path) -> None:
    made = slices(count=4)
    save(tmp_path / "a", made[:2])
    save(tmp_path / "b" / "c", made[2:], names=["3", "4"])
    (found,) = check(tmp_path, tmp_path)
    assert [m.path for m in found.members] == ["a/1.dcm", "a/2.dcm", "b/c/3", "b/c/4"]


def test_only_frames_that_a_box_touches_are_opened(tmp_path: Path) -> None:
    found = frames(save(tmp_path / "in", slices(count=5)))
    box = Box((3, 0, 0), (4, 9, 8))
    truth = read(found, tmp_path / "in", box)
    for name in ("1.dcm", "2.dcm", "3.dcm", "5.dcm"):
        (tmp_path / "in" / name).unlink()
    shutil.move(tmp_path / "in", tmp_path / "moved")
    np.testing.assert_array_equal(read(found, tmp_path / "moved", box), truth)


def test_places_are_those_that_a_parser_finds(tmp_path: Path) -> None:
    folder = save(tmp_path, slices(count=3))
    found = frames(folder)
    for run, path in zip(found.places, sorted(folder.iterdir()), strict=True):
        ds = dcmread(path)
        assert run == Run(run.member, ds["PixelData"].file_tell)
        assert path.read_bytes()[run.offset :] == ds.PixelData
