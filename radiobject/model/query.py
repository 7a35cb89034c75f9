"""LazyQuery: selections and functions over a collection, run in one pass when their result is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from radiobject.config import WriteConfig
from radiobject.errors import AlignmentError, ConfigError, SelectionError
from radiobject.location import Location
from radiobject.model.collection_view import CollectionView
from radiobject.model.context import context_for_new
from radiobject.model.copying import Chosen, copy_study
from radiobject.model.dataframe import visible_types
from radiobject.model.deriving import Origin, Place, derive
from radiobject.model.dtypes import common_dtype
from radiobject.model.execution import Execution, Failure, How, results_of
from radiobject.model.expression import names_in
from radiobject.model.pieces import Format, Piece, pieces_of
from radiobject.model.stages import BatchStage, FilterStage, MapStage, Stage, Work, identity_of
from radiobject.model.study import Study
from radiobject.model.volume import Volume
from radiobject.storage import Storage

__all__ = ["LazyQuery", "VolumeBatch"]


@dataclass(frozen=True)
class VolumeBatch:
    """Some volumes of a query, in order, with their ids and their rows."""

    volumes: list[Volume]
    obs: pd.DataFrame

    @property
    def obs_ids(self) -> list[str]:
        """Ids of the volumes."""
        return [v.obs_id for v in self.volumes]

    @property
    def subject_ids(self) -> list[str]:
        """Subjects of the volumes."""
        return [v.obs_subject_id for v in self.volumes]

    def stack(self) -> npt.NDArray[Any]:
        """The voxels as one array (N, X, Y, Z[, T]). `AlignmentError` when shapes differ."""
        return _stacked(((v.obs_id, v.to_numpy()) for v in self.volumes), len(self.volumes))

    def __len__(self) -> int:
        return len(self.volumes)


class LazyQuery:
    """What is to be done with a collection's volumes, in the order it was said. Immutable; made by `lazy()`.

    Selections cost table reads at most. Functions (`map`) run when a result is asked for, in one pass, with
    as many volumes in memory as there are workers. `fn(volume, obs_row)` gets an array x, y, z[, t][, c]
    (or a Volume, or a nibabel image: `format=`) and the volume's row joined with its subject's, and returns
    the volume, or `(volume, {column: value})`. What it adds reaches the next function and is written.

    Methods that run functions take `executor=` ("threads", "serial", "processes", a dask client), `workers=`,
    `progress=`, `retries=` and `errors=` ("raise", "collect"; see `.failures`).
    """

    def __init__(self, collection: CollectionView, stages: tuple[Stage, ...] = ()) -> None:
        self._collection, self._stages = collection, stages
        self.failures: list[Failure] = []
        """What went wrong in the last run with `errors="collect"`."""

    @property
    def collection(self) -> CollectionView:
        """The volumes that are selected before any function runs."""
        return self._collection

    @property
    def computes(self) -> bool:
        """Whether there is a function to run."""
        return bool(self._stages)

    def _narrowed(self, collection: CollectionView) -> LazyQuery:
        return LazyQuery(collection, self._stages)

    def _then(self, stage: Stage) -> LazyQuery:
        return LazyQuery(self._collection, (*self._stages, stage))

    @property
    def _filters_late(self) -> bool:
        return any(isinstance(s, FilterStage) for s in self._stages)

    def _refuse_late(self, what: str) -> None:
        if self._filters_late:
            raise SelectionError(
                f"{what}() after a filter on what functions have made",
                expected="positions that are known",
                got="volumes that only running the functions can count",
                hint=f"Put {what}() first, or write() the query and go on from there.",
            )

    def filter(self, expression: str | pc.Expression) -> LazyQuery:
        """Keep the volumes whose row fits; the rules of `VolumeCollection.filter`.

        After `map` it sees what functions have added, and counting then runs them.
        """
        if not any(isinstance(s, MapStage | BatchStage) for s in self._stages):
            return self._narrowed(self._collection.filter(expression))
        if isinstance(expression, str):
            names_in(expression)  # a mistake in the text shows now, not in the middle of a run
        study, name = self._collection._study, self._collection.name
        types = {"obs": visible_types(study.obs(name)), "obs_meta": visible_types(study.subjects)}
        return self._then(FilterStage(expression, types))

    def filter_subjects(self, subjects: Sequence[str]) -> LazyQuery:
        """Keep the volumes of these subjects; one without volumes here is no error."""
        study, name = self._collection._study, self._collection.name
        found = study.positions_of_subjects(name, [subjects] if isinstance(subjects, str) else subjects)
        rows = self._collection._rows()
        return self._narrowed(self._collection._view(rows[np.isin(rows, found)]))

    def iloc(self, key: Any) -> LazyQuery:
        """Keep volumes by position: an int, a slice, a list or a mask."""
        self._refuse_late("iloc")
        picked = self._collection.iloc[[key] if isinstance(key, int | np.integer) else key]
        return self._narrowed(picked)

    def loc(self, key: Any) -> LazyQuery:
        """Keep volumes by obs_id."""
        return self._narrowed(self._collection.loc[[key] if isinstance(key, str) else key])

    def head(self, n: int = 5) -> LazyQuery:
        """Keep the first `n`."""
        self._refuse_late("head")
        return self._narrowed(self._collection.head(n))

    def tail(self, n: int = 5) -> LazyQuery:
        """Keep the last `n`."""
        self._refuse_late("tail")
        return self._narrowed(self._collection.tail(n))

    def sample(self, n: int, seed: int | None = None) -> LazyQuery:
        """Keep `n` at random; the same ones for the same seed, on every machine."""
        self._refuse_late("sample")
        return self._narrowed(self._collection.sample(n, seed))

    def map(
        self, fn: Callable[..., Any], *, format: Format = "numpy", version: str | None = None
    ) -> LazyQuery:
        """Call `fn(volume, obs_row)` for each volume. `format`: "numpy", "volume" or "nibabel".

        `version` is your word for which function it is, where its code and what it holds cannot tell.
        """
        return self._then(MapStage(fn, format, version))

    def map_batches(
        self,
        fn: Callable[..., Any],
        batch_size: int = 8,
        *,
        format: Format = "numpy",
        version: str | None = None,
    ) -> LazyQuery:
        """Call `fn([(volume, obs_row), ...])` for up to `batch_size` volumes; it returns as many results."""
        others = {s.n for s in self._stages if isinstance(s, BatchStage)} - {batch_size}
        if others:
            raise ConfigError(
                "map_batches(batch_size=)", expected=f"{others.pop()}, as before", got=str(batch_size)
            )
        return self._then(BatchStage(fn, batch_size, format, version))

    def count(self, **how: Unpack[How]) -> int:
        """How many volumes the query gives. Reads no voxel, unless a filter comes after a function."""
        Execution(**how)
        if not self._filters_late:
            return len(self._collection)
        return sum(len(results) for _, results in self._results(_nothing, how, "count"))

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        # asking whether anything is selected must not run functions
        return len(self._collection) > 0

    def to_obs(self, **how: Unpack[How]) -> pd.DataFrame:
        """The rows of the selected volumes as the tables have them. Reads no voxel, as `count`."""
        Execution(**how)
        if not self._filters_late:
            return self._collection.obs.read()
        kept = [i for _, ids in self._results(_obs_id, how, "to_obs") for i in ids]
        frame: pd.DataFrame = self._collection.loc[kept].obs.read()
        return frame

    def iter_volumes(self, **how: Unpack[How]) -> Iterator[Volume]:
        """The volumes one by one, in order; lazy ones when there are no functions.

        `volume.metadata` has what functions have added. No more than the workers' volumes are in memory.
        """
        Execution(**how)
        if not self._stages:
            return iter(self._collection)
        return (v for _, found in self._results(Piece.as_volume, how, "volumes", ordered=True) for v in found)

    def iter_batches(self, n: int, **how: Unpack[How]) -> Iterator[VolumeBatch]:
        """`n` volumes at a time (the last time fewer), in order, with their rows."""
        if n < 1:
            raise ConfigError("iter_batches(n)", expected="at least 1", got=repr(n))
        return batches_of(self.iter_volumes(**how), n)

    def to_numpy_stack(self, **how: Unpack[How]) -> npt.NDArray[Any]:
        """All volumes as (N, X, Y, Z[, T]). `AlignmentError` when shapes differ, `SelectionError`: none."""
        results = self._results(_array, how, "stack", ordered=True)
        return _stacked((pair for _, found in results for pair in found), len(self._collection))

    def write(
        self,
        uri: str | os.PathLike[str],
        name: str | None = None,
        *,
        kind: Literal["image", "label"] | None = None,
        write: WriteConfig | None = None,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        resume: bool = False,
        message: str = "",
        ctx: Any = None,
        **how: Unpack[How],
    ) -> Any:
        """Write the volumes to a new study at `uri`, as its collection `name`, and open that.

        Ids stay those of the source; rows keep what the source's said, get what functions add, and name
        parent and function. Without functions the stored objects are copied byte for byte. `resume=True`
        keeps what an interrupted run of the same query has finished. One commit, at the end. `ctx` is that of
        `RadiObject`, for the new study.
        """
        context = context_for_new(ctx, uri, backend, storage_options, [self._collection.backend])
        name = name or self._collection.name
        execution = Execution(**how)
        if not self._stages and kind is None and write is None:
            source = self._collection
            snapshot = copy_study(
                os.fspath(uri), [Chosen(name, source._study, source.name, source._rows())],
                [(source._study, source.subjects.to_list())], backend=backend,
                storage_options=dict(storage_options or {}), executor=execution.executor,
                workers=execution.workers, progress=execution.progress, message=message,
            )  # fmt: skip
            return self._collection._of(Study(snapshot, context), name)
        self.failures = []
        place = Place(Storage(Location(uri, storage_options)), backend=backend)
        made = derive(
            self._origin(strict=resume), name, place, kind=kind, write=write, resume=resume, message=message,
            how=execution, failures=self.failures,
        )  # fmt: skip
        assert made is not None
        return self._collection._of(Study(made, context), name)

    materialize = write

    def _origin(self, *, strict: bool = True) -> Origin:
        study, name = self._collection._study, self._collection.name
        return Origin(
            study, name, self._collection._rows(), lambda at: pieces_of(study, name, at),
            self._stages, identity_of(self._stages, strict=strict),
        )  # fmt: skip

    def _results(
        self, finish: Callable[[Piece], Any], how: How, title: str, *, ordered: bool = True
    ) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
        self.failures = []
        study, name, rows = self._collection._study, self._collection.name, self._collection._rows()
        return results_of(
            study, pieces_of(study, name, rows), len(rows), Work(self._stages, finish), Execution(**how),
            self.failures, title=title, ordered=ordered,
        )  # fmt: skip

    def __repr__(self) -> str:
        steps = "".join(f" -> {s}" for s in identity_of(self._stages, strict=False).split(" | ") if s)
        return f"<LazyQuery on {self._collection.name}: {len(self._collection)} volumes{steps}>"


def _nothing(piece: Piece) -> None:
    return None


def _obs_id(piece: Piece) -> str:
    return piece.obs_id


def _array(piece: Piece) -> tuple[str, npt.NDArray[Any]]:
    return piece.obs_id, np.asarray(piece.given("numpy"))


def batches_of(volumes: Iterator[Volume], n: int) -> Iterator[VolumeBatch]:
    held: list[Volume] = []
    for volume in volumes:
        held.append(volume)
        if len(held) == n:
            yield VolumeBatch(held, pd.DataFrame([v.metadata for v in held]))
            held = []
    if held:
        yield VolumeBatch(held, pd.DataFrame([v.metadata for v in held]))


def _stacked(arrays: Iterator[tuple[str, npt.NDArray[Any]]], most: int) -> npt.NDArray[Any]:
    """Arrays of one shape as one array, filled as they come: never all of them twice in memory."""
    stack: npt.NDArray[Any] | None = None
    count = 0
    for obs_id, array in arrays:
        if stack is None:
            stack = np.empty((most, *array.shape), array.dtype)
        if array.shape != stack.shape[1:]:
            raise AlignmentError(
                f"volume {obs_id!r}", expected=f"shape {stack.shape[1:]}, as the first", got=str(array.shape),
                hint="Volumes of one shape stack: resample first, or iterate.",
            )  # fmt: skip
        wide = common_dtype((stack.dtype, array.dtype), f"volume {obs_id!r} beside those before it")
        if wide != stack.dtype:
            stack = stack.astype(wide)
        stack[count] = array
        count += 1
    if stack is None:
        raise SelectionError("to_numpy_stack", expected="at least one volume", got="none")
    return stack[:count]
