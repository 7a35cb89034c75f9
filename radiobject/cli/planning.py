"""What `radiobject ingest URI FOLDER` does before it ingests: the plan, shown, saved, estimated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from radiobject.cli.output import console, print_json, printable

if TYPE_CHECKING:
    from radiobject import Plan

__all__ = ["planned", "show_plan"]

_SHOWN = 12
"""Rows that are printed; the whole plan is saved with --plan."""


def planned(
    folder: str,
    kind: str,
    rules: Path | None,
    plan: Path | None,
    private: Mapping[str, Any],
    *,
    dry_run: bool,
) -> Plan:
    """The plan of a folder: scanned, or the one that was saved and edited."""
    from radiobject import Plan, scan

    if plan is not None and not dry_run:
        return Plan.read(plan, **private)
    return scan(folder, kind, None if rules is None else _rules(rules), **private)


def show_plan(plan: Plan, save: Path | None, *, estimate: bool, workers: int | None, as_json: bool) -> None:
    """Print what a plan has, save it when a place is named, and estimate when asked."""
    if save is not None:
        plan.save(save)
    found = plan.estimate(workers=workers) if estimate else None
    rows = plan.table.reset_index()
    if as_json:
        document: dict[str, Any] = {"layout": plan.layout, "rows": json.loads(rows.to_json(orient="records"))}
        print_json({**document, "estimate": None if found is None else vars(found)})
        return
    out = console()
    out.print(repr(plan), markup=False, highlight=False, soft_wrap=True)
    table = Table(box=None, header_style="bold", pad_edge=False)
    columns = ("verdict", "collection", "obs_subject_id", "session", "obs_id", "shape", "dtype", "source")
    for name in columns:
        table.add_column(name, overflow="fold")
    for values in rows[list(columns)].head(_SHOWN).itertuples(index=False):
        shown = ["" if value is None or value != value else printable(str(value)) for value in values]
        table.add_row(*shown)
    out.print()
    out.print(table, markup=False)
    if len(rows) > _SHOWN:
        out.print(f"... and {len(rows) - _SHOWN:,} rows more", highlight=False)
    if save is not None:
        out.print(
            f"\nsaved as {save}: edit it, then run again with --plan {save}", markup=False, soft_wrap=True
        )
    if found is not None:
        out.print()
        out.print(repr(found), markup=False, highlight=False, soft_wrap=True)


def _rules(path: Path) -> Any:
    from radiobject.errors import ConfigError

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--rules {path}", expected="a JSON file", got=str(error)) from error
