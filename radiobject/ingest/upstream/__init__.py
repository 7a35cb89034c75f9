"""Upstream: studies of the TileDB-based package as studies of ours, in one commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from radiobject.config import SliceOrientation, TileConfig, WriteConfig, current
from radiobject.errors import MetadataError
from radiobject.executor import Executor, Progress
from radiobject.format.catalog import Snapshot
from radiobject.format.changes import Edit
from radiobject.format.transaction import Transaction
from radiobject.ingest import ingest
from radiobject.ingest.metadata import join_obs
from radiobject.ingest.outcome import noting
from radiobject.ingest.plan import kinds_of
from radiobject.ingest.upstream.findings import Finding, ledger_rows, refusal
from radiobject.ingest.upstream.layout import StudyFound, read_study
from radiobject.ingest.upstream.matching import Plan, matched
from radiobject.location import Location

__all__ = ["import_study"]


def import_study(
    source: str,
    uri: str,
    *,
    labels: Any = None,
    write: WriteConfig | None = None,
    errors: Literal["raise", "collect"] = "raise",
    resume: bool = False,
    progress: bool | Progress | None = None,
    executor: Executor = "threads",
    workers: int | None = None,
    message: str = "",
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    source_options: Mapping[str, Any] | None = None,
) -> Snapshot:
    """The first version of a study made of theirs at `source`; see `RadiObject.from_upstream`."""
    if errors not in ("raise", "collect"):  # what ingest checks too, after all the arrays were opened
        raise MetadataError("errors=", expected="'raise' or 'collect'", got=repr(errors))
    found = read_study(Location(source, source_options), workers)
    plan = matched(found)
    kinds, doubts = _labels(plan, labels)
    plan.findings += doubts
    if plan.failed and (errors == "raise" or not any(plan.volumes.values())):
        raise refusal(found.location.uri, plan.failed)
    if not plan.volumes:
        raise MetadataError(found.location.uri, expected="at least one collection", got="none")

    def finish(transaction: Transaction, edit: Edit) -> Snapshot:
        for name, columns in plan.obs.items():
            added = edit.collections[name].added
            added["obs"] = join_obs(added["obs"], columns, name)
        return transaction.commit(edit)

    return ingest(
        uri,
        {name: [(v, v.obs_subject_id, i) for v, i in of] for name, of in plan.volumes.items()},
        plan.obs_meta,
        labels=kinds,
        reorient=False,
        write=_tiles(found, write),
        errors=errors,
        resume=resume,
        progress=progress,
        executor=executor,
        workers=workers,
        message=message or "imported from the TileDB-based package",
        backend=backend,
        storage_options=dict(storage_options or {}),
        finish=noting(finish, ledger_rows(plan.findings)),
    )


def _labels(plan: Plan, labels: Any) -> tuple[Any, list[Finding]]:
    """The caller's labels; else collections of integers whose names say so."""
    if labels is not None:
        return labels, []
    named = [
        name for name, kind in kinds_of(dict.fromkeys(plan.volumes), None, None)[0].items() if kind == "label"
    ]
    whole = [n for n in named if all(v.dtype.kind in "iub" for v, _ in plan.volumes[n])]
    text = "is called like label maps, but holds numbers that are no integers: it is of kind image here"
    return whole, [Finding("noted", "kind", text, name) for name in named if name not in whole]


def _tiles(found: StudyFound, write: WriteConfig | None) -> WriteConfig:
    """The caller's settings; else those in force, with tiles as they lie there, where all lie alike."""
    if write is not None:
        return write
    now = current().write
    metas = [a.meta or {} for c in found.collections for a in c.arrays if a.trouble is None]
    said = {m.get("tile_orientation") or m.get("slice_orientation") for m in metas}
    alike = [o for o in SliceOrientation if said == {o.value}]
    return replace(now, tile=TileConfig(alike[0], chunk_t=now.tile.chunk_t)) if alike else now
