"""What an array engine does for a volume, and which of the two may do it in this process."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Literal, Protocol

import numpy.typing as npt

from radiobject.backends.base import ArraySpec
from radiobject.errors import CapabilityError
from radiobject.geometry.box import Box
from radiobject.storage import Storage

__all__ = [
    "CHOICES",
    "Choice",
    "Encoder",
    "Engine",
    "OpenArray",
    "engine_for",
    "forked_after_use",
    "note_tensorstore_use",
]

Choice = Literal["auto", "tensorstore", "zarr-python"]
CHOICES = ("auto", "tensorstore", "zarr-python")


class OpenArray(Protocol):
    """One array open for reading. `read` takes a checked, non-empty box; safe to share between threads."""

    def read(self, box: Box) -> npt.NDArray[Any]: ...

    def native(self) -> Any: ...


class Encoder(Protocol):
    """Turns one block into the objects that hold it, as (key below the array, bytes)."""

    def encode(self, box: Box, block: npt.NDArray[Any]) -> Iterable[tuple[str, bytes]]: ...


class Engine(Protocol):
    """A module that opens and encodes arrays from the text of their zarr.json."""

    def open_array(self, storage: Storage, folder: str, spec: ArraySpec, document: str) -> OpenArray: ...

    def make_encoder(self, spec: ArraySpec, document: str) -> Encoder: ...


# tensorstore aborts the process when used in a forked child of a process that had used it. Whoever forks,
# the flag below tells the child in time, because it is set in the child before any other Python runs.
_used = False
_forked_after_use = False


def note_tensorstore_use() -> None:
    """Called by the tensorstore engine before its first thread can start."""
    global _used
    _used = True


def forked_after_use() -> bool:
    """Whether this process must leave tensorstore alone."""
    return _forked_after_use


def _after_fork() -> None:
    global _forked_after_use
    _forked_after_use = _forked_after_use or _used


def engine_for(choice: Choice, storage: Storage, *, writing: bool = False) -> Engine:
    """The engine for this process and place. Encoding happens in memory, so a writer's place is no limit."""
    expressible = writing or storage.location.kvstore() is not None
    if choice == "zarr-python" or (choice == "auto" and (_forked_after_use or not expressible)):
        from radiobject.backends.zarr import zarr_engine

        return zarr_engine
    if _forked_after_use:
        raise CapabilityError(
            f"engine tensorstore for {storage.location.uri}",
            expected="a process that was not forked from one that had used it",
            got="a forked child",
            hint='Use engine="auto", or start workers with "spawn" or "forkserver".',
        )
    if not expressible:
        raise CapabilityError(
            f"engine tensorstore for {storage.location.uri}",
            expected="a place that tensorstore can express",
            got=f"{storage.location.scheme} with {sorted(storage.location.options)}",
            hint='Use engine="auto".',
        )
    from radiobject.backends.zarr import tensorstore_engine

    return tensorstore_engine


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
