"""The list of attributes that become columns, held against the standard's profile for confidentiality."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path

import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword

from radiobject.format.schema import OBS_SCHEMA
from radiobject.ingest.deidentify import column_name
from radiobject.ingest.dicom import columns

PAGE = Path(__file__).resolve().parents[2] / "docs" / "deidentification.md"
LET_IN = sorted({*columns.ALLOWED, *(name for names in columns.ELSEWHERE.values() for name in names)})
COMPUTED = {"age", "suv_factor", "acquisition_time", "study_uid", "series_uid", "frame_of_reference_uid",
            "deid_key_id"}  # fmt: skip


def table_e_1_1() -> set[tuple[int, int]]:
    """Tags of DICOM PS3.15 table E.1-1 that have any action, as PyPI dicom-anonymizer packages them."""
    name = "dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        module = importlib.import_module(name)
    else:
        module = pytest.importorskip(name)
    # entries of four numbers are ranges of repeating groups: curves and overlays
    return {entry for entry in module.ALL_TAGS if len(entry) == 2}


def pair(keyword: str) -> tuple[int, int]:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag >> 16, tag & 0xFFFF


def test_nothing_that_the_profile_changes_is_let_in() -> None:
    table = table_e_1_1()
    assert len(table) > 600
    # the oracle knows what it is asked: attributes that everybody would name
    assert {pair(k) for k in ("PatientName", "StudyDate", "SeriesDescription", "ProtocolName")} <= table
    assert [k for k in LET_IN if pair(k) in table] == []


def test_nothing_private_nested_or_binary_is_let_in() -> None:
    allowed = {"CS", "LO", "SH", "DS", "IS", "FD", "US"}
    assert [k for k in LET_IN if dictionary_VR(pair(k)[0] << 16 | pair(k)[1]) not in allowed] == []
    assert [k for k in LET_IN if pair(k)[0] % 2 or pair(k)[0] in range(0x5000, 0x6100)] == []


def test_no_column_hides_one_of_the_table() -> None:
    names = [column_name(k) for k in columns.ALLOWED]
    assert len(set(names)) == len(names)
    assert not set(names) & (set(OBS_SCHEMA.names) | COMPUTED)


def test_the_guide_lists_every_column_and_no_other() -> None:
    text = PAGE.read_text(encoding="utf-8")
    listed = text.partition("<!-- columns -->")[2].partition("<!-- end of columns -->")[0]
    found = re.findall(r"`(\w+)`", listed)
    assert sorted(found) == sorted([*map(column_name, columns.ALLOWED), *COMPUTED])
