"""Bytes of small files of a layout, and whether a file's bytes are there at all."""

from __future__ import annotations

import json
import os
from typing import Any

from radiobject.errors import SourceCorruptError, SourceError, SourceUnsupportedError
from radiobject.ingest.scanning.files import MOST_ATTACHED

__all__ = ["absent", "read_json", "read_text"]

_POINTER_BYTES = 1024
_POINTERS = {
    b"/annex/objects/": "a git-annex pointer: its content is not here (datalad get)",
    b"version https://git-lfs": "a Git LFS pointer: its content is not here (git lfs pull)",
}


def absent(path: str) -> str:
    """Why there is no content at a path, empty where there is; reads no more than a pointer.

    datalad leaves a link to nowhere, or a line of text that names the content, where a file is to come.
    """
    try:
        size = os.stat(path).st_size
        if size == 0:
            return "empty file: 0 bytes"
        if size > _POINTER_BYTES:
            return ""
        with open(path, "rb") as file:
            start = file.read(_POINTER_BYTES)
    except OSError as error:
        if os.path.islink(path) and not os.path.exists(path):
            return "a link to nowhere: its content is not here (datalad get)"
        return f"cannot be read: {error.strerror or error}"
    return next((why for mark, why in _POINTERS.items() if start.startswith(mark)), "")


def read_text(path: str) -> str:
    """A small text file in UTF-8. Raises from the `SourceError` branch."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_ATTACHED + 1)
        if len(data) > MOST_ATTACHED:
            raise SourceUnsupportedError(path, expected=f"at most {MOST_ATTACHED:,} bytes", got="more")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceCorruptError(path, expected="text in UTF-8", got=str(error)) from error
    except OSError as error:
        raise SourceError(path, expected="a readable file", got=f"{type(error).__name__}: {error}") from error


def read_json(path: str) -> dict[str, Any]:
    """A JSON object from a file. Raises from the `SourceError` branch."""
    text = read_text(path)
    try:
        found = json.loads(text)
        # escapes may name halves of characters, which no table and no path can hold
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise SourceCorruptError(path, expected="JSON", got=str(error)) from error
    if not isinstance(found, dict):
        raise SourceCorruptError(path, expected="a JSON object", got=type(found).__name__)
    return found
