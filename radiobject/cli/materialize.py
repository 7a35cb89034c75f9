"""`radiobject materialize`: volumes that lie in source files are stored in their study."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiobject.cli.options import AsJson, SourceRoot, StorageOptions, Uri, open_study
from radiobject.cli.output import console, counted, print_json

if TYPE_CHECKING:
    from radiobject import RadiObject

__all__ = ["materialize"]


class Errors(Enum):
    """What sources that cannot be read do."""

    raise_ = "raise"
    collect = "collect"


def materialize(
    uri: Uri,
    collection: Annotated[
        list[str] | None,
        typer.Option(help="Only this collection. Repeatable. Left out: all of them."),
    ] = None,
    source_root: SourceRoot = None,
    backend: Annotated[
        str | None,
        typer.Option(help="How voxels are stored: zarr or tiledb. Left out: as other volumes are, or zarr."),
    ] = None,
    errors: Annotated[
        Errors,
        typer.Option(
            help="Sources that changed or are gone. raise: stop. collect: leave them, and go on with others."
        ),
    ] = Errors.raise_,
    workers: Annotated[int | None, typer.Option(min=1, help="Volumes read and written at once.")] = None,
    commit_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Make a version whenever so many volumes are stored; left out: about every 64, or 30 s.",
        ),
    ] = None,
    message: Annotated[str, typer.Option(help="Note kept with the versions.")] = "",
    as_json: AsJson = False,
    storage_option: StorageOptions = None,
) -> None:
    """Store the voxels of volumes that were registered where they lie (ingest --no-copy).

    Ids, tables and what reads return stay; statistics and thumbnails are
    filled in. Others may go on reading and writing. A run that was stopped with
    Ctrl-C, or killed, loses nothing that was committed: the same command goes
    on from there.

    \b
        radiobject materialize /archive/study
        radiobject materialize /archive/study --collection CT --workers 8
        radiobject materialize clinic --source-root /archive --errors collect
    """
    radi = open_study(uri, None, storage_option, source_root)
    before, ledger = radi.version, len(radi.ledger)
    held = {i for name in radi.collection_names for i in radi.collection(name).obs_ids}
    radi.materialize(
        collection or None, workers=workers, commit_every=commit_every, errors=errors.value, backend=backend,
        message=message,
    )  # fmt: skip
    # others may have added lines of new volumes meanwhile
    lines = [line for line in radi.ledger.to_arrow().slice(ledger).to_pylist() if line["obs_id"] in held]
    done = sum(line["outcome"] != "failed" for line in lines)
    failed = _failed(radi, collection or radi.collection_names)
    if as_json:
        backends = {name: radi.collection(name).backend for name in collection or radi.collection_names}
        print_json(
            {
                "uri": radi.uri,
                "version": radi.version,
                "from": before,
                "collections": backends,
                "failed": failed,
            }
        )
        return
    said = f"{counted(done, 'volumes')} stored, version {before} to {radi.version}"
    if radi.version == before:
        said = f"nothing {'could be done' if failed else 'to do'}, version {before} stays"
    console().print(f"{radi.uri}: {said}", markup=False, soft_wrap=True)
    for row in failed:
        console(stderr=True).print(f"failed: {row['error']}: {row['message']}", markup=False, soft_wrap=True)


def _failed(radi: RadiObject, names: Sequence[str]) -> list[dict[str, Any]]:
    """The last word of the ledger on volumes that still lie in files, where it is that they failed.

    Also where an earlier run wrote it: none repeats what is known.
    """
    from radiobject.backends.files import FilesBackend

    last = {line["obs_id"]: line for line in radi.ledger.to_arrow().to_pylist()}
    left = []
    for name in names:
        rows = radi.collection(name).obs.to_arrow(["obs_id", "_path"]).to_pylist()
        left += [row["obs_id"] for row in rows if FilesBackend.holds(row["_path"])]
    return [last[i] for i in left if i in last and last[i]["outcome"] == "failed"]
