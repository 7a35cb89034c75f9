"""No value that names somebody gets from DICOM files into a study: tables, attributes, names of files."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

pytest.importorskip("pydicom")

import pydicom

from radiobject import RadiObject
from radiobject.ingest.walking import is_dicom
from tests.upstream.series import write_series

KEY = "7f" * 32
NAMING = (
    "PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs", "OtherPatientNames", "PatientAddress",
    "PatientTelephoneNumbers", "PatientMotherBirthName", "AccessionNumber", "StudyID", "InstitutionName",
    "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "ReferringPhysicianName",
    "PerformingPhysicianName", "OperatorsName", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy",
    "RequestingPhysician", "StudyDescription", "SeriesDescription", "ProtocolName", "ImageComments",
    "DeviceSerialNumber", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "StudyInstanceUID",
    "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID", "AdmissionID", "MedicalRecordLocator",
)  # fmt: skip
SHORTEST = 5
"""Texts below this length turn up by chance in any file."""


def named_in(path: Path) -> Iterator[str]:
    """The identifying values of one file, and what its path says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        for keyword in NAMING:
            value = ds.get(keyword)
            values = value if isinstance(value, pydicom.multival.MultiValue) else [value]
            for text in map(str, values):
                yield text
                if "Name" in keyword:
                    yield from re.split(r"[\\^=\\s]+", text)


def naming_values(files: list[Path]) -> set[str]:
    """What identifies in these files, but for what also is a scanner's make or a series' number there."""
    allowed = set()
    for path in files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            allowed |= {str(ds.get(keyword)) for keyword in ("Manufacturer", "SeriesNumber")}
    return {value for path in files for value in named_in(path)} - allowed


def said_by(folder: Path) -> tuple[bytes, str]:
    """All bytes of a study with the names of its files, and all its tables as text."""
    raw, tables = bytearray(), []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        raw += str(path.relative_to(folder)).encode() + b"\n" + path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            kept = [n for n in table.column_names if n not in ("jpeg", "_objects")]
            tables.append(str(table.select(kept).to_pylist()))
            tables.append(str(table.schema))
    return bytes(raw), "\n".join(tables)


def found(values: set[str], raw: bytes, text: str) -> list[str]:
    """Those values that stand in a study as words of their own: digits of a longer number are none."""
    wanted = sorted(v.strip() for v in values if len(v.strip()) >= SHORTEST and v.strip() != "None")

    def there(value: str) -> bool:
        word = rf"(?<![0-9A-Za-z]){re.escape(value)}(?![0-9A-Za-z])"
        return bool(re.search(word, text) or re.search(word.encode(), raw))

    return [v for v in wanted if (v in text or v.encode() in raw) and there(v)]


def ingested(tmp_path: Path, places: list[Any]) -> tuple[bytes, str]:
    RadiObject.from_dicoms(
        tmp_path / "study", [(p, f"subject-{n}") for n, p in enumerate(places)], deid_key=KEY,
        errors="collect", progress=False,
    )  # fmt: skip
    return said_by(tmp_path / "study")


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "in")
    radi = RadiObject.from_dicoms(
        tmp_path / "study", folder, deidentify=False, keep_phi=["PatientName", "StudyDate"], progress=False
    )
    assert radi.obs_subject_ids == ["MRN-4711"]
    raw, text = said_by(tmp_path / "study")
    values = set(named_in(next(folder.iterdir())))
    assert {"MRN-4711", "1.2.3"} <= {*found(values, raw, text), "1.2.3"}


def test_a_study_of_all_real_series_names_nobody(tmp_path: Path, real_data: Path) -> None:
    pytest.importorskip("highdicom")
    places = [real_data / name for name in ("dicom2nifti", "dcmqi", "dcm_qa_ct")]
    raw, text = ingested(tmp_path, places)
    files = [p for place in places for p in place.rglob("*") if p.is_file() and is_dicom(str(p))]
    assert len(files) > 150
    values = naming_values(files)
    assert found(values, raw, text) == []
    assert found({str(real_data)}, raw, text) == []


def test_a_study_of_pydicoms_files_names_nobody(tmp_path: Path) -> None:
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and is_dicom(str(p))]
    assert len(files) > 70
    one = tmp_path / "in"
    one.mkdir()
    for n, path in enumerate(files):
        (one / f"{n:03d}").write_bytes(path.read_bytes())
    raw, text = ingested(tmp_path, [one])
    values = naming_values(files)
    assert found(values, raw, text) == []


def test_names_of_folders_and_files_stay_outside(tmp_path: Path) -> None:
    folder = tmp_path / "Doe^Jane 19700101"
    write_series(folder / "good")
    write_series(folder / "bad", (0.0, 2.5, 7.5))
    raw, text = ingested(tmp_path, [folder])
    assert found({"Doe^Jane", "19700101", "Jane", str(tmp_path)}, raw, text) == []
