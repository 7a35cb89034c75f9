"""EagerQuery: what functions made of a collection, in memory and, beyond a budget, in mapped files."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Unpack

import numpy as np
import pandas as pd

from radiobject.config import WriteConfig, current
from radiobject.location import Location
from radiobject.model.collection_view import CollectionView
from radiobject.model.context import context_for_new
from radiobject.model.deriving import Origin, Place, derive
from radiobject.model.execution import Execution, Failure, How, results_of
from radiobject.model.pieces import Format, Piece, pieces_of
from radiobject.model.stages import BatchStage, MapStage, Work, identity_of
from radiobject.model.study import Study
from radiobject.storage import Storage

__all__ = ["EagerQuery"]

_WIDE = 60


class EagerQuery:
    """Results of `collection.map(fn)`: computed when it was called, in the collection's order.

    `query[i]` and iteration give what the functions returned: arrays, Volumes, images, or any value.
    `failures` has what went wrong with `errors="collect"`. Arrays beyond
    `ReadConfig(memory_budget_mb=)` lie in temporary files, which go with the query.
    """

    def __init__(
        self,
        collection: CollectionView,
        pieces: list[Piece],
        failures: list[Failure],
        stages: tuple[MapStage | BatchStage, ...],
        folders: tuple[_Folder, ...],
    ) -> None:
        self._collection, self._pieces, self._stages = collection, pieces, stages
        self._folders = folders
        self.failures = failures

    @classmethod
    def run(
        cls,
        collection: CollectionView,
        stage: MapStage | BatchStage,
        how: How,
        before: EagerQuery | None = None,
    ) -> EagerQuery:
        """Call the function for every volume of the collection, or for every result of `before`."""
        study, failures = collection._study, list(before.failures) if before else []
        spill = _Spill()
        if before is None:
            rows = collection._rows()
            pieces, total = pieces_of(study, collection.name, rows), len(rows)
        else:
            pieces, total = iter(before._pieces), len(before)
        outcomes = results_of(
            study, pieces, total, Work((stage,), _itself), Execution(**how), failures,
            title="map", ordered=True,
        )  # fmt: skip
        made = [spill.take(piece) for _, found in outcomes for piece in found]
        stages = (*(before._stages if before else ()), stage)
        folders = (*(before._folders if before else ()), *spill.folders)
        return cls(collection, made, failures, stages, folders)

    def map(
        self,
        fn: Callable[..., Any],
        *,
        format: Format = "numpy",
        version: str | None = None,
        **how: Unpack[How],
    ) -> EagerQuery:
        """Call `fn(result, obs_row)` for every result; the row has what functions before have added."""
        return self.run(self._collection, MapStage(fn, format, version), how, self)

    def map_batches(
        self,
        fn: Callable[..., Any],
        batch_size: int = 8,
        *,
        format: Format = "numpy",
        version: str | None = None,
        **how: Unpack[How],
    ) -> EagerQuery:
        """Call `fn([(result, obs_row), ...])` for up to `batch_size` results; it returns as many."""
        return self.run(self._collection, BatchStage(fn, batch_size, format, version), how, self)

    def write(
        self,
        uri: str | os.PathLike[str],
        name: str | None = None,
        *,
        kind: Literal["image", "label"] | None = None,
        write: WriteConfig | None = None,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        message: str = "",
        ctx: Any = None,
        **how: Unpack[How],
    ) -> Any:
        """Write the results to a new study at `uri`, as its collection `name`, and open that.

        Ids, rows, provenance and `ctx` are those of `LazyQuery.write`. `TransformError` for results that are
        no volumes.
        """
        context = context_for_new(ctx, uri, backend, storage_options, [self._collection.backend])
        place = Place(Storage(Location(uri, storage_options)), backend=backend)
        name = name or self._collection.name
        made = derive(
            self._origin(strict=False), name, place, kind=kind, write=write, message=message,
            how=Execution(**how),
            failures=[],
        )  # fmt: skip
        assert made is not None
        return self._collection._of(Study(made, context), name)

    def _origin(self, *, strict: bool = True) -> Origin:
        study, name = self._collection._study, self._collection.name
        index = study.index(name)
        at = {index.get_index(p.obs_id): p for p in self._pieces}
        positions = np.array(list(at), dtype=np.int64)

        def pieces(wanted: Sequence[int]) -> Iterator[Piece]:
            return (at[int(w)] for w in wanted)

        return Origin(study, name, positions, pieces, (), identity_of(self._stages, strict=strict))

    def to_list(self) -> list[tuple[Any, pd.Series[Any]]]:
        """`(result, obs_row)` of every volume; the row has what functions have added."""
        return [(p.value, p.series()) for p in self._pieces]

    def to_dataframe(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """One row a volume: its row with what functions have added, and `result`.

        `result` is the value where that is a number or text, else says what it is. `columns` picks some of
        the row's.
        """
        rows = [p.row() for p in self._pieces]
        frame = pd.DataFrame(rows, columns=None if columns is None else list(columns))
        frame["result"] = [_shown(p.value) for p in self._pieces]
        return frame

    @property
    def collection(self) -> CollectionView:
        """The volumes that the functions were called for."""
        return self._collection

    @property
    def obs_ids(self) -> list[str]:
        """Ids of the volumes that have a result."""
        return [p.obs_id for p in self._pieces]

    def __len__(self) -> int:
        return len(self._pieces)

    def __iter__(self) -> Iterator[Any]:
        return (p.value for p in self._pieces)

    def __getitem__(self, position: int | slice) -> Any:
        if isinstance(position, slice):
            return [p.value for p in self._pieces[position]]
        return self._pieces[position].value

    def _repr_html_(self) -> str:
        added = list(dict.fromkeys(n for p in self._pieces for n in p.updates))
        frame = self.to_dataframe(["obs_id", "obs_subject_id", *added])
        title = (
            f"<b>EagerQuery</b> on {self._collection.name}: {len(self)} results, {len(self.failures)} failed"
        )
        return f"<div>{title}{frame.to_html(max_rows=20)}</div>"

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"<EagerQuery on {self._collection.name}: {len(self)} results{failed}>"


class _Folder:
    """A temporary folder that lives as long as this object, and not longer than the process."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="radiobject-map-")
        weakref.finalize(self, shutil.rmtree, self.path)


class _Spill:
    """Keeps arrays in memory up to the budget; what comes after goes to files."""

    def __init__(self) -> None:
        self._left = current().read.memory_budget_mb * 2**20
        self._numbers = itertools.count()
        self.folders: tuple[_Folder, ...] = ()

    def take(self, piece: Piece) -> Piece:
        """The piece, its array in a file when there is no room for it."""
        self._left -= piece.nbytes
        if self._left >= 0 or not piece.nbytes:
            return piece
        if not self.folders:
            self.folders = (_Folder(),)
        return piece.mapped(os.path.join(self.folders[0].path, f"{next(self._numbers)}.npy"))


def _itself(piece: Piece) -> Piece:
    return piece


def _shown(value: Any) -> Any:
    if isinstance(value, bool | int | float | str | np.generic):
        return value
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    text = repr(value)
    return text if len(text) <= _WIDE else f"{text[: _WIDE - 3]}..."
