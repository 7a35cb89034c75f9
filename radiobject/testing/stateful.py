"""StudyMachine: random histories of a study against a model that is a plain dictionary."""

from __future__ import annotations

import itertools
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from radiobject.errors import ConflictError, SnapshotExpiredError
from radiobject.format import catalog
from radiobject.format.changes import Edit
from radiobject.format.cleanup import cleanup
from radiobject.format.transaction import Transaction
from radiobject.model.radi_object import RadiObject

__all__ = ["StudyMachine"]

Contents = dict[str, tuple[str, str, npt.NDArray[Any]]]
"""obs_id to (collection, subject, voxels): everything that a version of a study must say."""

_numbers = itertools.count()
_COLLECTIONS = ("T1w", "seg")


class StudyMachine(RuleBasedStateMachine):
    """Create, append, replace, delete, tag, compact, clean up, purge, reopen: after each step every kept
    version must hold exactly what a dictionary holds.

    Subclass it with `backend` and, where studies should stand elsewhere than in a temporary folder, `place`.
    """

    backend: str | None = None

    def place(self) -> str:
        """A URI at which nothing stands."""
        return f"{tempfile.mkdtemp(prefix='radiobject-')}/study"

    def __init__(self) -> None:
        super().__init__()
        self.uri = f"{self.place()}-{next(_numbers)}"
        self.history: dict[int, Contents] = {}
        self.purged, self.serial = 0, 0
        self.tags: dict[str, int] = {}
        self.kept: RadiObject | None = None

    @property
    def now(self) -> Contents:
        """What the newest version must hold."""
        return self.history[max(self.history)]

    def _scan(self, data: st.DataObject) -> npt.NDArray[Any]:
        shape = data.draw(st.tuples(*[st.integers(1, 5)] * 3))
        dtype = data.draw(st.sampled_from(["u1", "i2", "u4"]))
        start = data.draw(st.integers(0, 50))
        return np.arange(start, start + int(np.prod(shape))).astype(dtype).reshape(shape)

    def _commit(self, made: RadiObject, contents: Contents) -> None:
        assert made.version == max(self.history, default=0) + 1
        self.history[made.version] = contents

    def _append(self, radi: RadiObject, data: st.DataObject) -> None:
        self.serial += 1
        subject, name = f"s{self.serial}", data.draw(st.sampled_from(_COLLECTIONS))
        voxels = self._scan(data)
        made = radi.append({name: [((voxels, np.eye(4)), subject)]}, {"obs_subject_id": [subject]})
        self._commit(made, {**self.now, f"{subject}_{name}": (name, subject, voxels)})

    @initialize(data=st.data())
    def create(self, data: st.DataObject) -> None:
        """The first version."""
        voxels = self._scan(data)
        images = {"T1w": [((voxels, np.eye(4)), "s0")]}
        made = RadiObject.from_niftis(self.uri, images, backend=self.backend)
        self._commit(made, {"s0_T1w": ("T1w", "s0", voxels)})

    @rule(data=st.data())
    def append(self, data: st.DataObject) -> None:
        """A new subject with a volume."""
        self._append(RadiObject(self.uri), data)

    @rule(data=st.data())
    def append_behind_another_writer(self, data: st.DataObject) -> None:
        """Two handles on one version append: the slower one rebases."""
        first, second = RadiObject(self.uri), RadiObject(self.uri)
        self._append(first, data)
        self._append(second, data)

    @rule()
    def keep_a_handle(self) -> None:
        """A notebook stays open."""
        self.kept = RadiObject(self.uri)

    @precondition(lambda self: self.kept is not None)
    @rule(data=st.data())
    def append_with_a_kept_handle(self, data: st.DataObject) -> None:
        """However many versions and clean-ups later: it rebases, or is told that its version expired.

        A purge in between is a conflict, whatever it wanted to write.
        """
        assert self.kept is not None
        severed = self.kept.version < self.purged
        try:
            self._append(self.kept, data)
        except SnapshotExpiredError:
            self.kept = None
        except ConflictError:
            assert severed
            self.kept = None
        else:
            assert not severed

    @precondition(lambda self: self.now)
    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        """Other voxels under a known id."""
        obs_id = data.draw(st.sampled_from(sorted(self.now)))
        name, subject, _ = self.now[obs_id]
        voxels = self._scan(data)
        made = RadiObject(self.uri).append({name: [((voxels, np.eye(4)), subject)]}, on_conflict="replace")
        self._commit(made, {**self.now, obs_id: (name, subject, voxels)})

    @precondition(lambda self: len(self.now) > 1)
    @rule(data=st.data())
    def delete_volume(self, data: st.DataObject) -> None:
        """One volume less; its subject stays."""
        obs_id = data.draw(st.sampled_from(sorted(self.now)))
        made = RadiObject(self.uri).delete(obs_ids=obs_id)
        self._commit(made, {k: v for k, v in self.now.items() if k != obs_id})

    @precondition(lambda self: len({s for _, s, _ in self.now.values()}) > 1)
    @rule(data=st.data())
    def delete_subject(self, data: st.DataObject) -> None:
        """A subject and all its volumes less."""
        subject = data.draw(st.sampled_from(sorted({s for _, s, _ in self.now.values()})))
        made = RadiObject(self.uri).delete(subjects=subject)
        self._commit(made, {k: v for k, v in self.now.items() if v[1] != subject})

    @rule()
    def compact(self) -> None:
        """Fewer parts, the same rows."""
        base = RadiObject(self.uri)._study.snapshot
        Transaction(base.storage, base, "compact").commit(Edit(compact=True))
        self._commit(RadiObject(self.uri), self.now)

    @rule()
    def tag(self) -> None:
        """A name for the newest version."""
        name = f"tag{len(self.tags)}"
        RadiObject(self.uri).tag(name)
        self.tags[name] = max(self.history)

    @rule(keep=st.integers(1, 3))
    def clean_up(self, keep: int) -> None:
        """Old versions expire, their objects go; nobody else is writing."""
        radi = RadiObject(self.uri)
        done = cleanup(radi._study.snapshot.storage, keep=keep, older_than=-1, force=True)
        if RadiObject(self.uri).version > max(self.history):
            self._commit(RadiObject(self.uri), self.now)
        kept = set(self.tags.values())
        for version in done.expired:
            assert version not in kept
            self.history.pop(version)

    @precondition(lambda self: self.now)
    @rule(data=st.data())
    def purge(self, data: st.DataObject) -> None:
        """A subject less in every version: what stays open is the newest one, and tags that never held it."""
        subject = data.draw(st.sampled_from(sorted({s for _, s, _ in self.now.values()})))
        radi = RadiObject(self.uri)
        radi.purge(subject, "asked", tags=True, force=True)
        self._commit(radi, {k: v for k, v in self.now.items() if v[1] != subject})
        self.purged = radi.version
        listed = {said["version"] for said in radi.versions()}
        self.history = {version: held for version, held in self.history.items() if version in listed}
        self.tags = {name: version for name, version in self.tags.items() if version in listed}
        assert not [k for held in self.history.values() for k, v in held.items() if v[1] == subject]

    @rule()
    def forget(self) -> None:
        """As a new process would open it: nothing cached."""
        catalog._snapshots.clear()

    @invariant()
    def the_newest_version_is_what_the_model_says(self) -> None:
        """Every id, subject and voxel of the newest version."""
        if self.history:
            self._check(RadiObject(self.uri), self.now)

    @rule(data=st.data())
    def an_old_version_is_what_it_was(self, data: st.DataObject) -> None:
        """Any kept version reads as on its first day, and one that expired says so."""
        version = data.draw(st.integers(1, max(self.history)))
        if version in self.history:
            self._check(RadiObject(self.uri, version=version), self.history[version])
        else:
            try:
                RadiObject(self.uri, version=version)
            except SnapshotExpiredError:
                return
            raise AssertionError(f"version {version} expired and still opens")

    @rule()
    def validates(self) -> None:
        """Nothing is missing or changed."""
        report = RadiObject(self.uri).validate("full")
        assert report.ok, report

    def _check(self, radi: RadiObject, contents: Contents) -> None:
        assert sorted(radi.all_obs_ids) == sorted(contents)
        for obs_id, (name, subject, voxels) in contents.items():
            volume = radi.collection(name).loc[obs_id]
            assert (volume.obs_id, volume.obs_subject_id) == (obs_id, subject)
            found = volume.to_numpy()
            assert found.dtype == voxels.dtype
            assert np.array_equal(found, voxels)
