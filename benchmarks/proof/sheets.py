"""A table of figures, for a page and for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.table import Table

__all__ = ["Sheet", "milliseconds", "number", "times"]


@dataclass
class Sheet:
    """Rows of text under `columns`; the first column is what a row is about."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    note: str = ""

    def markdown(self, heading: int = 3) -> str:
        """As Markdown, with its title as a heading."""
        lines = [f"{'#' * heading} {self.title}", ""] if self.title else []
        lines += [f"| {' | '.join(self.columns)} |", "|" + "---|" * len(self.columns)]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join([*lines, *(["", self.note] if self.note else [])])

    def table(self) -> Table:
        """For a terminal."""
        table = Table(title=self.title, caption=self.note or None)
        for place, column in enumerate(self.columns):
            table.add_column(column, justify="right" if place else "left")
        for row in self.rows:
            table.add_row(*row)
        return table


def number(value: float) -> str:
    """Three digits that count: 0.0123, 1.23, 12.3, 1,234."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 1 or value == 0 else f"{value:.3g}"


def milliseconds(seconds: float) -> str:
    """Without the unit."""
    return number(seconds * 1e3)


def times(value: float) -> str:
    """A ratio, short."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"
