"""Run many independent tasks, a bounded number at a time, and show how far they are."""

from __future__ import annotations

import contextvars
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Literal, TypeVar

from radiobject.errors import ConfigError

__all__ = ["Progress", "progress_bar", "run"]

T = TypeVar("T")
R = TypeVar("R")

Progress = Callable[[int, int], None]
"""Called with (done, total) after every task."""


def run(
    fn: Callable[[T], R],
    items: Sequence[T],
    *,
    executor: Literal["threads", "serial"] = "threads",
    workers: int | None = None,
) -> Iterator[tuple[int, R | Exception]]:
    """Yield `(position, result or exception)` as tasks finish; at most `workers` items are alive at once.

    An exception of a task is handed over, not raised, so that one bad item never hides the others.
    KeyboardInterrupt stops the run: what has not begun is dropped.

    >>> sorted(run(lambda x: x * x, [1, 2, 3], workers=2))
    [(0, 1), (1, 4), (2, 9)]
    """
    if executor not in ("threads", "serial"):
        raise ConfigError("executor=", expected="'threads' or 'serial'", got=repr(executor))
    if executor == "serial":
        for position, item in enumerate(items):
            yield position, _attempt(fn, item)
        return
    width = workers or min(os.cpu_count() or 1, 16)
    with ThreadPoolExecutor(width, thread_name_prefix="radiobject") as pool:
        waiting: dict[Future[R | Exception], int] = {}
        queue = iter(enumerate(items))
        try:
            while True:
                while len(waiting) < width and (entry := next(queue, None)) is not None:
                    # settings of a `with configure(...)` around the call hold in its threads too
                    context = contextvars.copy_context()
                    waiting[pool.submit(context.run, _attempt, fn, entry[1])] = entry[0]
                if not waiting:
                    return
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield waiting.pop(future), future.result()
        finally:
            for future in waiting:
                future.cancel()


def _attempt(fn: Callable[[T], R], item: T) -> R | Exception:
    try:
        return fn(item)
    except Exception as error:
        # what a failed task had in its hands (a whole scan) must not live as long as its error does
        link: BaseException | None = error
        while link is not None:
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
    if not (show if show is not None else (total > 1 and sys.stderr.isatty())):
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as Bar,
    )

    with Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)
