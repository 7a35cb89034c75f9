"""`radiobject validate`: is everything there that was committed, and unchanged?"""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from radiobject.cli.options import (
    AsJson,
    SourceRoot,
    StorageOptions,
    Uri,
    Version,
    open_study,
)
from radiobject.cli.output import console, counted, print_json

__all__ = ["validate"]


class Level(Enum):
    """How closely to look."""

    quick = "quick"
    standard = "standard"
    full = "full"


def validate(
    uri: Uri,
    level: Annotated[
        Level,
        typer.Option(
            help="quick: every object is there with its size. standard: also checksums of tables and "
            "metadata, ids and counts. full: also the checksum of every voxel object, and rows against "
            "the volumes they speak of."
        ),
    ] = Level.quick,
    version: Version = None,
    as_json: AsJson = False,
    storage_option: StorageOptions = None,
    source_root: SourceRoot = None,
) -> None:
    """Check a study against its commit. Nothing is changed. Exit code 3 when something is wrong.

    \b
        radiobject validate studies/glioma
        radiobject validate s3://bucket/glioma --level full --json
    """

    radi = open_study(uri, version, storage_option, source_root)
    report = radi.validate(level.value)
    if as_json:
        print_json(
            {
                "uri": report.uri,
                "version": report.version,
                "level": report.level,
                "ok": report.ok,
                "problems": [
                    {"kind": p.kind, "where": p.where, "message": p.message} for p in report.problems
                ],
                "checked": report.checked,
                "litter": report.litter,
            }
        )
    else:
        out = console()
        looked = ", ".join(counted(n, what) for what, n in report.checked.items())
        verdict = "ok" if report.ok else counted(len(report.problems), "problems")
        out.print(f"{report.uri} version {report.version}: {verdict}", markup=False, soft_wrap=True)
        out.print(f"  checked ({report.level}): {looked}", markup=False, soft_wrap=True)
        if report.litter:
            out.print(f"  in no kept version: {counted(report.litter, 'objects')}", markup=False)
        for problem in report.problems:
            out.print(f"  {problem}", markup=False, soft_wrap=True)
    if not report.ok:
        raise typer.Exit(3)
