"""What the commands print: tables for people or one JSON document on stdout, everything else on stderr."""

from __future__ import annotations

import datetime
import json
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, Group

__all__ = ["console", "counted", "human", "print_json", "printable", "table"]

_PIPED_WIDTH = 120
"""Columns where there is no terminal: rich would take 80 and fold every table."""

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What a terminal obeys instead of showing it: control characters, line ends, marks that turn text around."""

_SEVERAL = re.compile(r"^(\w+ )?(\w+)s\b")
"""Several things, of which the first or second word says which."""


def printable(text: str, keep: str = "") -> str:
    r"""Text with its control characters spelled out, all but those in `keep`: ids are other people's text.

    >>> print(printable("\x1b[31mred\n"))
    \x1b[31mred\x0a
    """

    def spelled(found: re.Match[str]) -> str:
        code = ord(found[0])
        return found[0] if found[0] in keep else f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"

    return _CONTROLS.sub(spelled, text)


def counted(n: int, what: str) -> str:
    """A count and what is counted, which is given as several.

    >>> counted(1, "table parts"), counted(1200, "volumes")
    ('1 table part', '1,200 volumes')
    """
    said = _SEVERAL.sub(r"\1\2", what) if n == 1 else what
    return f"{n:,} {said}"


def console(*, stderr: bool = False) -> Console:
    """A rich console on stdout or stderr; colours only on a terminal, and only those that we ask for."""
    from radiobject.cli.terminal import PlainConsole

    stream = sys.stderr if stderr else sys.stdout
    return PlainConsole(file=stream, width=None if stream.isatty() else _PIPED_WIDTH, highlight=False)


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[str] = (),
    note: str = "",
) -> Group:
    """A plain table between its title and a note; `right` names the columns of numbers."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        made.add_column(Text(printable(name)), justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    # beside the table, not of it: rich would fold them to the table's width
    end = Text(f"{note}\n" if note else "", style="dim")
    return Group(Text(title, style="bold"), made, end)


def print_json(document: Any) -> None:
    """One document on stdout. What JSON has no word for (times, NumPy scalars) is written as its value."""
    text = json.dumps(document, indent=2, ensure_ascii=False, default=_plain)
    # JSON spells out the first 32 by itself; others stand in strings alone, where \u means the same
    text = _CONTROLS.sub(lambda m: m[0] if m[0] == "\n" else f"\\u{ord(m[0]):04x}", text)
    sys.stdout.write(text + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()
    if hasattr(value, "item"):
        return value.item()
    return str(value)


def human(size: float) -> str:
    """Bytes in decimal units.

    >>> human(999), human(47_512_345)
    ('999 B', '47.5 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
