"""Filter expressions: "age > 40 and dx == 'AD'" -> checked syntax tree -> pyarrow expression. Never eval.

Nulls are SQL's: a comparison with null is neither true nor false, `not` of it neither, and only rows where
the whole is true are kept. NaN counts as null. `not` is pushed down to the comparisons, where it picks the
opposite one: what comes out has no negation of an unknown, so that Parquet statistics may exclude row groups.
"""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from radiobject.errors import UnknownColumnError
from radiobject.model import expression_values as values
from radiobject.model.expression_syntax import Source, columns_in, names_in, parse, reference
from radiobject.model.expression_values import WORDS, Value

__all__ = ["Clause", "clauses", "compile_expression", "compile_joined", "names_in"]

MAX_PATTERN = 500
_NEVER = pc.scalar(value=False)

_FLIP: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.NotEq: operator.ne,
}  # fmt: skip


def compile_expression(text: str, columns: Mapping[str, pa.DataType], *, table: str = "") -> pc.Expression:
    """A filter over one table as a pyarrow expression. `table` is what qualified names may call it.

    Raises `ExpressionError` that underlines the mistake: syntax, types that do not compare, limits;
    `UnknownColumnError` for a column that is not in `columns`.

    >>> print(compile_expression("20 < age <= 40", {"age": pa.int64()}))
    ((20 < age) and (age <= 40))
    """
    tree, source = parse(text)
    return _Compiler(source, {table: columns}, {}).condition(tree, negate=False)


def compile_joined(text: str, tables: Mapping[str, Mapping[str, pa.DataType]]) -> pc.Expression:
    """A filter over joined rows, that have one struct column for each table: its name, and its columns.

    A bare name is the first table's that has it. Raises as `compile_expression` does.
    """
    tree, source = parse(text)
    compiler = _Compiler(source, tables, {})
    compiler.nested = True
    return compiler.condition(tree, negate=False)


@dataclass(frozen=True)
class Clause:
    """One operand of an expression's outermost `and`: what must be true, and the (table, column)s it names.

    The condition's fields are columns; where the clause names more than one table, they are columns of
    structs that have the tables' names.
    """

    condition: pc.Expression
    names: frozenset[tuple[str, str]]

    @property
    def tables(self) -> frozenset[str]:
        """The tables that it names."""
        return frozenset(table for table, _ in self.names)


def clauses(
    text: str,
    tables: Mapping[str, Mapping[str, pa.DataType]],
    computed: Mapping[str, Mapping[str, pa.DataType]] | None = None,
) -> list[Clause]:
    """A filter over one or several tables as conditions that must all be true.

    A bare name is the first table's that has it as a column; only when none has, one that is `computed` of
    a table. Raises as `compile_expression` does.
    """
    tree, source = parse(text)
    found = []
    for part in _operands(tree):
        compiler = _Compiler(source, tables, computed or {})
        condition = compiler.condition(part, negate=False)  # finds the mistakes, in the order of reading
        names = frozenset((place, name) for place, name, _ in map(compiler.resolve, columns_in(part)))
        if len({place for place, _ in names}) > 1:
            compiler.nested = True
            condition = compiler.condition(part, negate=False)
        found.append(Clause(condition, names))
    return found


def _operands(tree: ast.expr) -> Iterator[ast.expr]:
    """What the outermost `and` joins, parentheses or not; the whole where there is none."""
    if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And):
        for value in tree.values:
            yield from _operands(value)
    else:
        yield tree


