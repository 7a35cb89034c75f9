"""A CT series to a committed volume, against pydicom with NumPy and a plain tensorstore write.

    python benchmarks/dicom.py                    # 300 slices of 512x512; about two minutes
    python benchmarks/dicom.py --json FILE --rounds 7
    python benchmarks/dicom.py --slices 20 --size 64 --rounds 1

The series is a head with noise, in 12 bits of 16, files in random order. pydicom reads, sorts by position and
stacks; tensorstore writes that array with the chunks, shards and codec of the study. All take turns.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import tensorstore as ts
from data import head
from machine import command_line, machine_line
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from stored import known_metadata, volume_folder

from radiobject import RadiObject

__all__: list[str] = []

PACKAGES = ("radiobject-zarr", "pydicom", "tensorstore", "numpy")
KEY = "00" * 32


def main() -> None:
    """Run, print, and write figures when asked."""
    options = _options()
    report: dict[str, Any] = {"machine": machine_line(*PACKAGES), "command": command_line()}
    console = Console(width=None if Console().is_terminal else 110)
    console.print(f"[bold]{report['machine']}[/]\n$ {report['command']}", highlight=False)
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        _write_series(work / "series", options.slices, options.size)
        report["seconds"] = _seconds(work, options.rounds)
    _print(console, report["seconds"])
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for about 500 MB of temporary files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512, help="rows and columns")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each, besides one to warm up")
    return parser.parse_args()


def _write_series(folder: Path, slices: int, size: int) -> None:
    folder.mkdir()
    smooth = head(noise=0)
    factors = [new / old for new, old in zip((size, size, slices), smooth.shape, strict=True)]
    fine = ndimage.zoom(smooth, factors, order=1)
    rng = np.random.default_rng(0)
    voxels = np.where(
        fine > 1, 1000 + fine / 10 + rng.normal(0, 15, fine.shape), rng.normal(24, 8, fine.shape)
    )
    stored = voxels.clip(0, 4095).astype("<u2").T  # slice, row, column
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    for number, name in enumerate(rng.permutation(slices).tolist()):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = generate_uid()
        ds = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.PatientName, ds.PatientID, ds.StudyDate, ds.StudyTime = "Doe^Jane", "4711", "20200301", "120000"
        ds.Modality, ds.Manufacturer, ds.KVP, ds.SeriesNumber = "CT", "none", 120, 2
        ds.InstanceNumber, ds.SliceThickness, ds.PixelSpacing = number + 1, 1, [0.5, 0.5]
        ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-128, -128, 0.8 * number]
        ds.Rows, ds.Columns, ds.SamplesPerPixel = size, size, 1
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.PixelData = stored[number].tobytes()
        pydicom.dcmwrite(folder / f"IM{name:06d}", ds, enforce_file_format=True)


def _seconds(work: Path, rounds: int) -> dict[str, list[float]]:
    series, study = work / "series", work / "study"

    def ours() -> None:
        RadiObject.from_dicoms(study, series, deid_key=KEY, progress=False)

    ours()
    metadata = known_metadata(volume_folder(study, "CT"))
    array = _stacked(series)
    stored = RadiObject(study).CT.iloc[0].to_numpy(raw=True)
    assert np.array_equal(stored.T, array), "the volume is not what pydicom reads"

    def raw() -> None:
        kvstore = {"driver": "file", "path": str(work / "raw")}
        spec = {"driver": "zarr3", "kvstore": kvstore, "metadata": metadata}
        ts.open(spec, create=True).result().write(array).result()

    names: dict[str, Callable[[], Any]] = {
        "radiobject": ours,
        "pydicom: read, sort, stack": lambda: _stacked(series),
        "tensorstore: write": raw,
    }
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name, run in names.items():
            for place in (study, work / "raw"):
                shutil.rmtree(place, ignore_errors=True)
            begun = time.perf_counter()
            run()
            if number:
                found[name].append(time.perf_counter() - begun)
    return found


def _stacked(folder: Path) -> npt.NDArray[Any]:
    """What a script does: read all, sort along the normal, stack."""
    files = [pydicom.dcmread(path) for path in folder.iterdir()]
    row, column = files[0].ImageOrientationPatient[:3], files[0].ImageOrientationPatient[3:]
    normal = np.cross(row, column)
    files.sort(key=lambda ds: float(np.dot(ds.ImagePositionPatient, normal)))
    return np.stack([ds.pixel_array for ds in files])


def _print(console: Console, seconds: dict[str, list[float]]) -> None:
    table = Table(title="a series to a committed volume")
    for name in ("what", "seconds, median", "least", "most"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for name, values in seconds.items():
        table.add_row(name, *(f"{f(values):.3f}" for f in (statistics.median, min, max)))
    console.print(table, highlight=False)
    ours, *parts = seconds.values()
    ratios = [a / sum(b) for a, *b in zip(ours, *parts, strict=True)]
    console.print(
        f"radiobject takes {statistics.median(ratios):.2f} times as long as both parts together "
        f"({min(ratios):.2f} to {max(ratios):.2f}, round by round)",
        highlight=False,
    )


if __name__ == "__main__":
    main()
