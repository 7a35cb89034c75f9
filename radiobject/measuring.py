"""Counters of what a block of code really read: requests, bytes, chunks, volumes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType

from radiobject.forking import on_fork

__all__ = ["active", "add", "measure", "register_probe"]

_lock = threading.Lock()


@on_fork
def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


_running: list[measure] = []
_probes: list[Callable[[], dict[str, int]]] = []


def active() -> bool:
    """Whether any `measure()` block is open; hot paths ask before they count."""
    return bool(_running)


def add(name: str, n: int = 1) -> None:
    """Add `n` to a counter of every open block; costs nothing when there is none."""
    if _running:
        with _lock:
            for block in _running:
                block.counts[name] += n


def register_probe(probe: Callable[[], dict[str, int]]) -> None:
    """Name a source of process-wide running totals, sampled when a block begins and ends."""
    with _lock:
        _probes.append(probe)


class measure:  # noqa: N801 - used as `with radiobject.measure() as m:`
    """Count what the code inside the block cost, in every thread of this process.

    Counters: `requests` (reads of objects or ranges of them), `bytes_read` (as stored), `bytes_used`
    (voxel bytes returned), `chunks_decoded` and `bytes_decoded` (whole chunks that reads touched),
    `volumes_opened`, `cache_hits`.

    >>> with measure() as m:
    ...     add("requests", 2)
    >>> m["requests"], m["bytes_read"]
    (2, 0)
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._before: list[dict[str, int]] = []

    def __enter__(self) -> measure:
        with _lock:
            self._before = [probe() for probe in _probes]
            _running.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _lock:
            _running.remove(self)
            for number, probe in enumerate(_probes):
                # a probe registered inside the block counts from its own beginning, which is zero
                before = self._before[number] if number < len(self._before) else {}
                for name, total in probe().items():
                    self.counts[name] += total - before.get(name, 0)

    def __getitem__(self, name: str) -> int:
        return self.counts[name]

    def __repr__(self) -> str:
        order = (
            "requests", "bytes_read", "bytes_used", "chunks_decoded", "bytes_decoded", "volumes_opened",
            "cache_hits",
        )  # fmt: skip
        names = [n for n in order if self.counts[n]] + sorted(n for n in self.counts if n not in order)
        return "measure(" + ", ".join(f"{n}={self.counts[n]:,}" for n in names) + ")"
