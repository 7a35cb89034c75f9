"""CollectionView: a collection, or a part of it, for reading: selections, tables, volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from radiobject.errors import SelectionError, UnknownIdError
from radiobject.format.changes import CollectionEdit, Edit
from radiobject.format.tables import Table
from radiobject.model.dataframe import Dataframe
from radiobject.model.doors import CollectionDoors
from radiobject.model.index import Index, select_labels, select_positions
from radiobject.model.joined import found_volumes
from radiobject.model.partners import GRID_COLUMNS, same_grid
from radiobject.model.study import Study
from radiobject.model.table_changes import TableChange
from radiobject.model.volume import Volume

__all__ = ["CollectionView", "ILoc", "Loc", "Owner", "filled", "matching_rows"]

V = TypeVar("V")


class ILoc(Generic[V]):
    """`x.iloc[key]`: by position."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def __getitem__(self, key: Any) -> V:
        picked: V = self._owner._pick(select_positions(key, len(self._owner), "iloc"))
        return picked


class Loc(Generic[V]):
    """`x.loc[key]`: by id."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def __getitem__(self, key: Any) -> V:
        picked: V = self._owner._pick(self._owner._locate(key))
        return picked


class Owner(Protocol):
    """Who commits a change of a collection: the RadiObject it was taken from, which then shows it too."""

    def _change(self, operation: str, edit: Edit, message: str) -> Any: ...

    def _refuse_view(self, what: str) -> None: ...

    def _show(self, study: Study) -> None: ...

    @property
    def _study(self) -> Study: ...


class CollectionView(CollectionDoors):
    """A collection of one version, whole or narrowed, for reading. VolumeCollection adds the rest."""

    def _set(
        self,
        study: Study,
        name: str,
        positions: npt.NDArray[np.int64] | None,
        owner: Owner | None,
    ) -> None:
        self._study, self.name, self._owner = study, name, owner
        self._entry = study.entry(name)
        self._positions = positions

    @classmethod
    def _of(
        cls,
        study: Study,
        name: str,
        positions: npt.NDArray[np.int64] | None = None,
        owner: Owner | None = None,
    ) -> Self:
        """A collection of an open study, or a view of it; a change of it goes through `owner`."""
        made = cls.__new__(cls)
        made._set(study, name, positions, owner)
        return made

    def _view(self, positions: npt.NDArray[np.int64]) -> Self:
        return self._of(self._study, self.name, positions, self._owner)

    @property
    def uri(self) -> str | None:
        """URL of the collection's folder; None for a view."""
        return None if self.is_view else f"{self._study.location.uri}/{self._entry.path}"

    @property
    def is_view(self) -> bool:
        """Whether this is a part of the stored collection."""
        return self._positions is not None

    @property
    def kind(self) -> str:
        """ "image" or "label"."""
        return self._entry.kind

    @property
    def backend(self) -> str:
        """Name of the array backend."""
        return self._entry.backend

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """Voxels along x, y, z when all volumes have the same, else None."""
        if not self.is_view or self._entry.shape is not None:
            return self._entry.shape if len(self) else None
        frame = self.obs.to_arrow(["dim_x", "dim_y", "dim_z"])
        shapes = {(r["dim_x"], r["dim_y"], r["dim_z"]) for r in frame.to_pylist()}
        return shapes.pop() if len(shapes) == 1 else None

    @property
    def is_uniform(self) -> bool:
        """Whether all volumes have one spatial shape."""
        return self.shape is not None

    @property
    def same_grid(self) -> bool:
        """Whether all volumes have one shape and one affine.

        That is, corners in the same places within 0.001 mm, or a hundredth of a voxel where that is less.
        """
        return same_grid(self.obs.to_arrow(GRID_COLUMNS))

    @property
    def obs(self) -> Dataframe:
        """The volume table, narrowed to this view."""
        return Dataframe(
            self._study.obs(self.name), self._positions, collection=self.name, changing=self._change_obs
        )

    volumes = obs

    def to_obs(self) -> Any:
        """The volume table as a pandas DataFrame."""
        return self.obs.read()

    @property
    def index(self) -> Index:
        """Volume ids, in order."""
        whole = self._study.index(self.name)
        return whole if self._positions is None else whole.take(self._positions)

    @property
    def obs_ids(self) -> list[str]:
        """Volume ids, in order."""
        return self.index.to_list()

    @property
    def obs_subject_ids(self) -> list[str]:
        """The subject of each volume, in order."""
        column = self._study.obs(self.name).column("obs_subject_id")
        ids: list[str] = (column if self._positions is None else column.take(self._positions)).to_pylist()
        return ids

    @property
    def subjects(self) -> Index:
        """The subjects that have volumes here, each once, in order of first appearance."""
        return Index(dict.fromkeys(self.obs_subject_ids), "obs_subject_id")

    @property
    def iloc(self) -> ILoc[Any]:
        """Select by position."""
        return ILoc(self)

    @property
    def loc(self) -> Loc[Any]:
        """Select by obs_id."""
        return Loc(self)

    def sel(self, subject: str | Sequence[str] | None = None, **columns: Any) -> Any:
        """Select by subject and by values of obs columns (`session="pre"`, `run=[1, 2]`).

        One match gives the `Volume`, otherwise a view. `UnknownIdError` when a subject has no volume here.
        """
        positions = self._rows()
        if subject is not None:
            wanted = [subject] if isinstance(subject, str) else list(subject)
            of_subject = self._study.positions_of_subjects(self.name, wanted)
            positions = np.intersect1d(positions, of_subject) if self.is_view else of_subject
            if not len(positions):
                raise UnknownIdError(
                    f"subject {subject!r}", expected=f"a subject with a volume in {self.name!r}"
                )
        if columns:
            positions = np.intersect1d(positions, matching_rows(self._study.obs(self.name), columns))
        if len(positions) == 1:
            return self._study.volume(self.name, int(positions[0]))
        return self._view(positions)

    def filter(self, expression: str | pc.Expression) -> Self:
        """A view of the volumes whose row fits, such as `filter("age > 40 and session == 'pre'")`.

        Names are columns of obs, then of the subject's row in obs_meta; `obs_meta.site` says which. A
        pyarrow expression is taken too. Where a column that is compared has no value, the volume is left out.

        Raises `ExpressionError` that shows the mistake, `UnknownColumnError` for a name neither table has.
        """
        found = found_volumes(self._study, self.name, expression)
        return self._view(
            found if self._positions is None else self._positions[np.isin(self._positions, found)]
        )

    def get_obs_row_by_obs_id(self, obs_id: str) -> pd.DataFrame:
        """The volume's row of obs, as a DataFrame of one row, or of none when there is no such volume."""
        return self.obs.read(filter=pc.field("obs_id") == obs_id)

    def copy(self) -> Self:
        """A view or handle equal to this one. No volume is copied: `write` does that."""
        return self._of(self._study, self.name, self._positions, self._owner)

    def groupby_subject(self) -> Iterator[tuple[str, Self]]:
        """`(subject, view of its volumes)`, subjects in order of first appearance."""
        rows = self._rows()
        groups: dict[str, list[int]] = {}
        for position, subject in zip(rows, self.obs_subject_ids, strict=True):
            groups.setdefault(subject, []).append(int(position))
        for subject, positions in groups.items():
            yield subject, self._view(np.array(positions, dtype=np.int64))

    def head(self, n: int = 5) -> Self:
        """The first `n` volumes."""
        return self._view(self._rows()[: max(n, 0)])

    def tail(self, n: int = 5) -> Self:
        """The last `n` volumes."""
        return self._view(self._rows()[max(len(self) - max(n, 0), 0) :])

    def sample(self, n: int = 5, seed: int | None = None) -> Self:
        """`n` volumes at random, in the collection's order; the same ones for the same seed."""
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[: max(n, 0)])
        return self._view(self._rows()[chosen])

    def _change_obs(
        self, operation: str, change: Callable[[Table], TableChange | None], message: str
    ) -> Table:
        """Commit a change of the volume table, made for the table as it stands, and give the new one.

        The study that this collection was taken from commits it, and both then show the new version.
        """
        owner, study = self._owner, self._study
        if owner is not None:
            owner._refuse_view(operation)
            study = owner._study
        entry, made = study.entry(self.name), change(study.obs(self.name))
        if made is not None:
            changed = CollectionEdit(
                entry.kind,
                entry.backend,
                updated=made.updated,
                added_columns=made.added_columns,
                dropped_columns=made.dropped_columns,
            )
            edit = Edit({self.name: changed})
            if owner is None:
                study = study.changed(operation, edit, message)
            else:
                owner._change(operation, edit, message)
                study = owner._study
        self._set(study, self.name, None, owner)
        return study.obs(self.name)

    def _rows(self) -> npt.NDArray[np.int64]:
        if self._positions is None:
            return np.arange(self._entry.n_volumes, dtype=np.int64)
        return self._positions

    def _locate(self, key: Any) -> int | npt.NDArray[np.int64]:
        return select_labels(key, self.index, f"{self.name}.loc")

    def _pick(self, picked: int | npt.NDArray[np.int64]) -> Volume | Self:
        if isinstance(picked, int):
            row = picked if self._positions is None else int(self._positions[picked])
            return self._study.volume(self.name, row)
        return self._view(self._rows()[picked])

    def __len__(self) -> int:
        return self._entry.n_volumes if self._positions is None else len(self._positions)

    def __iter__(self) -> Iterator[Volume]:
        for position in self._rows():
            yield self._study.volume(self.name, int(position))

    def __getitem__(self, key: Any) -> Any:
        """`iloc[key]` for an int, a slice, a list of ints or a mask, `loc[key]` for ids."""
        first = next(iter(key), 0) if isinstance(key, list | tuple | np.ndarray) else key
        by_position = isinstance(first, int | np.integer | np.bool_ | slice)
        return self.iloc[key] if by_position else self.loc[key]

    def __repr__(self) -> str:
        size = "x".join(map(str, self.shape)) if self.shape else "mixed shapes"
        view = "view of " if self.is_view else ""
        return (
            f"<VolumeCollection {view}{self.name}: {len(self)} {self.kind} volumes, {size}, {self.backend}>"
        )


