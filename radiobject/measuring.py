"""Counters of what a block of code really read: requests, bytes, chunks, volumes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType

from radiobject.forking import on_fork

__all__ = ["active", "add", "measure", "register_probe"]

# Garbage collection may end a loader's pass, and with it a block, at any line of any thread, also of one that
# is in this module. So counting takes no lock, and the one of blocks and probes may be taken again.
_lock = threading.RLock()


@on_fork
def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


_running: list[measure] = []
_probes: list[Callable[[], dict[str, int]]] = []


def active() -> bool:
    """Whether any `measure()` block is open; hot paths ask before they count."""
    return bool(_running)


def add(name: str, n: int = 1) -> None:
    """Add `n` to a counter of every open block; costs nothing when there is none."""
    if _running:
        for block in tuple(_running):
            block._own()[name] += n


def register_probe(probe: Callable[[], dict[str, int]]) -> None:
    """Name a source of process-wide running totals, sampled when a block begins and ends."""
    with _lock:
        _probes.append(probe)


class measure:  # noqa: N801 - used as `with radiobject.measure() as m:`
    """Count what the code inside the block cost, in every thread of this process.

    Counters: `requests` (reads of objects or ranges of them), `bytes_read` (as stored), `bytes_used`
    (voxel bytes returned), `chunks_decoded` and `bytes_decoded` (whole chunks that reads touched),
    `volumes_opened`, `cache_hits`, `row_groups` (of tables, read), `bytes_written` (tables, commits and
    documents; voxels are written by their engine).

    >>> with measure() as m:
    ...     add("requests", 2)
    >>> m["requests"], m["bytes_read"]
    (2, 0)
    """

    def __init__(self) -> None:
        self._of_threads: dict[int, Counter[str]] = {}
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
                    self._own()[name] += total - before.get(name, 0)

    @property
    def counts(self) -> Counter[str]:
        """All counters by name."""
        total: Counter[str] = Counter()
        for counter in tuple(self._of_threads.values()):
            total.update(dict(counter))  # a copy: its thread may go on counting
        return total

    def _own(self) -> Counter[str]:
        """What this thread alone adds to."""
        thread = threading.get_ident()
        found = self._of_threads.get(thread)
        return self._of_threads.setdefault(thread, Counter()) if found is None else found

    def __getitem__(self, name: str) -> int:
        return self.counts[name]

    def __contains__(self, name: object) -> bool:
        return name in self.counts

    def __repr__(self) -> str:
        counts = self.counts
        order = (
            "requests", "bytes_read", "bytes_used", "chunks_decoded", "bytes_decoded", "volumes_opened",
            "cache_hits",
        )  # fmt: skip
        names = [n for n in order if counts[n]] + sorted(n for n in counts if n not in order)
        return "measure(" + ", ".join(f"{n}={counts[n]:,}" for n in names) + ")"
