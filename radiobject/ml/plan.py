"""PatchPlan: everything an epoch reads, decided before it is read: volumes, places, seeds, order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from radiobject.errors import ConfigError, IndexingError
from radiobject.ml.cohort import Cohort
from radiobject.ml.draws import Draws
from radiobject.ml.matching import Source
from radiobject.ml.sampling import Grid, Places, Sampling, Uniform
from radiobject.ml.spec import SampleSpec

__all__ = ["PatchPlan", "Request"]

_PLACES, _ORDER, _SEEDS = range(3)
"""What draws are for: each has a stream of its own."""


class Request(NamedTuple):
    """One sample to read: which, where (voxels x, y, z of its grid), and the seed of its augmentation.

    `number` counts the requests of an epoch before they are shuffled and dealt; `visit` is shared by those
    that lie close together.
    """

    number: int
    sample: int
    start: tuple[int, int, int]
    seed: int
    visit: int = 0


class PatchPlan:
    """What is read in which order: a pure function of the seed, the epoch, the spec and the study's version.

    Equal plans give equal batches, whoever reads them: any number of workers or threads, any start method,
    after any interruption. `sampling` places patches (`Uniform`, `Foreground`, `Grid`, `Weighted`); without
    it every volume is taken once, or with a plane every slice. `shuffle=False` keeps the order of the
    samples, and `repeat=True` makes all epochs the same: both are for validation.

    `locality` k reads k patches near each other at a time, so that a chunk that several of them touch is
    decoded once; they are then spread over the batches of `window` such visits.

    Iterating gives the requests of the current epoch, from the current position. A loader calls `begin` where
    a pass begins and `advance` for what it has handed out, so that `state_dict` says where training stands.

    >>> import radiobject.examples
    >>> plan = PatchPlan(SampleSpec("T1w", patch_size=32), radiobject.examples.study(3))
    >>> len(plan), plan[0] == plan.batch(0, batch_size=2)[0]
    (4, True)
    """

    def __init__(
        self,
        spec: SampleSpec,
        source: Source | Cohort,
        sampling: Sampling | None = None,
        *,
        seed: int = 0,
        shuffle: bool = True,
        repeat: bool = False,
        locality: int = 1,
        window: int = 16,
    ) -> None:
        for name, value in (("locality", locality), ("window", window)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"PatchPlan({name}=)", expected="an int, at least 1", got=repr(value))
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ConfigError("PatchPlan(seed=)", expected="an int, 0 or more", got=repr(seed))
        self.spec = spec
        self.cohort = source if isinstance(source, Cohort) else Cohort.of(spec, source)
        self.sampling = sampling or (Uniform() if spec.plane is None else Grid())
        self.seed, self.shuffle, self.repeat = seed, shuffle, repeat
        self.locality, self.window = locality, window
        self.epoch, self.position = 0, 0
        self._begun = False
        self._part = (0, 1)
        self._even: Literal["pad", "drop", "none"] = "pad"
        self._made: tuple[int, _Epoch] | None = None

    def __len__(self) -> int:
        """Requests in an epoch, of this rank."""
        return len(self._epoch().number)

    def __iter__(self) -> Iterator[Request]:
        epoch = self._epoch()
        for place in range(self.position, len(epoch.number)):
            yield epoch.request(place)

    def __getitem__(self, place: int) -> Request:
        """The request at a place of the current epoch."""
        if not 0 <= place < len(self):
            raise IndexingError("request", expected=f"0 to {len(self) - 1}", got=str(place))
        return self._epoch().request(place)

    def batch(self, step: int, batch_size: int) -> list[Request]:
        """The requests of a batch of the current epoch: what was in it can be read again from its number."""
        first = step * batch_size
        return [self[place] for place in range(first, min(first + batch_size, len(self)))]

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch: other places, seeds and order than in any other.

        Of the epoch that `load_state_dict` has just gone to, nothing that was handed out comes again.
        """
        if epoch < 0:
            raise ConfigError("set_epoch", expected="0 or more", got=repr(epoch))
        if epoch != self.epoch or self._begun:
            self.position = 0
        self.epoch, self._begun = int(epoch), False

    def begin(self) -> None:
        """Begin a pass: through the current epoch from its position, or through the next if it has begun."""
        if self._begun:
            self.epoch, self.position = self.epoch + 1, 0
        self._begun = True

    def advance(self, count: int) -> None:
        """`count` more requests of the current epoch have been handed out."""
        self.position += count

    def shard(self, rank: int, world: int, even: Literal["pad", "drop", "none"] = "pad") -> PatchPlan:
        """The part of process `rank` of `world`; the parts of all make up the whole, without overlap.

        Visits are dealt, so that no two processes decode the same chunk for one. `even` is for counts that
        do not divide: "pad" repeats some requests, "drop" leaves some out, "none" gives some processes more.
        """
        if not 0 <= rank < world:
            raise ConfigError("shard", expected=f"a rank from 0 to {world - 1}", got=str(rank))
        if even not in ("pad", "drop", "none"):
            raise ConfigError("shard(even=)", expected="'pad', 'drop' or 'none'", got=repr(even))
        made = PatchPlan(
            self.spec, self.cohort, self.sampling, seed=self.seed, shuffle=self.shuffle,
            repeat=self.repeat, locality=self.locality, window=self.window,
        )  # fmt: skip
        made.epoch, made._part, made._even = self.epoch, (rank, world), even
        return made

    def with_order(self, *, shuffle: bool, repeat: bool, locality: int = 1) -> PatchPlan:
        """The same samples and places, in another order; at the beginning of epoch 0."""
        return PatchPlan(
            self.spec, self.cohort, self.sampling, seed=self.seed, shuffle=shuffle, repeat=repeat,
            locality=locality, window=self.window,
        )  # fmt: skip

    @property
    def digest(self) -> str:
        """What decides the batches besides seed and epoch, as a text; equal plans have equal ones.

        Those of all processes of one `shard` count as equal: checkpoints hold the state of the first alone.
        """
        settings = (
            self.sampling, self.shuffle, self.repeat, self.locality, self.window, self._part[1], self._even,
        )  # fmt: skip
        return hashlib.sha256(f"{self.cohort.digest} {settings!r}".encode()).hexdigest()

    def state_dict(self) -> dict[str, Any]:
        """Where the plan stands; plain values, as a checkpoint takes them.

        After the last request of an epoch that is the beginning of the next.
        """
        over = self._begun and self.position >= len(self)
        epoch, position = (self.epoch + 1, 0) if over else (self.epoch, self.position)
        return {"epoch": epoch, "position": position, "seed": self.seed, "digest": self.digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises `ConfigError` when this plan would not give the same batches."""
        for name, mine in (("seed", self.seed), ("digest", self.digest)):
            if state.get(name) != mine:
                raise ConfigError(
                    f"state of another plan: {name}", expected=str(mine)[:12], got=str(state.get(name))[:12],
                    hint="Open the version of the study, and make the plan, with which it was saved.",
                )  # fmt: skip
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        self._begun = False

    def _epoch(self) -> _Epoch:
        key = 0 if self.repeat else self.epoch
        if self._made is None or self._made[0] != key:
            self._made = key, self._decide(key)
        return self._made[1]

    def _decide(self, epoch: int) -> _Epoch:
        draws = Draws(self.seed, epoch, _PLACES)
        places: Places = self.sampling.places(self.cohort, self.cohort.sizes, draws, self.locality)
        visits = int(places.visit.max(initial=-1)) + 1
        draws = Draws(self.seed, epoch, _ORDER)
        rank_of = np.empty(visits, dtype=np.int64)
        rank_of[draws.order(visits) if self.shuffle else np.arange(visits)] = np.arange(visits)
        # 63 bits: a tensor holds no more
        seeds = (Draws(self.seed, epoch, _SEEDS).raw(len(places.sample)) >> np.uint64(1)).astype(np.int64)
        turn = rank_of[places.visit].astype(np.float64)
        if self.shuffle and self.locality > 1:
            turn += draws.unit(len(turn)) * self.window  # later by fewer visits than are held at a time
        order = np.argsort(turn, kind="stable")
        rank, world = self._part
        mine = order[rank_of[places.visit[order]] % world == rank]
        if world > 1 and self._even != "none":
            counts = np.bincount(rank_of[places.visit] % world, minlength=world)
            wanted = int(counts.max() if self._even == "pad" else counts.min())
            mine = np.resize(mine, wanted) if len(mine) else order[:wanted]
        return _Epoch(mine, places.sample[mine], places.start[mine], seeds[mine], places.visit[mine])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": None}


class _Epoch(NamedTuple):
    """The requests of an epoch, column by column."""

    number: npt.NDArray[np.int64]
    sample: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    seed: npt.NDArray[np.int64]
    visit: npt.NDArray[np.int64]

    def request(self, place: int) -> Request:
        x, y, z = self.start[place].tolist()
        return Request(
            int(self.number[place]), int(self.sample[place]), (x, y, z), int(self.seed[place]),
            int(self.visit[place]),
        )  # fmt: skip
