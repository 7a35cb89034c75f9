"""PlanLoader: torch's DataLoader over a plan, for transforms that need processes of their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from radiobject.errors import ConfigError
from radiobject.frozen import is_whole
from radiobject.ml.batches import Collate
from radiobject.ml.datasets import PlanDataset
from radiobject.ml.plan import PatchPlan, Request
from radiobject.ml.transforms import Transform

__all__ = ["PlanLoader", "RequestBatches"]


class RequestBatches(Sampler[list[Request]]):
    """The requests of a plan's epoch, batch by batch: a `batch_sampler` for torch's DataLoader.

    `drop_last` None leaves an incomplete last batch out unless it is the only one.
    """

    def __init__(self, plan: PatchPlan, batch_size: int, drop_last: bool | None = False) -> None:
        if not is_whole(batch_size):
            raise ConfigError("batch_size=", expected="an int, at least 1", got=repr(batch_size))
        self.plan, self.batch_size, self.drop_last = plan, batch_size, drop_last

    @property
    def drops(self) -> bool:
        """Whether an incomplete last batch is left out."""
        if self.drop_last is None:
            return len(self.plan) >= self.batch_size
        return self.drop_last

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self.plan), self.batch_size)
        return whole + (rest > 0 and not self.drops)

    def __iter__(self) -> Iterator[list[Request]]:
        requests: list[Request] = []
        for request in self.plan:
            requests.append(request)
            if len(requests) == self.batch_size:
                yield requests
                requests = []
        if requests and not self.drops:
            yield requests

    def set_epoch(self, epoch: int) -> None:
        """As `PatchPlan.set_epoch`; trainers look for it here."""
        self.plan.set_epoch(epoch)


class PlanLoader(DataLoader[dict[str, Any]]):
    """Batches of a plan, made by `num_workers` processes: dicts as `Collate` says.

    Each pass is the next epoch, unless `set_epoch` says which. `state_dict` counts the batches that were
    handed out, so that `load_state_dict` goes on with the next one, also in the middle of an epoch. `collate`
    puts samples together, as `RadiLoader`'s.

    Workers are started by "forkserver" where the system has it, else by "spawn": libraries with threads do
    not survive a fork. A script must then hold its loop under `if __name__ == "__main__":`. `options` are
    those of torch's DataLoader.
    """

    def __init__(
        self,
        plan: PatchPlan,
        batch_size: int = 1,
        transform: Transform | None = None,
        *,
        collate: Callable[[Sequence[Any]], dict[str, Any]] | None = None,
        drop_last: bool | None = False,
        num_workers: int = 0,
        pin_memory: bool = True,
        persistent_workers: bool = True,
        multiprocessing_context: str | None = None,
        **options: Any,
    ) -> None:
        if num_workers > 0:
            options["multiprocessing_context"] = multiprocessing_context or _start_method()
        super().__init__(
            PlanDataset(plan, transform),
            batch_sampler=RequestBatches(plan, batch_size, drop_last),
            collate_fn=collate or Collate(plan.spec),
            num_workers=num_workers,
            # without a device torch has nothing to pin for, and warns
            pin_memory=pin_memory and torch.cuda.is_available(),
            persistent_workers=persistent_workers and num_workers > 0,
            **options,
        )
        self.plan = plan

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        batches: RequestBatches = self.batch_sampler  # type: ignore[assignment]
        self.plan.begin()
        for batch in super().__iter__():
            rest = len(self.plan) - self.plan.position
            taken = min(batches.batch_size, rest)
            # what is dropped at the end counts as handed out: a state saved now begins the next epoch
            self.plan.advance(rest if batches.drops and rest < 2 * batches.batch_size else taken)
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """As `PatchPlan.set_epoch`."""
        self.plan.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """As `PatchPlan.state_dict`, after the batch that was handed out last."""
        return self.plan.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `PatchPlan.load_state_dict`; holds from the next pass on."""
        self.plan.load_state_dict(state)


def _start_method() -> str:
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