class _Compiler:
    nested = False
    """Whether the rows will be structs, one for each table."""

    def __init__(
        self,
        source: Source,
        tables: Mapping[str, Mapping[str, pa.DataType]],
        computed: Mapping[str, Mapping[str, pa.DataType]],
    ) -> None:
        self._wrong, self._source, self._tables, self._computed = source.wrong, source, tables, computed

    def condition(self, node: ast.expr, *, negate: bool) -> pc.Expression:
        """What is true for exactly those rows where `node` (or its negation) is true, and known."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self.condition(node.operand, negate=not negate)
        if isinstance(node, ast.BoolOp):
            parts = [self.condition(part, negate=negate) for part in node.values]
            return reduce(operator.and_ if isinstance(node.op, ast.And) != negate else operator.or_, parts)
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            pairs = zip(operands, node.ops, operands[1:], strict=False)
            parts = [self._comparison(a, op, b, negate) for a, op, b in pairs]
            return reduce(operator.or_ if negate else operator.and_, parts)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id != "date":
            found = self._text_function(node, node.func.id)
            return ~found if negate else found
        value = self._value(node)
        if value.kind == "null":
            return _NEVER
        if value.kind != "bool":
            hint = "Compare it, as in age > 40, or ask for `is not None`."
            raise self._wrong(node, "filter", expected="a condition", got=value.says(), hint=hint)
        return ~value.expr if negate else value.expr

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr, negate: bool) -> pc.Expression:
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise self._wrong(right, "filter: `is` asks for None only", hint="Write == to compare.")
            missing = self._missing(self._value(left))
            return missing if isinstance(op, ast.Is) != negate else ~missing
        if isinstance(op, ast.In | ast.NotIn):
            return self._is_in(left, right, wanted=isinstance(op, ast.In) != negate)
        kind = _FLIP[type(op)] if negate else type(op)
        return self._relation(self._value(left), self._value(right), kind)

    def _relation(self, a: Value, b: Value, kind: type[ast.cmpop]) -> pc.Expression:
        if a.kind != "null" and b.kind != "null":
            self._check_alike(a, b, kind)
        if "null" in (a.kind, b.kind):
            return _NEVER
        x, y = values.same_type(a, b, self._source)
        if kind is ast.NotEq and (a.may_be_nan or b.may_be_nan):
            return (x < y) | (x > y)  # unlike x != y never true for NaN
        return _COMPARE[kind](x, y)

    def _check_alike(self, a: Value, b: Value, kind: type[ast.cmpop]) -> None:
        if other := next((v for v in (a, b) if v.kind == "other"), None):
            raise self._wrong(
                other.node, f"filter: {other.says()}", hint="It can only be asked for `is None`."
            )
        if a.kind != b.kind:
            # what the user wrote is wrong, rather than what the column is
            wrong, right = (a, b) if a.is_literal and not b.is_literal else (b, a)
            raise self._wrong(
                wrong.node,
                f"filter: {right.says()}",
                expected=f"{WORDS[right.kind]} to compare it with",
                got=wrong.says(),
                hint='Write dates as date("2020-01-31").' if {a.kind, b.kind} == {"time", "text"} else None,
            )
        if a.kind == "bool" and kind not in (ast.Eq, ast.NotEq):
            raise self._wrong(b.node, "filter: True and False have no order", hint="Compare with ==.")

    def _missing(self, value: Value) -> pc.Expression:
        missing = value.expr.is_null()
        return missing | value.expr.is_nan() if value.may_be_nan else missing

    def _is_in(self, left: ast.expr, right: ast.expr, *, wanted: bool) -> pc.Expression:
        value = self._value(left)
        if not isinstance(right, ast.List | ast.Tuple | ast.Set):
            hint = "Write [1, 2, 3]."
            if value.is_literal and reference(right):
                hint = 'For a part of a text write contains(name, "part").'
            raise self._wrong(right, "filter: in", expected="a list of values", hint=hint)
        items = [self._value(item) for item in right.elts]
        for item in items:
            if not item.is_literal:
                raise self._wrong(item.node, "filter: in", expected="a list of plain values", got=item.says())
        if not items:
            return _NEVER if wanted else ~self._missing(value)
        parts = [self._relation(value, item, ast.Eq if wanted else ast.NotEq) for item in items]
        return reduce(operator.or_ if wanted else operator.and_, parts)

    def _text_function(self, node: ast.Call, name: str) -> pc.Expression:
        value, pattern = self._value(node.args[0]), self._value(node.args[1])
        if value.kind not in ("text", "null"):
            raise self._wrong(value.node, name, expected="a column of text", got=value.says())
        if pattern.kind != "text" or not pattern.is_literal:
            raise self._wrong(pattern.node, name, expected="a text in quotes", got=pattern.says())
        if value.kind == "null":
            return _NEVER
        if name == "contains":
            return pc.match_substring(value.expr, pattern=pattern.literal)
        if name == "startswith":
            return pc.starts_with(value.expr, pattern=pattern.literal)
        if len(pattern.literal) > MAX_PATTERN:
            raise self._wrong(pattern.node, name, expected=f"a pattern of at most {MAX_PATTERN} characters")
        try:
            pc.match_substring_regex(pa.array([""]), pattern=pattern.literal)
        except pa.ArrowException as error:
            raise self._wrong(
                pattern.node, name, expected="a pattern as RE2 has them", got=str(error).splitlines()[0]
            ) from error
        return pc.match_substring_regex(value.expr, pattern=pattern.literal)

    def _value(self, node: ast.expr) -> Value:
        if reference(node) is not None:
            place, name, stored = self.resolve(node)
            return values.column(node, stored, pc.field(place, name) if self.nested else pc.field(name), name)
        match node:
            case ast.Constant(value=None):
                hint = "Write `is None` or `is not None`."
                raise self._wrong(node, "filter: None cannot be compared", hint=hint)
            case ast.Constant(value=value):
                return values.literal(node, value, self._source)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) if type(value) in (int, float):
                return values.literal(node, -value, self._source)  # type: ignore[operator]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                a = values.number(self._value(operand), self._source)
                return a if a.kind == "null" else Value(node, "number", a.type, pc.negate_checked(a.expr))
            case ast.BinOp(left=left, op=op, right=right):
                a, b = (values.number(self._value(side), self._source) for side in (left, right))
                return values.arithmetic(node, a, op, b)
            case ast.Call(func=ast.Name(id="date"), args=[day]):
                return values.date(node, self._value(day), self._source)
            case ast.List() | ast.Tuple() | ast.Set():
                raise self._wrong(node, "filter: a list", hint="Lists stand after `in` only.")
        raise self._wrong(node, "filter", expected="a value", got="a condition", hint="Join them by and, or.")

    def resolve(self, node: ast.expr) -> tuple[str, str, pa.DataType]:
        """Table, name and type of the column that a reference means."""
        table, name = reference(node) or (None, "")
        if table is not None and table not in self._tables:
            here = " and ".join(t for t in self._tables if t) or "plain names"
            hint = "Only the filter of a collection sees both tables."
            raise self._wrong(node, f"filter: no {table} here", expected=here, hint=hint)
        for kind in (self._tables, self._computed):
            for place in self._tables if table is None else [table]:
                if name in (columns := kind.get(place, {})):
                    return place, name, columns[name]
        every = [
            of for kind in (self._tables, self._computed) for t, of in kind.items() if table in (None, t)
        ]
        known = list(dict.fromkeys(c for of in every for c in of))
        lowered = {c.lower(): c for c in known}
        near = [repr(lowered[c]) for c in difflib.get_close_matches(name.lower(), lowered, 3)]
        raise UnknownColumnError(
            f"filter: column {name!r:.80}",
            expected=f"one of {', '.join(known[:12])}{' and others' if len(known) > 12 else ''}",
            hint=f"Did you mean {' or '.join(near)}?" if near else None,
            text=self._source.text,
            span=self._source.span(node),
        )
