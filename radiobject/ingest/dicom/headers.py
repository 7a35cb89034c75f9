"""Header: the elements of one DICOM data set that ingest needs, read from their bytes.

pydicom parses the file. Values are taken from its raw elements: that is three times quicker than to convert
each, and does not warn about values that nobody asked for. They are looked up by plain integers: a data set
makes a tag of every key that it is asked for, which took as long as the parsing.
"""

from __future__ import annotations

import math
import struct
from functools import cache
from typing import Any

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from radiobject.errors import SourceCorruptError

__all__ = ["Header"]

_INTEGERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "AT": "HH"}


@cache
def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


class Header:
    """A data set, or one item of a sequence in it; `name` is the file's, for errors."""

    __slots__ = ("_elements", "_owners", "dataset", "name")

    def __init__(self, dataset: Dataset, name: str) -> None:
        self.dataset, self.name = dataset, name
        self._elements: dict[int, Any] = dict(zip(map(int, dataset.keys()), dataset.values(), strict=True))
        self._owners: list[int] | None = None

    def __contains__(self, keyword: str) -> bool:
        return _tag(keyword) in self._elements

    def bytes(self, key: str | int) -> bytes | None:
        """The value as it stands in the file, None where there is none."""
        element = self._elements.get(_tag(key) if isinstance(key, str) else key)
        value = None if element is None else element.value
        return value if isinstance(value, bytes) and value else None

    def text(self, key: str | int) -> str:
        """The value as text without padding, "" where there is none. Not for names of people."""
        return (self.bytes(key) or b"").decode("latin-1").strip(" \0")

    def words(self, key: str | int) -> tuple[str, ...]:
        """The values of a text element."""
        text = self.text(key)
        return tuple(word.strip() for word in text.split("\\")) if text else ()

    def in_its_charset(self, keyword: str) -> str:
        """The value in the character set that the data set names, "" where there is none."""
        data = self.bytes(keyword)
        if data is None:
            return ""
        if data.isascii() and b"\x1b" not in data:
            # the same in every character set that DICOM has, but for what follows an escape
            return data.decode("ascii").strip(" \0")
        try:
            # pydicom has converted this one while it read the file
            encodings = convert_encodings(self.dataset.get("SpecificCharacterSet"))
            return decode_bytes(data, encodings, set()).strip(" \0")
        except (LookupError, UnicodeError, ValueError) as error:
            # without the bytes: they are a name
            raise SourceCorruptError(
                self._what(keyword), expected="text in its character set", got=type(error).__name__
            ) from error

    def numbers(self, key: str | int, count: int | None = None) -> tuple[float, ...] | None:
        """The values of a decimal or integer text (DS, IS), None where there are none.

        Raises `SourceCorruptError` for another count, for what is no number, and for what is not finite.
        """
        text = self.text(key)
        if not text:
            return None
        try:
            values = tuple(map(float, text.split("\\")))
        except ValueError:
            values = ()
        if not values or not all(map(math.isfinite, values)) or (count is not None and len(values) != count):
            expected = "numbers" if count is None else f"{count} finite numbers"
            raise SourceCorruptError(self._what(key), expected=expected, got=repr(text)[:80])
        return values

    def number(self, key: str | int) -> float | None:
        """The first value of a decimal or integer text; None where it is missing or not a number."""
        try:
            found = self.numbers(key)
        except SourceCorruptError:
            return None
        return found[0] if found else None

    def binary(self, key: str | int, kind: str) -> tuple[float, ...] | None:
        """The values of an element of a binary `kind` (US, SS, UL, SL, FL, FD), None where there are none."""
        data = self.bytes(key)
        if data is None:
            return None
        tag = _tag(key) if isinstance(key, str) else key
        little = getattr(self._elements[tag], "is_little_endian", True)
        form = _INTEGERS[kind]
        size = struct.calcsize(f"<{form}")
        if len(data) % size:
            raise SourceCorruptError(self._what(key), expected=f"values of {size} bytes", got=f"{len(data)}")
        return struct.unpack(f"{'<' if little else '>'}{len(data) // size}{form}", data)

    def count(self, keyword: str) -> int | None:
        """An unsigned short (US), None where there is none."""
        element = self._elements.get(_tag(keyword))
        data = None if element is None else element.value
        if isinstance(data, bytes) and len(data) == 2:
            return int.from_bytes(data, "little" if getattr(element, "is_little_endian", True) else "big")
        found = self.binary(keyword, "US")
        return int(found[0]) if found else None

    def items(self, keyword: str) -> list[Header]:
        """The items of a sequence, none where it is missing."""
        if keyword not in self:
            return []
        try:
            value = self.dataset[_tag(keyword)].value
            return [Header(item, self.name) for item in value if isinstance(item, Dataset)]
        except Exception as error:  # pydicom raises what the bytes bring about
            raise SourceCorruptError(self._what(keyword), expected="a sequence", got=repr(error)) from error

    def item(self, keyword: str) -> Header | None:
        """The first item of a sequence."""
        return next(iter(self.items(keyword)), None)

    def private(self, group: int, creator: str, element: int) -> int | None:
        """The tag of a private element, in whatever block its creator took; None where it is not there."""
        if self._owners is None:
            # elements (odd group, 0010 to 00FF); ascending, as data sets are
            self._owners = [t for t in self._elements if t & 0x1FF00 == 0x10000 and t & 0xF0]
        for owner in self._owners:
            if owner >> 16 == group and self.text(owner).upper() == creator.upper():
                tag = (group << 16) | ((owner & 0xFF) << 8) | element
                return tag if tag in self._elements else None
        return None

    def _what(self, key: str | int) -> str:
        return f"{self.name}, {key if isinstance(key, str) else f'({key >> 16:04x},{key & 0xFFFF:04x})'}"

    def __reduce__(self) -> Any:
        raise TypeError("headers stay in the process that read them")
