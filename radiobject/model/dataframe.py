"""Dataframe: obs and obs_meta as a user sees them. Columns are read when asked for, and only those."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from radiobject.errors import MovedNameError, SelectionError, UnknownIdError, ViewError
from radiobject.format.pruning import rows_where
from radiobject.format.tables import Table
from radiobject.model.aliases import Aliases
from radiobject.model.expression import Clause, clauses
from radiobject.model.table_changes import Changing, TableChange, dropped_column, new_column, updated_rows
from radiobject.moved import Moved

__all__ = ["Dataframe", "found_rows", "matching", "to_pandas", "visible_types"]

_ONE_ROW = pa.table({"row": [0]})


class Dataframe:
    """A table of a study, or of a view of it. Reads go to Parquet column by column.

    `columns` leaves out what the engine keeps for itself (names that begin with `_`). Volume tables have
    aliases too, which are no columns but can be read and filtered by name: `voxel_spacing` is a text such as
    "(1.0, 1.0, 2.0)", `dimensions` one such as "(64, 64, 32)", `series_type` the collection's name. Of
    `obs_meta` the text `obs_ids` can be read by name: a JSON list of the subject's volumes, sorted.

    `update`, `add_column` and `drop_column` commit a new version of the study; this table, and the collection
    or study that it was taken from, then show it.
    """

    create = from_pandas = Moved("RadiObject.from_niftis(uri, images, obs_meta=frame) makes a study's tables")
    delete = Moved("RadiObject.delete(subjects=..., obs_ids=...) takes rows out, with their volumes")

    def __init__(
        self,
        table: Table,
        positions: npt.NDArray[np.int64] | None = None,
        *,
        collection: str | None = None,
        changing: Changing | None = None,
        computed: Mapping[str, Callable[[list[str]], pa.Array]] | None = None,
    ) -> None:
        if not isinstance(table, Table):
            raise MovedNameError(
                f"Dataframe({table!r}): tables have no URI of their own",
                hint="RadiObject(uri).obs_meta and .collection(name).obs are the tables of a study.",
            )
        self._table, self._positions, self._collection = table, positions, collection
        self._changing, self._computed = changing, computed or {}

    @property
    def _aliases(self) -> Aliases:
        return Aliases(self._table.schema.names, self._collection)

    @property
    def columns(self) -> list[str]:
        """Names of the visible columns, in stored order."""
        return [n for n in self._table.schema.names if not n.startswith("_")]

    @property
    def all_columns(self) -> list[str]:
        """The same as `columns`, which has the keys too."""
        return self.columns

    @property
    def index_columns(self) -> tuple[str, ...]:
        """The columns that identify a row: of obs_meta obs_subject_id, of obs that and obs_id."""
        return tuple(n for n in ("obs_subject_id", "obs_id") if n in self._table.schema.names)

    @property
    def dtypes(self) -> dict[str, str]:
        """Arrow type of each visible column."""
        return {n: str(self._table.schema.field(n).type) for n in self.columns}

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and visible columns."""
        return len(self), len(self.columns)

    def to_arrow(
        self, columns: Sequence[str] | None = None, filter: str | pc.Expression | None = None
    ) -> pa.Table:
        """The rows as an Arrow table. `filter` is text such as "age > 40", or a pyarrow expression.

        Raises `UnknownIdError` for a column that is not there, `ExpressionError` for a filter that is wrong.
        """
        names, aliases = self.columns if columns is None else list(columns), self._aliases
        if made := [n for n in names if n in self._computed]:
            asked = dict.fromkeys([self._table.key, *(n for n in names if n not in made)])
            rows = self.to_arrow(list(asked), filter)
            for name in made:
                keys = rows[self._table.key].to_pylist()
                rows = rows.append_column(name, self._computed[name](keys))
            return rows.select(names)
        if unknown := [n for n in names if n not in self._table.schema.names and n not in aliases.types]:
            raise UnknownIdError(f"columns {unknown}", expected=f"some of {self.columns}")
        stored = aliases.stored(names) or [self._table.key]
        positions = self._positions
        if filter is not None:
            found = found_rows(self._table, filter, aliases)
            positions = found if positions is None else positions[np.isin(positions, found)]
        rows = self._table.read(stored) if positions is None else self._table.rows(positions, stored)
        return aliases.filled(rows, names)

    def read(
        self,
        columns: Sequence[str] | None = None,
        filter: str | pc.Expression | None = None,
        *,
        value_filter: str | pc.Expression | None = None,
        include_index: bool = False,
    ) -> pd.DataFrame:
        """The rows as a pandas DataFrame; nullable, boolean, categorical and time columns keep their kind.

        `filter` (or `value_filter`) and errors are those of `to_arrow`; `include_index=True` puts the
        `index_columns` in front of `columns`.
        """
        if include_index and columns is not None:
            columns = [*self.index_columns, *(c for c in columns if c not in self.index_columns)]
        return to_pandas(self.to_arrow(columns, value_filter if filter is None else filter))

    def files(self) -> list[str]:
        """URLs of the Parquet parts, for pandas, DuckDB or Polars. A folder listing is not the table."""
        base = self._table.storage.location.uri
        return [f"{base}/{part.path}" for part in self._table.parts]

    def update(self, frame: Any, *, message: str = "") -> Self:
        """Set values by key, in one commit: `obs_subject_id` for obs_meta, `obs_id` for obs.

        `frame` is a DataFrame (the key a column or the index), an Arrow table or a mapping of columns, with
        some rows and some columns: all others stay. Its nulls are stored as nulls. Rows of new subjects are
        added to obs_meta. What equals the stored values already makes no version.

        Raises `MetadataError` for a missing key, a column that the table does not have (`add_column` makes
        one) or that the engine fills, and values that the stored type cannot hold without loss;
        `UnknownIdError` for an obs_id that is not there, `ViewError` on a view, `ConflictError` when another
        writer has changed one of the rows.

        >>> from radiobject.examples import study
        >>> radi = study(n=2)
        >>> frame = radi.obs_meta.update({"obs_subject_id": ["sub-02"], "age": [44]}).read()
        >>> int(frame["age"][1]), radi.version
        (44, 2)
        """
        return self._change("update", lambda table: updated_rows(table, frame, self._what), message)

    def add_column(
        self, name: str, dtype: Any = None, fill: Any = None, *, values: Any = None, message: str = ""
    ) -> Self:
        """Add a column, in one commit.

        `dtype` is NumPy's, pandas', Arrow's or a name; without it the values or the fill tell. `values` are a
        mapping or Series by key, or a sequence with one value a row, in order; rows without one get `fill`,
        which is null by default.

        Raises `MetadataError` for a name that is taken or that the engine uses, and values that do not fit,
        `UnknownIdError` for values of rows that are not there, `ViewError` on a view.

        >>> from radiobject.examples import study
        >>> meta = study(n=2).obs_meta.add_column("visits", "Int64", values={"sub-02": 3})
        >>> meta.read(["visits"])["visits"].to_list()
        [<NA>, 3]
        """
        return self._change(
            "add_column", lambda table: new_column(table, name, dtype, fill, values, self._what), message
        )

    def drop_column(self, name: str, *, message: str = "") -> Self:
        """Take a column out, in one commit; older versions still have it.

        Raises `UnknownColumnError` (a `KeyError` and a `ValueError`) when there is none of that name,
        `MetadataError` for a key or a column that the engine fills, `ViewError` on a view.
        """
        return self._change("drop_column", lambda table: dropped_column(table, name, self._what), message)

    @property
    def _what(self) -> str:
        return self._table.name if self._collection is None else f"obs of {self._collection!r}"

    def _change(self, operation: str, change: Callable[[Table], TableChange | None], message: str) -> Self:
        if self._positions is not None or self._changing is None:
            raise ViewError(
                f"{operation}() on {self._what}",
                expected="the whole obs_meta of a study, or obs of a collection",
                got="a view" if self._positions is not None else "a table that only the engine writes",
                hint="Call it on RadiObject(uri).obs_meta, or on the obs of one of its collections.",
            )
        self._table = self._changing(operation, change, message)
        return self

    def __len__(self) -> int:
        return self._table.num_rows if self._positions is None else len(self._positions)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __getitem__(self, column: str) -> Any:
        return self.read([column])[column]

    def __repr__(self) -> str:
        return repr(self.read([c for c in self.columns if c != "intensity_histogram"]))

    def _repr_html_(self) -> str:
        frame = self.read([c for c in self.columns if c != "intensity_histogram"])
        return str(frame.to_html(max_rows=20))


