"""Tables of tab-separated values, as BIDS has them: cells as text, then columns with types."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from radiobject.errors import SourceCorruptError
from radiobject.ingest.scanning.small_files import read_text

__all__ = ["read_tsv", "typed"]

_MISSING = ("", "n/a", "N/A")
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
# "007" is no number, nor are twenty digits: whoever wrote them meant a name
_NUMBER = re.compile(r"-?((0|[1-9]\d{0,14})(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?")


def read_tsv(path: str) -> list[dict[str, str | None]]:
    """Rows of a table, by the names in its first line; n/a and empty cells are None.

    Raises `SourceCorruptError` for a line with other cells than the first line has.
    """
    # cells have no quotes in BIDS; splitlines() would cut at marks that a text may hold
    lines = [line.split("\t") for line in re.split(r"\r\n?|\n", read_text(path))]
    numbered = [(n, line) for n, line in enumerate(lines, 1) if any(cell.strip() for cell in line)]
    if not numbered:
        return []
    header = [name.strip() for name in numbered[0][1]]
    while not header[-1]:
        header.pop()
    if not all(header) or len(set(header)) < len(header):
        raise SourceCorruptError(path, expected="a name for each column, each once", got=str(header)[:200])
    rows = []
    for number, line in numbered[1:]:
        cells = [cell.strip() for cell in line]
        if any(cells[len(header) :]):
            raise SourceCorruptError(
                f"{path}, line {number}", expected=f"{len(header)} cells", got=str(len(cells))
            )
        cells += [""] * (len(header) - len(cells))
        rows.append({name: None if c in _MISSING else c for name, c in zip(header, cells, strict=False)})
    return rows


def typed(cells: Iterable[str | None]) -> Sequence[int | float | str | None]:
    """A column as integers, else as floats, else as text: what all of its cells are.

    >>> typed(["1", None, "20"]), typed(["1", "2.5"]), typed(["1", "007"])
    ([1, None, 20], [1.0, 2.5], ['1', '007'])
    """
    listed = list(cells)
    said = [cell for cell in listed if cell is not None]
    if not said:
        return listed
    if all(_INTEGER.fullmatch(cell) for cell in said):
        return [None if cell is None else int(cell) for cell in listed]
    if all(_NUMBER.fullmatch(cell) for cell in said):
        return [None if cell is None else float(cell) for cell in listed]
    return listed