def matching_rows(table: Table, columns: Mapping[str, Any]) -> npt.NDArray[np.int64]:
    """Rows of a table whose columns equal the values (or one of several); None finds nulls.

    Raises `UnknownIdError` for a column that is not there, `SelectionError` for a value of another type.
    """
    visible = Dataframe(table).columns
    if unknown := [c for c in columns if c not in visible]:
        raise UnknownIdError(f"columns {unknown} of {table.name!r}", expected=f"some of {visible}")
    rows = table.read(list(columns))
    keep = np.ones(table.num_rows, dtype=bool)
    for column, value in columns.items():
        several = isinstance(value, list | tuple | set | frozenset | range | np.ndarray)
        found = np.zeros(table.num_rows, dtype=bool)
        for one in value if several else [value]:
            found |= _equal(rows[column], one, column)
        keep &= found
    return np.flatnonzero(keep)


def filled(table: Table, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `columns` that have a value in any row: a collection without sessions is narrowed by none."""
    have = [c for c in columns if c in table.schema.names]
    rows = table.read(have)
    return {c: columns[c] for c in have if rows[c].null_count < rows.num_rows}


def _equal(column: pa.ChunkedArray, value: Any, name: str) -> npt.NDArray[np.bool_]:
    try:
        same = pc.is_null(column) if value is None else pc.equal(column, value)
    except (pa.ArrowException, TypeError) as error:
        raise SelectionError(
            f"column {name!r}", expected=f"values of type {column.type}", got=repr(value)
        ) from error
    found: npt.NDArray[np.bool_] = pc.fill_null(same, fill_value=False).to_numpy()
    return found
