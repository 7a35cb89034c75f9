"""Names of labels, as layouts keep them beside their images."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from radiobject.errors import SourceCorruptError
from radiobject.format.meta import Label
from radiobject.ingest.scanning.tsv import read_tsv

__all__ = ["dataset_labels", "dseg_labels"]

_INTEGER = re.compile(r"\s*(-?[0-9]{1,18})(\.0)?\s*")
_COLOUR = re.compile(r"#?([0-9a-fA-F]{6})([0-9a-fA-F]{2})?")


def dseg_labels(path: str) -> tuple[Label, ...]:
    """Labels of a `_dseg.tsv`: columns `index` and `name`, and `color` as #RRGGBB where there is one.

    Raises `SourceCorruptError` for an index that is no integer or comes twice.
    """
    labels: dict[int, Label] = {}
    for row in read_tsv(path):
        text, name = row.get("index"), row.get("name")
        if text is None and name is None:
            continue
        try:
            value = int(text or "")
        except ValueError as error:
            raise SourceCorruptError(path, expected="an integer in column index", got=repr(text)) from error
        if value in labels:
            raise SourceCorruptError(path, expected="each index once", got=f"{value} twice")
        labels[value] = Label(value, name or row.get("abbreviation") or str(value), _rgba(row.get("color")))
    return tuple(labels[value] for value in sorted(labels))


def dataset_labels(said: Any, path: str) -> tuple[Label, ...]:
    """Labels of a dataset.json: `{"1": "liver"}` as MSD writes it, or `{"liver": 1}` as nnU-Net does.

    nnU-Net's regions list integers, `{"whole tumor": [1, 2], "core": [2]}`. Every integer stays a label of
    its own, so that voxels are unchanged, and is named by the regions that it is part of.

    Raises `SourceCorruptError` for anything else.

    >>> regions = {"background": 0, "whole tumor": [1, 2], "core": [2]}
    >>> [(label.value, label.name) for label in dataset_labels(regions, "dataset.json")]
    [(0, 'background'), (1, 'whole tumor'), (2, 'whole tumor + core')]
    """
    if isinstance(said, Sequence) and not isinstance(said, str):
        said = dict(enumerate(said))
    if not isinstance(said, Mapping):
        raise SourceCorruptError(f"{path}, labels", expected="values and names", got=repr(said)[:80])
    names: dict[int, list[str]] = {}
    for key, value in said.items():
        if isinstance(value, str):
            number = _integer(key)
            pairs = [(number, value)] if number is not None else [(_integer(value), str(key))]
        else:
            pairs = [(_integer(one), str(key)) for one in (value if isinstance(value, list) else [value])]
        for number, name in pairs:
            if number is None:
                raise SourceCorruptError(
                    f"{path}, labels", expected="an integer and a name", got=f"{key!r}: {value!r}"[:120]
                )
            names.setdefault(number, []).append(name)
    return tuple(Label(value, " + ".join(names[value])) for value in sorted(names))


def _integer(said: Any) -> int | None:
    match = _INTEGER.fullmatch(str(said))
    return int(match[1]) if match else None


def _rgba(text: str | None) -> tuple[int, int, int, int] | None:
    """None for what is no colour: the name is worth keeping without it."""
    match = _COLOUR.fullmatch(text or "")
    if match is None:
        return None
    red, green, blue = bytes.fromhex(match[1])
    return red, green, blue, int(match[2] or "ff", 16)
