"""Crosswalk: the list of a data manager that says which patient is which subject."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from typing import Any

from radiobject.errors import DuplicateIdError, MetadataError, SourceNotFoundError

__all__ = ["plain_id", "read_crosswalk"]

_PATIENTS = ("patientid",)
_SUBJECTS = ("obssubjectid", "subjectid", "participantid")
"""Names of the two columns, in lower case and without what is not a letter."""


def plain_id(value: Any, what: str) -> str:
    """An id without the padding that DICOM and spreadsheets add.

    Raises `MetadataError` for an empty one, and for a number: it may have lost leading zeros.
    """
    if not isinstance(value, str):
        raise MetadataError(
            what,
            expected="text",
            got=f"{value!r:.40} ({type(value).__name__})",
            hint="Read the column as text: pandas does with dtype=str.",
        )
    plain = str(value).strip(" \t\r\n\0")
    if not plain:
        raise MetadataError(what, expected="an id", got="an empty one")
    return plain


def read_crosswalk(deid_map: Any) -> dict[str, str]:
    """Patient id -> subject id, from a mapping, a DataFrame, or the path of a .csv or .tsv file.

    A table has the columns `patient_id` and `obs_subject_id` (`subject_id` and `participant_id` serve too,
    in any case); others are ignored. Several patients may be one subject: records that were merged.

    Raises `SourceNotFoundError`, `MetadataError` for missing columns and ids, `DuplicateIdError` for a
    patient that is two subjects.
    """
    if isinstance(deid_map, str | os.PathLike):
        return _checked(_rows_of_file(os.fspath(deid_map)), f"deid_map {os.fspath(deid_map)}")
    if isinstance(deid_map, Mapping):
        return _checked(deid_map.items(), "deid_map=")
    if hasattr(deid_map, "columns") and hasattr(deid_map, "__getitem__"):
        names = [str(name) for name in deid_map.columns]
        patient, subject = _columns(names, "deid_map=")
        series = (list(deid_map[deid_map.columns[n]]) for n in (patient, subject))
        return _checked(zip(*series, strict=True), "deid_map=")
    raise MetadataError("deid_map=", expected="a mapping, a DataFrame or a path", got=type(deid_map).__name__)


def _rows_of_file(path: str) -> list[tuple[str, str]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, delimiter="\t" if path.lower().endswith(".tsv") else ","))
    except FileNotFoundError as error:
        raise SourceNotFoundError(path, expected="the crosswalk (deid_map=)", got="no file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise MetadataError(path, expected="a table in UTF-8", got=str(error)) from error
    patient, subject = _columns(rows[0] if rows else [], f"deid_map {path}")
    filled = [(number, row) for number, row in enumerate(rows[1:], 2) if any(cell.strip() for cell in row)]
    for number, row in filled:
        if len(row) <= max(patient, subject):
            raise MetadataError(
                f"deid_map {path} line {number}", expected=f"{len(rows[0])} cells", got=str(len(row))
            )
    return [(row[patient], row[subject]) for _, row in filled]


def _columns(names: list[str], what: str) -> tuple[int, int]:
    """Where the two columns are."""
    plain = ["".join(filter(str.isalpha, name.lower())) for name in names]
    patients = [n for n, name in enumerate(plain) if name in _PATIENTS]
    subjects = [n for n, name in enumerate(plain) if name in _SUBJECTS]
    if len(patients) != 1 or len(subjects) != 1:
        raise MetadataError(what, expected="the columns patient_id and obs_subject_id", got=str(names))
    return patients[0], subjects[0]


def _checked(rows: Iterable[tuple[Any, Any]], what: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for patient, subject in rows:
        patient = plain_id(patient, f"{what}, a patient id")
        subject = plain_id(subject, f"{what}, subject of patient {patient!r}")
        if found.setdefault(patient, subject) != subject:
            raise DuplicateIdError(
                f"{what}, patient {patient!r}",
                expected="one subject",
                got=f"{found[patient]!r} and {subject!r}",
            )
    return found
