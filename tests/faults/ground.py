"""What tests of faults share: small studies, the changes made to them, and what a fresh reader finds."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject import RadiObject
from radiobject.errors import RadiObjectError, StudyNotFoundError
from radiobject.format import catalog
from radiobject.format.changes import Edit
from radiobject.format.cleanup import cleanup
from radiobject.format.tags import tags
from radiobject.format.transaction import Transaction

__all__ = [
    "CHANGES",
    "CHAOS",
    "EVERY",
    "assert_done_or_undone",
    "build",
    "dice",
    "fresh",
    "scan",
    "seed",
    "state",
]

CHAOS = "RADIOBJECT_CHAOS_SECONDS" in os.environ
"""`make chaos`: every fault at every place, and many more kills."""
EVERY = CHAOS or os.environ.get("CI", "").lower() in ("1", "true")
"""Every place once, where an ordinary run takes one in so many."""

Options = Mapping[str, Any]
Change = Callable[[str, Options], None]


def seed() -> int:
    """The seed of this run: given by RADIOBJECT_CHAOS_SEED, or new."""
    return int(os.environ.get("RADIOBJECT_CHAOS_SEED", str(random.SystemRandom().randrange(2**32))))


def dice(number: int) -> random.Random:
    """Random numbers that follow from a seed."""
    return random.Random(number)


def scan(value: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """A tiny volume full of one number."""
    return np.full((5, 4, 3), value, dtype=np.int16), np.eye(4)


def fresh(uri: str, options: Options) -> RadiObject:
    """The study as a process that has seen nothing of it would open it."""
    catalog._snapshots.clear()
    return RadiObject(uri, storage_options=dict(options))


def create(uri: str, options: Options) -> None:
    images = {"T1w": [(scan(1), "a"), (scan(2), "b")], "seg": [(scan(3), "a")]}
    RadiObject.from_niftis(uri, images, executor="serial", storage_options=dict(options))


def append(uri: str, options: Options) -> None:
    meta = {"obs_subject_id": ["c"], "age": [40]}
    fresh(uri, options).append({"T1w": [(scan(4), "c")]}, meta, executor="serial")


def replace(uri: str, options: Options) -> None:
    fresh(uri, options).append({"T1w": [(scan(9), "a")]}, on_conflict="replace", executor="serial")


def delete(uri: str, options: Options) -> None:
    fresh(uri, options).delete(subjects="b")


def tag(uri: str, options: Options) -> None:
    fresh(uri, options).tag("paper")


def restore(uri: str, options: Options) -> None:
    fresh(uri, options).restore(1)


def fold(uri: str, options: Options) -> None:
    base = fresh(uri, options)._study.snapshot
    Transaction(base.storage, base, "compact").commit(Edit(compact=True))


def clean(uri: str, options: Options) -> None:
    cleanup(fresh(uri, options)._study.snapshot.storage, keep=1, older_than=-1, force=True)


CHANGES: dict[str, tuple[tuple[Change, ...], Change]] = {
    "create": ((), create),
    "append": ((create,), append),
    "replace": ((create,), replace),
    "delete": ((create,), delete),
    "tag": ((create,), tag),
    "restore": ((create, delete), restore),
    "compact": ((create, append), fold),
    "cleanup": ((create, append, replace), clean),
}
"""Each change, with those that make the study that it is made to."""


def build(uri: str, options: Options, name: str) -> None:
    """The study that a change is made to."""
    for step in CHANGES[name][0]:
        step(uri, options)


def state(uri: str, options: Options) -> dict[str, Any] | None:
    """All that a study says, read anew; None when there is no study."""
    try:
        radi = fresh(uri, options)
    except StudyNotFoundError:
        return None
    # each volume whole: one voxel would not show a half
    volumes = {v.obs_id: v.to_numpy().ravel().tolist() for n in radi for v in radi.collection(n)}
    names = {name: version for name, (version, _) in tags(radi._study.snapshot.storage).items()}
    return {
        "version": radi.version,
        "volumes": volumes,
        "subjects": radi.obs_meta.to_arrow().to_pylist(),
        "tags": names,
    }


def assert_done_or_undone(
    name: str, error: RadiObjectError | None, found: object, before: object, after: object, trial: str
) -> None:
    """A change that met a fault was made whole or not at all, and who made it was told which."""
    if error is None:
        assert found == after, trial
    elif found != before:
        # only when no answer ever came; clean-up expires versions first, and then removes objects
        assert found == after, trial
        assert name == "cleanup" or "outcome is unknown" in str(error), (trial, error)