def visible_types(table: Table) -> dict[str, pa.DataType]:
    """Arrow types of the columns that are not the engine's own."""
    return {f.name: f.type for f in table.schema if not f.name.startswith("_")}


def found_rows(
    table: Table, filter: str | pc.Expression, aliases: Aliases | None = None
) -> npt.NDArray[np.int64]:
    """Positions of the rows that fit a filter expression, in order; text may name `aliases` too."""
    if isinstance(filter, str):
        aliases = aliases or Aliases((), None)
        name = table.name.rsplit("/", 1)[-1]
        found = matching(table, clauses(filter, {name: visible_types(table)}, {name: aliases.types}), aliases)
        return np.arange(table.num_rows, dtype=np.int64) if found is None else found
    if not isinstance(filter, pc.Expression):
        raise SelectionError("filter", expected="text or a pyarrow expression", got=type(filter).__name__)
    return table.find(filter)


def matching(table: Table, conditions: Sequence[Clause], aliases: Aliases) -> npt.NDArray[np.int64] | None:
    """Positions of the rows of a table for which all conditions are true, in order; None for every row.

    What needs no alias is pushed into the read of the table; aliases are computed of the rows that it leaves.
    """
    where = f"filter on table {table.name}"
    pushed, left, names = [], [], set()
    for clause in conditions:
        columns = {column for _, column in clause.names}
        if not aliases.stored(columns):  # the same for every row
            if not len(rows_where(aliases.filled(_ONE_ROW, ["row", *columns]), clause.condition, where)):
                return np.empty(0, np.int64)
        elif columns & set(aliases.types):
            left.append(clause.condition)
            names |= columns
        else:
            pushed.append(clause.condition)
    found = table.find(reduce(operator.and_, pushed)) if pushed else None
    if left and (found is None or len(found)):
        stored = aliases.stored(sorted(names))
        rows = aliases.filled(
            table.read(stored) if found is None else table.rows(found, stored), sorted(names)
        )
        kept = rows_where(rows, reduce(operator.and_, left), where)
        found = kept if found is None else found[kept]
    return found


def to_pandas(rows: pa.Table) -> pd.DataFrame:
    """Arrow to pandas without loss: ints and booleans with nulls become nullable types, not floats."""
    frame = {}
    for name in rows.schema.names:
        column = rows[name]
        if column.null_count and (pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)):
            bits = "boolean" if pa.types.is_boolean(column.type) else str(column.type).replace("int", "Int")
            frame[name] = column.to_pandas(
                types_mapper=lambda _, b=bits: pd.api.types.pandas_dtype(b.replace("u", "U"))
            )
        else:
            frame[name] = column.to_pandas()
    return pd.DataFrame(frame)
