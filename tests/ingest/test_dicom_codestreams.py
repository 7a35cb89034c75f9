"""Compressed frames are held against the header before a decoder sees them; ids keep their letters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydicom")

import pydicom
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from radiobject import RadiObject, Volume, pseudonym
from radiobject.errors import SourceCorruptError
from tests.upstream.series import write_series

KEY = "00" * 32
SYNTAXES = [RLELossless, JPEGLSLossless, JPEG2000Lossless]


def compressed(folder: Path, syntax: pydicom.uid.UID, **values: Any) -> Path:
    """The series of `write_series` with 64 x 64 pixels, compressed; `values` are set afterwards."""
    write_series(folder)
    for n, path in enumerate(sorted(folder.iterdir())):
        ds = pydicom.dcmread(path)
        ds.Rows = ds.Columns = 64
        ds.PixelData = (np.arange(4096, dtype="<u2") * 15 + n).tobytes()
        ds.compress(syntax)
        for keyword, value in values.items():
            setattr(ds, keyword, value)
        ds.save_as(path)
    return folder


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_compressed_series_are_exact(syntax: pydicom.uid.UID, tmp_path: Path) -> None:
    volume = Volume.from_dicom(compressed(tmp_path / "in", syntax))
    expected = np.arange(4096, dtype="u2").reshape(64, 64).T * 15
    assert np.array_equal(volume[:, :, 2], expected)


@pytest.mark.parametrize("syntax", SYNTAXES[1:], ids=lambda s: s.name)
@pytest.mark.parametrize("values", [{"Rows": 65}, {"Columns": 63}, {"Rows": 32, "Columns": 128}], ids=str)
def test_another_size_in_the_header_is_refused(
    syntax: pydicom.uid.UID, values: dict[str, int], tmp_path: Path
) -> None:
    with pytest.raises(SourceCorruptError, match=r"got \(64, 64\) of 16 bits"):
        Volume.from_dicom(compressed(tmp_path / "in", syntax, **values))


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_values_wider_than_the_header_says_are_refused(syntax: pydicom.uid.UID, tmp_path: Path) -> None:
    folder = compressed(tmp_path / "in", syntax, BitsAllocated=8, BitsStored=8, HighBit=7)
    with pytest.raises(SourceCorruptError, match="at most 8 bits"):
        Volume.from_dicom(folder)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_frames_that_were_cut_are_refused(syntax: pydicom.uid.UID, tmp_path: Path) -> None:
    folder = compressed(tmp_path / "in", syntax)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SourceCorruptError):
        Volume.from_dicom(folder)


def test_ids_are_read_in_the_character_set_of_the_file(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "in", SpecificCharacterSet="ISO_IR 192", PatientID="Zürich-Ж7")
    radi = RadiObject.from_dicoms(tmp_path / "study", folder, deid_key=KEY, progress=False)
    assert radi.obs_subject_ids == [pseudonym("Zürich-Ж7", KEY)]
