"""The files that pydicom tests itself with: each is ingested right, or left out with a named reason."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest

from radiobject import RadiObject
from radiobject.errors import SourceError, SourceNotFoundError
from radiobject.ingest.dicom.scan import Scan, scan_dicom
from radiobject.ingest.dicom.series import Arranged
from radiobject.ingest.dicom.volume import DicomVolume

ROOT = Path(pydicom.data.__file__).parent
"""What ships in the wheel; nothing is downloaded."""

FILES = sorted(
    path
    for folder in ("test_files", "charset_files", "palettes")
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".py"
)
FOLDERS = sorted({path.parent for path in FILES})

counted = pytest.mark.skipif(
    pydicom.__version__ != "3.0.2", reason="the counts are those of pydicom 3.0.2's files"
)


def same_voxels(one: Arranged) -> None:
    """Every frame has pydicom's values, and the scaling and place that the header says."""
    volume = DicomVolume(one)
    loaded = volume.load()
    assert volume.scaling is not None
    shape = (len(one.members), len(one.members[0]), *loaded.voxels.shape[-2:])
    voxels = loaded.voxels.reshape(shape)
    matrix = one.stack.affine.matrix
    for t, row in enumerate(one.members):
        for z, member in enumerate(row):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom's, about what its files do wrong
                dataset = pydicom.dcmread(member.instance.path, force=True)
                pixels = dataset.pixel_array
                slope = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
                place = np.array(dataset.ImagePositionPatient, float)
            frame = pixels[member.frame.number] if pixels.ndim > 2 else pixels
            np.testing.assert_array_equal(voxels[t, z], frame)
            assert voxels.dtype == frame.dtype.newbyteorder("=")
            assert volume.scaling == slope
            np.testing.assert_allclose((matrix @ [0, 0, z, 1])[:3], place * [-1, -1, 1], atol=0.1)


def scanned(place: Path) -> Scan:
    return scan_dicom([place], progress=False)


def outcome(path: Path) -> str:
    """What becomes of one file: volume, refused, damaged, label, skipped with the reason, or no DICOM."""
    try:
        scan = scanned(path)
    except SourceNotFoundError:
        return "not DICOM"
    found = ["volume" for _ in scan.volumes] + ["refused" for _ in scan.refused]
    found += ["damaged" for _ in scan.damaged] + ["label" for _ in scan.labels]
    found += [f"skipped: {reason}" for reason in scan.skipped.elements()]
    (only,) = found
    for volume in scan.volumes:
        same_voxels(volume)
    for error in [*(d.error for d in scan.damaged.values()), *(r.error for r in scan.refused)]:
        assert isinstance(error, SourceError)
        assert path.name in str(error)
    return only


@counted
def test_each_file_alone_is_right_or_left_out_by_name() -> None:
    """Damaged are images without pixels (of dicomdirtests, whose readers want none), one that is cut short,
    and data sets that do not say what they are."""
    assert Counter(outcome(path) for path in FILES) == {
        "volume": 38,
        "label": 3,
        "damaged": 62,
        "not DICOM": 15,
        "skipped: secondary capture": 47,
        "skipped: colour": 5,
        "skipped: localizer": 2,
        "skipped: no position in space (CR)": 3,
        "skipped: RT Dose Storage": 7,
        "skipped: no pixels (Media Storage Directory Storage)": 6,
        "skipped: no pixels (Color Palette Storage)": 8,
        "skipped: no pixels (RT Ion Plan Storage)": 1,
        "skipped: no pixels (RT Plan Storage)": 2,
        "skipped: no pixels (Basic Text SR Storage)": 2,
        "skipped: no pixels (Comprehensive SR Storage)": 1,
        "skipped: no pixels (12-lead ECG Waveform Storage)": 1,
    }
    assert len(FILES) == 203


# volumes, their slices, refused, damaged, labels, skipped
IN_FOLDERS = {
    "charset_files": (0, 0, 0, 5, 0, 13),
    "palettes": (0, 0, 0, 0, 0, 9),
    "test_files": (22, 26, 2, 57, 3, 78),
    "test_files/dicomdirtests": (18, 22, 1, 50, 0, 15),
    "test_files/dicomdirtests/77654033/CR1": (0, 0, 0, 0, 0, 1),
    "test_files/dicomdirtests/77654033/CR2": (0, 0, 0, 0, 0, 1),
    "test_files/dicomdirtests/77654033/CR3": (0, 0, 0, 0, 0, 1),
    "test_files/dicomdirtests/77654033/CT2": (0, 0, 1, 0, 0, 0),
    "test_files/dicomdirtests/98892001/CT2N": (0, 0, 0, 0, 0, 2),
    "test_files/dicomdirtests/98892001/CT5N": (1, 5, 0, 0, 0, 0),
    "test_files/dicomdirtests/98892003/MR1": (3, 3, 0, 0, 0, 0),
    "test_files/dicomdirtests/98892003/MR2": (7, 7, 0, 0, 0, 0),
    "test_files/dicomdirtests/98892003/MR700": (7, 7, 0, 0, 0, 0),
    "test_files/dicomdirtests/TINY_ALPHA": (0, 0, 0, 50, 0, 2),
    "test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000": (0, 0, 0, 50, 0, 0),
}


@counted
@pytest.mark.parametrize("name", IN_FOLDERS)
def test_each_folder_is_right_or_left_out_by_name(name: str, caplog: pytest.LogCaptureFixture) -> None:
    scan = scanned(ROOT / name)
    for volume in scan.volumes:
        same_voxels(volume)
    slices = sum(len(row) for volume in scan.volumes for row in volume.members)
    rest = len(scan.refused), len(scan.damaged), len(scan.labels), scan.skipped.total()
    assert (len(scan.volumes), slices, *rest) == IN_FOLDERS[name]
    for refused in scan.refused:
        assert re.search("161 missing of 165|one that cannot be read", str(refused.error))
    # MR_small and CT_small are there in several encodings, all with one UID
    copies = [r.args[0] for r in caplog.records if "are copies of others" in r.message]
    assert copies == ([7] if name == "test_files" else [])


def test_every_folder_is_tried() -> None:
    known = set(IN_FOLDERS)
    assert {p.relative_to(ROOT).as_posix() for p in FOLDERS} == known


def test_all_of_them_together_make_a_study(tmp_path: Path) -> None:
    study = RadiObject.from_dicoms(tmp_path, ROOT / "test_files", deid_key="8f" * 32, errors="collect")
    assert len(study.MR) == 18
    assert len(study.CT) == 4
    assert Counter(study.ledger["outcome"])["ingested"] == 22
