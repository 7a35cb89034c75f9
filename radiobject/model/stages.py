"""Stages: what a query does with each volume on its way. One pass, whatever their number."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from radiobject.errors import ConfigError, RadiObjectError, TransformError, UnknownColumnError
from radiobject.format.pruning import columns_of, rows_where
from radiobject.model.expression import compile_joined
from radiobject.model.pieces import FORMATS, Format, Piece
from radiobject.model.provenance import function_identity, function_name

__all__ = ["BatchStage", "FilterStage", "MapStage", "Stage", "Work", "batch_size", "identity_of"]


@dataclass(frozen=True)
class MapStage:
    """`fn(volume, obs_row)` for one volume at a time."""

    fn: Callable[..., Any]
    form: Format
    version: str | None = None

    def __post_init__(self) -> None:
        _check(self.fn, self.form)

    def run(self, pieces: list[Piece]) -> list[Piece]:
        """Each piece as the function returned it."""
        for piece in pieces:
            given, row = piece.given(self.form), piece.series()
            try:
                result = self.fn(given, row)
            except Exception as error:
                raise _failed(self.fn, [piece], error) from error
            _take(self.fn, piece, result)
        return pieces


@dataclass(frozen=True)
class BatchStage:
    """`fn([(volume, obs_row), ...])` for up to `n` volumes at a time; a list of as many results."""

    fn: Callable[..., Any]
    n: int
    form: Format
    version: str | None = None

    def __post_init__(self) -> None:
        _check(self.fn, self.form)
        if self.n < 1:
            raise ConfigError("map_batches(batch_size=)", expected="at least 1", got=repr(self.n))

    def run(self, pieces: list[Piece]) -> list[Piece]:
        """Each piece as the function returned it."""
        if not pieces:
            return pieces
        given = [(p.given(self.form), p.series()) for p in pieces]
        try:
            results = list(self.fn(given))
        except Exception as error:
            raise _failed(self.fn, pieces, error) from error
        if len(results) != len(pieces):
            wrong = ValueError(f"{len(results)} results for {len(pieces)} volumes")
            raise _failed(self.fn, pieces, wrong) from wrong
        for piece, result in zip(pieces, results, strict=True):
            _take(self.fn, piece, result)
        return pieces


@dataclass(frozen=True)
class FilterStage:
    """Keeps the volumes whose row, as functions have left it, fits. `types` are those of the tables."""

    expression: str | pc.Expression
    types: Mapping[str, Mapping[str, pa.DataType]]

    def run(self, pieces: list[Piece]) -> list[Piece]:
        """The pieces that fit."""
        return [p for p in pieces if self._fits(p)]

    def _fits(self, piece: Piece) -> bool:
        rows = {
            "obs": _one_row(piece.own_row(), self.types["obs"]),
            "obs_meta": _one_row(piece.subject, self.types["obs_meta"]),
        }
        where = f"filter of {piece.obs_id!r}"
        if isinstance(self.expression, str):
            types = {name: {f.name: f.type for f in table.schema} for name, table in rows.items()}
            try:
                condition = compile_joined(self.expression, types)
            except UnknownColumnError as error:
                error.add_note(
                    f"{piece.obs_id!r} lacks it: functions add it for every volume, None for no value"
                )
                raise
            joined = pa.table({name: table.to_struct_array() for name, table in rows.items()})
        else:
            obs, person = rows["obs"], rows["obs_meta"]
            rest = [n for n in person.schema.names if n not in obs.schema.names]
            joined = pa.table({**{n: obs[n] for n in obs.schema.names}, **{n: person[n] for n in rest}})
            condition = self.expression
            columns_of(condition, joined.schema, where)
        return len(rows_where(joined, condition, where)) == 1


Stage = MapStage | BatchStage | FilterStage


@dataclass(frozen=True)
class Work:
    """The stages, and what is made of a volume at their end. Travels to worker processes."""

    stages: tuple[Stage, ...]
    finish: Callable[[Piece], Any]

    def __call__(self, pieces: list[Piece]) -> list[Any]:
        """One result for each piece that the filters have left."""
        # another try begins where this one did, and a function may work in place
        pieces = [p.unshared() for p in pieces]
        for stage in self.stages:
            pieces = stage.run(pieces)
        results = []
        for piece in pieces:
            try:
                results.append(self.finish(piece))
            except RadiObjectError as error:
                error.add_note(f"volume {piece.obs_id!r}")
                raise
        return results


def _check(fn: Any, form: str) -> None:
    if not callable(fn):
        raise ConfigError("map(fn)", expected="a function fn(volume, obs_row)", got=repr(fn)[:60])
    if form not in FORMATS:
        raise ConfigError("map(format=)", expected=f"one of {', '.join(FORMATS)}", got=repr(form))


def _one_row(row: Mapping[str, Any], types: Mapping[str, pa.DataType]) -> pa.Table:
    # a value that a function has set may be of another type than the table's column
    columns = {}
    for name, value in row.items():
        try:
            columns[name] = pa.array([value], types.get(name))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            columns[name] = pa.array([value])
    return pa.table(columns)


def _take(fn: Callable[..., Any], piece: Piece, result: Any) -> None:
    try:
        piece.take(result, function_name(fn))
    except RadiObjectError as error:
        if isinstance(error, TransformError):
            error.obs_ids = (piece.obs_id,)
        raise


def _failed(fn: Callable[..., Any], pieces: Sequence[Piece], error: Exception) -> TransformError:
    ids = tuple(p.obs_id for p in pieces)
    takes = "A function takes (volume, obs_row), and map_batches' takes a list of such pairs."
    made = TransformError(
        f"{function_name(fn)} for {', '.join(map(repr, ids))}",
        got=f"{type(error).__name__}: {error}",
        hint=takes if isinstance(error, TypeError) and "positional argument" in str(error) else None,
    )
    made.obs_ids = ids
    return made


def batch_size(stages: Sequence[Stage]) -> int:
    """How many volumes are worked on together."""
    return max((s.n for s in stages if isinstance(s, BatchStage)), default=1)


def identity_of(stages: Sequence[Stage], *, strict: bool = True) -> str:
    """Which functions, in which order and form: equal for queries that make the same of a volume.

    Raises `TransformError` for a function that cannot be told from another; with `strict=False` it is
    "unknown", which equals nothing.
    """
    parts = []
    for stage in stages:
        if isinstance(stage, FilterStage):
            text = str(stage.expression)
            parts.append(f"filter#{hashlib.sha256(text.encode()).hexdigest()[:12]}")
            continue
        form = "" if stage.form == "numpy" else f":{stage.form}"
        try:
            identity = function_identity(stage.fn, stage.version)
        except TransformError:
            if strict:
                raise
            identity = f"{function_name(stage.fn)}#unknown"
        parts.append(identity + form)
    return " | ".join(parts)
