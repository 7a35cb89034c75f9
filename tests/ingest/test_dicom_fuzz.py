"""Damaged headers: whatever a file holds, what comes is a volume or an error of ours that names the file.

The ordinary suite tries a few hundred; `make fuzz` goes on for its share of the time and prints counts.
"""

from __future__ import annotations

import io
import os
import struct
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from radiobject.errors import MissingDependencyError, SourceError
from radiobject.ingest.deidentify import Deidentifier, DeidKey
from radiobject.ingest.dicom.finding import Entry, find
from radiobject.ingest.dicom.rows import Row, named, table_of_rows
from tests.fuzz.seconds import seconds

from .dicom_series import enhanced, save, slices
from .label_objects import item

EXAMPLES = 10 * int(os.environ.get("RADIOBJECT_EXAMPLES", "20"))
SECONDS = seconds(0)
DEID = Deidentifier(DeidKey(bytes(range(32))))

TEXTS = (
    "", "0", "-1", "1", "2.5", "1e308", "-1e308", "1e-320", "1e400", "nan", "inf", "\\", "1\\2", "1\\2\\3",
    "1\\0\\0\\0\\1\\0", "0\\0\\0\\0\\0\\0", "1e200\\0\\0\\0\\1e200\\0", "1e308\\-1e308\\1e308",
    "99999999999999", "1e-300\\1e-300", "1e300\\1e300", "MOSAIC", "ORIGINAL\\PRIMARY\\MOSAIC",
    "ISO_IR 192", "no charset",
    "20200230", "00000000", "1.2.840.10008.1.2.1", "1.2.840.10008.5.1.4.1.1.66.4", "999Y", "\u00ff\u00fe",
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(TEXTS).map(lambda text: text.encode("latin-1")),
    st.binary(max_size=40),
    st.sampled_from([b"\0\0", b"\1\0", b"\xff\xff", b"\0\x80", b"\x10\0", b"\xff" * 8, b"\0" * 8]),
)


def _classic() -> Dataset:
    (made,) = slices(
        1, PatientBirthDate="19500630", PatientAge="070Y", SeriesDescription="thorax", EchoTime="4.9",
        RescaleSlope="2", RescaleIntercept="-1024", SliceThickness="2.5", WindowCenter="40",
        WindowWidth="400", TemporalPositionIdentifier="1", AcquisitionTime="120000.5",
        AcquisitionDate="20200301", ImageType=["ORIGINAL", "PRIMARY", "M"],
        SpecificCharacterSet="ISO_IR 100", SOPInstanceUID="1.2.3.4.3",
        corner=(-10, 20, 35),
    )  # fmt: skip
    return made


def _many() -> Dataset:
    return enhanced(
        4, slope=lambda n: n + 0.5,
        groups=lambda n: {
            "FrameContentSequence": [item(TemporalPositionIndex=1, DimensionIndexValues=[1, n + 1])],
            "MREchoSequence": [item(EffectiveEchoTime=4.9)],
            "MRDiffusionSequence": [item(DiffusionBValue=1000.0, DiffusionDirectionality="NONE")],
        },
    )  # fmt: skip


MAKERS: dict[str, Callable[[], Dataset]] = {"classic": _classic, "enhanced": _many}


def file_of(dataset: Dataset, syntax: str) -> bytes:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


# Implicit files do not say types, so that any bytes can be any type's. pydicom refuses to write such.
Tree = list[tuple[int, Any]]
"""Elements: tag, and bytes or the trees of a sequence's items."""


def tree(dataset: Dataset) -> Tree:
    """The elements of a data set that was read from an implicit file."""
    made: Tree = []
    for tag in sorted(dataset.keys()):
        value = dataset.get_item(tag).value
        if dictionary_VR(tag) == "SQ":
            value = [tree(part) for part in dataset[tag].value]
        elif isinstance(value, str):  # the character set, which a reader needs at once
            value = value.encode()
        made.append((int(tag), value or b""))
    return made


