"""`radiobject cleanup` and `purge`: what goes for good."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from radiobject.cli.options import AsJson, StorageOptions, Uri, open_study
from radiobject.cli.output import console, print_json

__all__ = ["cleanup", "purge"]


def cleanup(
    uri: Uri,
    keep: Annotated[int, typer.Option(min=1, help="How many of the newest versions to keep.")],
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Only objects older than this, such as '7 days' or 72h.")
    ] = "48 hours",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Allow less than 48 hours: nobody else writes to this study.")
    ] = False,
    as_json: AsJson = False,
    storage_option: StorageOptions = None,
) -> None:
    """Expire old versions and remove what no version needs, also what interrupted runs have left.

    Tagged versions stay, and so does whatever a running write may still need.

    \b
        radiobject cleanup studies/glioma --keep 10 --dry-run
        radiobject cleanup studies/glioma --keep 10 --older-than '7 days'
    """
    radi = open_study(uri, None, storage_option)
    done = radi.cleanup(keep=keep, older_than=older_than, dry_run=dry_run, force=force)
    if as_json:
        print_json(dataclasses.asdict(done))
    else:
        console().print(repr(done)[1:-1], markup=False, soft_wrap=True)


def purge(
    uri: Uri,
    subject: Annotated[list[str], typer.Option(metavar="ID", help="A subject to erase. Repeatable.")],
    reason: Annotated[str, typer.Option(help="Why, kept for good in the study: it must not say who it was.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it. Without this it only says what would go.")
    ] = False,
    tags: Annotated[
        bool, typer.Option("--tags", help="Remove tags of versions that hold them, too.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Go on beside writes that did not finish; they cannot commit then."),
    ] = False,
    as_json: AsJson = False,
    storage_option: StorageOptions = None,
) -> None:
    """Erase subjects from all versions, and prove that nothing in the study names them any more.

    Older versions expire. This cannot be undone. It does not reach copies,
    backups, nor what a bucket with versioning keeps.

    \b
        radiobject purge glioma --subject sub-07 --reason "consent ended"
        radiobject purge glioma --subject sub-07 --reason "consent ended" --yes
    """
    radi = open_study(uri, None, storage_option)
    done = radi.purge(subject, reason, tags=tags, force=force, dry_run=not yes)
    if as_json:
        print_json(dataclasses.asdict(done))
        return
    console().print(repr(done)[1:-1], markup=False, soft_wrap=True)
    if not yes:
        console(stderr=True).print("Nothing was changed. Add --yes to erase them for good.")
