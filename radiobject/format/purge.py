"""Purge: subjects erased from every version of a study, and the proof that no object names them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from radiobject.backends import get_backend
from radiobject.errors import (
    ConfigError,
    ConflictError,
    IntegrityError,
    MetadataError,
    SnapshotExpiredError,
    UnknownIdError,
)
from radiobject.format.catalog import Catalog, Snapshot
from radiobject.format.changes import Edit
from radiobject.format.cleanup import clock, finished_volumes, is_group, spans, studies_inside
from radiobject.format.commit import PURGE, Commit, tombstone
from radiobject.format.erasure import Erasure
from radiobject.format.holders import find_holders
from radiobject.format.journal import LIVE_SECONDS, Journal, running
from radiobject.format.layout import (
    COLLECTIONS,
    HINT,
    ROOT,
    TAGS,
    TRANSACTIONS,
    VERSIONS,
    made_here,
    tag_key,
    version_key,
    version_of,
)
from radiobject.format.needed import named_keys
from radiobject.format.tags import tags as all_tags
from radiobject.format.traces import Traces, search
from radiobject.format.transaction import Transaction
from radiobject.storage import ObjectInfo, Storage

__all__ = ["Purged", "purge"]

_THREADS = 16


@dataclass(frozen=True)
class Purged:
    """What a purge erased, or would erase. It names no subject, so that it may be kept.

    `version` is the commit that records it (of a dry run, the number that it would have); `expired` are the
    versions that no longer open, `tags` the names that went with them, `objects` and `bytes` what was
    removed, `searched` the objects in which the ids were looked for at the end.
    """

    uri: str
    version: int
    subjects: int
    volumes: int
    expired: tuple[int, ...]
    tags: tuple[str, ...]
    objects: int = 0
    bytes: int = 0
    searched: int = 0
    dry_run: bool = False

    def __repr__(self) -> str:
        lines = [
            f"<purge of {self.uri}{' (dry run: nothing is changed)' if self.dry_run else ''}",
            f"  subjects         {self.subjects:>10,}",
            f"  volumes          {self.volumes:>10,}",
            f"  versions expired {len(self.expired):>10,}  {spans(self.expired)}".rstrip(),
            f"  tags removed     {len(self.tags):>10,}  {', '.join(self.tags)}".rstrip(),
        ]
        if not self.dry_run:
            lines += [
                f"  objects removed  {self.objects:>10,}  {self.bytes:,} bytes",
                f"  objects searched {self.searched:>10,}  none names them",
            ]
        return "\n".join(lines) + f"\n  record           version {self.version}>"


def purge(
    storage: Storage,
    subjects: Iterable[str],
    reason: str,
    *,
    tags: bool = False,
    force: bool = False,
    dry_run: bool = False,
    voxels: bool = True,
) -> Purged:
    """Erase subjects from all versions; see `RadiObject.purge`.

    In this order: one commit takes them out of the newest version and makes it the oldest one; tags of
    versions that hold them go; so do the objects that no kept version needs; tombstones take the place of the
    older commits; every object is searched. Each step may be done twice: after a crash the same call goes on.
    """
    wanted = frozenset(subjects)
    catalog = Catalog(storage)
    newest = catalog.latest()
    live, unfinished = _writers(storage, newest)
    held = find_holders(storage, newest.version, wanted)
    traces = Traces(held.ids, held.kept)
    named = all_tags(storage)
    _check_arguments(wanted, reason, traces)
    if not held.found and not unfinished:
        raise UnknownIdError(
            f"subjects {sorted(wanted)[:5]}",
            expected=f"subjects that {storage.location.uri} holds, or held in any version",
            got="ids that stand nowhere in it",
        )
    if live and not force:
        raise ConflictError(
            f"purge of {storage.location.uri}: {len(live)} writes are not finished, the newest {live[0]}",
            hint="Let them end, or pass force=True (--force) if they are dead: what they have written is "
            "removed, and they cannot commit any more.",
        )
    holding = _tags_that_hold(storage, named, traces)
    if holding and not tags:
        raise ConflictError(
            f"tags {sorted(holding)} of {storage.location.uri} keep versions that hold these subjects",
            hint="Pass tags=True (--tags) to remove these tags as well.",
        )
    _check_rest(storage, newest, wanted, traces, set(named) - holding)
    kept_tags = {version for name, (version, _) in named.items() if name not in holding}
    expired = tuple(v for v in held.readable if v >= newest.commit.oldest and v not in kept_tags)
    report = Purged(
        storage.location.uri, newest.version + 1, len(held.subjects), len(held.volumes), expired,
        tuple(sorted(holding)), dry_run=dry_run,
    )  # fmt: skip
    if dry_run:
        return report
    backends = {b: get_backend(b, storage.location) for b in set(held.volumes.values())}
    message = f"{reason} ({_count(len(held.subjects), 'subject')}, {_count(len(held.volumes), 'volume')})"
    transaction = Transaction(storage, newest, PURGE, message)
    pending = Journal(storage, f"{PURGE}-{transaction.txn_id}")
    pending.begin(PURGE, PURGE)
    before = frozenset(info.key for info in storage.list(""))
    purged = transaction.commit(Edit(erase=Erasure(wanted, traces)))
    # what was committed between the look at the study and the purge has expired with the rest
    held = find_holders(storage, purged.version, wanted)
    traces = Traces(held.ids, held.kept)
    named = all_tags(storage)
    holding = _tags_that_hold(storage, named, traces) if tags else set[str]()
    for name in holding:
        storage.delete(tag_key(name))
    kept_tags = {version for name, (version, _) in named.items() if name not in holding}
    # listed before it is asked what is needed: whoever commits in between has a version by then
    listed = [i for i in storage.list("") if not i.key.startswith(f"{TRANSACTIONS}/{pending.txn_id}/")]
    needed = _needed(storage, purged, kept_tags, before, traces)
    for path, backend in held.volumes.items():
        if backend not in backends:
            backends[backend] = get_backend(backend, storage.location)
        if path not in needed.volumes and f"{path}/" not in needed:
            backends[backend].delete_volume(path)
    removed = _remove(storage, purged, needed, before, listed, traces, voxels=voxels)
    _bury(storage, purged.commit, kept_tags, traces)
    for folder in (COLLECTIONS, TRANSACTIONS, "tables", "indexes"):
        storage.drop_empty_folders(folder)
    storage.make_durable()
    searched = [info for info in storage.list("") if f"/{pending.txn_id}/" not in info.key]
    if left := search(storage, searched, traces, voxels=voxels):
        raise IntegrityError(
            f"purge of {storage.location.uri}: {len(left)} objects still name these subjects: {left[:10]}",
            hint="The purge is committed. Remove what these objects belong to, and run the same call again.",
        )
    pending.discard()
    return dataclasses.replace(
        report,
        version=purged.version,
        objects=len(removed),
        bytes=sum(info.bytes for info in removed),
        searched=len(searched),
    )


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _check_arguments(wanted: frozenset[str], reason: str, traces: Traces) -> None:
    if not wanted:
        raise ConfigError("purge(subjects=)", expected="at least one subject id", got="none")
    if not isinstance(reason, str) or not reason.strip():
        raise ConfigError("purge(reason=)", expected="a text that says why", got=repr(reason))
    if traces.in_value(reason):
        raise ConfigError(
            "purge(reason=)",
            expected="a text without the ids that are to be erased",
            got="one that has them",
            hint="The reason stays in the study: say why, not who.",
        )


def _writers(storage: Storage, newest: Snapshot) -> tuple[list[str], bool]:
    """Transactions that are alive, newest first, and whether a purge was begun and not finished."""
    found = running(storage, [newest.commit.txn_id])
    now = clock(storage)
    live = [r.txn_id for r in found if r.plan != PURGE and now - r.newest < LIVE_SECONDS]
    committed = set[str]()
    for number in range(newest.version - 1, newest.commit.oldest - 1, -1):
        if not set(live) - committed:
            break  # a journal that its commit left behind is litter
        committed.add(Catalog(storage).commit(number).txn_id)
    return [txn for txn in live if txn not in committed], any(r.plan == PURGE for r in found)


def _tags_that_hold(storage: Storage, named: dict[str, tuple[int, str]], traces: Traces) -> set[str]:
    """Tags of versions whose commit or tables name the subjects."""
    catalog, holding = Catalog(storage), dict[int, bool]()
    for version, _ in named.values():
        if version not in holding:
            commit = catalog.commit(version)
            keys = [version_key(version), *(part.path for part in commit.parts())]
            keys += [] if commit.change_list is None else [str(commit.change_list["path"])]
            holding[version] = bool(search(storage, _sized(storage, keys), traces))
    return {name for name, (version, _) in named.items() if holding[version]}


def _sized(storage: Storage, keys: Sequence[str]) -> list[ObjectInfo]:
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = pool.map(storage.size, keys)
        return [ObjectInfo(k, n, 0.0) for k, n in zip(keys, sizes, strict=True) if n is not None]


def _check_rest(
    storage: Storage, newest: Snapshot, wanted: frozenset[str], traces: Traces, kept_tags: set[str]
) -> None:
    """Raise for what would stay and still name them: other subjects' rows, names, files of other makers."""
    where = Erasure(wanted, traces).left_in(newest)
    where += [f"the name or folder of collection {c.name!r}" for c in newest.commit.collections
              if traces.in_value(c.name) or traces.in_key(c.path)]  # fmt: skip
    where += [f"the tag {name!r}" for name in kept_tags if traces.in_value(name)]
    everything = storage.list("")
    inside = studies_inside(storage, [i for i in everything if made_here(i.key)])
    theirs = [
        info
        for info in everything
        if info.key not in (ROOT, HINT) and (not made_here(info.key) or info.key.startswith(inside))
    ]
    where += [f"the file {key}, which is no part of the study" for key in search(storage, theirs, traces)]
    if where:
        raise MetadataError(
            f"purge of {storage.location.uri}: after it, ids of these subjects would still stand in "
            + "; ".join(where[:5]),
            expected="ids that only their own rows and volumes have",
            hint="Change or remove that first.",
        )


