"""`radiobject diff`: what changed between two versions."""

from __future__ import annotations

from typing import Annotated

import typer

from radiobject.cli.options import AsJson, StorageOptions, Uri, open_study
from radiobject.cli.output import console, print_json, table

__all__ = ["diff"]


def diff(
    uri: Uri,
    old: Annotated[str, typer.Argument(metavar="V1", help="A version by number or tag.")],
    new: Annotated[
        str | None, typer.Argument(metavar="V2", help="Another one; left out: the newest.")
    ] = None,
    rows: Annotated[bool, typer.Option("--rows", help="A line for each change, with its id.")] = False,
    as_json: AsJson = False,
    storage_option: StorageOptions = None,
) -> None:
    """Show what changed from one version to another: collections, volumes, subjects, rows, columns.

    Reads tables only, and of them only what the two versions do not share.

    \b
        radiobject diff studies/glioma 3
        radiobject diff studies/glioma baseline paper-2026 --rows
    """
    radi = open_study(uri, new, storage_option)
    found = radi.diff(int(old) if old.isdecimal() else old)
    if as_json:
        print_json(found.to_json())
    elif rows and found:
        frame = found.to_pandas()
        cells = frame.astype("str").to_numpy().tolist()
        title = f"Version {found.old} to {found.new} of {found.uri}"
        console().print(table(title, list(frame.columns), cells))
    else:
        console().print(repr(found)[1:-1], markup=False, soft_wrap=True)
