"""Operands of filter expressions: columns, literals, arithmetic on them; each with kind and Arrow type."""

from __future__ import annotations

import ast
import datetime as dt
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from radiobject.model.expression_syntax import Source

__all__ = ["WORDS", "Value", "arithmetic", "column", "date", "literal", "number", "same_type"]

WORDS = {
    "number": "a number", "text": "text", "bool": "True or False", "time": "a date", "null": "nothing",
    "other": "nothing",
}  # fmt: skip
"""What each kind of value compares with."""

_NONE = object()


@dataclass(frozen=True)
class Value:
    """What stands at `node`. `kind` is a key of WORDS: "null" a column of nulls, "other" lists and such."""

    node: ast.expr
    kind: str
    type: pa.DataType
    expr: pc.Expression
    literal: Any = _NONE
    name: str = ""

    @property
    def is_literal(self) -> bool:
        """Whether the text states the value itself."""
        return self.literal is not _NONE

    @property
    def may_be_nan(self) -> bool:
        """Whether NaN, which counts as null, can occur."""
        return bool(pa.types.is_floating(self.type))

    def says(self) -> str:
        """What this is, for an error message."""
        if self.name:
            return f"{self.name}, which is {self.type}"
        if self.is_literal and self.kind in ("text", "number", "bool"):
            return f"the {self.kind} {self.literal!r:.60}"
        return WORDS[self.kind]


def literal(node: ast.expr, value: Any, source: Source) -> Value:
    """A text, number or boolean that stands in the expression."""
    if isinstance(value, bool):
        return Value(node, "bool", pa.bool_(), pc.scalar(value), value)
    if isinstance(value, str):
        return Value(node, "text", pa.string(), pc.scalar(value), value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise source.wrong(node, "filter", expected="integers of 64 bits", got="a larger one")
    kind = pa.int64() if isinstance(value, int) else pa.float64()
    return Value(node, "number", kind, pc.scalar(pa.scalar(value, kind)), value)


def column(node: ast.expr, stored: pa.DataType, expr: pc.Expression, name: str) -> Value:
    """A column; categories, decimals and half floats as what they stand for."""
    plain = stored.value_type if pa.types.is_dictionary(stored) else stored
    if pa.types.is_decimal(plain):
        plain = pa.float64()
    elif pa.types.is_float16(plain):
        plain = pa.float32()
    elif pa.types.is_string_view(plain):
        plain = pa.string()
    return Value(node, _kind(plain), plain, expr if plain == stored else expr.cast(plain), name=name)


def _kind(plain: pa.DataType) -> str:
    for kind, tests in (
        ("number", (pa.types.is_integer, pa.types.is_floating)),
        ("text", (pa.types.is_string, pa.types.is_large_string)),
        ("bool", (pa.types.is_boolean,)),
        ("time", (pa.types.is_date, pa.types.is_timestamp)),
        ("null", (pa.types.is_null,)),
    ):
        if any(test(plain) for test in tests):
            return kind
    return "other"


def date(node: ast.expr, day: Value, source: Source) -> Value:
    """`date("2020-01-31")`, or with a time of day, or with an offset from UTC."""
    try:
        when = dt.datetime.fromisoformat(day.literal if day.kind == "text" and day.is_literal else "")
        kind = pa.timestamp("us", None if when.tzinfo is None else "UTC")
        return Value(node, "time", kind, pc.scalar(pa.scalar(when, kind)), when)
    except (ValueError, OverflowError) as error:
        raise source.wrong(
            day.node, "date", expected='"2020-01-31" or "2020-01-31T12:00:00"', got=day.says()
        ) from error


def number(value: Value, source: Source) -> Value:
    """An operand of arithmetic as int64 or float64."""
    if value.kind not in ("number", "null"):
        raise source.wrong(value.node, "filter: arithmetic", expected="a number", got=value.says())
    if value.kind == "null":
        return value
    wide = pa.float64() if value.may_be_nan else pa.int64()
    return Value(value.node, "number", wide, _cast(value, wide))


def arithmetic(node: ast.expr, a: Value, op: ast.operator, b: Value) -> Value:
    """Two `number`s joined. Integers stay integers, except by `/`; division by zero gives null."""
    if "null" in (a.kind, b.kind):
        return Value(node, "null", pa.null(), pc.scalar(None))
    whole = a.type == b.type == pa.int64() and not isinstance(op, ast.Div)
    kind = pa.int64() if whole else pa.float64()
    x, y = _cast(a, kind), _cast(b, kind)
    return Value(node, "number", kind, (_WHOLE if whole else _FLOAT)[type(op)](x, y))


def _quotient(x: pc.Expression, y: pc.Expression) -> tuple[pc.Expression, pc.Expression, pc.Expression]:
    """Arrow's integer division, towards zero; its remainder; and where Python's, downwards, is one less."""
    towards_zero = pc.divide_checked(x, y := _not_zero(y, pa.int64()))
    rest = x - towards_zero * y
    return towards_zero, rest, (rest != 0) & ((rest < 0) != (y < 0))


def _not_zero(y: pc.Expression, kind: pa.DataType) -> pc.Expression:
    return pc.if_else(y == 0, pc.scalar(pa.scalar(None, kind)), y)


def _ratio(x: pc.Expression, y: pc.Expression) -> pc.Expression:
    return pc.divide(x, _not_zero(y, pa.float64()))


def _floor(x: pc.Expression, y: pc.Expression) -> pc.Expression:
    towards_zero, _, lower = _quotient(x, y)
    return pc.if_else(lower, towards_zero - 1, towards_zero)


def _modulo(x: pc.Expression, y: pc.Expression) -> pc.Expression:
    _, rest, lower = _quotient(x, y)
    return pc.if_else(lower, rest + y, rest)


_Operation = Callable[[pc.Expression, pc.Expression], pc.Expression]
_WHOLE: dict[type[ast.operator], _Operation] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,  # checked: overflow is an error
    ast.FloorDiv: _floor, ast.Mod: _modulo,
}  # fmt: skip
_FLOAT: dict[type[ast.operator], _Operation] = {
    ast.Add: pc.add, ast.Sub: pc.subtract, ast.Mult: pc.multiply, ast.Div: _ratio,
    ast.FloorDiv: lambda x, y: pc.floor(_ratio(x, y)),
    ast.Mod: lambda x, y: pc.subtract(x, pc.multiply(pc.floor(_ratio(x, y)), y)),
}  # fmt: skip


