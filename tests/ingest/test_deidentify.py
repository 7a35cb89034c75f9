"""Pseudonyms, crosswalks and shifted dates: the same for the same key, unrelated for another."""

from __future__ import annotations

import base64
import datetime
import hmac
import pickle
import uuid
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import keyword_dict

from radiobject.errors import (
    ConfigError,
    DuplicateIdError,
    MetadataError,
    SourceNotFoundError,
    UnknownIdError,
)
from radiobject.ingest.deidentify import Deidentifier, DeidKey, column_name, pseudonym

KEY = DeidKey(bytes(range(32)))
DEID = Deidentifier(KEY)


def test_pseudonyms_stay_what_they_are() -> None:
    # Studies are appended to for years: another version that makes other pseudonyms splits every patient.
    assert DEID.subject("12345") == "sub-xvjcubgrn5vq"
    assert DEID.subject("Müller^001") == "sub-6ofcxuuqxf2r"
    assert DEID.uid("1.2.840.113619.2.55.3") == "2.25.230320138315526806855330529946781059058"
    assert DEID.code("ses", "1.2.3") == "ses-6cey2fcvb3kg"
    assert DEID.shifted("12345", datetime.date(2020, 2, 29)) == datetime.date(2013, 2, 21)


def test_a_pseudonym_can_be_computed_without_this_package() -> None:
    # as docs/deidentification.md tells, for a data manager who works in another language
    mac = hmac.new(bytes(range(32)), b"subject\x0012345", "sha256").digest()
    assert DEID.subject("12345") == "sub-" + base64.b32encode(mac).decode()[:12].lower()


def test_no_two_of_a_hundred_thousand_ids_share_a_pseudonym() -> None:
    ids = [str(n) for n in range(100_000)]
    assert len({DEID.subject(i) for i in ids}) == len(ids)
    assert len({DEID.uid(i) for i in ids}) == len(ids)


def test_another_key_or_kind_gives_unrelated_ones() -> None:
    other = Deidentifier(DeidKey(bytes(range(1, 33))))
    assert DEID.subject("7") != other.subject("7")
    assert DEID.uid("7") != other.uid("7")
    codes = {DEID.code(label, "7")[4:] for label in ("ses", "sub", "run")} | {DEID.subject("7")[4:]}
    assert len(codes) == 4


def test_padding_is_no_part_of_an_id() -> None:
    assert DEID.subject(" 12345\0 ") == DEID.subject("12345")
    assert DEID.subject("012345") != DEID.subject("12345")


@pytest.mark.parametrize("empty", ["", "  ", "\0"])
def test_an_empty_id_is_nobody(empty: str) -> None:
    with pytest.raises(MetadataError, match="patient id: expected an id, got an empty one"):
        DEID.subject(empty)


@given(st.text(st.characters(exclude_characters=" \t\r\n\0"), min_size=1))
def test_a_uid_is_one_that_dicom_allows(text: str) -> None:
    root, _, number = DEID.uid(text).rpartition(".")
    assert root == "2.25"
    assert uuid.UUID(int=int(number)).version == 8
    assert len(DEID.uid(text)) <= 64


def test_frames_of_reference_of_the_standard_stay() -> None:
    assert DEID.uid("1.2.840.10008.1.4.1.1") == "1.2.840.10008.1.4.1.1"
    # a scan whose maker took the standard's root for its own
    assert DEID.uid("1.2.840.10008.1.4.1.1.20200101").startswith("2.25.")


ids = st.text(st.characters(exclude_characters=" \t\r\n\0"), min_size=1, max_size=20)
days = st.dates(datetime.date(1900, 1, 1), datetime.date(2100, 1, 1))


@given(ids, days, days)
def test_days_between_dates_of_a_subject_stay(
    patient: str, first: datetime.date, second: datetime.date
) -> None:
    moved = [DEID.shifted(patient, day) for day in (first, second)]
    assert moved[1] - moved[0] == second - first
    assert 365 <= (first - moved[0]).days <= 3650


@given(ids, st.builds(datetime.datetime.combine, days, st.times()))
def test_a_time_moves_as_its_day_does_and_keeps_its_clock(patient: str, then: datetime.datetime) -> None:
    moved = DEID.shifted(patient, then)
    assert moved.time() == then.time()
    assert moved.date() == DEID.shifted(patient, then.date())


def test_subjects_are_shifted_by_many_different_days() -> None:
    day = datetime.date(2020, 1, 1)
    shifts = {(day - DEID.shifted(str(n), day)).days for n in range(2000)}
    assert len(shifts) > 1300  # of 3,286; 2,000 draws hit 1,498 on average
    assert min(shifts) < 400
    assert max(shifts) > 3600


def test_a_date_that_nothing_is_long_before_is_an_error() -> None:
    with pytest.raises(MetadataError, match="expected one after the year 10"):
        DEID.shifted("1", datetime.date(1, 1, 1))


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, object]:
    """The same crosswalk in every form that is taken."""
    rows = [("007", "P-1"), ("8", "P-2"), ("9", "P-2")]
    comma, tab = tmp_path / "map.csv", tmp_path / "map.tsv"
    comma.write_text("﻿patient_id,obs_subject_id\n" + "".join(f"{a}, {b}\n" for a, b in rows) + "\n")
    tab.write_text("participant_id\tsex\tPatientID\n" + "".join(f"{b}\tF\t{a}\n" for a, b in rows))
    frame = pd.DataFrame(rows, columns=["Patient ID", "Subject_ID"]).assign(note=1)
    return {"mapping": dict(rows), "csv": comma, "text": str(comma), "tsv": tab, "frame": frame}


