"""Forking: objects whose locks and open files must be made anew in a forked child.

A child inherits locks as they were: one that another thread of the parent held stays locked for ever.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Protocol

__all__ = ["on_fork", "renew_on_fork"]


class _Renewable(Protocol):
    def renew(self) -> None: ...


_objects: weakref.WeakSet[_Renewable] = weakref.WeakSet()
_hooks: list[Callable[[], None]] = []


def renew_on_fork(thing: _Renewable) -> None:
    """Call `thing.renew()` in every child that is forked while it is alive."""
    _objects.add(thing)


def on_fork(hook: Callable[[], None]) -> Callable[[], None]:
    """Call `hook` in every forked child; a decorator for functions that remake a module's locks."""
    _hooks.append(hook)
    return hook


def _after_fork() -> None:
    for hook in _hooks:
        hook()
    for thing in list(_objects):
        thing.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
