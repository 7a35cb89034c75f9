"""`radiobject import-upstream`: what the TileDB-based package wrote becomes a study here, in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiobject.cli.ingest import Errors
from radiobject.cli.options import (
    AsJson,
    SourceOptions,
    StorageOptions,
    check_backend,
    for_source,
    storage_options,
)
from radiobject.cli.output import console, counted, print_json, table

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["import_upstream"]

_FOUND = ("repaired", "noted", "failed")
"""Outcomes of the ledger that are findings."""


def import_upstream(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Path or s3:// URL of what to import.")],
    uri: Annotated[str, typer.Argument(metavar="DST", help="Path or URL of the study to create.")],
    backend: Annotated[
        str | None, typer.Option(help="How voxels are stored: zarr (the default) or tiledb.")
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(help="A collection of label maps. Repeatable. Else told by its name: seg, mask ..."),
    ] = None,
    errors: Annotated[
        Errors,
        typer.Option(help="raise: what has no voxels or no row stops all. collect: import the rest."),
    ] = Errors.raise_,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Volumes read and written at once.")] = None,
    message: Annotated[str, typer.Option(help="Note kept with the version.")] = "",
    as_json: AsJson = False,
    storage_option: StorageOptions = None,
    source_option: SourceOptions = None,
) -> None:
    """Import a study that the TileDB-based radiobject wrote (PyPI 0.1.1, or its later source).

    Each volume goes to the row whose id its array holds, never by position: ids
    that its package mixes up come out right. A report says what was repaired and
    what is lost there; it stays in the ledger of the new study. SRC is only
    read, and may have been moved since it was written.

    \b
        radiobject import-upstream old/glioma studies/glioma
    """
    from radiobject import RadiObject

    check_backend(backend, uri)
    radi = RadiObject.from_upstream(
        source,
        uri,
        backend=backend,
        labels=labels or None,
        errors=errors.value,
        resume=resume,
        workers=workers,
        message=message,
        storage_options=storage_options(storage_option),
        source_options=storage_options(for_source(source, uri, source_option, storage_option)),
    )
    _show(radi, as_json=as_json)


def _show(radi: Any, *, as_json: bool) -> None:
    from radiobject.cli.summary import collection_table, summary

    document = summary(radi)
    rows = radi.ledger.to_arrow(["outcome", "error", "collection", "obs_subject_id", "obs_id", "message"])
    document["report"] = [row for row in rows.to_pylist() if row["outcome"] in _FOUND]
    if as_json:
        print_json(document)
        return
    out = console()
    volumes = sum(c["volumes"] for c in document["collections"])
    out.print(
        f"{document['uri']}: {counted(volumes, 'volumes')} of "
        f"{counted(document['subjects'], 'subjects')} imported, version {document['version']}",
        markup=False,
        soft_wrap=True,
    )
    out.print()
    out.print(collection_table(document["collections"]))
    if document["report"]:
        out.print(_report(document["report"]))


def _report(found: Sequence[dict[str, Any]]) -> Group:
    """One line for each kind of finding, with one of them as an example."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in sorted(found, key=lambda r: _FOUND.index(r["outcome"])):
        groups.setdefault((row["outcome"], row["error"], row["collection"]), []).append(row)
    lines = [
        [outcome, kind, collection, str(len(rows)), f"{_name(rows[0])}{rows[0]['message']}"]
        for (outcome, kind, collection), rows in groups.items()
    ]
    columns = ["outcome", "what", "collection", "times", "such as"]
    return table("Report", columns, lines, right=("times",), note="All of it: --json, or radi.ledger")


def _name(row: dict[str, Any]) -> str:
    name = row["obs_id"] or row["obs_subject_id"]
    return f"{name}: " if name else ""
