"""NIfTI extensions, and the label names and colours that Caret and TotalSegmentator keep in one as XML."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from xml.parsers import expat

from radiobject.format.meta import Label

__all__ = ["CARET", "CIFTI", "caret_labels", "extensions"]

CARET, CIFTI = 0, 32
"""Codes of extensions; 0 is officially "unknown"."""


def extensions(data: bytes, start: int, stop: int, order: str) -> Iterator[tuple[int, bytes]]:
    """Code and content of each extension between the 4 bytes at `start` that announce them and `stop`.

    Stops quietly where the chain is broken or `data` ends: the bytes are kept as they are either way.
    """
    at, stop = start + 4, min(stop, len(data))
    if at > stop or data[start] == 0:
        return
    while at + 8 <= stop:
        size, code = struct.unpack_from(f"{order}ii", data, at)
        if size < 8:
            return
        yield code, data[at + 8 : min(at + size, stop)]
        at += size


class _NotCaret(Exception):
    """Stops the parser; never leaves this file."""


def caret_labels(content: bytes) -> tuple[Label, ...]:
    """The labels of a `<CaretExtension>`, in its order; empty for any other content.

    The code of the extension (0) means "unknown", so content that is no such XML, is not well-formed, or
    declares a DOCTYPE is not an error: it is no label table, and its bytes are kept with the header.

    >>> xml = b'<CaretExtension><LabelTable><Label Key="1" Red="1" Green="0" Blue="0.5" Alpha="1">' \\
    ...       b"spleen</Label></LabelTable></CaretExtension>"
    >>> caret_labels(xml)
    (Label(value=1, name='spleen', rgba=(255, 0, 128, 255)),)
    """
    labels: list[Label] = []
    attributes: dict[str, str] | None = None
    text: list[str] = []
    depth = 0

    def start(tag: str, attrs: dict[str, str]) -> None:
        nonlocal attributes, depth
        if depth == 0 and tag != "CaretExtension":
            raise _NotCaret
        depth += 1
        if tag == "Label":
            attributes = attrs
            text.clear()

    def end(tag: str) -> None:
        nonlocal attributes, depth
        depth -= 1
        if tag == "Label" and attributes is not None:
            labels.append(Label(int(attributes["Key"]), "".join(text).strip(), _rgba(attributes)))
            attributes = None

    def characters(data: str) -> None:
        if attributes is not None:
            text.append(data)

    def doctype(*_: object) -> None:
        raise _NotCaret

    # expat expands entities only where a DOCTYPE declares them, and a DOCTYPE ends the parsing here.
    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = doctype
    try:
        # Extensions are padded to 16 bytes with zeros, which are no XML.
        parser.ParseFile(io.BytesIO(content.rstrip(b"\0 \r\n\t")))
    except (_NotCaret, expat.ExpatError, KeyError, ValueError):
        return ()
    return tuple(labels)


def _rgba(attributes: dict[str, str]) -> tuple[int, int, int, int] | None:
    """Colours are written 0 to 1; None unless all three are given."""
    if not {"Red", "Green", "Blue"} <= attributes.keys():
        return None
    names = ("Red", "Green", "Blue", "Alpha")
    red, green, blue, alpha = (round(255 * min(max(float(attributes.get(k, "1")), 0.0), 1.0)) for k in names)
    return red, green, blue, alpha
