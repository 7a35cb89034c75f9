"""Catalog: which versions a study has, and the frozen snapshot that each of them is."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from radiobject import measuring
from radiobject.errors import (
    CapabilityError,
    CorruptObjectError,
    FormatError,
    IntegrityError,
    MissingObjectError,
    RadiObjectError,
    SnapshotExpiredError,
    StudyNotFoundError,
    UnknownIdError,
    UpstreamStudyError,
)
from radiobject.forking import on_fork, renew_on_fork
from radiobject.format.commit import MOST_BYTES, Commit, sealed, unsealed
from radiobject.format.layout import HINT, ROOT, UPSTREAM_GROUP, VERSIONS, version_key, version_of
from radiobject.format.meta import FORMAT
from radiobject.format.schema import LEDGER_SCHEMA, OBS_SCHEMA, SUBJECT_SCHEMA, THUMBNAIL_SCHEMA
from radiobject.format.tables import Table
from radiobject.format.tags import tags
from radiobject.location import Location
from radiobject.storage import Storage
from radiobject.strict import count, text

__all__ = ["Catalog", "Snapshot"]

A = TypeVar("A")
B = TypeVar("B")

_EMPTY = {
    "obs_meta": SUBJECT_SCHEMA,
    "obs": OBS_SCHEMA,
    "thumbnails": THUMBNAIL_SCHEMA,
    "ledger": LEDGER_SCHEMA,
}
_KEEP = 16


class Snapshot:
    """One version of a study: its commit and its tables. Frozen, shared by every handle of the process."""

    def __init__(self, storage: Storage, commit: Commit) -> None:
        self.storage, self.commit = storage, commit
        self.indexes: dict[str, Any] = {}
        """Id maps that the model makes of the tables; kept here because every handle shares them."""
        self._tables: dict[tuple[str, str], Table] = {}
        self.renew()
        renew_on_fork(self)

    def renew(self) -> None:
        """Make the lock anew, in a forked child."""
        self._lock = threading.Lock()

    @property
    def version(self) -> int:
        """The version's number."""
        return self.commit.version

    def explain(self, error: MissingObjectError) -> RadiObjectError:
        """The error to raise for an object that is gone: that the version expired, where it did."""
        try:
            newest = Catalog(self.storage).latest().commit
        except RadiObjectError:
            return error
        if self.version >= newest.oldest:
            return error
        return SnapshotExpiredError(
            f"version {self.version} of {self.storage.location.uri}",
            expected=f"a version from {newest.oldest} on",
            got="one whose objects clean-up has removed",
            hint="Open the study again.",
        )

    def table(self, name: str, collection: str = "") -> Table:
        """The table `name` of a collection, or of the study when `collection` is empty."""
        with self._lock:
            if (collection, name) not in self._tables:
                entry = self.commit.collection(collection) if collection else None
                if collection and entry is None:
                    raise UnknownIdError(
                        f"collection {collection!r}",
                        expected=f"one of {[c.name for c in self.commit.collections]}",
                    )
                parts = (entry.tables if entry else self.commit.tables).get(name, ())
                label = f"{entry.path.rsplit('/', 1)[-1]}/{name}" if entry else name
                self._tables[collection, name] = Table(self.storage, label, parts, _EMPTY[name], self.explain)
            return self._tables[collection, name]

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.storage, self.commit.version, self.commit.sha256)


def _reopen(storage: Storage, version: int, sha256: str) -> Snapshot:
    found = Catalog(storage)._snapshot(version, sha256)
    if found.commit.sha256 != sha256:
        raise CorruptObjectError(
            f"{storage.location.uri} version {version}",
            expected=f"commit {sha256[:12]}",
            got=f"{found.commit.sha256[:12]}",
            hint="The study was replaced since this handle was pickled.",
        )
    return found


@dataclass(frozen=True)
class Hint:
    """The last version that somebody saw committed. Never trusted alone."""

    latest: int
    oldest: int
    sha256: str


# Immutable by construction: a version of a study is named by its commit's hash.
_snapshots: OrderedDict[tuple[Location, int, str], Snapshot] = OrderedDict()
_snapshots_lock = threading.Lock()


@on_fork
def _renew_lock() -> None:
    global _snapshots_lock
    _snapshots_lock = threading.Lock()


