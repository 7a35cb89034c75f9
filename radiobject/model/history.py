"""StudyHistory: a study over time: names for versions, what differs, what is erased from all of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Self

import pandas as pd

from radiobject.errors import ConfigError, IntegrityError
from radiobject.format.catalog import Catalog
from radiobject.format.changes import Edit
from radiobject.format.cleanup import Cleaned, cleanup
from radiobject.format.difference import Difference, difference
from radiobject.format.journal import LIVE_SECONDS
from radiobject.format.pin import pinned
from radiobject.format.purge import Purged, purge
from radiobject.format.tags import create_tag
from radiobject.model.study import Study
from radiobject.model.view import StudyView

__all__ = ["StudyHistory"]


class StudyHistory(StudyView):
    """What a study knows of its versions."""

    def pin(self) -> str:
        """This version as one text for papers and logs: place, number, and how its commit's hash begins.

        `RadiObject(pin)` opens that version, and raises `CorruptObjectError` when its commit has another
        hash. The hash covers the tables and, by their checksums, every voxel. Of a view it is the study's.

        >>> from radiobject import RadiObject
        >>> from radiobject.examples import study
        >>> radi = study(1, uri="memory://pinned")
        >>> radi.pin().split("#")[0], len(radi.pin().split(":")[-1])
        ('memory://pinned@1', 16)
        >>> RadiObject(radi.pin()).version
        1
        """
        self._study.refuse("pin")
        snapshot = self._study.snapshot
        return pinned(self._study.location.uri, snapshot.version, snapshot.commit.sha256)

    def diff(self, v1: int | str, v2: int | str | None = None) -> Difference:
        """What changed from version `v1` to `v2` (numbers or tags), or to this handle's version.

        Collections, subjects and volumes added, removed or replaced; rows that changed and in which columns;
        columns added, dropped or of another type. True when anything did; `to_pandas()` has a row for each
        change. Reads commits and those parts of tables that the versions do not share, and no voxel.

        Raises `SnapshotExpiredError` for a version that was cleaned up, `UnknownIdError` for none.

        >>> from radiobject.examples import study
        >>> radi = study(2, uri="memory://compared").delete(obs_ids="sub-01_seg")
        >>> radi.diff(1)
        <diff of memory://compared, version 1 to 2:
          seg: -1 volumes (sub-01_seg)>
        """
        self._refuse_view("diff")
        location = self._study.location
        old = Study.open(location.uri, v1, None, location.options).snapshot
        if v2 is None:
            return difference(old, self._study.snapshot)
        return difference(old, Study.open(location.uri, v2, None, location.options).snapshot)

    def restore(self, version: int | str, message: str = "") -> Self:
        """Make an older version (number or tag) the newest one again, as a new commit; the ledger goes on.

        Raises `ConflictError` when somebody commits in between.
        """
        self._refuse_view("restore")
        location = self._study.location
        old = Study.open(location.uri, version, None, location.options).snapshot.commit
        return self._change("restore", Edit(restore=old), message or f"back to version {old.version}")

    def tag(self, name: str) -> None:
        """Give this version a name that `RadiObject(uri, version=name)` opens and clean-up respects."""
        self._refuse_view("tag")
        snapshot = self._study.snapshot
        create_tag(snapshot.storage, name, snapshot.version, snapshot.commit.sha256)

    def cleanup(
        self,
        *,
        keep: int,
        older_than: timedelta | str | float = LIVE_SECONDS,
        dry_run: bool = False,
        force: bool = False,
    ) -> Cleaned:
        """Expire all versions but the newest `keep` and tagged ones, and remove what no version needs.

        That is what expired versions alone had, and what interrupted writes and copies left behind. Only
        objects older than `older_than` go (seconds, a timedelta, or text such as "7 days"), by the clock of
        the store, and none that a running write may still need. Less than 48 hours needs `force=True`, for
        when nobody else writes. An expired version raises `SnapshotExpiredError` when it is opened.
        `dry_run=True` reports what would go.

        >>> from radiobject.examples import study
        >>> radi = study(2, uri="memory://cleaned").delete(obs_ids="sub-01_seg")
        >>> radi.cleanup(keep=1, older_than="7 days", dry_run=True).expired
        [1]
        """
        self._refuse_view("cleanup")
        storage = self._study.snapshot.storage
        done = cleanup(storage, keep=keep, older_than=_seconds(older_than), force=force, dry_run=dry_run)
        if done.expired and not dry_run:
            self._show(self._study.after(Catalog(storage).latest()))
        return done

    def purge(
        self,
        subjects: str | Iterable[str],
        reason: str,
        *,
        tags: bool = False,
        force: bool = False,
        dry_run: bool = False,
        voxels: bool = True,
    ) -> Purged:
        """Erase subjects from all versions, for good, and prove that nothing in the study names them.

        One commit takes their rows, volumes and lines of the ledger out. It becomes the oldest version: all
        before it expire, but tagged ones that never held these subjects. Their objects are removed, their
        commits replaced by tombstones without ids. At the end every object is searched for the ids of the
        subjects and of their volumes (`voxels=False`: but the voxels of other volumes). What stays is the
        commit with `reason`, which must not name them, the counts and the time. A call that was interrupted
        is finished by the same call.

        `tags=True` removes tags of versions that hold the subjects. `force=True` goes on beside writes that
        are not finished: they lose what they have written, and cannot commit. `dry_run=True` reports.

        Raises `ConflictError` for such tags or writes, `MetadataError` where rows of others, names, or files
        that are not the study's would still name them, `UnknownIdError` for ids that stand nowhere, and
        `IntegrityError` when objects name them at the end. What it cannot reach: copies, backups, and older
        versions of objects that a bucket with versioning keeps.

        >>> from radiobject.examples import study
        >>> radi = study(3, uri="memory://purged")
        >>> radi.purge("sub-02", "withdrew consent").subjects
        1
        >>> radi.obs_subject_ids, [(v["version"], v["message"]) for v in radi.versions()]
        (['sub-01', 'sub-03'], [(2, 'withdrew consent (1 subject, 4 volumes)')])
        """
        self._refuse_view("purge")
        storage = self._study.snapshot.storage
        wanted = [subjects] if isinstance(subjects, str) else list(subjects)
        try:
            done = purge(storage, wanted, reason, tags=tags, force=force, dry_run=dry_run, voxels=voxels)
        except IntegrityError:
            # the search at the end found something: the version that this handle shows is gone all the same
            self._show(self._study.after(Catalog(storage).latest()))
            raise
        if not dry_run:
            self._show(self._study.after(Catalog(storage).latest()))
        return done


def _seconds(age: timedelta | str | float) -> float:
    """An age in seconds."""
    if isinstance(age, timedelta):
        return age.total_seconds()
    if isinstance(age, str):
        try:
            return float(pd.Timedelta(age).total_seconds())
        except ValueError as error:
            raise ConfigError(
                "cleanup(older_than=)",
                expected='seconds, a timedelta, or text such as "7 days"',
                got=repr(age),
            ) from error
    return float(age)
