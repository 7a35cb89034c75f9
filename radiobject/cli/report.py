"""`radiobject report`: what the tables tell about a study, as one HTML page; no voxel is read."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from radiobject.cli.options import (
    AsJson,
    SourceRoot,
    StorageOptions,
    Uri,
    Version,
    open_study,
)
from radiobject.cli.output import console, counted, human, print_json, printable, table

__all__ = ["report"]

_SHOWN = 20


def report(
    uri: Uri,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="FILE", help="The page. Default: report.html; with --json none."),
    ] = None,
    no_obs_meta: Annotated[
        bool, typer.Option("--no-obs-meta", help="Leave the columns of the subject table out.")
    ] = False,
    thumbnails: Annotated[int, typer.Option(min=0, metavar="N", help="Most pictures on the page.")] = 400,
    version: Version = None,
    as_json: AsJson = False,
    storage_option: StorageOptions = None,
    source_root: SourceRoot = None,
) -> None:
    """Look at a study through its tables: what is broken, what is unlike the rest, how it all looks.

    Writes one HTML page that loads nothing. No voxels are read. What is found
    does not change the exit code.

    \b
        radiobject report studies/glioma -o glioma.html
        radiobject report s3://bucket/glioma --no-obs-meta --json
    """
    radi = open_study(uri, version, storage_option, source_root)
    made = radi.report(obs_meta=not no_obs_meta, thumbnails=thumbnails)
    page = out or (None if as_json else "report.html")
    if page is not None:
        made.save(page)
    findings = made.findings.to_dict("records")
    if as_json:
        print_json(
            {
                "uri": uri,
                "version": radi.version,
                "subjects": len(radi),
                "volumes": made.facts.n_volumes,
                "findings": findings,
                "page": page,
            }
        )
        return
    _show(uri, radi.version, made, findings)
    console().print(f"{page}: {human(len(made.html.encode()))}", markup=False, soft_wrap=True)


def _show(uri: str, version: int, made: Any, findings: list[dict[str, Any]]) -> None:
    out = console()
    verdict = made.verdict if findings else "nothing stands out"
    volumes = counted(made.facts.n_volumes, "volumes")
    out.print(f"{printable(uri)} version {version}, {volumes}: {verdict}", markup=False, soft_wrap=True)
    if not findings:
        return
    rows = [
        [
            f["severity"],
            f["kind"].replace("_", " "),
            f["obs_id"] or f["obs_subject_id"] or f["collection"] or "the study",
            f["message"],
        ]
        for f in findings[:_SHOWN]
    ]
    more = len(findings) - len(rows)
    note = f"and {more:,} more, on the page" if more else ""
    out.print()
    out.print(table("Findings", ["", "what", "of", "why"], rows, note=note))
