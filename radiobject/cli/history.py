"""`radiobject history`, `pin`, `tag`, `restore`: the versions of a study, and names for them."""

from __future__ import annotations

from typing import Annotated

import typer

from radiobject.cli.options import AsJson, StorageOptions, Uri, Version, open_study
from radiobject.cli.output import console, print_json, table

__all__ = ["history", "pin", "restore", "tag"]

_HASH = 16


def history(uri: Uri, as_json: AsJson = False, storage_option: StorageOptions = None) -> None:
    """List the versions of a study: when each was made, by which change, and why.

    Any of them opens by its number or tag: `--version` of other commands,
    RadiObject(uri, version=...) in Python.

    \b
        radiobject history studies/glioma
        radiobject history s3://bucket/glioma --json
    """
    radi = open_study(uri, None, storage_option)
    versions = radi.versions()
    if as_json:
        print_json({"uri": radi.uri, "versions": versions})
        return
    lines = [
        [str(v["version"]), v["created"][:19].replace("T", " "), v["operation"], ", ".join(v["tags"]),
         v["sha256"][:_HASH], v["message"]]
        for v in versions
    ]  # fmt: skip
    columns = ["version", "created (UTC)", "operation", "tags", "sha256", "message"]
    note = "" if versions[0]["version"] == 1 else "Versions that are not listed have expired."
    console().print(table(f"Versions of {radi.uri}", columns, lines, right=["version"], note=note))


def pin(uri: Uri, version: Version = None, storage_option: StorageOptions = None) -> None:
    """Print a version's pin: one text with place, number and hash, for papers and logs.

    A pin is a URI: every command takes it, and refuses another commit under
    that number.

    \b
        radiobject pin studies/glioma
        radiobject info "$(radiobject pin studies/glioma --version 3)"
    """
    console().print(open_study(uri, version, storage_option).pin(), markup=False, soft_wrap=True)


def tag(
    uri: Uri,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new tag.")],
    version: Version = None,
    storage_option: StorageOptions = None,
) -> None:
    """Give a version a name.

    Clean-up keeps that version, and a tag is never moved to another one.

    \b
        radiobject tag studies/glioma paper-2026
        radiobject tag studies/glioma baseline --version 3
    """
    radi = open_study(uri, version, storage_option)
    radi.tag(name)
    console().print(f"{radi.uri}: version {radi.version} is {name}", markup=False, soft_wrap=True)


def restore(
    uri: Uri,
    version: Annotated[str, typer.Argument(metavar="N|TAG", help="The version to go back to.")],
    message: Annotated[str, typer.Option(help="Note kept with the version.")] = "",
    storage_option: StorageOptions = None,
) -> None:
    """Make an old version the newest one again.

    It is one more commit: no version is lost by it.

    \b
        radiobject restore studies/glioma 3
        radiobject restore studies/glioma baseline --message "the wrong masks"
    """
    radi = open_study(uri, None, storage_option)
    radi.restore(int(version) if version.isdecimal() else version, message)
    said = radi.versions()[-1]["message"]
    console().print(f"{radi.uri}: version {radi.version}, {said}", markup=False, soft_wrap=True)
