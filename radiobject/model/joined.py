"""Volume rows joined with their subjects' rows: what the filter of a collection sees."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from radiobject.format.pruning import columns_of, rows_where
from radiobject.model.dataframe import found_rows, visible_types
from radiobject.model.expression import compile_joined, names_in
from radiobject.model.study import Study

__all__ = ["found_volumes"]


def found_volumes(study: Study, name: str, expression: str | pc.Expression) -> npt.NDArray[np.int64]:
    """Positions of the volumes of a collection whose row, joined with the subject's, fits an expression.

    A name that both tables have means obs. An expression over one table is pushed into the read of that
    table; otherwise the columns that it names, of both, are read.

    Raises `ExpressionError`, and `UnknownColumnError` for a name that neither table has.
    """
    obs, subjects = study.obs(name), study.subjects
    types = {"obs": visible_types(obs), "obs_meta": visible_types(subjects)}
    where = f"filter on {name}"
    if isinstance(expression, str):
        condition = compile_joined(expression, types)
        named = {(place or _place(column, types), column) for place, column in names_in(expression)}
    elif isinstance(expression, pc.Expression):
        condition = expression
        schema = pa.schema(list({**types["obs_meta"], **types["obs"]}.items()))
        named = {(_place(column, types), column) for column in columns_of(condition, schema, where)}
    else:
        return found_rows(obs, expression)  # says what it takes
    of_obs, of_subjects = (sorted(c for place, c in named if place == table) for table in types)
    if not of_subjects:
        return found_rows(obs, expression)
    if not of_obs:
        ids = subjects.column(subjects.key).take(pa.array(found_rows(subjects, expression)))
        return study.positions_of_subjects(name, ids.to_pylist())
    rows = obs.read(of_obs)
    row_of = pc.index_in(
        obs.column("obs_subject_id"), value_set=subjects.column(subjects.key).combine_chunks()
    )
    of_each = subjects.read(of_subjects).take(row_of)
    if isinstance(expression, str):
        joined = pa.table({"obs": rows.to_struct_array(), "obs_meta": of_each.to_struct_array()})
    else:
        joined = pa.table([*rows.columns, *of_each.columns], names=[*of_obs, *of_subjects])
    return rows_where(joined, condition, where)


def _place(column: str, types: Mapping[str, Mapping[str, pa.DataType]]) -> str:
    return "obs" if column in types["obs"] else "obs_meta"
