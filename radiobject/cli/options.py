"""Options that several commands share, and what their texts mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from radiobject import RadiObject

__all__ = ["AsJson", "StorageOptions", "Uri", "Version", "open_study", "storage_options"]

Uri = Annotated[str, typer.Argument(metavar="URI", help="Path or URL of the study.")]

Version = Annotated[
    str | None, typer.Option(metavar="N|TAG", help="A version by number or tag; left out: the newest.")
]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]

StorageOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--storage-option",
        metavar="KEY=VALUE",
        help="Option for the file system of the URI, such as profile=lab or anon=true. Repeatable.",
    ),
]


def open_study(uri: str, version: str | None, options: Sequence[str] | None) -> RadiObject:
    """The study that `URI`, `--version` and `--storage-option` name."""
    from radiobject import RadiObject

    wanted = int(version) if version is not None and version.isdecimal() else version
    return RadiObject(uri, version=wanted, storage_options=storage_options(options))


def storage_options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """`KEY=VALUE` texts as a dict; values that are JSON (true, 3, {"a": 1}) are taken as such.

    >>> storage_options(["anon=true", "profile=lab"])
    {'anon': True, 'profile': 'lab'}
    """
    options: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"expected KEY=VALUE, got {pair!r}", param_hint="--storage-option")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return options
