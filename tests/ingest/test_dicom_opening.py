"""A file up to its pixels: what is parsed quickly is what dcmread parses, whatever the file is like."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path

import pytest

pytest.importorskip("pydicom")

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from radiobject.errors import SourceCorruptError
from radiobject.ingest.dicom.frames import Instance
from radiobject.ingest.dicom.opening import opened, opened_bytes
from radiobject.ingest.dicom.reading import read_instance
from radiobject.ingest.walking import is_dicom

from .dicom_series import save, slices
from .test_dicom_pydicom_files import FILES


def same_elements(found: Dataset, expected: Dataset) -> None:
    assert list(found.keys()) == list(expected.keys())
    for tag in expected.keys():  # noqa: SIM118 - iterating a data set converts its elements
        values = [getattr(ds.get_item(tag), "value", None) for ds in (found, expected)]
        if not all(isinstance(value, bytes) for value in values):
            values = [str(ds[tag]) for ds in (found, expected)]  # a sequence, or converted while it was read
        assert values[0] == values[1]


def check(path: str | Path) -> None:
    """Parsed at once, in two steps, from the file, and from bytes: as dcmread does."""
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = dcmread(file, stop_before_pixels=True, force=not is_part_10(path))
        after = file.tell()
        file.seek(after)
        rest = file.read(12)
        meta = expected.file_meta
        for start in (opened(str(path)), opened(str(path), 140), opened_bytes(Path(path).read_bytes(), "it")):
            same_elements(start.dataset, expected)
            assert (start.after, start.rest) == (after, rest)
            assert start.syntax == str(meta.get("TransferSyntaxUID", ""))
            assert start.media_class == str(meta.get("MediaStorageSOPClassUID", ""))
            head = Path(path).read_bytes()[: min(after, 2**20)]
            assert start.state.head == len(head)
            assert start.state.head_sha256 == hashlib.sha256(head).hexdigest()
            assert start.state.bytes == os.path.getsize(path)


def is_part_10(path: str | Path) -> bool:
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def test_real_files_are_parsed_as_dcmread_does(real_data: Path) -> None:
    files = [p for p in real_data.rglob("*") if p.is_file() and is_dicom(str(p))]
    assert len(files) > 100
    for path in files:
        check(path)


def test_files_of_pydicom_are_parsed_as_dcmread_does() -> None:
    files = [p for p in FILES if p.name != "DICOMDIR" and is_dicom(str(p))]
    assert len(files) > 20
    for path in files:
        check(path)


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
def test_files_of_each_syntax_are_parsed_as_dcmread_does(tmp_path: Path, syntax: str) -> None:
    check(save(tmp_path, slices(count=1), syntax=syntax) / "1.dcm")


def test_elements_of_messages_before_the_data_set_are_read_over(tmp_path: Path) -> None:
    path = save(tmp_path, slices(count=1)) / "1.dcm"
    data = path.read_bytes()
    at = opened(str(path)).after
    length = int.from_bytes(data[140:144], "little")
    at = 144 + length
    message = b"\0\0\0\1" + (2).to_bytes(4, "little") + b"\1\0"
    path.write_bytes(data[:at] + message + data[at:])
    check(path)
    assert isinstance(read_instance(str(path)), Instance)


def test_file_meta_that_begins_otherwise_is_parsed_as_dcmread_does(tmp_path: Path) -> None:
    path = save(tmp_path, slices(count=1)) / "1.dcm"
    data = path.read_bytes()
    path.write_bytes(data[:132] + data[144:])  # without its length
    check(path)


def test_a_file_that_ends_in_its_header_is_damaged_however_much_is_read_first(tmp_path: Path) -> None:
    path = save(tmp_path, slices(count=1)) / "1.dcm"
    path.write_bytes(path.read_bytes()[:600])
    for first in (140, 2**14):
        with pytest.raises(SourceCorruptError):
            read_instance(str(path), first)