class Catalog:
    """Reads the versions of the study under one storage."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @property
    def uri(self) -> str:
        """The study's URI."""
        return self.storage.location.uri

    def latest(self) -> Snapshot:
        """The newest committed version; `StudyNotFoundError` when there is none.

        With a good hint that is two rounds of requests: the hint; its commit, and whether a version follows.
        One round where this process has seen the newest version: the hint, and whether a version follows.
        Numbers are dense above the oldest, so later ones are found in doubling steps.
        """
        seen = self._seen()
        hint, followed = self._together(self.hint, lambda: seen > 0 and self._exists(seen + 1))
        if hint is not None:
            if hint.latest == seen and not followed:
                return self._snapshot(seen, hint.sha256)
            found, followed = self._together(
                lambda: self._hinted(hint), lambda: self._exists(hint.latest + 1)
            )
            if followed:
                return self._snapshot(self._gallop(hint.latest + 1), None)
            if isinstance(found, Snapshot):
                return found
            if not isinstance(found, MissingObjectError):
                raise found
            measuring.add("stale_hints")  # it names what clean-up removed: ask the store itself
        last = self._gallop(self._listed())
        if hint is not None and last < hint.latest:
            # a hint is written after its commit, and clean-up never removes the newest: something is lost
            raise MissingObjectError(
                f"{self.uri}/{version_key(hint.latest)}",
                expected=f"the commit of version {hint.latest}, which was there when {HINT} was written",
                got=f"none after version {last}",
                hint=f"Restore that file; to go on from what is left, open version={last} or delete {HINT}.",
            )
        return self._snapshot(last, None)

    def snapshot(self, version: int) -> Snapshot:
        """The snapshot of one version; `SnapshotExpiredError` when clean-up has expired it."""
        try:
            newest = self.latest()
        except IntegrityError:
            # the newest commit is damaged: an older one must still open, it is the way back
            return self._snapshot(version, None)
        if version == newest.version:
            return newest
        if not 1 <= version < newest.version:
            raise UnknownIdError(
                f"version {version} of {self.uri}", expected=f"1 to {newest.version}", got=str(version)
            )
        if version < newest.commit.oldest and not self._tagged(version):
            raise SnapshotExpiredError(
                f"version {version} of {self.uri}",
                expected="a version that is kept",
                got="one that clean-up has expired",
                hint=f"Kept are {newest.commit.oldest} to {newest.version}, and tagged ones; see versions().",
            )
        return self._snapshot(version, None)

    def _hinted(self, hint: Hint) -> Snapshot | RadiObjectError:
        """The hint's version, or what is wrong with it: that is of no interest if a later one follows."""
        try:
            return self._snapshot(hint.latest, hint.sha256)
        except RadiObjectError as error:
            return error

    def _seen(self) -> int:
        """The newest version that this process has in its cache, 0 for none."""
        with _snapshots_lock:
            return max((n for place, n, _ in _snapshots if place == self.storage.location), default=0)

    def _together(self, first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
        """Both at the same time where each is a request to a server."""
        if self.storage.location.is_near:
            return first(), second()
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(second)
            return first(), ahead.result()

    def _tagged(self, version: int) -> bool:
        try:
            return version in {number for number, _ in tags(self.storage).values()}
        except CapabilityError:
            return True  # a plain web server cannot list tags: let the objects themselves tell

    def _snapshot(self, version: int, sha256: str | None) -> Snapshot:
        """From the process's cache when the hash is known; `MissingObjectError` when there is none."""
        if sha256 is not None:
            with _snapshots_lock:
                if (found := _snapshots.get((self.storage.location, version, sha256))) is not None:
                    _snapshots.move_to_end((self.storage.location, version, sha256))
                    return found
        commit = self.commit(version)
        key = (self.storage.location, version, commit.sha256)
        with _snapshots_lock:
            snapshot = _snapshots.setdefault(key, Snapshot(self.storage, commit))
            _snapshots.move_to_end(key)
            while len(_snapshots) > _KEEP:
                _snapshots.popitem(last=False)
        return snapshot

    def adopt(self, commit: Commit) -> Snapshot:
        """The snapshot of a commit that this process has just made."""
        snapshot = Snapshot(self.storage, commit)
        with _snapshots_lock:
            _snapshots[self.storage.location, commit.version, commit.sha256] = snapshot
        return snapshot

    def commit(self, version: int) -> Commit:
        """The commit of a version, checked; `MissingObjectError` when there is none."""
        where = f"{self.uri}/{version_key(version)}"
        commit = Commit.from_bytes(self.storage.read(version_key(version), MOST_BYTES), where)
        if commit.version != version:
            raise CorruptObjectError(where, expected=f"version {version}", got=f"version {commit.version}")
        return commit

    def versions(self) -> list[Commit]:
        """Every version that is kept, oldest first."""
        newest = self.latest().commit
        found = [newest]
        for version in range(newest.version - 1, newest.oldest - 1, -1):
            try:
                found.append(self.commit(version))
            except MissingObjectError as error:
                raise MissingObjectError(
                    f"{self.uri}/{version_key(version)}",
                    expected=f"every version from {newest.oldest} to {newest.version}",
                    got="a gap",
                    hint="The latest version is not touched by this; validate() tells more.",
                ) from error
        return found[::-1]

    def root(self) -> Mapping[str, Any] | None:
        """The study's own attributes, None when there is no study document; refuses what is not ours."""
        where = f"{self.uri}/{ROOT}"
        try:
            document = json.loads(self.storage.read(ROOT, MOST_BYTES))
            ours = document["attributes"]["radiobject"]
            kind, version = ours["type"], str(ours["format"])
        except MissingObjectError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FormatError(where, expected="a radiobject study", got="another document") from error
        if kind != "study" or version.split(".")[0] != FORMAT.split(".")[0]:
            raise FormatError(
                where, expected=f"a study of format {FORMAT}", got=f"{kind} of format {version}"
            )
        checked: Mapping[str, Any] = ours
        return checked

    def write_hint(self, commit: Commit) -> None:
        """Leave a hint for the next reader. Best effort: the commit stands without it."""
        body, _ = sealed({"latest": commit.version, "oldest": commit.oldest, "sha256": commit.sha256})
        try:
            self.storage.replace(HINT, body)
        except RadiObjectError:
            # the one error that may be swallowed: nothing depends on the hint, and the commit is done
            measuring.add("hint_failures")

    def hint(self) -> Hint | None:
        """What the last writer left, None when it is missing or unreadable."""
        try:
            raw, _ = unsealed(self.storage.read(HINT, MOST_BYTES), HINT)
            return Hint(count(raw["latest"], 1), count(raw["oldest"], 1), text(raw["sha256"]))
        except (MissingObjectError, CorruptObjectError, KeyError, TypeError, ValueError):
            return None  # FormatError is a ValueError

    def _exists(self, version: int) -> bool:
        return version >= 1 and self.storage.size(version_key(version)) is not None

    def _listed(self) -> int:
        """The newest version that a listing shows, when the hint is of no use."""
        try:
            numbers = [n for info in self.storage.list(VERSIONS) if (n := version_of(info.key)) is not None]
        except CapabilityError:
            # a plain web server cannot list; numbers are dense from the oldest, so begin at the first
            numbers = [1] if self._exists(1) else []
        if not numbers:
            raise self._nothing()
        return max(numbers)

    def _gallop(self, known: int) -> int:
        step = 1
        while self._exists(known + step):
            known, step = known + step, step * 2
        while step > 1:
            step //= 2
            if self._exists(known + step):
                known += step
        return known

    def _nothing(self) -> RadiObjectError:
        begun = self.root() is not None
        if not begun and self.storage.size(UPSTREAM_GROUP) is not None:
            return UpstreamStudyError(
                self.uri,
                expected="a radiobject study",
                got="a TileDB group, as the TileDB-based radiobject package writes them",
                hint=f"Import it: radiobject import-upstream {self.uri} DST",
            )
        return StudyNotFoundError(
            self.uri,
            expected="a radiobject study with at least one commit",
            got="a study whose creation was never committed" if begun else "none",
            hint="Run the same call again; ingests and queries take resume=True to keep finished volumes."
            if begun
            else "Check the path, or create one: RadiObject.from_niftis(uri, ...), in a shell "
            "radiobject ingest URI FOLDER.",
        )
