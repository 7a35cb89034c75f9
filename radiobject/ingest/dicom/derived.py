"""Derived: what a study keeps in place of the dates and weights that it was computed from."""

from __future__ import annotations

import datetime
import re

from pydicom.dataset import Dataset

from radiobject.ingest.dicom.values import first_item, groups, moment, moment_of, number, text, texts

__all__ = ["acquisition_time", "age_at_scan", "suv_factor"]

_OLDEST = 90.0
"""Ages above are one: so few people have them that they would tell who it is (45 CFR 164.514(b)(2)(i)(C))."""

_UNBELIEVABLE = 130.0
_ZONE = re.compile(r"[+-]\d{4}$")
_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}
_LEAST_DOSE = 1e4  # Bq; injections are of 1e7 and more, so that less is a number in another unit
_MOMENTS = (
    ("AcquisitionDateTime", None),
    ("AcquisitionDate", "AcquisitionTime"),
    ("FrameAcquisitionDateTime", None),
    ("SeriesDate", "SeriesTime"),
    ("ContentDate", "ContentTime"),
    ("StudyDate", "StudyTime"),
)


def acquisition_time(ds: Dataset, frame: int = 0) -> datetime.datetime | None:
    """When it was scanned, as exactly as the header tells; midnight where it has a date only."""
    for day, time in _MOMENTS:
        for item in groups(ds, frame):
            found = moment(item, day, time)
            if found is not None:
                return found
    return None


def age_at_scan(ds: Dataset, *, capped: bool = True) -> float | None:
    """Age in years: PatientAge, else from the birth date to the study; 90 stands for that and more.

    From a birth date it is completed years, and completed months for the first two years: a finer age would
    give the birthday back to whoever knows the day of the scan.

    >>> ds = Dataset()
    >>> ds.PatientAge = "018M"
    >>> age_at_scan(ds)
    1.5
    """
    said = re.fullmatch(r"(\d{1,3})([DWMY])", (text(ds, "PatientAge") or "").upper())
    # 000Y is what other tools write over an age; a newborn's is in days
    if said is not None and said[0] != "000Y":
        age = int(said[1]) / _PER_YEAR[said[2]]
    else:
        born = moment(ds, "PatientBirthDate")
        scanned = moment(ds, "StudyDate") or acquisition_time(ds)
        if born is None or scanned is None:
            return None
        months = (scanned.year - born.year) * 12 + scanned.month - born.month - (scanned.day < born.day)
        age = months / 12 if months < 24 else float(months // 12)
    if not 0 <= age <= _UNBELIEVABLE:
        return None
    return min(age, _OLDEST) if capped else age


def suv_factor(ds: Dataset) -> float | None:
    """What turns activity (Bq/ml, scaled values) into standardised uptake by body weight (g/ml).

    factor = 1000 * weight in kg / dose in Bq, the dose decayed from its injection to the start of the scan
    where the voxels are corrected to that start (DecayCorrection START), and as injected for ADMIN. The start
    is SeriesDate and SeriesTime, as long as no acquisition began before: a series that was made later
    carries its own time. Formula and conditions: QIBA, "SUV vendor-neutral pseudo-code" (happy path).

    None unless all of it is there: Units BQML, corrections for attenuation and decay, dose, half-life,
    weight, and, for START, both times.
    """
    correction = text(ds, "DecayCorrection")
    if text(ds, "Units") != "BQML" or correction not in ("START", "ADMIN"):
        return None
    if not {"ATTN", "DECY"} <= set(texts(ds, "CorrectedImage")):
        return None
    tracer = first_item(ds, "RadiopharmaceuticalInformationSequence")
    weight = number(ds, "PatientWeight")
    if tracer is None or weight is None or weight <= 0:
        return None
    dose = number(tracer, "RadionuclideTotalDose")
    if dose is None or dose < _LEAST_DOSE:
        return None
    if correction == "START":
        half_life, waited = number(tracer, "RadionuclideHalfLife"), _seconds_before_scan(ds, tracer)
        if half_life is None or half_life <= 0 or waited is None:
            return None
        dose *= 2 ** (-waited / half_life)
    return 1000 * weight / dose


def _seconds_before_scan(ds: Dataset, tracer: Dataset) -> float | None:
    """From the injection to the start of the scan."""
    started = moment(ds, "SeriesDate", "SeriesTime")
    acquired = moment(ds, "AcquisitionDate", "AcquisitionTime")
    if started is None or text(ds, "SeriesTime") is None or acquired is None or started > acquired:
        return None
    said = text(tracer, "RadiopharmaceuticalStartDateTime")
    clock = text(tracer, "RadiopharmaceuticalStartTime")
    # a time with a zone is not told against the scanner's clock, which has none
    injected = moment(tracer, "RadiopharmaceuticalStartDateTime") if said and not _ZONE.search(said) else None
    if injected is None and clock is not None:
        injected = moment_of(text(ds, "SeriesDate"), clock)
        if injected is not None and injected > started:  # it was before midnight
            injected -= datetime.timedelta(days=1)
    seconds = None if injected is None else (started - injected).total_seconds()
    return seconds if seconds is not None and 0 <= seconds < 24 * 3600 else None
