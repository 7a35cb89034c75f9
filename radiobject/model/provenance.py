"""Provenance: which function made a volume, so that it is told apart from another and not called again."""

from __future__ import annotations

import functools
import hashlib
import inspect
import textwrap
import types
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["function_identity", "function_name"]

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_DEEP = 8


def function_name(fn: Callable[..., Any]) -> str:
    """`module.name` of a function, `partial(...)` of a partial one, the class of a callable object.

    >>> function_name(function_name)
    'radiobject.model.provenance.function_name'
    """
    if isinstance(fn, functools.partial):
        given = [*map(repr, fn.args), *(f"{k}={v!r:.40}" for k, v in fn.keywords.items())]
        return f"partial({', '.join([function_name(fn.func), *given])})"
    named = fn if hasattr(fn, "__qualname__") else type(fn)
    return f"{getattr(named, '__module__', '?')}.{named.__qualname__}"


def function_identity(fn: Callable[..., Any]) -> str:
    """The name and the first 12 digits of a SHA-256 over what the function does.

    That is its source (its bytecode where there is no source), defaults, what it closes over, and the
    globals it names: plain values, arrays and functions, those in turn in the same way. Changed libraries
    are not seen. Equal text means that the function need not be called again.
    """
    digest = hashlib.sha256()
    _feed(digest, fn, set(), _DEEP)
    return f"{function_name(fn)}#{digest.hexdigest()[:12]}"


def _feed(digest: Any, value: Any, seen: set[int], depth: int) -> None:
    if isinstance(value, _PLAIN):
        digest.update(f"{type(value).__name__}:{value!r};".encode())
    elif isinstance(value, np.ndarray):
        digest.update(f"array:{value.dtype.str}{value.shape}".encode())
        digest.update(repr(value.tolist()).encode() if value.dtype == object else value.tobytes())
    elif isinstance(value, types.ModuleType):
        digest.update(f"module:{value.__name__};".encode())
    elif id(value) in seen or depth == 0:
        digest.update(f"again:{type(value).__qualname__};".encode())
    else:
        seen.add(id(value))
        _feed_parts(digest, value, seen, depth - 1)


def _feed_parts(digest: Any, value: Any, seen: set[int], depth: int) -> None:
    digest.update(f"{type(value).__module__}.{type(value).__qualname__}(".encode())
    if isinstance(value, functools.partial):
        parts: list[Any] = [value.func, value.args, value.keywords]
    elif isinstance(value, types.MethodType):
        parts = [value.__func__, value.__self__]
    elif isinstance(value, types.FunctionType):
        _feed_code(digest, value)
        parts = [value.__defaults__, value.__kwdefaults__, *_named(value)]
    elif isinstance(value, dict):
        parts = [p for k in sorted(value, key=repr) for p in (k, value[k])]
    elif isinstance(value, set | frozenset):
        parts = sorted(value, key=repr)
    elif isinstance(value, list | tuple):
        parts = list(value)
    elif isinstance(value, type) or not hasattr(value, "__dict__"):
        digest.update(_source(value if isinstance(value, type) else type(value)).encode())
        parts = []
    else:
        # an object of the caller's: its class and what it holds
        digest.update(_source(type(value)).encode())
        parts = [vars(value)]
    for part in parts:
        _feed(digest, part, seen, depth)
    digest.update(b")")


def _feed_code(digest: Any, fn: types.FunctionType) -> None:
    source = _source(fn)
    if source:
        digest.update(source.encode())
        return
    waiting = [fn.__code__]
    while waiting:
        code = waiting.pop()
        digest.update(code.co_code)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                waiting.append(constant)
            else:
                digest.update(repr(constant).encode())
        digest.update(repr(code.co_names).encode())


def _source(value: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(value))
    except (OSError, TypeError):
        return ""  # typed into an interpreter, or built in


def _named(fn: types.FunctionType) -> list[Any]:
    """What the function names outside itself, in a fixed order."""
    try:
        found = inspect.getclosurevars(fn)
    except ValueError:
        # a cell that is filled later, as in a function that calls itself
        return []
    return [p for names in (found.nonlocals, found.globals) for k in sorted(names) for p in (k, names[k])]
