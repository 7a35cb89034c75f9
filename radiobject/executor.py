"""Run many independent tasks, a bounded number at a time, and show how far they are."""

from __future__ import annotations

import contextvars
import functools
import itertools
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, TypeVar

from radiobject.config import current
from radiobject.errors import ConfigError, WorkerError
from radiobject.workers import Pool, is_client, open_pool, portable

__all__ = ["Executor", "Progress", "announce", "check_executor", "progress_bar", "run", "run_groups"]

_log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

Executor: TypeAlias = Literal["serial", "threads", "processes"] | Any
"""How tasks are run; the Any is a `dask.distributed.Client`."""

Progress = Callable[[int, int], None]
"""Called with (done, total) after every task."""


def run(
    fn: Callable[[T], R],
    items: Iterable[T],
    *,
    executor: Executor = "threads",
    workers: int | None = None,
    ordered: bool = False,
    retries: int = 0,
) -> Generator[tuple[int, R | Exception], None, None]:
    """Yield `(position, result or exception)` as tasks finish; at most `workers` items are alive at once.

    `executor`: "serial", "threads", "processes", or a `dask.distributed.Client`. `ordered` yields in the
    order of the items. A task that fails is tried `retries` times more; then its exception is handed over,
    not raised, so that one bad item never hides the others. KeyboardInterrupt stops the run: what has not
    begun is dropped. Raises `ConfigError`, and `WorkerError` when a worker process dies.

    >>> sorted(run(lambda x: x * x, [1, 2, 3], workers=2))
    [(0, 1), (1, 4), (2, 9)]
    """
    if retries < 0:
        raise ConfigError("retries=", expected="0 or more", got=repr(retries))
    if workers is not None and workers < 1:
        raise ConfigError("workers=", expected="at least 1", got=repr(workers))
    check_executor(executor)
    task = functools.partial(_attempt, fn, retries)
    if executor == "serial":
        for position, item in enumerate(items):
            yield position, task(item)
        return
    width = workers or current().read.max_workers
    pool: Pool
    if executor == "threads":
        pool = _ThreadPool(task, width)
    else:
        pool = open_pool(executor, task, width)
    waiting: dict[Any, int] = {}
    try:
        queue = iter(enumerate(items))
        while True:
            while len(waiting) < pool.width and (entry := next(queue, None)) is not None:
                waiting[pool.submit(entry[1])] = entry[0]
                entry = None  # the item must not live longer than its task
            if not waiting:
                return
            for future in [next(iter(waiting))] if ordered else list(pool.finished(waiting)):
                position = waiting.pop(future)
                yield position, pool.result(future)
    finally:
        pool.close(waiting)


def run_groups(
    fn: Callable[[T], R],
    groups: Sequence[Sequence[T]],
    *,
    executor: Executor = "threads",
    workers: int | None = None,
) -> Generator[tuple[int, R | Exception], None, None]:
    """As `run` over all items of all groups; other processes are given a whole group as one task.

    A worker has one item in its hands at a time, whatever the size of the groups. Where a group costs every
    worker its life, its items are tried one by one, so that the one to blame is alone with its `WorkerError`.

    >>> sorted(run_groups(lambda x: x * x, [[1, 2], [3]], executor="serial"))
    [(0, 1), (1, 4), (2, 9)]
    """
    items = [item for group in groups for item in group]
    if isinstance(executor, str) and executor in ("serial", "threads"):
        yield from run(fn, items, executor=executor, workers=workers)
        return
    starts = [0, *itertools.accumulate(len(group) for group in groups)]
    alone: list[int] = []
    for number, results in run(functools.partial(_each, fn), groups, executor=executor, workers=workers):
        first = starts[number]
        if isinstance(results, WorkerError) and len(groups[number]) > 1:
            alone += range(first, starts[number + 1])
        elif isinstance(results, Exception):
            yield first, results
        else:
            yield from enumerate(results, first)
    # one after the other: a task that is at the same worker when it dies would be blamed too
    for number, result in run(fn, [items[n] for n in alone], executor=executor, workers=1):
        yield alone[number], result


def _each(fn: Callable[[T], R], group: Sequence[T]) -> list[R | Exception]:
    results = (_attempt(fn, 0, item) for item in group)
    return [portable(result) if isinstance(result, Exception) else result for result in results]


def check_executor(executor: Executor) -> None:
    """Raise `ConfigError` for what runs no tasks."""
    known = isinstance(executor, str) and executor in ("serial", "threads", "processes")
    if not known and not is_client(executor):
        raise ConfigError(
            "executor=",
            expected="'serial', 'threads', 'processes' or a dask.distributed.Client",
            got=repr(executor),
        )


class _ThreadPool:
    def __init__(self, task: Callable[[Any], Any], workers: int | None) -> None:
        self.width = workers or min(os.cpu_count() or 1, 16)
        self._task = task
        self._mine = threading.local()
        mark = (self._mine, "thread", True)
        self._pool = ThreadPoolExecutor(self.width, "radiobject", initializer=setattr, initargs=mark)

    def submit(self, item: Any) -> Future[Any]:
        # settings of a `with configure(...)` around the call hold in its threads too
        return self._pool.submit(contextvars.copy_context().run, self._task, item)

    def result(self, future: Future[Any]) -> Any:
        return future.result()

    def finished(self, futures: Iterable[Any]) -> Iterator[Any]:
        done, _ = wait(list(futures), return_when=FIRST_COMPLETED)
        yield from done

    def close(self, unfinished: Iterable[Future[Any]]) -> None:
        for future in unfinished:
            future.cancel()
        # a run that nobody goes on with is closed where garbage is collected: maybe in one of these threads
        self._pool.shutdown(wait=not hasattr(self._mine, "thread"))


def _attempt(fn: Callable[[T], R], retries: int, item: T) -> R | Exception:
    for _ in range(retries):
        try:
            return fn(item)
        except Exception as error:
            _log.info("tried again after %r", error)
    try:
        return fn(item)
    except Exception as error:
        # what a failed task had in its hands (a whole scan) must not live as long as its error does
        link: BaseException | None = error
        seen = set[int]()
        while link is not None and id(link) not in seen:  # nothing keeps an error from being its own cause
            seen.add(id(link))
            traceback.clear_frames(link.__traceback__)
            link = link.__cause__ or link.__context__
        return error


@contextmanager
def progress_bar(title: str, total: int, show: bool | Progress | None) -> Iterator[Progress]:
    """A callback to be told of progress: the caller's own, a rich bar on stderr, or nothing.

    `show=None` draws the bar only when stderr is a terminal and there is more than one item.
    """
    if callable(show):
        yield show
        return
    if not _is_shown(total, show):
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as Bar,
    )

    class Rate(ProgressColumn):
        """How many are done in a second, lately; at the end, on the whole."""

        def render(self, task: Task) -> str:
            speed = task.finished_speed or task.speed
            return "" if speed is None else f"{speed:,.1f}/s"

    with Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def announce(text: str, total: int, show: bool | Progress | None) -> None:
    """Print one line on stderr where `progress_bar` draws a bar: what came of it."""
    if not callable(show) and _is_shown(total, show):
        from rich.console import Console

        Console(stderr=True, soft_wrap=True, highlight=False).print(text, markup=False)


def _is_shown(total: int, show: bool | Progress | None) -> bool:
    return bool(show) if show is not None else total > 1 and sys.stderr.isatty()