def same_type(a: Value, b: Value, source: Source) -> tuple[pc.Expression, pc.Expression]:
    """Two values of one kind as Arrow compares them; a literal takes the column's type, never the reverse."""
    if a.kind == "time":
        return _times(a, b, source)
    x, y = _literal_as(a, b), _literal_as(b, a)
    if a.kind == "number" and x.type != y.type:
        # said outright: Arrow would narrow a literal 6.5 to float32, and then refuse large integers
        wide = pa.float64() if x.may_be_nan or y.may_be_nan else pa.int64()
        return _cast(x, wide), _cast(y, wide)
    return x.expr, y.expr


def _cast(value: Value, wide: pa.DataType) -> pc.Expression:
    if value.type == wide:
        return value.expr
    return value.expr.cast(wide, safe=not pa.types.is_floating(wide))


def _literal_as(value: Value, other: Value) -> Value:
    if not value.is_literal or other.is_literal or value.kind == "bool":
        return value
    said, target = value.literal, other.type
    if pa.types.is_integer(target):
        if isinstance(said, float) and said.is_integer():
            said = int(said)
        lowest = 0 if pa.types.is_unsigned_integer(target) else -(2 ** (target.bit_width - 1))
        if isinstance(said, float) or not lowest <= said < lowest + 2**target.bit_width:
            return value
    said = float(said) if pa.types.is_floating(target) else said
    return replace(value, type=target, expr=pc.scalar(pa.scalar(said, target)))


def _times(a: Value, b: Value, source: Source) -> tuple[pc.Expression, pc.Expression]:
    """Both as timestamps of one unit. A literal without an offset means UTC where the column has a zone."""
    zoned = [getattr(v.type, "tz", None) is not None for v in (a, b)]
    if zoned[0] != zoned[1]:
        plain = b if zoned[0] else a
        if not plain.is_literal:
            other = a if zoned[0] else b
            hint = "Leave out the offset." if other.is_literal else None
            raise source.wrong(
                other.node,
                f"filter: {plain.says()}",
                expected="a time without zone",
                got="one with",
                hint=hint,
            )
    unit = "ns" if "ns" in (getattr(a.type, "unit", ""), getattr(b.type, "unit", "")) else "us"
    kind = pa.timestamp(unit, "UTC" if any(zoned) else None)
    return _time(a, b, kind, source), _time(b, a, kind, source)


def _time(value: Value, other: Value, kind: pa.DataType, source: Source) -> pc.Expression:
    if not value.is_literal:
        return value.expr if value.type == kind or _is_date(value, other) else value.expr.cast(kind)
    if _is_date(other, value):
        return pc.scalar(pa.scalar(value.literal.date(), other.type))
    when = value.literal.replace(tzinfo=dt.UTC) if kind.tz and not value.literal.tzinfo else value.literal
    try:
        return pc.scalar(pa.scalar(when, kind))
    except (pa.ArrowException, OverflowError) as error:
        raise source.wrong(value.node, "date", expected=f"a time that {kind} can hold") from error


def _is_date(value: Value, other: Value) -> bool:
    """Whether a column of days meets a literal day: then neither needs a time, and statistics can be used."""
    midnight = other.is_literal and other.literal.time() == dt.time() and other.literal.tzinfo is None
    return midnight and not value.is_literal and bool(pa.types.is_date32(value.type))
