"""Columns from DICOM headers: typed values of the allowed attributes, what is derived, and nobody's name."""

from __future__ import annotations

import datetime
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from radiobject.errors import ConfigError, UnknownIdError
from radiobject.ingest.deidentify import Deidentifier, DeidKey
from radiobject.ingest.dicom.columns import ALLOWED, obs_columns, warnings_of
from radiobject.ingest.dicom.derived import age_at_scan, suv_factor

DEID = Deidentifier(DeidKey(bytes(range(32))))


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def dataset(**values: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def file_of(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The bytes of a file that holds it."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def from_file(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    """The same as a reader finds it in a file: elements that nobody has converted yet."""
    return pydicom.dcmread(io.BytesIO(file_of(ds, syntax)))


PLAIN = file_of(dataset(PatientID="1", StudyDate="20200301", Modality="CT"))


PERSON = {
    "PatientName": "Doe^Jane Mary", "PatientID": "MRN-4711", "PatientBirthDate": "19500630",
    "PatientSex": "F", "PatientWeight": "61.5", "AccessionNumber": "ACC-99",
    "InstitutionName": "St. Elsewhere",
    "ReferringPhysicianName": "House^Gregory", "OperatorsName": ["Nurse^Jackie", "Scrubs^J D"],
    "StudyDescription": "Knee of Mrs Doe", "SeriesDescription": "t1 for Dr. House",
    "ProtocolName": "House knee",
    "StudyDate": "20200301", "StudyTime": "101500", "AcquisitionDate": "20200301",
    "AcquisitionTime": "102030.5", "StudyInstanceUID": "1.2.3.1", "SeriesInstanceUID": "1.2.3.2",
    "FrameOfReferenceUID": "1.2.3.3",
}  # fmt: skip
SCAN = {
    "Modality": "MR", "ImageType": ["ORIGINAL", "PRIMARY", "M"], "Manufacturer": "ACME", "EchoTime": "3.50 ",
    "RepetitionTime": "2300", "FlipAngle": "9", "SeriesNumber": "5", "ParallelReductionFactorInPlane": 2.0,
}  # fmt: skip
COLUMNS = {
    "modality": "MR", "image_type": "ORIGINAL\\PRIMARY\\M", "manufacturer": "ACME", "echo_time": 3.5,
    "repetition_time": 2300.0, "flip_angle": 9.0, "series_number": 5,
    "parallel_reduction_factor_in_plane": 2.0,
}  # fmt: skip


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, None]
)
def test_columns_are_typed_and_nobody_is_named(syntax: str | None) -> None:
    ds = dataset(**PERSON, **SCAN)
    columns = obs_columns(ds if syntax is None else from_file(ds, syntax), DEID)
    moved = DEID.shifted("MRN-4711", at("2020-03-01T10:20:30.500"))
    assert columns == {
        **COLUMNS,
        "age": 69.0,
        "acquisition_time": moved,
        "study_uid": DEID.uid("1.2.3.1"),
        "series_uid": DEID.uid("1.2.3.2"),
        "frame_of_reference_uid": DEID.uid("1.2.3.3"),
        "deid_key_id": DEID.key.id,
    }
    assert {n: type(columns[n]) for n in COLUMNS} == {n: type(v) for n, v in COLUMNS.items()}


def test_without_de_identification_ids_and_dates_are_as_they_are() -> None:
    ds = from_file(dataset(**{**PERSON, "PatientBirthDate": "19200101"}, **SCAN))
    assert obs_columns(ds, None, keep_phi=["SeriesDescription"]) == {
        **COLUMNS,
        "age": 100.0,
        "acquisition_time": at("2020-03-01T10:20:30.500"),
        "study_uid": "1.2.3.1",
        "series_uid": "1.2.3.2",
        "frame_of_reference_uid": "1.2.3.3",
        "series_description": "t1 for Dr. House",
    }


def test_the_column_of_ages_ends_at_ninety_too() -> None:
    ds = from_file(dataset(**{**PERSON, "PatientBirthDate": "19200101"}))
    assert obs_columns(ds, DEID)["age"] == 90.0


def test_what_the_caller_wants_kept_is_kept_as_it_is() -> None:
    wanted = ["PatientSex", "patient_weight", "StudyDate", "PatientName", "OperatorsName", "AcquisitionTime"]
    deid = Deidentifier(DEID.key, keep_phi=wanted)
    for ds in (dataset(**PERSON), from_file(dataset(**PERSON))):
        columns = obs_columns(ds, deid, keep_phi=["StudyInstanceUID"])
        assert columns["patient_sex"] == "F"
        assert columns["patient_weight"] == 61.5
        assert columns["study_date"] == datetime.date(2020, 3, 1)
        assert columns["patient_name"] == "Doe^Jane Mary"
        assert columns["operators_name"] == "Nurse^Jackie\\Scrubs^J D"
        assert columns["acquisition_time"] == "102030.5"
        assert columns["study_instance_uid"] == "1.2.3.1"
    with pytest.raises(ConfigError, match="Did you mean"):
        obs_columns(ds, None, keep_phi=["PatientsSex"])


@pytest.mark.parametrize(
    "text",
    ["tfl jane", "DOE", "seq_Doe_1", "for mrn-4711", "MRN-4711", "acc-99", "at St. Elsewhere", "GREGORY 3D",
     "Scrubs", "v20200301", "19500630"],
)  # fmt: skip
def test_a_text_that_repeats_who_it_is_stays_out(text: str) -> None:
    ds = from_file(dataset(**PERSON, Modality="MR", SequenceName=text, SoftwareVersions=["1.0", text]))
    kept = obs_columns(ds, DEID)
    if text == "v20200301":  # a word of its own is what counts; this one is a version
        assert kept["sequence_name"] == text
        return
    assert not {"sequence_name", "software_versions"} & kept.keys()
    assert obs_columns(ds, None)["sequence_name"] == text
    assert kept["modality"] == "MR"


def test_a_name_inside_a_longer_word_does_not_cost_a_column() -> None:
    ds = dataset(PatientName="Ida^J", Modality="MR", BodyPartExamined="FRIDAY", StationName="SIE")
    ds.Manufacturer = "SIEMENS"
    columns = obs_columns(ds, DEID)
    assert (columns["body_part_examined"], columns["manufacturer"]) == ("FRIDAY", "SIEMENS")


def test_enhanced_objects_tell_it_in_groups_of_their_frames() -> None:
    ds = dataset(Modality="MR", PatientID="1")
    shared, first, second = Dataset(), Dataset(), Dataset()
    shared.MRTimingAndRelatedParametersSequence = [dataset(RepetitionTime="6.8", FlipAngle="9")]
    shared.MREchoSequence = [dataset(EffectiveEchoTime=1.0)]
    first.MREchoSequence = [dataset(EffectiveEchoTime=3.1)]
    second.MREchoSequence = [dataset(EffectiveEchoTime=5.4)]
    first.FrameContentSequence = [dataset(FrameAcquisitionDateTime="20140122103610.67+0100")]
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = [first, second]
    for made in (ds, from_file(ds)):
        columns = obs_columns(made, DEID)
        assert (columns["repetition_time"], columns["flip_angle"], columns["echo_time"]) == (6.8, 9.0, 3.1)
        assert columns["acquisition_time"] == DEID.shifted("1", at("2014-01-22T10:36:10.670"))
        assert obs_columns(made, DEID, frame=1)["echo_time"] == 5.4


def test_whose_dates_these_are_may_be_told_apart() -> None:
    ds = dataset(AcquisitionDateTime="20200301101500")
    assert "acquisition_time" not in obs_columns(ds, DEID)
    then = at("2020-03-01T10:15:00")
    assert obs_columns(ds, DEID, patient_id="7")["acquisition_time"] == DEID.shifted("7", then)
    with pytest.raises(UnknownIdError):
        obs_columns(ds, Deidentifier(DEID.key, deid_map={"1": "a"}), patient_id="7")


def test_dates_move_with_the_subject_that_the_caller_named() -> None:
    deid = Deidentifier(DEID.key, deid_map={"1": "a"})
    scans = [dataset(PatientID=n, AcquisitionDateTime=f"202003{n}1101500") for n in ("1", "2")]
    one, two = (obs_columns(ds, deid, obs_subject_id="sub-07")["acquisition_time"] for ds in scans)
    assert two - one == datetime.timedelta(days=10)
    assert one == deid.shifted_of("sub-07", at("2020-03-11T10:15:00"))


@given(
    st.sampled_from([*sorted(ALLOWED), "PatientName", "PatientID", "StudyDate", "SeriesTime", "PatientAge",
                     "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
                     "RadiopharmaceuticalInformationSequence", "SpecificCharacterSet", "StudyInstanceUID"]),
    st.sampled_from([None, "DS", "IS", "US", "FD", "LO", "PN", "SQ", "UN", "OB", "ZZ"]),
    st.binary(max_size=40) | st.text(max_size=10).map(str.encode),
    st.booleans(),
)  # fmt: skip
def test_no_bytes_of_a_header_bring_it_down(
    keyword: str, kind: str | None, value: bytes, little: bool
) -> None:
    ds = pydicom.dcmread(io.BytesIO(PLAIN))
    tag = pydicom.tag.Tag(keyword)
    ds[tag] = pydicom.dataelem.RawDataElement(tag, kind, len(value), value, 0, False, little)
    obs_columns(ds, DEID)
    obs_columns(ds, None)
    warnings_of(ds)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("EchoTime", b"abc "), ("EchoTime", b"nan"), ("EchoTime", b"1\\2 "), ("EchoTime", b"  "),
     ("SeriesNumber", b"1.5 "), ("SeriesNumber", b"99999999999999999999"), ("Modality", b"\\\\"),
     ("Modality", b"\x00\x00"), ("CTDIvol", b"\x00"), ("PatientAge", b"old "),
     ("AcquisitionDate", b"20201399"), ("AcquisitionDate", b"00010101"), ("StudyInstanceUID", b"")],
)  # fmt: skip
def test_a_value_that_is_none_is_left_out_without_a_word(keyword: str, value: bytes) -> None:
    ds = dataset(PatientID="1")
    ds = from_file(ds)
    tag = pydicom.tag.Tag(keyword)
    representation = pydicom.datadict.dictionary_VR(tag)
    ds[tag] = pydicom.dataelem.RawDataElement(tag, representation, len(value), value, 0, False, True)
    assert obs_columns(ds, DEID) == {"deid_key_id": DEID.key.id}


def test_text_is_read_in_its_character_set() -> None:
    ds = from_file(dataset(SpecificCharacterSet="ISO_IR 100", Manufacturer="Müller & Söhne"))
    assert obs_columns(ds, DEID)["manufacturer"] == "Müller & Söhne"
    ds = from_file(dataset(SpecificCharacterSet="ISO_IR 192", Manufacturer="東芝"))
    assert obs_columns(ds, DEID)["manufacturer"] == "東芝"
    assert obs_columns(dataset(Manufacturer="a\x1b[31mb"), DEID)["manufacturer"] == "a[31mb"


@pytest.mark.parametrize(
    ("said", "born", "age"),
    [("045Y", "", 45.0), ("018M", "", 1.5), ("003W", "", 3 * 7 / 365.25), ("010D", "", 10 / 365.25),
     ("089Y", "", 89.0), ("090Y", "", 90.0), ("104Y", "", 90.0), ("999Y", "", None), ("000Y", "", None),
     ("", "19500301", 70.0), ("", "19500302", 69.0), ("", "19100101", 90.0), ("", "20190215", 1.0),
     ("", "20191215", 2 / 12), ("", "20210101", None), ("", "", None), ("045Y", "19500301", 45.0)],
)  # fmt: skip
def test_age_is_in_years_and_ends_at_ninety(said: str, born: str, age: float | None) -> None:
    ds = dataset(PatientAge=said, PatientBirthDate=born, StudyDate="20200301")
    assert age_at_scan(ds) == (age if age is None else pytest.approx(age))


PET = {
    "Modality": "PT", "Units": "BQML", "DecayCorrection": "START", "CorrectedImage": ["ATTN", "DECY", "SCAT"],
    "PatientWeight": "70", "SeriesDate": "20200301", "SeriesTime": "110000", "AcquisitionDate": "20200301",
    "AcquisitionTime": "110000",
}  # fmt: skip
TRACER = {
    "RadionuclideTotalDose": "350000000", "RadionuclideHalfLife": "6586.2",
    "RadiopharmaceuticalStartTime": "100000",
}  # fmt: skip


def pet(tracer: dict[str, Any], **values: Any) -> Dataset:
    ds = dataset(**{**PET, **values})
    ds.RadiopharmaceuticalInformationSequence = [dataset(**{**TRACER, **tracer})]
    return ds


def test_suv_is_what_a_hand_computes() -> None:
    # 350 MBq of F-18 (half-life 109.77 min), an hour before the scan: 350e6 * 2 ** (-3600 / 6586.2) Bq are
    # 239.6e6 Bq; 70,000 g / 239.6e6 Bq
    assert suv_factor(pet({})) == pytest.approx(2.9214e-4, rel=1e-4)
    # corrected to the injection: 70,000 g / 350e6 Bq
    assert suv_factor(pet({}, DecayCorrection="ADMIN")) == pytest.approx(2e-4)
    assert obs_columns(from_file(pet({})), DEID)["suv_factor"] == pytest.approx(2.9214e-4, rel=1e-4)


def test_an_injection_before_midnight_was_the_day_before() -> None:
    late = pet({"RadiopharmaceuticalStartTime": "233000"}, SeriesTime="003000", AcquisitionTime="003000")
    assert suv_factor(late) == pytest.approx(2.9214e-4, rel=1e-4)
    full = pet({"RadiopharmaceuticalStartDateTime": "20200301100000.00"})
    assert suv_factor(full) == pytest.approx(2.9214e-4, rel=1e-4)


@pytest.mark.parametrize(
    ("tracer", "values"),
    [({}, {"Units": "CNTS"}), ({}, {"DecayCorrection": "NONE"}), ({}, {"CorrectedImage": ["ATTN"]}),
     ({}, {"CorrectedImage": ["DECY"]}), ({}, {"PatientWeight": ""}), ({}, {"PatientWeight": "0"}),
     ({"RadionuclideTotalDose": ""}, {}), ({"RadionuclideTotalDose": "350"}, {}),
     ({"RadionuclideHalfLife": ""}, {}), ({"RadiopharmaceuticalStartTime": ""}, {}), ({}, {"SeriesTime": ""}),
     ({}, {"SeriesTime": "120000"}), ({"RadiopharmaceuticalStartDateTime": "20200201100000"}, {})],
)  # fmt: skip
def test_no_suv_where_something_is_missing_or_the_scan_began_earlier(
    tracer: dict[str, Any], values: dict[str, Any]
) -> None:
    assert suv_factor(pet(tracer, **values)) is None


def test_what_whoever_ingests_should_know_is_told() -> None:
    ds = dataset(BurnedInAnnotation="YES", LossyImageCompression="01", LossyImageCompressionRatio=["10"])
    ds.RecognizableVisualFeatures = "YES"
    told = warnings_of(from_file(ds))
    assert [line.partition(":")[0] for line in told] == [
        "BurnedInAnnotation is YES", "RecognizableVisualFeatures is YES", "LossyImageCompression is 01",
    ]  # fmt: skip
    assert warnings_of(dataset(BurnedInAnnotation="NO", LossyImageCompression="00")) == []


NAMING = (
    "PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID", "InstitutionName", "InstitutionAddress",
    "InstitutionalDepartmentName", "StationName", "DeviceSerialNumber", "StudyDescription",
    "SeriesDescription", "ProtocolName", "RequestedProcedureDescription",
    "PerformedProcedureStepDescription", "ImageComments",
    "PatientAddress", "AdmissionID",
)  # fmt: skip
CODED = {"head", "scout", "ecg", "none"}
"""Descriptions of test files that are nothing but a word that DICOM itself uses."""


def headers(root: Path) -> Iterator[tuple[Path, Dataset]]:
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield path, pydicom.dcmread(path, stop_before_pixels=True)
        except (pydicom.errors.InvalidDicomError, EOFError, ValueError, TypeError, NotImplementedError):
            continue


def identities(ds: Dataset) -> set[str]:
    """What names somebody or something in a header, as pydicom itself reads it; three letters or more."""
    found: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for element in ds.iterall():
            values = element.value if element.VM > 1 else [element.value]
            if element.VR == "PN":
                found.update(p for v in values for p in str(v).replace("^", " ").replace("=", " ").split())
            elif element.VR in ("DA", "DT"):
                found.update(str(v)[:8] for v in values)
            elif element.VR == "UI" and "Class" not in element.keyword and "Syntax" not in element.keyword:
                found.update(str(v) for v in values)
            elif element.keyword in NAMING:
                found.update(str(v).strip() for v in values)
    return {f.casefold() for f in found if len(f) >= 3} - CODED


def leaks(root: Path) -> tuple[list[str], int]:
    """Columns that contain something of `identities`, and how many headers were looked at."""
    found, count = [], 0
    for path, ds in headers(root):
        said, count = identities(ds), count + 1
        for name, value in obs_columns(ds, DEID, patient_id="somebody").items():
            # among the 39 digits of a pseudonym any short number is found by chance
            least = 8 if name.endswith("_uid") else 3
            text = f"{value:%Y%m%d}" if isinstance(value, datetime.datetime) else str(value).casefold()
            if isinstance(value, str | datetime.datetime):
                hits = [s for s in said if len(s) >= least and s in text]
                found += [f"{path.name}: {name} is {value!r}, which has {hits}"] * bool(hits)
    return found, count


def test_no_column_of_a_real_file_names_anybody(real_data: Path) -> None:
    found, count = leaks(real_data)
    assert found == []
    assert count > 150


def test_no_column_of_a_file_of_pydicom_names_anybody() -> None:
    found, count = leaks(Path(pydicom.__file__).parent / "data" / "test_files")
    assert found == []
    assert count > 150


def test_real_files_fill_most_columns(real_data: Path) -> None:
    seen = {name for _, ds in headers(real_data) for name in obs_columns(ds, DEID)}
    assert {"echo_time", "repetition_time", "imaging_frequency", "kvp", "convolution_kernel", "age",
            "acquisition_time", "series_uid", "manufacturer", "slice_thickness"} <= seen  # fmt: skip
    assert len(seen) > len(ALLOWED) / 2
