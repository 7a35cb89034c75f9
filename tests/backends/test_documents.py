"""Documents of volumes are refused by length and nesting before they are parsed."""

from __future__ import annotations

import json

import pytest

from radiobject.backends.base import MAX_DOCUMENT, check_document
from radiobject.backends.tiledb.manifest import Manifest
from radiobject.backends.zarr.metadata import parse, parse_hint
from radiobject.errors import FormatError


@pytest.mark.parametrize("form", [str, str.encode])
def test_lengths_up_to_the_limit_pass(form: type) -> None:
    check_document(form("x" * 10), "here", most=10)
    with pytest.raises(FormatError, match=r"here.*at most 10 bytes.*11 bytes"):
        check_document(form("x" * 11), "here", most=10)


@pytest.mark.parametrize("form", [str, str.encode])
def test_lists_and_objects_up_to_the_limit_pass(form: type) -> None:
    check_document(form('[{"a":[]}]'), "here", nested=3)
    with pytest.raises(FormatError, match=r"here.*at most 2 lists and objects.*3"):
        check_document(form('[{"a":[]}]'), "here", nested=2)


LONG = json.dumps({"0": "a" * MAX_DOCUMENT})
MANY = "[" + "[]," * 500_000 + "0]"


@pytest.mark.parametrize(
    ("text", "what"), [(LONG, "bytes"), (MANY, "lists and objects")], ids=["long", "many"]
)
def test_every_reader_of_documents_asks(text: str, what: str) -> None:
    for read in (lambda: parse(text, "here"), lambda: parse_hint(text)):
        with pytest.raises(FormatError, match=what):
            read()
    pytest.importorskip("tiledb")
    with pytest.raises(FormatError, match=what):
        Manifest.from_bytes(text.encode(), "here")
