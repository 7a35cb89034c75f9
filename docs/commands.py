"""Fills the page of the command line with what `radiobject COMMAND --help` says of each command."""

from __future__ import annotations

from typing import Any

import typer
from typer.cli import get_docs_for_click

from radiobject.cli.application import application

__all__ = ["commands", "on_page_markdown"]

_PAGE = "reference/command-line.md"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page of the command line with its commands, any other as it is."""
    return f"{markdown}\n{commands()}" if page.file.src_uri == _PAGE else markdown


def commands() -> str:
    """A table of all commands and a section for each, as Markdown."""
    group = typer.main.get_command(application())
    context = typer.Context(group, info_name="radiobject", obj={"rich_markup_mode": "rich"})
    found = [group.get_command(context, name) for name in group.list_commands(context)]
    rows = [f"| [`{c.name}`](#radiobject-{c.name}) | {_first_line(c.help)} |" for c in found]
    sections = [
        get_docs_for_click(obj=command, ctx=context, indent=1, call_prefix="radiobject") for command in found
    ]
    page = "\n".join(["| command | |", "|---|---|", *rows, "", *sections])
    return page.replace("\b\n", "")  # click's sign that lines stay as they are; indented ones do so here too


def _first_line(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())
