"""The page of DICOM cases: its table of real series is what the ingest makes of them, here and now."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from radiobject.errors import SourceError
from radiobject.ingest.dicom.scan import Scan, scan_dicom
from radiobject.ingest.dicom.seg import read_seg
from radiobject.ingest.dicom.series import Arranged
from radiobject.ingest.dicom.volume import DicomVolume

__all__ = ["SERIES", "page", "write"]

_START, _END = "<!-- the table: made by docs/pictures/cases.py -->", "<!-- end of the table -->"
_ONE = "one volume"

# Folder, what lies there, and which case it is.
SERIES = (
    ("dicom2nifti/ge/anatomical/001", "GE MR, sagittal", _ONE),
    ("dicom2nifti/ge/anatomical/001_implicit", "the same in implicit syntax", _ONE),
    ("dicom2nifti/ge/anatomical/001_single_slice", "one slice of it", "single slice"),
    ("dicom2nifti/ge/fmri/001", "GE fMRI, no TemporalPositionIdentifier", "series in time"),
    ("dicom2nifti/ge/fmri/001_implicit", "the same in implicit syntax", "series in time"),
    ("dicom2nifti/ge/dti/001", "GE diffusion", "series in time"),
    ("dicom2nifti/ge/dti/001_implicit", "the same in implicit syntax", "series in time"),
    ("dicom2nifti/ge/dti/002", "GE diffusion, coronal", "series in time"),
    ("dicom2nifti/philips/anatomical/002", "Philips MR, magnitude and phase", "kinds of image"),
    ("dicom2nifti/philips_enhanced/anatomical/001", "Philips MR, one multi-frame file", "multi-frame"),
    ("dicom2nifti/philips_enhanced/fmri/001", "Philips fMRI, the same", "multi-frame, in time"),
    ("dicom2nifti/philips_enhanced/dti/001", "Philips diffusion, the same", "multi-frame, in time"),
    ("dicom2nifti/siemens/fmri/001", "Siemens fMRI, one sheet of tiles for each time", "mosaic"),
    ("dicom2nifti/siemens/fmri/001_implicit", "the same in implicit syntax", "mosaic"),
    ("dicom2nifti/siemens_multiframe/anatomical/001", "Siemens MR, one multi-frame file", "multi-frame"),
    ("dicom2nifti/hitachi/anatomical/001", "Hitachi MR", _ONE),
    ("dicom2nifti/hitachi/anatomical/001_implicit", "the same in implicit syntax", _ONE),
    ("dicom2nifti/hyperfine/anatomical/001", "Hyperfine MR, one multi-frame file", "multi-frame"),
    ("dicom2nifti/generic/anatomical/001", "MR without names of a maker", _ONE),
    ("dicom2nifti/generic/anatomical/001_implicit", "the same in implicit syntax", _ONE),
    ("dicom2nifti/generic/anatomical/002_non_isotropic", "made by PMOD", "a scaling for each slice"),
    ("dicom2nifti/generic/compressed/001", "JPEG 2000", "compressed"),
    ("dicom2nifti/generic/compressed_jpeg/001", "JPEG Lossless", "compressed"),
    ("dicom2nifti/generic/compressed_jpegls/001", "JPEG-LS", "compressed"),
    ("dicom2nifti/generic/compressed_j2k/001", "JPEG 2000", "compressed"),
    ("dicom2nifti/generic/compressed_rle/001", "RLE", "compressed"),
    ("dicom2nifti/generic/rgb/001", "secondary captures in colour", "secondary capture"),
    ("dicom2nifti/failing/gantrytilting/001", "Siemens CT, gantry tilted by 14 degrees", "tilt"),
    ("dicom2nifti/failing/slicecount/001", "two slices of MR", _ONE),
    ("dicom2nifti/failing/sliceorientation/001", "Philips MR, sagittal and axial slices", "orientations"),
    ("dicom2nifti/failing/sliceincrement/001", "GE CT of four slices, one missing", "missing slice"),
    ("dicom2nifti/failing/sliceincrement/002", "Siemens CT of four slices, one missing", "missing slice"),
    ("dicom2nifti/failing/notavolume/001", "Siemens CT, four images of one slice", "one position"),
    ("dcm_qa_ct", "GE head CT, tilted, slices 1, 4 and 7 mm apart", "uneven slices"),
    ("dcmqi/ct-3slice", "GE CT", _ONE),
    ("dcmqi/23x38x3/image", "drawn by a computer", _ONE),
    ("dcmqi/23x38x3/multiframe", "the same as one multi-frame file", "multi-frame"),
    ("dcmqi/23x38x3/seg", "a SEG of it", "labels"),
    ("dcmqi/24x38x3/image", "drawn by a computer", _ONE),
    ("dcmqi/24x38x3/multiframe", "the same as one multi-frame file", "multi-frame"),
    ("dcmqi/24x38x3/seg", "a SEG of it", "labels"),
    ("dcmqi/*.dcm", "SEG objects of the GE CT", "labels"),
)  # fmt: skip


def write(place: Path) -> None:
    """Make the table of the page at `place` anew. Without the real data the page stays as it is."""
    with _real_data() as root:
        if root is None:
            print(f"{place.name} stays as it is: RADIOBJECT_TEST_DATA names no real data")  # noqa: T201
            return
        place.write_text(page(place.read_text(encoding="utf-8"), root), encoding="utf-8")


def page(text: str, root: Path) -> str:
    """The page with its table made from the series below `root`."""
    before, _, rest = text.partition(_START)
    _, _, after = rest.partition(_END)
    lines = ["| series | what it is | case | what becomes of it |", "|---|---|---|---|"]
    for folder, what, case in SERIES:
        scan = scan_dicom([root / folder], progress=False)
        lines.append(f"| `{folder}` | {what} | {case} | {'<br>'.join(_outcomes(scan))} |")
    return f"{before}{_START}\n\n" + "\n".join(lines) + f"\n\n{_END}{after}"


def _outcomes(scan: Scan) -> list[str]:
    found = [_volume(one) for one in scan.volumes]
    found += [_error(refused.error) for refused in scan.refused]
    found += [_error(error) for error in scan.damaged.values()]
    found += [text for skip in scan.labels for text in _labels(skip.path)]
    skipped = {reason: count for reason, count in scan.skipped.items() if reason != "not DICOM"}
    return found + [f"skipped: {count} x {reason}" for reason, count in skipped.items()]


def _volume(one: Arranged) -> str:
    """Shape, type, spacing, scaling, and what is unusual."""
    loaded = DicomVolume(one).load()
    shape = " x ".join(str(n) for n in loaded.voxels.shape[::-1])
    if len(loaded.voxels.shape) == 4:  # time stands first on disk
        shape = " x ".join(str(n) for n in (*loaded.voxels.shape[:0:-1], loaded.voxels.shape[0]))
    words = [
        f"{shape} {loaded.voxels.dtype}",
        " x ".join(f"{s:.4g}" for s in loaded.meta.affine.spacing) + " mm",
    ]
    if loaded.meta.time_step:
        words[1] += f" x {loaded.meta.time_step:.4g} s"
    if loaded.meta.scaling is not None:
        words.append(f"slope {loaded.meta.scaling.slope:.4g}, intercept {loaded.meta.scaling.inter:.4g}")
    elif DicomVolume(one).scaling is None:
        words.append("scaled slice by slice")
    if one.stack.tilt:
        words.append(f"sheared, tilt {one.stack.tilt:.1f} degrees")
    return (f"{one.part}: " if one.part else "") + "; ".join(words)


def _labels(path: str) -> list[str]:
    """Name of the file, shapes and names of the label volumes of a SEG object."""
    found = []
    for volume in read_seg(path):
        shape = " x ".join(str(n) for n in volume.loaded.voxels.shape[::-1])
        names = ", ".join(label.name for label in volume.loaded.meta.labels)
        found.append(f"`{os.path.basename(path)}`: {shape} {volume.loaded.voxels.dtype}, {names}")
    return found


def _error(error: SourceError) -> str:
    """Its first words."""
    got = error.got or ""
    return f"error: {got if len(got) < 120 else got[: got.rindex(' ', 0, 120)] + ' ...'}"


@contextmanager
def _real_data() -> Iterator[Path | None]:
    """The folder that RADIOBJECT_TEST_DATA names, or what its archive holds; None without either."""
    named = Path(os.environ.get("RADIOBJECT_TEST_DATA", ""))
    if (named / "dicom2nifti").is_dir():
        yield named
        return
    archive = named / "real-data.tar.xz" if named.is_dir() else named
    if not archive.is_file():
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        yield Path(folder)
