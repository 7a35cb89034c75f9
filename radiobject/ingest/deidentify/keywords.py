"""Keywords: what DICOM calls its attributes, and the columns that they become."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import cache

from radiobject.errors import ConfigError, MissingDependencyError

__all__ = ["column_name", "known_keywords"]

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_ODD = {"CTDIvol": "ctdi_vol"}
_NO_VALUE = re.compile(r"SQ|UN|O[BDFLVW]|NONE|$")
"""Representations that hold items or bytes, which no column takes."""


@cache
def column_name(keyword: str) -> str:
    """The name of an attribute's column: its keyword in snake case.

    >>> [column_name(k) for k in ("EchoTime", "KVP", "XRayTubeCurrent", "CTDIvol", "StudyInstanceUID")]
    ['echo_time', 'kvp', 'x_ray_tube_current', 'ctdi_vol', 'study_instance_uid']
    """
    return _ODD.get(keyword) or _WORDS.sub("_", keyword).lower()


def known_keywords(names: str | Iterable[str]) -> tuple[str, ...]:
    """The keywords of DICOM for `names`, each a keyword or its column; in that order, once each.

    Raises `ConfigError` for a name that DICOM does not have, and for one that is no single value;
    `MissingDependencyError` without pydicom.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    if not wanted:
        return ()
    table = _dictionary()
    columns = {column_name(keyword): keyword for keyword in table}
    found = []
    for name in wanted:
        keyword = name if name in table else columns.get(name)
        if keyword is None:
            near = difflib.get_close_matches(str(name), [*table, *columns], n=3, cutoff=0.7)
            raise ConfigError(
                "keep_phi=",
                expected="keywords of DICOM, such as 'PatientSex'",
                got=repr(name),
                hint=f"Did you mean {' or '.join(map(repr, near))}?" if near else None,
            )
        if _NO_VALUE.match(table[keyword]):
            raise ConfigError("keep_phi=", expected="attributes that hold a value", got=f"{name!r}")
        found.append(keyword)
    return tuple(dict.fromkeys(found))


@cache
def _dictionary() -> dict[str, str]:
    """Keyword -> value representation of every attribute of the standard."""
    try:
        from pydicom.datadict import dictionary_VR, keyword_dict
    except ImportError as error:
        raise MissingDependencyError(
            "keep_phi=", expected="the package pydicom", hint='pip install "radiobject-zarr[dicom]"'
        ) from error
    return {keyword: dictionary_VR(tag) for keyword, tag in keyword_dict.items() if keyword}
