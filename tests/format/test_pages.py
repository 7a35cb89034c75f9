"""Pages of tables have checksums: a flipped bit that still decodes is an error and not another value."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from radiobject.errors import CorruptObjectError
from radiobject.format.part_file import PartFile
from radiobject.format.schema import SUBJECT_SCHEMA
from radiobject.format.tables import Part, Table, write_part
from radiobject.location import Location
from radiobject.storage import Storage


def decoding_otherwise(data: bytes, footer: int) -> bytes:
    """The bytes with one flipped bit that a reader without checksums takes for other values."""
    rows = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    for place in range(4, len(data) - footer):
        changed = bytearray(data)
        changed[place] ^= 1
        try:
            file = pq.ParquetFile(pa.BufferReader(bytes(changed)), page_checksum_verification=False)
            found = file.read(use_threads=False)
        except (pa.ArrowException, OSError):
            continue
        if not found.equals(rows):
            return bytes(changed)
    raise AssertionError("every bit is noticed without checksums")


def test_a_flipped_bit_that_still_decodes_is_refused(tmp_path: Path) -> None:
    storage = Storage(Location(tmp_path / "study"))
    ages = np.random.default_rng(0).integers(0, 2**40, 50)
    rows = pa.table({"obs_subject_id": [f"sub-{n:02d}" for n in range(50)], "age": ages})
    part = write_part(storage, "obs_meta", rows)
    table = Table(storage, "obs_meta", [part], SUBJECT_SCHEMA)
    assert table.read().equals(rows)
    storage.write(part.path, decoding_otherwise(storage.read(part.path), part.footer_bytes))
    with pytest.raises(CorruptObjectError, match="intact Parquet pages"):
        Table(storage, "obs_meta", [part], SUBJECT_SCHEMA).read()


def test_a_column_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"obs_subject_id": ["a"], "abcde": [1]}), sink, store_schema=False)
    data = sink.getvalue().replace(b"abcde", b"\xff\xfe\xfd\xfc\xfb")
    footer = int.from_bytes(data[-8:-4], "little") + 8
    hashes = [hashlib.sha256(part).hexdigest() for part in (data, data[-footer:])]
    part = Part("tables/obs_meta/a.parquet", len(data), 1, hashes[0], footer, hashes[1], "a", "a")
    storage = Storage(Location(tmp_path / "study"))
    storage.write(part.path, data)
    with pytest.raises(CorruptObjectError, match="a Parquet file"):
        _ = Table(storage, "obs_meta", [part], SUBJECT_SCHEMA).schema


def test_a_part_reads_as_a_file_does(tmp_path: Path) -> None:
    storage = Storage(Location(tmp_path / "study"))
    storage.write("a", b"0123456789")
    for length in (1, 4, 10):
        file = PartFile(storage, "a", 10, b"0123456789"[-length:])
        for start in range(12):
            for size in (0, 1, 3, 20, -1, None):
                file.seek(start)
                stop = 10 if size is None or size < 0 else start + size
                # a range over the border is the caller's in one piece: from the tail, or from the store
                assert file.read(size) == b"0123456789"[start:stop]
                assert file.tell() == max(min(stop, 10), start)