@dataclass(frozen=True)
class _Needed:
    """What must stay: `keys`, `volumes` of kept versions, and `folders` that later writers have filled."""

    keys: frozenset[str]
    volumes: frozenset[str]
    folders: tuple[str, ...]

    def __contains__(self, key: str) -> bool:
        return key in self.keys or key.startswith(self.folders)


def _needed(
    storage: Storage, purged: Snapshot, tagged: set[int], before: frozenset[str], traces: Traces
) -> _Needed:
    """What the purge, the tagged versions, all versions since, and writes that began since need."""
    catalog = Catalog(storage)
    # journals before versions: a write that ends in between has a version by then
    begun = {key.split("/")[1] for key in before if key.startswith(f"{TRANSACTIONS}/")}  # cannot commit
    later = [r for r in running(storage) if r.txn_id not in begun]
    # they may have taken over what a write before the purge had finished
    finished = frozenset(finished_volumes(storage, later))
    newest = catalog.latest()
    since = range(max(purged.version + 1, newest.commit.oldest), newest.version + 1)
    kept = [purged, *(catalog.snapshot(v) for v in sorted({*tagged, *since} - {purged.version}))]
    keys = frozenset(named_keys(kept))
    volumes = frozenset("/".join(key.split("/")[:4]) for key in keys if key.startswith(f"{COLLECTIONS}/"))
    if later:  # groups that they have found there are not written again
        keys |= {key for key in before if is_group(key) and not traces.in_key(key)}
    return _Needed(keys, volumes, tuple(sorted(finished)))


