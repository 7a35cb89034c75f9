"""The commands and their common options, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from radiobject.cli.copy import copy
from radiobject.cli.demo import demo
from radiobject.cli.diff import diff
from radiobject.cli.export import export
from radiobject.cli.history import history, pin, restore, tag
from radiobject.cli.import_upstream import import_upstream
from radiobject.cli.index import index
from radiobject.cli.info import info
from radiobject.cli.ingest import ingest
from radiobject.cli.materialize import materialize
from radiobject.cli.removing import cleanup, purge
from radiobject.cli.report import report
from radiobject.cli.validate import validate
from radiobject.cli.view import view

__all__ = ["application"]


def application() -> typer.Typer:
    """The Typer application."""
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_common)
    commands = (
        ingest, materialize, import_upstream, copy, info, validate, report, export, view,
        history, diff, tag, restore, pin, index, cleanup, purge, demo,
    )  # fmt: skip
    for command in commands:
        app.command(no_args_is_help=command is not demo)(command)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"radiobject-zarr {version('radiobject-zarr')}")
        raise typer.Exit


def _common(
    _show: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit."),
    ] = False,
    _debug: Annotated[bool, typer.Option("--debug", help="Show Python tracebacks of errors.")] = False,
) -> None:
    """Radiology studies on Zarr v3 / OME-Zarr: make them from NIfTI, DICOM and BIDS, look at them, check
    them, share them.

    To see it work on example data, try

    \b
        radiobject demo
    """
