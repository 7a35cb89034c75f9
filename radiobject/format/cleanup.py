"""Clean-up: expire old versions, then remove what no kept version, tag or running write needs."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from radiobject.errors import ConfigError, MissingObjectError
from radiobject.format.catalog import Catalog
from radiobject.format.changes import Edit
from radiobject.format.integrity import named_keys
from radiobject.format.journal import LIVE_SECONDS, Journal, Running, running
from radiobject.format.layout import ROOT, TAGS, TRANSACTIONS, VERSIONS, is_study, made_here
from radiobject.format.tags import tags
from radiobject.format.transaction import Transaction
from radiobject.storage import ObjectInfo, Storage

__all__ = ["Cleaned", "cleanup"]


@dataclass
class Cleaned:
    """What clean-up did: the versions it expired, and the objects and bytes it removed."""

    expired: list[int] = field(default_factory=list)
    objects: int = 0
    bytes: int = 0


def cleanup(storage: Storage, *, keep: int, older_than: float = LIVE_SECONDS, force: bool = False) -> Cleaned:
    """Keep the newest `keep` versions (this commit not counted) and tagged ones; remove what nothing needs.

    Only what lies in the folders that the format makes is removed, and nothing of another study inside them.
    An object goes only when no kept version names it, it is older than `older_than` seconds by the store's
    own clock, and it was there before every running write began. Less than 48 hours needs `force=True`:
    a writer elsewhere may not have committed yet what it has written.

    Versions expire first, by an ordinary commit: whoever opens one later gets `SnapshotExpiredError`.
    """
    if keep < 1:
        raise ConfigError("cleanup(keep=)", expected="at least 1", got=str(keep))
    if older_than < LIVE_SECONDS and not force:
        raise ConfigError(
            "cleanup(older_than=)", expected=f"at least {LIVE_SECONDS} s", got=f"{older_than} s"
        )
    catalog = Catalog(storage)
    snapshot = catalog.latest()
    named = {version for version, _ in tags(storage).values()}
    oldest = max(snapshot.commit.oldest, snapshot.version - keep + 1)
    report = Cleaned()
    if oldest > snapshot.commit.oldest:
        before = range(snapshot.commit.oldest, oldest)
        snapshot = Transaction(storage, snapshot, "cleanup").commit(Edit(oldest=oldest))
        report.expired = [v for v in before if v not in named]
    kept = [
        catalog.snapshot(v) for v in sorted({*named, *range(snapshot.commit.oldest, snapshot.version + 1)})
    ]
    now = _clock(storage)
    committed = [one.commit.txn_id for one in kept]
    live = [r for r in running(storage, committed) if now - r.newest < LIVE_SECONDS]
    cutoff = min([now - older_than, *(r.begun - 1 for r in live if older_than > 0)])
    needed: set[str] = set()
    for one in kept:
        needed |= named_keys(one)
    # commits stay for good: a number that came free could be won again by a writer with an old handle, and
    # history would branch. They are small, and say which version expired.
    keep_always = (f"{TAGS}/", f"{VERSIONS}/", *_finished_volumes(storage, live))
    litter = [info for info in storage.list("") if info.key not in needed and made_here(info.key)]
    foreign = _studies_inside(storage, litter)
    for info in litter:
        spared = info.key.startswith(keep_always) and not info.key.endswith(".tmp")
        if not spared and not info.key.startswith(foreign) and info.mtime <= cutoff:
            storage.delete(info.key)
            report.objects += 1
            report.bytes += info.bytes
    return report


def _studies_inside(storage: Storage, litter: Iterable[ObjectInfo]) -> tuple[str, ...]:
    """Folders of other studies that somebody has put below this one's."""

    def document(key: str) -> bytes:
        try:
            return storage.read(key)
        except MissingObjectError:
            return b""  # removed by another clean-up meanwhile

    keys = [info.key for info in litter if info.key.endswith(f"/{ROOT}")]
    with ThreadPoolExecutor(16) as pool:
        found = zip(keys, pool.map(document, keys), strict=True)
        return tuple(key.removesuffix(ROOT) for key, held in found if is_study(held))


def _finished_volumes(storage: Storage, live: Iterable[Running]) -> list[str]:
    """Folders of volumes that running writes have finished, or have taken over from one that was cut off."""
    tables = (rows for one in live for rows in Journal(storage, one.txn_id).rows())
    return [f"{path}/" for rows in tables for path in rows["_path"].to_pylist()]


def _clock(storage: Storage) -> float:
    """The time as the store tells it: hosts' clocks may be hours apart."""
    key = f"{TRANSACTIONS}/clock-{secrets.token_hex(8)}"
    storage.write(key, b"clock")
    try:
        return next(info.mtime for info in storage.list(TRANSACTIONS) if info.key == key)
    finally:
        storage.delete(key)