def _remove(
    storage: Storage,
    purged: Snapshot,
    needed: _Needed,
    before: frozenset[str],
    listed: Sequence[ObjectInfo],
    traces: Traces,
    *,
    voxels: bool,
) -> list[ObjectInfo]:
    """Remove what is not needed and was there `before` the purge was committed.

    Of what came later, only what names the subjects goes, and only if it may be older than the commit: the
    clocks of stores tell whole seconds, and a writer who has seen the purge is no business of ours.
    """
    spare = [info for info in listed if info.key not in needed and made_here(info.key)]
    inside = studies_inside(storage, spare)
    committed = next(i.mtime for i in listed if i.key == version_key(purged.version))
    spare = [
        info
        for info in spare
        if not (info.key.startswith(f"{VERSIONS}/") and version_of(info.key) is not None)
        and not (info.key.startswith(f"{TAGS}/") and info.key.endswith(".json"))
        and not info.key.startswith(inside)
    ]
    doubtful = [info for info in spare if info.key not in before and info.mtime <= committed]
    chosen = before.union(search(storage, doubtful, traces, voxels=voxels))
    gone = [info for info in spare if info.key in chosen]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(storage.delete, (info.key for info in gone)))
    return gone


def _bury(storage: Storage, purged: Commit, kept: set[int], traces: Traces) -> None:
    """Put tombstones where the commits of expired versions stand. No number is free for a moment."""
    catalog = Catalog(storage)

    def bury(number: int) -> None:
        old: Commit | None = None
        try:
            old = catalog.commit(number)
        except SnapshotExpiredError:
            return  # an earlier purge was here
        except IntegrityError:
            old = None  # lost or damaged: its number is taken again, by something that says what happened
        record = old.message if old is not None and old.operation == PURGE else ""
        said = "" if traces.in_value(record) else record
        storage.replace(version_key(number), tombstone(purged.study, number, old, message=said), whole=True)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(bury, sorted({*range(1, purged.version)} - kept)))
