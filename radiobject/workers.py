"""Workers: tasks in other processes, on this machine (loky) or on a cluster (dask.distributed).

Functions travel by value (cloudpickle), and workers never import the caller's `__main__`: code pasted at the
top level of a file, or typed into a notebook, needs no `if __name__ == "__main__"`.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, cast

from radiobject.config import Config, configure, current
from radiobject.errors import ConfigError, MissingDependencyError, WorkerError
from radiobject.location import Location, secrets_kept

__all__ = ["Pool", "is_client", "open_pool", "portable", "refuse_other_processes", "width_of"]

_IN_GRAPH = 2**20
"""Bytes of a task that dask's scheduler is given to keep: it gives them anew when a worker is lost."""


class Pool(Protocol):
    """Where tasks go: `submit` returns a future of the result, or of the exception as a value."""

    @property
    def width(self) -> int: ...

    def submit(self, item: Any) -> Any: ...

    def result(self, future: Any) -> Any: ...

    def finished(self, futures: Iterable[Any]) -> Iterator[Any]: ...

    def close(self, unfinished: Iterable[Any]) -> None: ...


def is_client(executor: Any) -> bool:
    """Whether it is a `dask.distributed.Client`."""
    return type(executor).__module__.split(".")[0] == "distributed" and hasattr(executor, "scatter")


def refuse_other_processes(location: Location, executor: Any, *, persistent: bool = True) -> None:
    """Raise `ConfigError` for an executor that cannot see what stands in this process's memory.

    `persistent` is the backend's: without it, what a worker process writes would go when that process ends.
    """
    if (location.scheme == "memory" or not persistent) and executor not in ("threads", "serial"):
        raise ConfigError(
            f"executor={executor!r} on {location.uri}",
            expected="'threads' or 'serial'",
            got="volumes in the memory of this process",
        )


def width_of(executor: Any, workers: int | None) -> int:
    """How many tasks run at once: `workers`, else as many as this machine or the cluster has threads."""
    if workers is not None:
        return workers
    return max(sum(executor.nthreads().values()), 1) if is_client(executor) else os.cpu_count() or 1


def open_pool(executor: Any, task: Callable[[Any], Any], workers: int | None) -> Pool:
    """A pool for one run of `task`: of processes, or on the workers of a dask client.

    Raises `MissingDependencyError` without loky and cloudpickle.
    """
    return _ClientPool(executor, task, workers) if is_client(executor) else _ProcessPool(task, workers)


def _dumps(value: Any) -> bytes:
    try:
        import cloudpickle
    except ImportError as error:
        raise _missing(error) from error
    data: bytes = cloudpickle.dumps(value)
    return data


def _missing(error: ImportError) -> MissingDependencyError:
    return MissingDependencyError(
        f"executor='processes' needs loky and cloudpickle: {error}",
        hint='pip install "radiobject-zarr[processes]"',
    )


# One task at a time is kept loaded in a worker: loading it for every item would cost what it closes over.
_loaded: tuple[bytes, Callable[[Any], Any], Config] | None = None


def _prepare(payload: bytes) -> tuple[Callable[[Any], Any], Config]:
    import cloudpickle

    global _loaded
    found = _loaded  # threads of one worker may serve two runs: what was looked at is what is used
    if found is None or found[0] != payload:
        task, config = cloudpickle.loads(payload)
        _loaded = found = payload, task, config
    return found[1:]


def _work(item: bytes) -> bytes:
    """In a process of ours: one item by the task that it was started with."""
    assert _loaded is not None
    return _done(item, *_loaded[1:])


def _done(item: bytes, task: Callable[[Any], Any], config: Config) -> bytes:
    """In the worker: one item. An exception that cannot travel is put into words."""
    import cloudpickle

    with configure(write=config.write, read=config.read, s3=config.s3):
        result = task(cloudpickle.loads(item))
    return _dumps(portable(result) if isinstance(result, Exception) else result)


