"""Volume rows joined with their subjects' rows: what the filter of a collection sees."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from radiobject.format.pruning import columns_of, rows_where
from radiobject.format.tables import Table
from radiobject.model.aliases import Aliases
from radiobject.model.dataframe import found_rows, matching, visible_types
from radiobject.model.expression import Clause, clauses
from radiobject.model.study import Study

__all__ = ["found_volumes"]

Positions = npt.NDArray[np.int64]


def found_volumes(study: Study, name: str, expression: str | pc.Expression) -> Positions:
    """Positions of the volumes of a collection whose row, joined with the subject's, fits an expression.

    A name that both tables have means obs. What an expression asks of one table is pushed into the read of
    that table; what compares columns of both is computed for the rows which that leaves.

    Raises `ExpressionError`, and `UnknownColumnError` for a name that neither table has.
    """
    obs, subjects = study.obs(name), study.subjects
    types = {"obs": visible_types(obs), "obs_meta": visible_types(subjects)}
    if isinstance(expression, str):
        aliases = Aliases(obs.schema.names, name)
        parts = clauses(expression, types, {"obs": aliases.types})
        found = matching(obs, [c for c in parts if "obs_meta" not in c.tables], aliases)
        of_subjects = [c for c in parts if c.tables == {"obs_meta"}]
        if of_subjects and (found is None or len(found)):
            people = matching(subjects, of_subjects, Aliases((), None))
            found = _both(found, _volumes_of(study, name, people))
        if mixed := [c for c in parts if len(c.tables) > 1]:
            found = _joined(study, name, mixed, found, aliases)
        return _every(obs) if found is None else found
    if not isinstance(expression, pc.Expression):
        return found_rows(obs, expression)  # says what it takes
    return _found_by_arrow(study, name, expression, types)


def _found_by_arrow(
    study: Study, name: str, condition: pc.Expression, types: Mapping[str, Mapping[str, pa.DataType]]
) -> Positions:
    where, obs, subjects = f"filter on {name}", study.obs(name), study.subjects
    schema = pa.schema(list({**types["obs_meta"], **types["obs"]}.items()))
    named = columns_of(condition, schema, where)
    of_obs = [c for c in named if c in types["obs"]]
    of_subjects = [c for c in named if c not in types["obs"]]
    if not of_subjects:
        return found_rows(obs, condition)
    if not of_obs:
        found = _volumes_of(study, name, found_rows(subjects, condition))
        return _every(obs) if found is None else found
    rows = obs.read(of_obs)
    of_each = subjects.read(of_subjects).take(_subject_rows(study, name, None))
    return rows_where(
        pa.table([*rows.columns, *of_each.columns], names=[*of_obs, *of_subjects]), condition, where
    )


def _joined(
    study: Study, name: str, conditions: Sequence[Clause], among: Positions | None, aliases: Aliases
) -> Positions | None:
    """Which of the volumes at `among` (None: all) fit conditions on both tables."""
    if among is not None and not len(among):
        return among
    obs, subjects = study.obs(name), study.subjects
    named = frozenset[tuple[str, str]]().union(*(c.names for c in conditions))
    of_obs, of_subjects = (sorted(c for place, c in named if place == table) for table in ("obs", "obs_meta"))
    stored = aliases.stored(of_obs)
    rows = aliases.filled(obs.read(stored) if among is None else obs.rows(among, stored), of_obs)
    row_of = _subject_rows(study, name, among)
    of_each = (
        subjects.read(of_subjects).take(row_of)
        if among is None
        else subjects.rows(row_of.to_numpy(), of_subjects)
    )
    both = pa.table({"obs": rows.to_struct_array(), "obs_meta": of_each.to_struct_array()})
    kept = rows_where(both, reduce(operator.and_, (c.condition for c in conditions)), f"filter on {name}")
    return kept if among is None else among[kept]


def _volumes_of(study: Study, name: str, people: Positions | None) -> Positions | None:
    """Positions of the volumes of the subjects at `people`; None for all."""
    if people is None:
        return None
    ids = study.subjects.column("obs_subject_id").take(pa.array(people)).combine_chunks()
    theirs = pc.is_in(study.obs(name).column("obs_subject_id"), value_set=ids)
    found: Positions = pc.indices_nonzero(theirs).to_numpy().astype(np.int64)
    return found


def _subject_rows(study: Study, name: str, among: Positions | None) -> pa.ChunkedArray:
    """The row in obs_meta of each volume's subject."""
    column = study.obs(name).column("obs_subject_id")
    ids = study.subjects.column("obs_subject_id").combine_chunks()
    return pc.index_in(column if among is None else column.take(pa.array(among)), value_set=ids)


def _both(found: Positions | None, others: Positions | None) -> Positions | None:
    if found is None or others is None:
        return others if found is None else found
    return np.intersect1d(found, others, assume_unique=True)


def _every(table: Table) -> Positions:
    return np.arange(table.num_rows, dtype=np.int64)
