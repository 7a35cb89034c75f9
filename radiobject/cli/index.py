"""`radiobject index`: where the values of label volumes lie, for training."""

from __future__ import annotations

from typing import Annotated

import typer

from radiobject.cli.options import (
    AsJson,
    SourceRoot,
    StorageOptions,
    Uri,
    open_study,
)
from radiobject.cli.output import console, print_json

__all__ = ["index"]


def index(
    uri: Uri,
    collection: Annotated[
        list[str] | None,
        typer.Option(help="Only this collection of labels. Repeatable. Left out: all of them."),
    ] = None,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Also where there is one: for indexes that are damaged or stale."),
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Volumes read at once.")] = None,
    message: Annotated[str, typer.Option(help="Note kept with the version.")] = "",
    as_json: AsJson = False,
    storage_option: StorageOptions = None,
    source_root: SourceRoot = None,
) -> None:
    """Index label volumes, so that training places patches on them without reading masks.

    Volumes are indexed when they are written. This is for those that are not:
    of older studies, or written with foreground_index=False. Each is read once.

    \b
        radiobject index studies/glioma
        radiobject index s3://bucket/glioma --collection seg --rebuild
    """
    radi = open_study(uri, None, storage_option, source_root)
    before = radi.version
    radi.index_foreground(collection, rebuild=rebuild, workers=workers, message=message)
    labels = collection or [n for n in radi.collection_names if radi.collection(n).kind == "label"]
    if as_json:
        print_json({"uri": radi.uri, "version": radi.version, "collections": labels, "from": before})
        return
    if not labels:
        said = "it has no collection of labels"
    elif radi.version == before:
        said = f"nothing to do for {', '.join(labels)}, version {before} stays"
    else:
        said = f"{', '.join(labels)} indexed, version {before} to {radi.version}"
    console().print(f"{radi.uri}: {said}", markup=False, soft_wrap=True)
