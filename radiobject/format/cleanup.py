"""Clean-up: expire old versions, then remove what no kept version, tag or running write needs."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from radiobject.errors import ConfigError, MissingObjectError
from radiobject.format.catalog import Catalog
from radiobject.format.changes import Edit
from radiobject.format.journal import LIVE_SECONDS, Journal, Running, running
from radiobject.format.layout import COLLECTIONS, ROOT, TAGS, TRANSACTIONS, VERSIONS, is_study, made_here
from radiobject.format.needed import named_keys
from radiobject.format.objects import table_objects
from radiobject.format.tags import tags
from radiobject.format.transaction import Transaction
from radiobject.storage import ObjectInfo, Storage

__all__ = ["Cleaned", "cleanup", "clock", "finished_volumes", "is_group", "spans", "studies_inside"]

_THREADS = 16


@dataclass
class Cleaned:
    """What clean-up did, or would do: the versions it expired, and the objects and bytes it removed."""

    uri: str
    expired: list[int] = field(default_factory=list)
    objects: int = 0
    bytes: int = 0
    kept: list[int] = field(default_factory=list)
    dry_run: bool = False

    def __repr__(self) -> str:
        return "\n".join(
            [
                f"<cleanup of {self.uri}{' (dry run: nothing is changed)' if self.dry_run else ''}",
                f"  versions kept    {len(self.kept):>10,}  {spans(self.kept)}",
                f"  versions expired {len(self.expired):>10,}  {spans(self.expired)}".rstrip(),
                f"  objects removed  {self.objects:>10,}  {self.bytes:,} bytes>",
            ]
        )


def cleanup(
    storage: Storage,
    *,
    keep: int,
    older_than: float = LIVE_SECONDS,
    force: bool = False,
    dry_run: bool = False,
) -> Cleaned:
    """Keep the newest `keep` versions (this commit not counted) and tagged ones; remove what nothing needs.

    Only what lies in the folders that the format makes is removed, and nothing of another study inside them.
    An object goes only when no kept version names it, it is older than `older_than` seconds by the store's
    own clock, and it was there before every running write began. Less than 48 hours needs `force=True`:
    a writer elsewhere may not have committed yet what it has written.

    Versions expire first, by an ordinary commit: whoever opens one later gets `SnapshotExpiredError`.
    `dry_run` reports what would go; all it does to the study is to ask the store for the time, by an object
    that it writes and removes.
    """
    if keep < 1:
        raise ConfigError("cleanup(keep=)", expected="at least 1", got=str(keep))
    if older_than < LIVE_SECONDS and not force:
        raise ConfigError(
            "cleanup(older_than=)",
            expected=f"at least {LIVE_SECONDS} s",
            got=f"{older_than} s",
            hint="Pass force=True if nobody else is writing to this study.",
        )
    catalog = Catalog(storage)
    catalog.latest()  # a place without a study is told before anything is written there
    now = clock(storage)
    # who is writing is asked before which versions there are: whoever ends in between has a version by then
    writing = [r for r in running(storage) if now - r.newest < LIVE_SECONDS]
    finished = finished_volumes(storage, writing)
    snapshot = catalog.latest()
    named = {version for version, _ in tags(storage).values()}
    begins, oldest = snapshot.commit.oldest, max(snapshot.commit.oldest, snapshot.version - keep + 1)
    report = Cleaned(storage.location.uri, [v for v in range(begins, oldest) if v not in named])
    report.dry_run = dry_run
    if oldest > begins and not dry_run:
        snapshot = Transaction(storage, snapshot, "cleanup").commit(Edit(oldest=oldest))
    report.kept = sorted({*named, *range(oldest, snapshot.version + 1)})
    kept = [catalog.snapshot(v) for v in report.kept]
    committed = {one.commit.txn_id for one in kept}
    live = [r for r in writing if r.txn_id not in committed]
    cutoff = min([now - older_than, *(r.begun - 1 for r in live if older_than > 0)])
    needed = named_keys(kept)
    # commits stay for good: a number that came free could be won again by a writer with an old handle, and
    # history would branch. They are small, and say which version expired.
    keep_always = (f"{TAGS}/", f"{VERSIONS}/", *finished)
    litter = [info for info in storage.list("") if info.key not in needed and made_here(info.key)]
    foreign = studies_inside(storage, litter)
    gone = [
        info
        for info in litter
        if (not info.key.startswith(keep_always) or info.key.endswith(".tmp"))
        and not info.key.startswith(foreign)
        and info.mtime <= cutoff
        and not (writing and is_group(info.key))
    ]
    report.objects, report.bytes = len(gone), sum(info.bytes for info in gone)
    if not dry_run:
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(storage.delete, (info.key for info in gone)))
    return report


def spans(numbers: Sequence[int]) -> str:
    """Sorted numbers as text.

    >>> spans([1, 2, 3, 7])
    '1 to 3, 7'
    """
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1] = [found[-1][0], number]
        else:
            found.append([number])
    return ", ".join(f"{s[0]} to {s[-1]}" if len(s) > 1 else f"{s[0]}" for s in found)


def studies_inside(storage: Storage, litter: Iterable[ObjectInfo]) -> tuple[str, ...]:
    """Folders of other studies that somebody has put below this one's."""

    def document(key: str) -> bytes:
        try:
            return storage.read(key)
        except MissingObjectError:
            return b""  # removed by another clean-up meanwhile

    keys = [info.key for info in litter if info.key.endswith(f"/{ROOT}")]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = zip(keys, pool.map(document, keys), strict=True)
        return tuple(key.removesuffix(ROOT) for key, held in found if is_study(held))


def is_group(key: str) -> bool:
    """Whether it is the document of a folder above volumes, which a running write may have found there."""
    return key.startswith(f"{COLLECTIONS}/") and key.endswith(f"/{ROOT}") and key.count("/") < 4


def finished_volumes(storage: Storage, live: Iterable[Running]) -> list[str]:
    """Folders and keys of what running writes have finished, or have taken over from one that was cut off."""
    tables = [rows for one in live for rows in Journal(storage, one.txn_id).rows()]
    folders = [f"{path}/" for rows in tables for path in rows["_path"].to_pylist()]
    return folders + [key for rows in tables for key, _ in table_objects(rows)]


def clock(storage: Storage) -> float:
    """The time in seconds, as the store tells it: hosts' clocks may be hours apart."""
    key = f"{TRANSACTIONS}/clock-{secrets.token_hex(8)}"
    storage.write(key, b"clock")
    try:
        return next(info.mtime for info in storage.list(TRANSACTIONS) if info.key == key)
    finally:
        storage.delete(key)
