"""Options that several commands share, and what their texts mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from radiobject import RadiObject

__all__ = [
    "AsJson",
    "SourceOptions",
    "SourceRoot",
    "StorageOptions",
    "Uri",
    "Version",
    "check_backend",
    "for_source",
    "open_study",
    "storage_options",
]

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

SourceRoot = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        help="Folder or URL that files of --no-copy are below; left out: what holds the study.",
    ),
]

SourceOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--source-option",
        metavar="KEY=VALUE",
        help="The same for SRC. Left out: --storage-option, where SRC and DST have the same scheme. "
        "Repeatable.",
    ),
]


def check_backend(backend: str | None, uri: str) -> None:
    """Refuse a backend or a place whose volumes would end with the command."""
    from radiobject.backends import backend_for, get_backend
    from radiobject.errors import ConfigError
    from radiobject.location import Location

    location = Location(uri)
    name = backend_for(backend, location)
    if not get_backend(name, location).capabilities.persistent:
        raise ConfigError(
            f"{uri} --backend {name}",
            expected="a place and a backend whose volumes last",
            got="volumes in the memory of this command",
            hint="Leave --backend out, or choose zarr or tiledb, on a disk or an object store.",
        )


def for_source(
    source: str, uri: str, own: Sequence[str] | None, shared: Sequence[str] | None
) -> Sequence[str] | None:
    """The options of SRC: its own, else those of DST where they speak of the same kind of store.

    >>> for_source("s3://a/study", "s3://b/study", None, ["anon=true"])
    ['anon=true']
    >>> for_source("/data/study", "s3://b/study", None, ["anon=true"])
    """
    from radiobject.location import Location

    same = Location(source).scheme == Location(uri).scheme
    return own or (shared if same else None)


def open_study(
    uri: str, version: str | None, options: Sequence[str] | None, source_root: str | None = None
) -> RadiObject:
    """The study that `URI`, `--version` and `--storage-option` name, its files below `--source-root`."""
    from radiobject import RadiObject

    wanted = int(version) if version is not None and version.isdecimal() else version
    return RadiObject(uri, version=wanted, storage_options=storage_options(options), source_root=source_root)


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