def encoded(elements: Tree) -> bytes:
    """As implicit little endian."""
    parts = []
    for tag, value in elements:
        data = (
            value if isinstance(value, bytes) else b"".join(_element(0xFFFEE000, encoded(v)) for v in value)
        )
        parts.append(_element(tag, data))
    return b"".join(parts)


def _element(tag: int, data: bytes) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(data)) + data


def places(elements: Tree) -> list[tuple[Tree, int]]:
    """Every element, as the list that it stands in and its number there."""
    found = []
    for number, (_, value) in enumerate(elements):
        found.append((elements, number))
        for part in value if isinstance(value, list) else ():
            found += places(part)
    return found


@st.composite
def changed_elements(draw: st.DrawFn) -> bytes:
    """A file of which one to three elements are gone, stand there twice, or hold any bytes."""
    whole = file_of(MAKERS[draw(st.sampled_from(list(MAKERS)))](), ImplicitVRLittleEndian)
    elements = tree(pydicom.dcmread(io.BytesIO(whole)))
    unchanged = encoded(elements)
    head = whole.removesuffix(unchanged)
    assert len(head) < len(whole)
    for _ in range(draw(st.integers(1, 3))):
        every = places(elements)
        where, number = every[draw(st.integers(0, len(every) - 1))]
        change = draw(st.sampled_from(["value", "value", "gone", "twice"]))
        if change == "gone":
            del where[number]
        elif change == "twice":
            where.insert(number, where[number])
        else:
            value = draw(VALUES)
            where[number] = (where[number][0], value + b"\0" * (len(value) % 2))
    return head + encoded(elements)


def _compressed() -> bytes:
    made = _many()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.compress(RLELossless, generate_instance_uid=False)
    return file_of(made, RLELossless)


WHOLE = [file_of(make(), ExplicitVRLittleEndian) for make in MAKERS.values()] + [_compressed()]


@st.composite
def changed_bytes(draw: st.DrawFn) -> bytes:
    """A file with some bytes after its file meta exchanged, taken out or put in, or cut short."""
    data = bytearray(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(min(140, len(data)), len(data)))
        length = draw(st.integers(0, 8))
        data[at : at + length] = draw(st.binary(max_size=8))
    if draw(st.booleans()):
        del data[draw(st.integers(140, 4000)) :]
    return bytes(data)


def outcomes(data: bytes) -> list[str]:
    """What becomes of this file beside two good slices of the series. Only errors of ours are caught."""
    found = []
    with tempfile.TemporaryDirectory() as place:
        save(Path(place), slices(2))
        Path(place, "9.dcm").write_bytes(data)
        findings = find([Entry(place, subject="sub-01")], DEID, irregular="keep", progress=False)
        found += [type(error).__name__ for error in findings.damaged.values()]
        found += [f"skipped: {reason.split(' (')[0]}" for reason in findings.skipped.elements()]
        named(findings.rows, [])
        rows: dict[str, list[Row]] = defaultdict(list)
        for row in findings.rows:
            rows[row.collection].append(row)
            try:
                found.append(f"{row.item.load().voxels.ndim}D")
            except (SourceError, MissingDependencyError) as error:
                found.append(type(error).__name__)
        for name, of in rows.items():
            table_of_rows(of, name)
    assert found
    return found


STRATEGIES = {"elements": changed_elements(), "bytes": changed_bytes()}


@pytest.mark.parametrize("kind", STRATEGIES)
def test_damaged_headers_give_volumes_or_named_errors(kind: str) -> None:
    counts: Counter[str] = Counter()
    tried = 0

    def one(data: bytes) -> None:
        nonlocal tried
        tried += 1
        counts.update(outcomes(data))

    quiet = settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
    )
    run = quiet(given(STRATEGIES[kind])(one))
    started, number = time.monotonic(), 0
    run()
    while time.monotonic() - started < SECONDS:
        number += 1
        seed(number)(run)()
    print(f"{kind}: {tried:,} files, {dict(counts.most_common())}")
