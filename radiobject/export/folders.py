"""Folders: what exports of studies share: an empty place, tables as text, volumes side by side."""

from __future__ import annotations

import datetime
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from radiobject.errors import ConfigError, MetadataError, StorageError
from radiobject.executor import Executor, Progress, progress_bar, run
from radiobject.model.dataframe import Dataframe

__all__ = ["each", "empty_folder", "scalar_columns", "tsv", "write_bytes", "write_json"]

T = TypeVar("T")
R = TypeVar("R")


def empty_folder(folder: str | os.PathLike[str]) -> str:
    """The folder, made where it is not there. Raises `ConfigError` where anything is in it."""
    place = os.path.abspath(os.path.expanduser(os.fspath(folder)))
    try:
        os.makedirs(place, exist_ok=True)
        present = sorted(os.listdir(place))
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(place, expected="a folder", got="a file") from error
    except OSError as error:
        raise StorageError(place, got=str(error)) from error
    if present:
        raise ConfigError(
            place,
            expected="an empty folder, or none yet",
            got=f"{len(present)} entries, such as {present[0]!r}",
            hint="Nothing is written over: name another folder.",
        )
    return place


def each(
    work: Callable[[T], R],
    items: Sequence[T],
    *,
    progress: bool | Progress | None,
    executor: Executor = "threads",
    workers: int | None = None,
) -> list[R]:
    """What `work` gives for every item, in their order; the first that fails ends it."""
    found: dict[int, R] = {}
    with progress_bar("export", len(items), progress) as tell:
        tell(0, len(items))
        for position, result in run(work, items, executor=executor, workers=workers):
            if isinstance(result, Exception):
                raise result
            found[position] = result
            tell(len(found), len(items))
    return [found[position] for position in range(len(items))]


def scalar_columns(table: Dataframe) -> list[str]:
    """The columns that a text table can hold."""
    return [n for n, kind in table.dtypes.items() if not re.search("list|struct|map|binary", kind)]


def tsv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], what: str) -> bytes:
    """Tab-separated text as BIDS has it: a name for each column, n/a for what is missing.

    Raises `MetadataError` for a text with a tab or a new line, which BIDS has no way to write.

    >>> tsv([{"a": 1, "b": None}], ["a", "b"], "table")
    b'a\\tb\\n1\\tn/a\\n'
    """
    lines = ["\t".join(columns)]
    for row in rows:
        cells = [_cell(row.get(name)) for name in columns]
        if bad := next((c for c in cells if any(mark in c for mark in "\t\r\n")), None):
            raise MetadataError(what, expected="texts without tabs and new lines", got=repr(bad)[:80])
        lines.append("\t".join(cells))
    return ("\n".join(lines) + "\n").encode()


def write_bytes(path: str, data: bytes) -> None:
    """Write a new file, with the folders above it. Raises `StorageError`."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)
    except OSError as error:
        raise StorageError(path, expected="a new file", got=str(error)) from error


def write_json(path: str, content: Mapping[str, Any]) -> None:
    """Write a new file of JSON. Raises `StorageError`."""
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def _cell(value: Any) -> str:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return "n/a"
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    return str(value)
