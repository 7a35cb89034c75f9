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

__all__ = ["Pool", "is_client", "open_pool", "refuse_other_processes"]


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


def _prepare(payload: bytes) -> None:
    import cloudpickle

    global _loaded
    if _loaded is None or _loaded[0] != payload:
        task, config = cloudpickle.loads(payload)
        _loaded = payload, task, config


def _work(item: bytes) -> bytes:
    """In the worker: one item. An exception that cannot travel is put into words."""
    import cloudpickle

    assert _loaded is not None
    _, task, config = _loaded
    with configure(write=config.write, read=config.read, s3=config.s3):
        result = task(cloudpickle.loads(item))
    if isinstance(result, Exception):
        result = _portable(result)
    return _dumps(result)


def _work_with(payload: bytes, item: bytes) -> bytes:
    _prepare(payload)
    return _work(item)


def _portable(error: Exception) -> Exception:
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
        self.width = workers or os.cpu_count() or 1
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
        self.width = workers or max(sum(client.nthreads().values()), 1)
        self._payload = client.scatter(_dumps((task, current())), broadcast=True, hash=False)

    def submit(self, item: Any) -> Any:
        return self._client.submit(_work_with, self._payload, _dumps(item), pure=False)

    def result(self, future: Any) -> Any:
        import cloudpickle

        try:
            data = future.result()
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
