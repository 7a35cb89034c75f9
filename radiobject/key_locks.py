"""Key locks: something made once although several threads want it, and different things at once."""

from __future__ import annotations

import threading
from collections import OrderedDict

__all__ = ["KeyLocks"]


class KeyLocks:
    """A lock for each key while somebody wants it: volumes are made one at a time, different ones at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[threading.Lock, int]] = OrderedDict()

    def __call__(self, key: str) -> _KeyLock:
        return _KeyLock(self, key)


class _KeyLock:
    __slots__ = ("_key", "_locks")

    def __init__(self, locks: KeyLocks, key: str) -> None:
        self._locks, self._key = locks, key

    def __enter__(self) -> None:
        with self._locks._lock:
            lock, users = self._locks._held.get(self._key, (threading.Lock(), 0))
            self._locks._held[self._key] = lock, users + 1
        lock.acquire()

    def __exit__(self, *error: object) -> None:
        with self._locks._lock:
            lock, users = self._locks._held[self._key]
            if users == 1:
                del self._locks._held[self._key]
            else:
                self._locks._held[self._key] = lock, users - 1
        lock.release()