@pytest.mark.parametrize("form", ["mapping", "csv", "text", "tsv", "frame"])
def test_a_crosswalk_says_who_is_who(tables: dict[str, object], form: str) -> None:
    deid = Deidentifier(KEY, deid_map=tables[form])
    assert [deid.subject(i) for i in ("007", "8", "9", "8 ")] == ["P-1", "P-2", "P-2", "P-2"]
    assert deid == Deidentifier(KEY, deid_map=tables["mapping"])


def test_a_patient_that_is_not_in_the_crosswalk_is_an_error(tables: dict[str, object]) -> None:
    deid = Deidentifier(KEY, deid_map=tables["csv"])
    with pytest.raises(UnknownIdError, match=r"patient '7': expected one of the 3 ids in the crosswalk"):
        deid.subject("7")
    with pytest.raises(UnknownIdError):
        deid.shifted("7", datetime.date(2020, 1, 1))


def test_records_that_a_crosswalk_merges_keep_their_distance(tables: dict[str, object]) -> None:
    deid = Deidentifier(KEY, deid_map=tables["mapping"])
    day = datetime.date(2020, 1, 1)
    assert deid.shifted("8", day) == deid.shifted("9", day) != deid.shifted("007", day)


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        ("patient_id,name\n1,a\n", MetadataError, "the columns patient_id and obs_subject_id"),
        ("1,a\n2,b\n", MetadataError, "the columns patient_id and obs_subject_id"),
        ("", MetadataError, "the columns patient_id and obs_subject_id"),
        ("patient_id,obs_subject_id\n1\n", MetadataError, "line 2: expected 2 cells, got 1"),
        ("patient_id,obs_subject_id\n1,\n", MetadataError, "subject of patient '1': expected an id"),
        ("patient_id,obs_subject_id\n1,a\n1,b\n", DuplicateIdError, "got 'a' and 'b'"),
    ],
)
def test_a_crosswalk_that_is_none_is_refused(
    tmp_path: Path, content: str, error: type[Exception], said: str
) -> None:
    file = tmp_path / "map.csv"
    file.write_text(content)
    with pytest.raises(error) as caught:
        Deidentifier(KEY, deid_map=file)
    assert "map.csv" in str(caught.value)
    assert said in str(caught.value)


def test_ids_that_were_read_as_numbers_are_refused() -> None:
    frame = pd.DataFrame({"patient_id": [7], "obs_subject_id": ["a"]})
    with pytest.raises(MetadataError, match=r"expected text, got 7 \(int\w*\)\. .*dtype=str"):
        Deidentifier(KEY, deid_map=frame)
    with pytest.raises(MetadataError, match="expected text, got 7"):
        pseudonym(7, bytes(32))  # type: ignore[arg-type]


def test_a_crosswalk_that_is_not_there_or_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"none\.csv"):
        Deidentifier(KEY, deid_map=tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"patient_id,obs_subject_id\n\xff\xfe,a\n")
    with pytest.raises(MetadataError, match=r"binary\.csv: expected a table in UTF-8"):
        Deidentifier(KEY, deid_map=tmp_path / "binary.csv")
    with pytest.raises(MetadataError, match="expected a mapping, a DataFrame or a path, got list"):
        Deidentifier(KEY, deid_map=[("1", "a")])


def test_a_clinical_table_joins() -> None:
    table = pd.DataFrame({"patient_id": ["12345", "67890"]})
    ids = table["patient_id"].map(lambda i: pseudonym(i, bytes(range(32))))
    assert ids.tolist() == [DEID.subject("12345"), DEID.subject("67890")]


def test_a_deidentifier_goes_to_another_process_unchanged() -> None:
    deid = Deidentifier(KEY, keep_phi=["PatientSex"], deid_map={"1": "a"})
    back = pickle.loads(pickle.dumps(deid))
    assert back == deid
    assert hash(back) == hash(deid)
    assert (back.subject("1"), back.keep_phi, back.key) == ("a", ("PatientSex",), KEY)


def test_two_that_do_something_else_are_not_equal() -> None:
    different = [DEID, Deidentifier(KEY, keep_phi=["PatientSex"]), Deidentifier(KEY, deid_map={"1": "a"}),
                 Deidentifier(KEY, deid_map={"1": "b"}), Deidentifier(DeidKey(bytes(32)))]  # fmt: skip
    assert len({d.fingerprint for d in different}) == len(different)


def test_keywords_are_taken_by_either_name() -> None:
    assert Deidentifier(KEY, keep_phi=["patient_sex", "PatientSex", "StudyDate"]).keep_phi == (
        "PatientSex", "StudyDate",
    )  # fmt: skip
    assert Deidentifier(KEY, keep_phi="PatientSex").keep_phi == ("PatientSex",)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("PatientSexx", "Did you mean 'PatientSex'"),
        ("series_descripton", "'series_description'"),
        ("", "got ''"),
        ("PixelData", "expected attributes that hold a value"),
        ("RequestAttributesSequence", "expected attributes that hold a value"),
    ],
)
def test_a_keyword_that_dicom_does_not_have_is_an_error(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match="keep_phi=") as caught:
        Deidentifier(KEY, keep_phi=[name])
    assert said in str(caught.value)


def test_every_attribute_has_a_column_of_its_own() -> None:
    assert len({column_name(k) for k in keyword_dict}) == len(keyword_dict)


@pytest.mark.parametrize("label", ["", "a-b", "a b"])
def test_a_label_is_letters_and_digits(label: str) -> None:
    with pytest.raises(ConfigError, match="label of a pseudonym"):
        DEID.code(label, "x")