def _work_with(payload: bytes, item: bytes) -> bytes:
    return _done(item, *_prepare(payload))


def portable(error: Exception) -> Exception:
    """The exception as it can travel to another process: with its traceback as a note, else in words."""
    import cloudpickle

    text = "".join(traceback.format_exception(error))
    error.__traceback__ = None
    try:
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception as why:
        # whatever a user's exception does when it is pickled, the run has to hear of the failure
        error = WorkerError(
            f"{type(error).__name__}: {error}", got=f"an error that cannot be pickled ({why})"
        )
    error.add_note(f"in worker process {os.getpid()}:\n{text}")
    return error


class _ProcessPool:
    """Processes of loky, which carry no memory of this one and are ended with the run."""

    def __init__(self, task: Callable[[Any], Any], workers: int | None) -> None:
        try:
            import loky
        except ImportError as error:
            raise _missing(error) from error
        self.width = width_of("processes", workers)
        with secrets_kept():  # to processes of our own, by pipe
            payload = _dumps((task, current()))
        self._pool = loky.ProcessPoolExecutor(self.width, initializer=_prepare, initargs=(payload,))

    def submit(self, item: Any) -> Future[bytes]:
        with secrets_kept():
            data = _dumps(item)
        return cast(Future[bytes], self._pool.submit(_work, data))

    def result(self, future: Future[bytes]) -> Any:
        import cloudpickle

        try:
            return cloudpickle.loads(future.result())
        except BrokenProcessPool as error:
            raise WorkerError(
                "a worker process",
                expected="it to live as long as the run",
                got=f"its end: {error}",
                hint="Was it killed for want of memory? Try fewer workers=.",
            ) from error

    def finished(self, futures: Iterable[Any]) -> Iterator[Any]:
        from concurrent.futures import FIRST_COMPLETED, wait

        done, _ = wait(list(futures), return_when=FIRST_COMPLETED)
        yield from done

    def close(self, unfinished: Iterable[Future[bytes]]) -> None:
        # a run that was broken off must not wait for work that nobody wants any more
        self._pool.shutdown(wait=True, kill_workers=any(unfinished))


class _ClientPool:
    """The workers of a dask cluster. They find credentials of their own: none is sent over its network."""

    def __init__(self, client: Any, task: Callable[[Any], Any], workers: int | None) -> None:
        self._client = client
        self.width = width_of(client, workers)
        data = _dumps((task, current()))
        if len(data) <= _IN_GRAPH:
            self._payload = client.submit(bytes, data, pure=False)
        else:
            self._payload = client.scatter(data, broadcast=True, hash=False)

    def submit(self, item: Any) -> Any:
        return self._client.submit(_work_with, self._payload, _dumps(item), pure=False)

    def result(self, future: Any) -> Any:
        import cloudpickle
        from distributed import KilledWorker

        try:
            data = future.result()
        except KilledWorker as error:
            # dask has tried it on several workers, and none survived: this task failed, the run goes on
            lost = WorkerError(
                "a worker of the dask cluster",
                expected="it to outlive its task",
                got=f"the end of every worker that tried: {error}",
                hint="Was it killed for want of memory? Give workers more, or fewer threads.",
            )
            lost.__cause__ = error
            return lost
        except Exception as error:
            # what the scheduler says of a lost worker: dask's own errors, of many kinds
            raise WorkerError(
                "a worker of the dask cluster", expected="a result", got=f"{type(error).__name__}: {error}"
            ) from error
        return cloudpickle.loads(data)

    def finished(self, futures: Iterable[Any]) -> Iterator[Any]:
        from distributed import wait

        done, _ = wait(list(futures), return_when="FIRST_COMPLETED")
        yield from done

    def close(self, unfinished: Iterable[Any]) -> None:
        # tasks whose futures nobody holds any more are dropped by the scheduler
        self._payload = None
