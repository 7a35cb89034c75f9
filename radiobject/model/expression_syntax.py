"""The grammar of filter expressions: text -> checked Python syntax tree. Nothing is ever evaluated."""

from __future__ import annotations

import ast
import re

from radiobject.errors import ExpressionError

__all__ = ["FUNCTIONS", "Source", "columns_in", "names_in", "parse", "reference"]

MAX_BYTES, MAX_NODES, MAX_DEPTH = 10_000, 200, 64
_MAX_TOKENS = 2_000
"""More than any expression of 200 nodes needs; keeps the parser's recursion short."""

FUNCTIONS = {"contains": 2, "startswith": 2, "matches": 2, "date": 1}
"""Name and number of arguments of each function."""

TABLES = ("obs", "obs_meta")

_OPERATORS = (ast.And, ast.Or, ast.Not, ast.USub, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.Is, ast.IsNot)
_HINTS: dict[type, str] = {
    ast.Pow: "Powers are not offered: write a * a.",
    ast.BitAnd: "Write `and`, without the parentheses that & needs.",
    ast.BitOr: "Write `or`, without the parentheses that | needs.",
    ast.Invert: "Write `not`.",
    ast.Attribute: "Only obs.<name> and obs_meta.<name> have a dot.",
    ast.Subscript: 'Only obs["any name"] and obs_meta["any name"] have brackets.',
    ast.JoinedStr: "Write the text out, or build the expression before it is handed in.",
}
_TOKEN = re.compile(r"""(\w*)('(?:[^'\\\n]|\\.)*'?|"(?:[^"\\\n]|\\.)*"?)|\w+|[^\w\s]""")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class Source:
    """The text of an expression; says where in it a node stands."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._lines = text.split("\n")

    def offset(self, line: int, column: int) -> int:
        """Characters before a line (from 1) and a column counted in UTF-8 bytes, as `ast` counts."""
        before = sum(len(other) + 1 for other in self._lines[: line - 1])
        return before + len(self._lines[line - 1].encode()[:column].decode(errors="ignore"))

    def span(self, node: ast.expr) -> tuple[int, int]:
        """First and last (exclusive) character of a node."""
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or 0
        return self.offset(node.lineno, node.col_offset), self.offset(end_line, end_column)

    def wrong(
        self,
        node: ast.expr,
        what: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        hint: str | None = None,
    ) -> ExpressionError:
        """The error that underlines `node`."""
        return ExpressionError(
            what, expected=expected, got=got, hint=hint, text=self.text, span=self.span(node)
        )


def parse(text: str) -> tuple[ast.expr, Source]:
    """The syntax tree of an expression, of which every node is of a kind that filters have.

    Raises `ExpressionError` for anything else, and for more than 10 kB, 200 nodes or a depth of 64.
    """
    _check_text(text)
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()  # as Python's own reader does
    source = Source(text)
    _check_tokens(text)
    try:
        tree = ast.parse(text, "<filter>", mode="eval").body
    except SyntaxError as error:
        inside = error.lineno is not None and 0 < error.lineno <= text.count("\n") + 1
        at = source.offset(error.lineno or 1, 0) + (error.offset or 1) - 1 if inside else len(text)
        at = max(0, min(at, len(text) - 1))
        raise ExpressionError(
            f"filter: {error.msg}", hint=_hint(text, at), text=text, span=(at, at + 1)
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        # MemoryError is how the parser says that its own stack is full
        raise ExpressionError("filter", expected="an expression", got=str(error) or "one too deep") from error
    _check_nodes(tree, source)
    return tree, source


def reference(node: ast.expr) -> tuple[str | None, str] | None:
    """(table, column) when a checked node names a column; table is None for a bare name."""
    if isinstance(node, ast.Name):
        return None, node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id, node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        assert isinstance(node.slice, ast.Constant)
        return node.value.id, str(node.slice.value)
    return None


def names_in(text: str) -> set[tuple[str | None, str]]:
    """Columns that an expression names, each with its table: "obs", "obs_meta", or None for a bare name.

    >>> sorted(names_in('20 < age < 40 and obs["slice thickness"] > 1'), key=str)
    [('obs', 'slice thickness'), (None, 'age')]
    """
    return {found for node in columns_in(parse(text)[0]) if (found := reference(node)) is not None}


def columns_in(tree: ast.expr) -> list[ast.expr]:
    """The nodes of a checked tree that name a column."""
    return [node for node in _walk(tree) if reference(node) is not None]


def _children(node: ast.expr) -> list[ast.expr]:
    """Operands, in order. A function's name and the table of a qualified name are no operands."""
    if isinstance(node, ast.Call):
        return list(node.args)
    if isinstance(node, ast.Attribute | ast.Subscript):
        return []
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]


def _walk(tree: ast.expr) -> list[ast.expr]:
    found, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting += _children(node)
    return found


