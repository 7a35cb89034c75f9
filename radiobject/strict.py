"""Strict: values of JSON that somebody else may have written, taken only as the types that they must be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from radiobject.errors import FormatError
from radiobject.storage import check_key

__all__ = ["count", "key", "listed", "mapped", "number", "one_of", "text"]

MOST = 2**50
"""No count of bytes, rows or versions is larger; sums of them fit into 64 bits."""


def text(value: Any) -> str:
    """A string that can be written as UTF-8. `TypeError` or `ValueError` for anything else.

    >>> text("sub-01")
    'sub-01'
    """
    if type(value) is not str:
        raise TypeError(f"a text was expected, not {_shown(value)}")
    value.encode()  # a lone surrogate, which JSON can name and nothing can write, is a ValueError here
    return value


def count(value: Any, least: int = 0) -> int:
    """A whole number from `least` to 2**50; no bool, no float, no digits in a string.

    >>> count(3)
    3
    """
    if type(value) is not int:
        raise TypeError(f"a whole number was expected, not {_shown(value)}")
    if not least <= value <= MOST:
        raise ValueError(f"a number from {least} to 2**50 was expected, not {_shown(value)}")
    return value


def key(value: Any, folder: str) -> str:
    """A key of the study below one of its folders; no key that could leave it.

    >>> key("tables/obs_meta/a.parquet", "tables")
    'tables/obs_meta/a.parquet'
    """
    try:
        found = check_key(text(value))
    except FormatError:
        found = ""
    if not found.startswith(f"{folder}/"):
        raise ValueError(f"a path below {folder}/ was expected, not {_shown(value)}")
    return found


def number(value: Any) -> float:
    """A finite number as a float; no bool, no digits in a string."""
    if type(value) not in (int, float):
        raise TypeError(f"a number was expected, not {_shown(value)}")
    found = float(value)
    if not math.isfinite(found):
        raise ValueError(f"a finite number was expected, not {found}")
    return found


def one_of(value: Any, *allowed: str) -> str:
    """One of these words."""
    if (found := text(value)) not in allowed:
        raise ValueError(f"one of {', '.join(allowed)} was expected, not {_shown(found)}")
    return found


def listed(value: Any) -> list[Any]:
    """A JSON array."""
    if type(value) is not list:
        raise TypeError(f"a list was expected, not {_shown(value)}")
    return value


def mapped(value: Any) -> Mapping[str, Any]:
    """A JSON object, its keys such that they can be written."""
    if type(value) is not dict:
        raise TypeError(f"an object was expected, not {_shown(value)}")
    for key in value:
        text(key)
    return value


def _shown(value: Any) -> str:
    return repr(value)[:60] if isinstance(value, str | int | float | None) else type(value).__name__
