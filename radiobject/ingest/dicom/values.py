"""Values: attributes of any pydicom data set as plain text, numbers, dates and times.

From a file they are read out of their bytes: converting every element would warn about values that nobody
uses, and refuse files whose only fault is there. A data set made in memory gives what was put into it.
"""

from __future__ import annotations

import datetime
import logging
import math
import re
import struct
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import Tag

__all__ = [
    "first_item",
    "groups",
    "integer",
    "moment",
    "moment_of",
    "number",
    "representation",
    "tag_of",
    "text",
    "texts",
]

_log = logging.getLogger(__name__)

_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "SV": "q", "UV": "Q"}
_DATE = re.compile(r"(\d{4})[.-]?(\d\d)[.-]?(\d\d)")
_TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,6}))?)?)?")
_EARLIEST = 1800
_CHARSET = 0x00080005


@cache
def tag_of(keyword: str) -> int:
    """The tag of an attribute of the standard."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


@cache
def _known_representation(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def representation(ds: Dataset, tag: int) -> str:
    """What kind of value the element of that tag holds (its VR); the standard's where the file has none."""
    element = ds.get_item(tag)
    said = getattr(element, "VR", None)
    return str(said) if said and said != "UN" else _known_representation(tag)


def texts(ds: Dataset, key: str | int) -> tuple[str, ...]:
    """The values of a text element, without padding or control characters; none where there are none."""
    return tuple(_printable(str(value)) for value in _values(ds, key))


def text(ds: Dataset, key: str | int) -> str | None:
    """The values of a text element joined by backslashes, as DICOM does; None where there are none."""
    joined = "\\".join(texts(ds, key))
    return joined if joined.strip("\\") else None


def number(ds: Dataset, key: str | int) -> float | None:
    """The value of a numeric element; None where there is none, or not a finite one, or several differ."""
    try:
        found = {float(value) for value in _values(ds, key) if str(value).strip()}
    except (TypeError, ValueError, OverflowError):
        return None
    only = found.pop() if len(found) == 1 else math.nan
    return only if math.isfinite(only) else None


def integer(ds: Dataset, key: str | int) -> int | None:
    """`number`, where it is a whole one that a table's int64 holds exactly."""
    value = number(ds, key)
    return int(value) if value is not None and value.is_integer() and abs(value) < 2**53 else None


def moment(ds: Dataset, day: str, time: str | None = None) -> datetime.datetime | None:
    """A local time without zone: of a DT element, or of a DA and a TM element. Midnight where no time is.

    None where there is no date, or none that a calendar has.
    """
    date = text(ds, day)
    found = _DATE.match(date or "")
    clock = text(ds, time) if time else date and found and date[found.end() :].strip()
    return moment_of(date, clock)


def moment_of(day: str | None, clock: str | None) -> datetime.datetime | None:
    """The same from texts; `day` may go on after the date.

    >>> str(moment_of("20140122", "103610.67"))
    '2014-01-22 10:36:10.670000'
    """
    found, told = _DATE.match(day or ""), _TIME.match(clock or "")
    if found is None:
        return None
    hour, minute, second, fraction = told.groups("0") if told else ("0",) * 4
    try:
        date = datetime.date(*map(int, found.groups()))
        # 60 is a leap second, which Python's clock does not have
        time = datetime.time(int(hour), int(minute), min(int(second), 59), int(fraction.ljust(6, "0")))
    except ValueError:
        return None
    # no zone: DICOM's times are local, and theirs would tell a place
    return datetime.datetime.combine(date, time) if date.year >= _EARLIEST else None


def first_item(ds: Dataset, keyword: str) -> Dataset | None:
    """The first item of a sequence; None where there is none, or what is there cannot be read."""
    return next(iter(_items(ds, tag_of(keyword))), None)


def groups(ds: Dataset, frame: int = 0) -> Iterator[Dataset]:
    """The data set, then the items of its functional groups that hold for a frame: the frame's own first."""
    yield ds
    own, shared = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"
    for keyword, position in ((own, frame), (shared, 0)):
        for macro in _items(ds, tag_of(keyword))[position : position + 1]:
            tags = [tag for tag in macro.keys() if representation(macro, tag) == "SQ"]  # noqa: SIM118
            yield from (item for tag in tags for item in _items(macro, tag)[:1])


def _items(ds: Dataset, tag: int) -> list[Dataset]:
    if tag not in ds:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [item for item in ds[tag].value or () if isinstance(item, Dataset)]
    except Exception as error:  # pydicom raises what the bytes bring about
        # no reason to refuse a volume whose pixels and place are sound: its columns say less
        _log.warning("sequence %s of a header cannot be read: %s", Tag(tag), type(error).__name__)
        return []


def _values(ds: Dataset, key: str | int) -> tuple[Any, ...]:
    tag = tag_of(key) if isinstance(key, str) else key
    if tag not in ds:
        return ()
    element = ds.get_item(tag)
    value = None if element is None else element.value
    if isinstance(value, bytes):
        return _parsed(ds, tag, value, little=getattr(element, "is_little_endian", True))
    if value is None or isinstance(value, Dataset):
        return ()
    # names of people can be iterated over too, letter by letter
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)


def _parsed(ds: Dataset, tag: int, data: bytes, *, little: bool) -> tuple[Any, ...]:
    form = _BINARY.get(representation(ds, tag)[:2])  # "US or SS" in the standard's own list
    if form is not None:
        order, size = "<" if little else ">", struct.calcsize(f"<{form}")
        return struct.unpack(f"{order}{len(data) // size}{form}", data[: len(data) // size * size])
    decoded = _decoded(ds, data)
    return tuple(decoded.split("\\")) if decoded.strip(" \0") else ()


def _decoded(ds: Dataset, data: bytes) -> str:
    if data.isascii():
        return data.decode("ascii")
    charsets = ds.get_item(_CHARSET).value if _CHARSET in ds else ""
    names = charsets.decode("latin-1") if isinstance(charsets, bytes) else charsets
    first = names.split("\\")[0] if isinstance(names, str) else next(iter(names or ()), "")
    return data.decode(python_encoding.get(str(first).strip(), "latin-1"), errors="replace")


def _printable(value: str) -> str:
    return "".join(c for c in value if c.isprintable()).strip()