def _check_text(text: str) -> None:
    if not isinstance(text, str):
        raise ExpressionError("filter", expected="text", got=type(text).__name__)
    try:
        size = len(text.encode()) if len(text) <= MAX_BYTES else len(text)
    except UnicodeEncodeError as error:
        raise ExpressionError("filter", expected="Unicode text", got="half a surrogate pair") from error
    if size > MAX_BYTES:
        raise ExpressionError(
            "filter", expected=f"at most {MAX_BYTES:,} bytes", got=f"{size:,}", hint="Pass ids to loc."
        )
    if not text.strip():
        raise ExpressionError("filter", expected='a condition such as "age > 40"', got="nothing")
    if "\0" in text:
        at = text.index("\0")
        raise ExpressionError("filter: a null character", text=text, span=(at, at + 1))


def _check_tokens(text: str) -> None:
    """Bound what the parser's recursion can cost, before it begins; refuse escapes that it warns about."""
    depth = 0
    for count, match in enumerate(_TOKEN.finditer(text)):
        word, prefix, literal = match[0], match[1], match[2]
        depth += (word in "([{") - (word in ")]}")
        if depth > MAX_DEPTH or count >= _MAX_TOKENS:
            raise ExpressionError(
                "filter",
                expected=f"at most {MAX_NODES} parts, nested {MAX_DEPTH} deep",
                got="more",
                hint="Filter twice, or pass ids to loc.",
                text=text,
                span=match.span(),
            )
        if literal and "\\" in literal and not set(prefix.lower()) & set("rb"):
            for escape in _ESCAPE.finditer(literal):
                if escape[1] not in "\n\\'\"abfnrtv01234567xNuU":
                    start = match.start(2) + escape.start()
                    raise ExpressionError(
                        f"filter: {escape[0]} is no escape sequence",
                        hint='Write patterns as raw text: matches(name, r"\\d").',
                        text=text,
                        span=(start, start + 2),
                    )


def _check_nodes(tree: ast.expr, source: Source) -> None:
    waiting, count = [(tree, 1)], 0
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            limit = f"{MAX_NODES} parts" if count > MAX_NODES else f"a depth of {MAX_DEPTH}"
            hint = "Filter twice, or pass ids to loc."
            raise source.wrong(node, "filter", expected=f"at most {limit}", got="more", hint=hint)
        _check_node(node, source)
        waiting += [(child, depth + 1) for child in _children(node)]


def _check_node(node: ast.expr, source: Source) -> None:
    match node:
        case ast.BoolOp() | ast.List() | ast.Tuple() | ast.Set():
            return
        case ast.UnaryOp(op=op) | ast.BinOp(op=op) if isinstance(op, _OPERATORS):
            return
        case ast.Compare(ops=ops) if all(isinstance(op, _COMPARISONS) for op in ops):
            return
        case ast.UnaryOp(op=op) | ast.BinOp(op=op):
            raise source.wrong(
                node, "filter: an operator that filters do not have", hint=_HINTS.get(type(op))
            )
        case ast.Constant(value=value):
            _check_constant(node, value, source)
            return
        case ast.Name(id=name):
            _check_spelling(node, name, source)
            if name not in TABLES:
                return
            raise source.wrong(
                node, f"filter: {name} is a table", hint=f'Write {name}.<column>, or {name}["..."].'
            )
        case ast.Attribute(value=ast.Name(id=table)) if table in TABLES:
            _check_spelling(node, f"{table}.{node.attr}", source)
            return
        case ast.Subscript(value=ast.Name(id=table), slice=ast.Constant(value=str())) if table in TABLES:
            return
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in FUNCTIONS:
            if len(node.args) == FUNCTIONS[name]:
                return
            raise source.wrong(node, name, expected=f"{FUNCTIONS[name]} arguments", got=str(len(node.args)))
        case ast.Call():
            raise source.wrong(node, "filter: a call", expected=f"one of {', '.join(FUNCTIONS)}")
    what = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(node).__name__).lower()
    raise source.wrong(node, f"filter: {what} has no meaning here", hint=_HINTS.get(type(node)))


def _check_constant(node: ast.expr, value: object, source: Source) -> None:
    if value is not None and type(value) not in (str, int, float, bool):
        raise source.wrong(node, "filter", expected="text, numbers, True, False", got=type(value).__name__)
    # one above the largest is only legal after a minus sign
    if type(value) is int and value > 2**63:
        raise source.wrong(node, "filter", expected="integers of 64 bits", got="a larger one")


def _check_spelling(node: ast.expr, name: str, source: Source) -> None:
    """Python folds look-alike letters in names (NFKC); a filter means the column that it shows."""
    start, stop = source.span(node)
    if "".join(source.text[start:stop].split()) != name:
        raise source.wrong(
            node, f"filter: a name that Python reads as {name}", hint='Write obs["..."] or obs_meta["..."].'
        )


def _hint(text: str, at: int) -> str | None:
    if text[at] == "`":
        return 'Names with spaces: obs["any name"].'
    if text[at] == "@" or text[:at].rstrip().endswith("@"):
        return "There are no variables here: write their values into the text."
    if text[at] == "=":
        return "Write == to compare."
    if text[at] == "&" or text[at] == "|":
        return "Write `and`, `or`."
    return None
