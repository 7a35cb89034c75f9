"""Report: what a loader spent its time and its reads on, and what would make it faster."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field

__all__ = ["COPY", "MODEL", "READ", "TRANSFER", "TRANSFORM", "LoaderReport", "Tally"]

READ, COPY, TRANSFORM, TRANSFER = "read and decode", "cast and copy", "transform", "transfer"
MODEL = "the model"
_STILL_FINE = 0.02
"""A training loop that waits for less than this share of its time has nothing to gain from its loader."""


class Tally:
    """Seconds and bytes, added up by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.values: defaultdict[str, float] = defaultdict(float)

    def add(self, **values: float) -> None:
        """Add to counters by name."""
        with self._lock:
            for name, value in values.items():
                self.values[name] += value


@dataclass(frozen=True, repr=False)
class LoaderReport:
    """One pass of a `RadiLoader` over its plan, so far or as a whole.

    `seconds` from the first batch that was asked for; in `waiting` of them the training loop had to wait.
    `stages` are seconds of the loader's threads, added up. `bytes_decoded` are those of all chunks that reads
    touched, `bytes_used` those that went into batches, as stored; other reads of the process are counted too.
    `volume_bytes` is what all volumes of the cohort hold, decoded.

    >>> print(LoaderReport(batches=50, samples=100, seconds=10, waiting=4, stages={"read and decode": 8},
    ...                    bytes_decoded=8e9, bytes_used=2e9, volume_bytes=4e9, free_bytes=1e11))
    50 batches of 100 samples in 10.0 s; the training loop waited 4.0 s (40.0 %)
      seconds of threads: read and decode 8.00
      decoded 8,000 MB for 2,000 MB used (4.0 times), 0 reads from the cache
      slowest: read and decode
      try cache=Scratch(directory): all volumes are 4.0 GB decoded, which fits
    """

    batches: int
    samples: int
    seconds: float
    waiting: float
    stages: dict[str, float] = field(default_factory=dict)
    bytes_decoded: float = 0
    bytes_used: float = 0
    cache_hits: int = 0
    volume_bytes: float = 0
    free_bytes: float = 0
    cached: bool = False
    casts: bool = True
    locality: int = 1
    threads: int = 1
    cores: int = 1

    @property
    def waiting_share(self) -> float:
        """Share of the time that the training loop waited, 0 to 1."""
        return self.waiting / self.seconds if self.seconds > 0 else 0.0

    @property
    def amplification(self) -> float:
        """Bytes decoded for each byte used; 0 when everything came from a cache."""
        return self.bytes_decoded / self.bytes_used if self.bytes_used else 0.0

    @property
    def slowest(self) -> str:
        """The stage that limits: the model, unless the training loop waits for 2 % of the time or more."""
        if self.waiting_share < _STILL_FINE or not self.stages:
            return MODEL
        return max(self.stages, key=self.stages.__getitem__)

    @property
    def recommendation(self) -> str:
        """What to change, in a line."""
        slowest = self.slowest
        if slowest == MODEL:
            return "nothing to change: the loader keeps up"
        if slowest == TRANSFORM:
            return (
                "try transforms on whole batches on the device, or PlanDataset with worker processes: "
                "a sample's random numbers belong to the process, so threads take turns"
            )
        if slowest == TRANSFER:
            return 'try SampleSpec(dtype="native") and cast on the device: fewer bytes to send'
        if slowest == COPY and self.casts:
            return 'try SampleSpec(dtype="native"): copied without a cast, to be cast on the device'
        if slowest == READ and not self.cached and self.volume_bytes < self.free_bytes:
            size = f"{self.volume_bytes / 1e9:.1f} GB"
            return f"try cache=Scratch(directory): all volumes are {size} decoded, which fits"
        if slowest == READ and self.amplification > 2 and self.locality == 1:
            return "try PatchPlan(locality=8): patches near each other share what is decoded"
        if self.threads < self.cores:
            return f"try threads={self.cores}: the machine has more cores than the loader uses"
        if slowest == COPY:
            return "nothing to change: what is left is the copy of the voxels"
        return "try smaller chunks or a faster codec (TileConfig, CompressionConfig)"

    def __str__(self) -> str:
        share = f"{self.waiting_share * 100:.1f} %"
        stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in self.stages.items())
        times = f" ({self.amplification:.1f} times)" if self.amplification else ""
        mega = f"{self.bytes_decoded / 1e6:,.0f} MB for {self.bytes_used / 1e6:,.0f} MB used{times}"
        return (
            f"{self.batches:,} batches of {self.samples:,} samples in {self.seconds:.1f} s; "
            f"the training loop waited {self.waiting:.1f} s ({share})\n"
            f"  seconds of threads: {stages}\n"
            f"  decoded {mega}, {self.cache_hits:,} reads from the cache\n"
            f"  slowest: {self.slowest}\n"
            f"  {self.recommendation}"
        )

    __repr__ = __str__
