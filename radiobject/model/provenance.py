"""Provenance: which function made a volume, so that it is told apart from another and not called again."""

from __future__ import annotations

import builtins
import datetime
import enum
import functools
import hashlib
import logging
import os
import types
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from radiobject.errors import TransformError

__all__ = ["function_identity", "function_name"]

_PLAIN = (bool, int, float, complex, str, bytes, bytearray, type(None), slice, range, os.PathLike,
          datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo)  # fmt: skip
"""What its type and `repr` say everything about."""


def function_name(fn: Callable[..., Any]) -> str:
    """`module.name` of a function, also inside a partial one; the class of a callable object.

    >>> function_name(function_name)
    'radiobject.model.provenance.function_name'
    """
    if isinstance(fn, functools.partial):
        return f"partial({function_name(fn.func)})"
    named = fn if hasattr(fn, "__qualname__") else type(fn)
    return f"{getattr(named, '__module__', None) or builtins.__name__}.{named.__qualname__}"


def function_identity(fn: Callable[..., Any], version: str | None = None) -> str:
    """The name and the first 12 digits of a SHA-256 over what the function does.

    That is its bytecode with everything it names: defaults, what it closes over, the functions and values
    among its globals, and in turn what those name. Of imported modules only the name counts, and another
    version of Python makes another bytecode. With `version` the caller says when it is another function.

    Raises `TransformError` for a function that holds something that cannot be told from something else.
    """
    digest = hashlib.sha256()
    if version is not None:
        digest.update(f"version:{version}".encode())
    else:
        _Feeder(digest, function_name(fn)).feed(fn)
    return f"{function_name(fn)}#{digest.hexdigest()[:12]}"


class _Feeder:
    """Feeds a digest with a value and what hangs on it, each object once."""

    def __init__(self, digest: Any, name: str) -> None:
        self._digest, self._name = digest, name
        # kept alive: the id of something that is gone may be another thing's
        self._seen: dict[int, Any] = {}

    def feed(self, value: Any) -> None:
        """Everything that tells this value from another."""
        kind = type(value)
        if isinstance(value, _PLAIN):
            self._say(f"{kind.__qualname__}:{value!r};")
        elif isinstance(value, enum.Enum):
            self._say(f"{kind.__module__}.{kind.__qualname__}.{value.name};")
        elif isinstance(value, types.ModuleType | logging.Logger):
            self._say(f"{kind.__qualname__}:{getattr(value, '__name__', '') or getattr(value, 'name', '')};")
        elif id(value) in self._seen:
            self._say(f"again:{list(self._seen).index(id(value))};")
        else:
            self._seen[id(value)] = value
            self._say(f"{kind.__module__}.{kind.__qualname__}(")
            self._feed_parts(value)
            self._say(")")

    def _say(self, text: str) -> None:
        self._digest.update(text.encode())

    def _all(self, values: Iterable[Any]) -> None:
        for value in values:
            self.feed(value)

    def _feed_parts(self, value: Any) -> None:
        if isinstance(value, types.FunctionType):
            self._feed_function(value)
        elif isinstance(value, types.CodeType):
            self._feed_code(value)
        elif isinstance(value, types.BuiltinFunctionType | np.ufunc):
            self._all([getattr(value, "__module__", None), value.__name__])
        elif isinstance(value, types.MethodType):
            self._all([value.__func__, value.__self__])
        elif isinstance(value, functools.partial):
            self._all([value.func, value.args, value.keywords])
        elif isinstance(value, type):
            self._feed_class(value)
        elif isinstance(value, dict):
            self._all(part for key in sorted(value, key=repr) for part in (key, value[key]))
        elif isinstance(value, set | frozenset):
            self._all(sorted(value, key=repr))
        elif isinstance(value, list | tuple):
            self._all(value)
        elif isinstance(value, pd.DataFrame | pd.Series | pd.Index):
            self._all([str(getattr(value, "dtypes", "")), list(getattr(value, "columns", ()))])
            self._digest.update(pd.util.hash_pandas_object(value).to_numpy().tobytes())
        elif isinstance(value, np.ndarray | np.generic) and value.dtype != object:
            self._say(f"{value.dtype.str}{value.shape}")
            self._digest.update(value.tobytes())
        elif hasattr(value, "detach") and hasattr(value, "numpy"):
            self.feed(value.detach().cpu().numpy())  # a tensor of torch: its bytes lie outside of it
        else:
            self._feed_object(value)

    def _feed_function(self, fn: types.FunctionType) -> None:
        self._feed_code(fn.__code__)
        self._all([fn.__defaults__, fn.__kwdefaults__])
        for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
            try:
                self._all([name, cell.cell_contents])
            except ValueError:
                self._say(f"{name}:empty;")  # filled later
        for name in sorted(_names_in(fn.__code__)):
            if name in fn.__globals__:
                self._all([name, fn.__globals__[name]])

    def _feed_code(self, code: types.CodeType) -> None:
        self._digest.update(code.co_code)
        self._all([code.co_names, code.co_varnames, code.co_flags])
        # constants have no identity worth keeping: equal ones are one object, or two, as Python likes
        self._all(code.co_consts)

    def _feed_class(self, kind: type) -> None:
        if kind.__module__ == builtins.__name__ or not hasattr(kind, "__dict__"):
            self._say(kind.__qualname__)
            return
        hidden = ("__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__")
        mine = {k: v for k, v in vars(kind).items() if k not in hidden and not k.startswith("_abc_")}
        self._all([kind.__module__, kind.__qualname__, [b.__qualname__ for b in kind.__bases__]])
        parts = {k: getattr(v, "__func__", getattr(v, "fget", v)) for k, v in mine.items()}
        self._all(
            p for k in sorted(parts) if isinstance(parts[k], (types.FunctionType, *_PLAIN))
            for p in (k, parts[k])
        )  # fmt: skip

    def _feed_object(self, value: Any) -> None:
        """Any other object by its class and what it would be made of again."""
        try:
            parts = value.__reduce_ex__(4)
        except Exception as error:
            raise self._unclear(value, error) from error
        if isinstance(parts, str):
            self._all([type(value).__module__, parts])
            return
        self._feed_class(type(value))
        made = list(parts[1:3]) + [list(p) if p is not None else None for p in parts[3:5]]
        self._all(made)

    def _unclear(self, value: Any, error: Exception) -> TransformError:
        return TransformError(
            f"{self._name} holds a {type(value).__module__}.{type(value).__qualname__}",
            expected="something of which another one could be told apart",
            got=repr(error),
            hint='Say yourself when the function is another one: map(fn, version="1").',
        )


def _names_in(code: types.CodeType) -> set[str]:
    """Names that the code, and the functions and comprehensions in it, look up."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names_in(constant)
    return names
