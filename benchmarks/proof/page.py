"""Writes a report between the markers of the pages, and says it in a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from .headline import figures, headline, targets
from .sheets import Sheet
from .tables import SHEETS

__all__ = ["PAGES", "filled", "tell", "verdicts", "write_pages"]

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "performance.md")
MARKED = re.compile(r"(<!-- figures: ([a-z0-9]+) -->\n).*?(<!-- /figures -->)", re.DOTALL)

Report = dict[str, Any]

EVERY: dict[str, Callable[[Report], list[Sheet]]] = {
    **SHEETS,
    "headline": headline,
    "targets": targets,
    "readme": figures,
}
TOLD = {
    "reads": ("reads", "costs", "sizes", "limits"),
    "patches": ("ingest", "patches"),
    "training": ("training",),
    "tables": ("tables",),
    "s3": ("s3",),
    "overhead": ("overhead",),
    "contents": ("contents",),
}


def write_pages(report: Report) -> None:
    """Every page with the report's figures, and the pictures."""
    from .plots import draw

    for page in PAGES:
        if page.exists():
            page.write_text(filled(page.read_text(encoding="utf-8"), report), encoding="utf-8")
    draw(report, ROOT / "docs" / "images")


def filled(text: str, report: Report) -> str:
    """The text with what stands between its markers made anew."""

    def made(found: re.Match[str]) -> str:
        name = found[2]
        if name == "machine":
            body = f"```\n{report['machine']}\n$ {report['command']}\n```"
        else:
            body = "\n\n".join(sheet.markdown() for sheet in EVERY[name](report))
        return f"{found[1]}\n{body}\n\n{found[3]}"

    return MARKED.sub(made, text)


def tell(console: Console, section: str, report: Report) -> None:
    """The tables of a section."""
    for name in TOLD[section]:
        for sheet in EVERY[name](report):
            sheet.title = sheet.title or name
            console.print(sheet.table(), highlight=False)


def verdicts(report: Report) -> list[str]:
    """One line a target, met or missed."""
    if "images" not in report:
        return []
    return ["; ".join(cell for cell in row if cell) for sheet in targets(report) for row in sheet.rows]
