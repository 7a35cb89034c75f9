"""Execution: how a query is run. Pieces go out a bounded number at a time; failures name their volumes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from radiobject.errors import (
    ConfigError,
    MissingObjectError,
    RadiObjectError,
    StorageError,
    TransformError,
    WorkerError,
)
from radiobject.executor import Executor, Progress, check_executor, progress_bar, run
from radiobject.model.pieces import Piece
from radiobject.model.stages import Work, batch_size
from radiobject.model.study import Study
from radiobject.workers import refuse_other_processes

__all__ = ["Execution", "Failure", "How", "results_of"]


class How(TypedDict, total=False):
    """Keyword arguments of everything that runs functions over volumes; see `Execution`."""

    executor: Executor
    workers: int | None
    progress: bool | Progress | None
    retries: int
    errors: Literal["raise", "collect"]


@dataclass(frozen=True)
class Failure:
    """What went wrong with which volumes."""

    obs_ids: tuple[str, ...]
    error: Exception

    def __str__(self) -> str:
        return str(self.error)


@dataclass(frozen=True)
class Execution:
    """How to run: where, how many volumes at a time, how often to try again, what to do with a failure.

    `executor`: "threads" (default), "serial", "processes" (functions travel by value, nothing imports your
    script), or a `dask.distributed.Client`. `errors`: "raise" stops at the first failure, "collect" leaves
    failing volumes out and keeps them in `.failures`.
    """

    executor: Executor = "threads"
    workers: int | None = None
    progress: bool | Progress | None = None
    retries: int = 0
    errors: Literal["raise", "collect"] = "raise"

    def __post_init__(self) -> None:
        if self.errors not in ("raise", "collect"):
            raise ConfigError("errors=", expected="'raise' or 'collect'", got=repr(self.errors))
        check_executor(self.executor)


def results_of(
    study: Study,
    pieces: Iterable[Piece],
    total: int,
    work: Work,
    how: Execution,
    failures: list[Failure],
    *,
    title: str,
    ordered: bool,
) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    """Run `work` over the pieces: the obs_ids of each batch, and one result for each volume kept of it.

    At most as many batches as there are workers are in memory. Raises what failed, or with
    `errors="collect"` adds it to `failures`; a place that fails is always raised.
    """
    refuse_other_processes(study.location, how.executor)
    running: dict[int, tuple[str, ...]] = {}

    def batches() -> Iterator[list[Piece]]:
        remaining, size = iter(pieces), batch_size(work.stages)
        for number in itertools.count():
            batch = list(itertools.islice(remaining, size))
            if not batch:
                return
            running[number] = tuple(p.obs_id for p in batch)
            yield batch

    done = 0
    outcomes = run(
        work, batches(), executor=how.executor, workers=how.workers, ordered=ordered, retries=how.retries
    )
    # closed here: the traceback of what is raised would keep it, and its threads, for as long as it is held
    with progress_bar(title, total, how.progress) as tell, closing(outcomes):
        try:
            for number, result in outcomes:
                ids = running.pop(number)
                done += len(ids)
                tell(done, total)
                if isinstance(result, Exception):
                    error = explained(study, result, ids)
                    if how.errors == "raise" or isinstance(error, StorageError):
                        raise error
                    failures.append(Failure(ids, error))
                else:
                    yield ids, result
        except WorkerError as error:
            error.add_note(f"volumes at work: {', '.join(i for ids in running.values() for i in ids)}")
            raise


def explained(study: Study, error: Exception, ids: tuple[str, ...]) -> Exception:
    """The error with its volumes; that the version expired, where an object is gone for that reason."""
    cause = error.__cause__ if isinstance(error, TransformError) else error
    if isinstance(cause, MissingObjectError):
        better = study.snapshot.explain(cause)
        if better is not cause:
            return better
    if not isinstance(error, RadiObjectError):
        # a fault of ours, not of the caller's function
        error.add_note(f"at volumes {', '.join(ids)}")
    return error
