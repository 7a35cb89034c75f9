"""Pairs of NIfTI where they lie: both files are held, and a half alone is told which one it misses."""

from __future__ import annotations

import os
import struct
import uuid
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject, measure
from radiobject.backends.files import changed
from radiobject.errors import IngestError, MissingObjectError, SourceChangedError
from radiobject.location import Location
from tests.conftest import NiftiMaker

RAMP = np.arange(12 * 10 * 8, dtype="i2").reshape(12, 10, 8)
PARTS = (..., np.s_[2:4, 3:5, 1:3], np.s_[:, :, 3])


@pytest.fixture
def pair(tmp_path: Path, make_nifti: NiftiMaker) -> Path:
    for ending, data in zip(("hdr", "img"), make_nifti(RAMP, pair=True), strict=True):
        (tmp_path / f"a.{ending}").write_bytes(data)
    return tmp_path / "a.img"


def rescaled(header: bytes) -> bytes:
    """The same header with another scale."""
    return header[:112] + struct.pack("<f", 7.0) + header[116:]


def test_a_header_that_changed_makes_it_another_volume(pair: Path) -> None:
    volume = RadiObject.from_niftis(pair.parent / "study", {"im": [(pair, "s")]}, copy=False).im.iloc[0]
    np.testing.assert_array_equal(volume.to_numpy(), RAMP)
    header = pair.with_suffix(".hdr")
    header.write_bytes(rescaled(header.read_bytes()))
    os.utime(header, ns=(0, header.stat().st_mtime_ns + 10**9))
    for part in PARTS:
        with pytest.raises(SourceChangedError, match=r"a\.hdr"):
            volume[part]
    header.unlink()
    with pytest.raises(MissingObjectError, match=r"a\.hdr"):
        volume[PARTS[1]]


def test_a_header_in_a_store_is_asked_for_with_the_voxels(
    pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = f"memory://{uuid.uuid4().hex}"
    fs, path = Location(root).filesystem()
    for half in (pair, pair.with_suffix(".hdr")):
        fs.pipe_file(f"{path}/{half.name}", half.read_bytes())
    radi = RadiObject.from_niftis(f"{root}/study", {"im": [(f"{root}/a.img", "s")]}, copy=False)
    np.testing.assert_array_equal(radi.im.iloc[0].to_numpy(), RAMP)
    monkeypatch.setattr(changed, "ASKED", 0.0)  # as if some seconds had passed
    fs.pipe_file(f"{path}/a.hdr", rescaled(pair.with_suffix(".hdr").read_bytes()))
    for part in PARTS:
        with pytest.raises(SourceChangedError, match=r"a\.hdr"):
            radi.im.iloc[0][part]
    fs.rm(path, recursive=True)


def test_a_header_is_looked_at_and_not_read_again(pair: Path) -> None:
    volume = RadiObject.from_niftis(pair.parent / "study", {"im": [(pair, "s")]}, copy=False).im.iloc[0]
    volume[PARTS[1]]
    with measure() as m:
        volume[PARTS[1]]
    assert m["requests"] == 0  # of a map nothing is opened, nor of the header


@pytest.mark.parametrize(("given", "other"), [("a.hdr", "a.img"), ("a.img", "a.hdr")])
def test_half_a_pair_is_told_of_its_other_half(pair: Path, given: str, other: str) -> None:
    pair.with_name(other).unlink()
    said = []
    for copy in (True, False):
        with pytest.raises(IngestError) as caught:
            RadiObject.from_niftis(
                pair.parent / f"study{copy}", {"im": [(pair.with_name(given), "s")]}, copy=copy
            )
        said.append(caught.value.report[0]["message"])
    assert said[0] == said[1]
    assert f"expected its other half beside it, {other} or {other}.gz, got nothing there" in said[0]
