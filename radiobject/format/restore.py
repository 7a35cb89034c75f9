"""Restore: an old version's content as a new version."""

from __future__ import annotations

import dataclasses

from radiobject.format.catalog import Snapshot
from radiobject.format.commit import Change, Commit

__all__ = ["restored"]


def restored(base: Snapshot, draft: Commit, old: Snapshot) -> tuple[Commit, Change]:
    """The old version's tables and collections under a new number; the ledger goes on."""
    ledger = {n: p for n, p in draft.tables.items() if n == "ledger"}
    tables = {**{n: p for n, p in old.commit.tables.items() if n != "ledger"}, **ledger}
    made = dataclasses.replace(draft, tables=tables, collections=old.commit.collections)
    now, then = _volume_paths(base), _volume_paths(old)
    held, kept = set(base.table("obs_meta").ids()), set(old.table("obs_meta").ids())
    names = {c.name for c in base.commit.collections}, {c.name for c in old.commit.collections}
    return made, Change(
        subjects_added=frozenset(kept - held),
        subjects_updated=frozenset(kept & held),
        subjects_removed=frozenset(held - kept),
        volumes_added=frozenset(then.keys() - now.keys()),
        volumes_replaced=frozenset(i for i in then.keys() & now.keys() if then[i] != now[i]),
        volumes_removed=frozenset(now.keys() - then.keys()),
        collections_added=frozenset(names[1] - names[0]),
        collections_removed=frozenset(names[0] - names[1]),
    )


def _volume_paths(snapshot: Snapshot) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in snapshot.commit.collections:
        rows = snapshot.table("obs", entry.name).read(["obs_id", "_path"])
        found.update(zip(rows["obs_id"].to_pylist(), rows["_path"].to_pylist(), strict=True))
    return found
