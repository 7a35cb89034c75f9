"""`radiobject copy`: a study, or a part of it, at another place and on another backend, in one commit."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiobject.cli.options import (
    AsJson,
    SourceOptions,
    SourceRoot,
    StorageOptions,
    Version,
    check_backend,
    for_source,
    open_study,
    storage_options,
)
from radiobject.cli.output import console, counted, human, print_json

if TYPE_CHECKING:
    from radiobject import RadiObject

__all__ = ["copy"]


def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Path or URL of the study to copy.")],
    uri: Annotated[str, typer.Argument(metavar="DST", help="Path or URL of the study to create.")],
    backend: Annotated[
        str | None,
        typer.Option(help="How the copy stores voxels: zarr, tiledb. Left out: as the source does."),
    ] = None,
    collection: Annotated[list[str] | None, typer.Option(help="Only this collection. Repeatable.")] = None,
    subject: Annotated[list[str] | None, typer.Option(help="Only this subject. Repeatable.")] = None,
    where: Annotated[
        str | None,
        typer.Option("--filter", metavar="TEXT", help="Only subjects it holds for, as in 'age > 40'."),
    ] = None,
    version: Version = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Volumes copied at once.")] = None,
    message: Annotated[str, typer.Option(help="Note kept with the version.")] = "",
    as_json: AsJson = False,
    storage_option: StorageOptions = None,
    source_root: SourceRoot = None,
    source_option: SourceOptions = None,
) -> None:
    """Copy a study or a part of it, between backends too, in one commit.

    Nothing is lost: voxels and headers to the byte, geometry, names of labels,
    every column of every table, the ledger. Only the history stays behind:
    the copy begins with version 1. Voxels of ingest --no-copy stay where they
    lie, unless --backend says how to store them.

    \b
        radiobject copy studies/glioma studies/glioma-tiledb --backend tiledb
        radiobject copy s3://box/glioma old --filter 'age > 70' --collection T1w
    """
    check_backend(backend, uri)
    radi = open_study(source, version, for_source(source, uri, source_option, storage_option), source_root)
    if collection:
        radi = radi.select_collections(collection)
    if subject:
        radi = radi.loc[subject]
    if where:
        radi = radi.filter(where)
    made = radi.write(
        uri,
        backend=backend,
        workers=workers,
        message=message,
        storage_options=storage_options(storage_option),
    )
    _show(made, as_json=as_json)
    if root := _apart(made):
        said = f"voxels stay in files below {root}: open this copy with --source-root {shlex.quote(root)}"
        console(stderr=True).print(said, markup=False, soft_wrap=True)


def _apart(made: RadiObject) -> str | None:
    """Where the files of a copy are, when they are not looked for there unless somebody says so."""
    from radiobject.backends import IN_PLACE
    from radiobject.location import Location

    if all(made.collection(name).backend != IN_PLACE for name in made.collection_names):
        return None
    place = made._study.location
    found, above = place.source_root.uri, Location(place.uri).parents(1)
    return None if above and above[0].uri == found else found


def _show(made: Any, *, as_json: bool) -> None:
    from radiobject.cli.summary import collection_table, summary

    document = summary(made)
    if as_json:
        print_json(document)
        return
    collections = document["collections"]
    volumes, size = (sum(c[what] for c in collections) for what in ("volumes", "stored_bytes"))
    backends = ", ".join(dict.fromkeys(c["backend"] for c in collections)) or "no volumes"
    out = console()
    out.print(
        f"{document['uri']}: {counted(volumes, 'volumes')} of {counted(document['subjects'], 'subjects')}, "
        f"{human(size)} ({backends}), version {document['version']}",
        markup=False,
        soft_wrap=True,
    )
    out.print()
    out.print(collection_table(collections))
