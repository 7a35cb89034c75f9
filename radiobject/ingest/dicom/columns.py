"""Columns: what a header says of a scan, as columns of obs. A list of what is let in; nothing else is.

None of the attributes here is in table E.1-1 of DICOM PS3.15, the profile for confidentiality, with any
action at all; `tests/ingest/test_deidentify_allowed.py` holds them against it.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from radiobject.ingest.deidentify import Deidentifier, column_name
from radiobject.ingest.deidentify.keywords import known_keywords
from radiobject.ingest.dicom.derived import acquisition_time, age_at_scan, suv_factor
from radiobject.ingest.dicom.values import (
    first_item,
    groups,
    integer,
    moment,
    number,
    representation,
    tag_of,
    text,
    texts,
)

__all__ = ["ALLOWED", "ELSEWHERE", "identity_of", "obs_columns", "warnings_of"]

_TEXTS = (
    "Modality", "ImageType", "BodyPartExamined", "Laterality", "PatientPosition", "Manufacturer",
    "ManufacturerModelName", "SoftwareVersions", "PhotometricInterpretation", "LossyImageCompression",
    "BurnedInAnnotation",
    "ScanningSequence", "SequenceVariant", "ScanOptions", "SequenceName", "MRAcquisitionType",
    "AcquisitionContrast", "ComplexImageComponent", "ImagedNucleus", "InPlanePhaseEncodingDirection",
    "ReceiveCoilName", "TransmitCoilName",
    "ConvolutionKernel", "FilterType", "ExposureModulationType", "ContrastBolusRoute",
    "ContrastBolusIngredient", "RescaleType",
    "Units", "DecayCorrection", "SeriesType", "CorrectedImage", "ReconstructionMethod",
    "AttenuationCorrectionMethod", "ScatterCorrectionMethod", "RandomsCorrectionMethod",
)  # fmt: skip
_INTEGERS = (
    "SeriesNumber", "AcquisitionNumber", "EchoTrainLength", "NumberOfPhaseEncodingSteps",
    "NumberOfTemporalPositions",
)  # fmt: skip
_FLOATS = (
    "SliceThickness", "SpacingBetweenSlices", "LossyImageCompressionRatio",
    "MagneticFieldStrength", "ImagingFrequency", "EchoTime", "RepetitionTime", "InversionTime", "FlipAngle",
    "NumberOfAverages", "PixelBandwidth", "PercentSampling", "PercentPhaseFieldOfView",
    "ParallelReductionFactorInPlane", "SAR", "TemporalResolution",
    "KVP", "Exposure", "ExposureTime", "XRayTubeCurrent", "CTDIvol", "SpiralPitchFactor", "TableSpeed",
    "TableFeedPerRotation", "RevolutionTime", "SingleCollimationWidth", "TotalCollimationWidth",
    "ReconstructionDiameter", "DataCollectionDiameter", "GantryDetectorTilt", "ContrastBolusVolume",
    "ActualFrameDuration", "RadionuclideHalfLife", "RadionuclideTotalDose",
)  # fmt: skip

ALLOWED: dict[str, type] = {
    **dict.fromkeys(_TEXTS, str),
    **dict.fromkeys(_INTEGERS, int),
    **dict.fromkeys(_FLOATS, float),
}
"""Keyword -> type of its column, whose name is the keyword in snake case. Units are those of DICOM."""

ELSEWHERE = {
    "ImageType": ("FrameType",),
    "Laterality": ("ImageLaterality", "FrameLaterality"),
    "SequenceName": ("PulseSequenceName",),
    "EchoTime": ("EffectiveEchoTime",),
    "InversionTime": ("InversionTimes",),
    "ImagingFrequency": ("TransmitterFrequency",),
    "NumberOfPhaseEncodingSteps": ("MRAcquisitionPhaseEncodingStepsInPlane",),
    "SAR": ("SpecificAbsorptionRateValue",),
    "Exposure": ("ExposureInmAs",),
    "ExposureTime": ("ExposureTimeInms",),
    "XRayTubeCurrent": ("XRayTubeCurrentInmA",),
}
"""What enhanced objects call the same number, in the same unit."""

_UIDS = {
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "frame_of_reference_uid": "FrameOfReferenceUID",
}
_IDENTITIES = (
    "PatientID", "OtherPatientIDs", "PatientAddress", "PatientTelephoneNumbers", "MedicalRecordLocator",
    "AccessionNumber", "StudyID", "AdmissionID", "InstitutionName", "InstitutionAddress",
    "InstitutionalDepartmentName", "StationName", "DeviceSerialNumber",
)  # fmt: skip
_DAYS = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "PatientBirthDate")
_LEAST_LETTERS = 3
_MOST_LETTERS = 256


def obs_columns(
    ds: Dataset,
    deid: Deidentifier | None,
    *,
    patient_id: str | None = None,
    obs_subject_id: str | None = None,
    keep_phi: Iterable[str] = (),
    frame: int = 0,
) -> dict[str, Any]:
    """The columns that a volume has from the header of one of its files; those without a value are absent.

    Attributes of `ALLOWED` under their snake-case names, then what is computed: `age` (years, 90 stands for
    more), `suv_factor` (g/ml per Bq/ml), `acquisition_time`, and `study_uid`, `series_uid` and
    `frame_of_reference_uid`. With `deid` the UIDs are pseudonyms, the time is shifted (absent where nobody
    says whose it is), `deid_key_id` tells with which key, and a text that repeats a name, an id or a date of
    the same header is left out. With None they are as they are, and age is not capped.

    `obs_subject_id`: the subject with whose dates these move, where the caller named one; else the one that
    `patient_id`, or the header's PatientID, is. `keep_phi`: attributes to have besides, as they are, beyond
    those of `deid`. `frame`: the frame of a multi-frame object that is meant.

    Raises `ConfigError` for a keyword that DICOM does not have, and what `Deidentifier.subject` raises.

    >>> ds = Dataset()
    >>> ds.Modality, ds.EchoTime, ds.PatientName, ds.SequenceName = "MR", 3.5, "Doe^Jane", "tfl for Jane"
    >>> from radiobject.ingest.deidentify import DeidKey
    >>> obs_columns(ds, Deidentifier(DeidKey(bytes(32))))
    {'modality': 'MR', 'echo_time': 3.5, 'deid_key_id': 'cbd9cb908d55aefd'}
    """
    columns = _allowed(ds, frame)
    if deid is not None:
        identity = identity_of(ds)
        columns = {n: v for n, v in columns.items() if not (isinstance(v, str) and identity.search(v))}
    whose = patient_id or text(ds, "PatientID")
    then = acquisition_time(ds, frame)
    if deid is not None and then is not None:
        subject = obs_subject_id or (deid.subject(whose) if whose else None)
        then = deid.shifted_of(subject, then) if subject else None
    columns["age"] = age_at_scan(ds, capped=deid is not None)
    columns["suv_factor"] = suv_factor(ds)
    columns["acquisition_time"] = then
    for name, keyword in _UIDS.items():
        uid = text(ds, keyword)
        columns[name] = deid.uid(uid) if deid is not None and uid is not None else uid
    columns["deid_key_id"] = None if deid is None else deid.key.id
    for keyword in known_keywords([*(() if deid is None else deid.keep_phi), *keep_phi]):
        columns[column_name(keyword)] = _as_it_is(ds, keyword)
    return {name: value for name, value in columns.items() if value is not None}


def warnings_of(ds: Dataset) -> list[str]:
    """What whoever ingests this should know: marks on the image, a recognisable face, lossy compression."""
    said = []
    if text(ds, "BurnedInAnnotation") == "YES":
        said.append("BurnedInAnnotation is YES: the voxels may show a name, and are stored as they are")
    if text(ds, "RecognizableVisualFeatures") == "YES":
        said.append(
            "RecognizableVisualFeatures is YES: the voxels may show a face, and are stored as they are"
        )
    if text(ds, "LossyImageCompression") == "01":
        ratio = text(ds, "LossyImageCompressionRatio")
        said.append("LossyImageCompression is 01: voxels were changed" + (f", {ratio}:1" if ratio else ""))
    return said


def _allowed(ds: Dataset, frame: int) -> dict[str, Any]:
    read = {str: text, int: integer, float: number}
    tracer = first_item(ds, "RadiopharmaceuticalInformationSequence")
    items = [*groups(ds, frame), *([] if tracer is None else [tracer])]
    columns: dict[str, Any] = {}
    for keyword, kind in ALLOWED.items():
        names = (keyword, *ELSEWHERE.get(keyword, ()))
        values = (read[kind](item, name) for item in items for name in names if tag_of(name) in item)
        value = next((v for v in values if v is not None), None)
        if value is not None and not (isinstance(value, str) and len(value) > _MOST_LETTERS):
            columns[column_name(keyword)] = value
    return columns


def identity_of(ds: Dataset) -> re.Pattern[str]:
    """Matches texts that contain what names somebody in this header: an id, a place, a part of a name."""
    words: set[str] = set()
    names: set[str] = set()
    for keyword in _IDENTITIES:
        words.update(texts(ds, keyword))
    for tag in ds.keys():  # noqa: SIM118 - iterating a data set converts its elements
        if representation(ds, tag) == "PN":
            names.update(part for name in texts(ds, tag) for part in re.split(r"[\^=,\s]+", name))
    for keyword in _DAYS:
        words.update(day[:8] for day in texts(ds, keyword))
    # names of two letters are names
    kept = {w for w in words if len(w) >= _LEAST_LETTERS} | {w for w in names if len(w) >= 2}
    long = sorted(kept, key=len, reverse=True)
    # a word of letters and digits: "Ida" is not in "FRIDAY", and "SIEMENS" is no station called "SIE"
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(map(re.escape, long)) or '(?!)'})(?![^\W_])", re.IGNORECASE)


def _as_it_is(ds: Dataset, keyword: str) -> str | int | float | datetime.date | datetime.datetime | None:
    # by the standard and not by the file: a column has one type
    kind = dictionary_VR(tag_of(keyword))
    if kind == "DA":
        day = moment(ds, keyword)
        return None if day is None else day.date()
    if kind == "DT":
        return moment(ds, keyword)
    if kind in ("IS", "US", "SS", "UL", "SL", "SV", "UV", "US or SS"):
        return integer(ds, keyword)
    return number(ds, keyword) if kind in ("DS", "FL", "FD") else text(ds, keyword)
