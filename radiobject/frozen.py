"""Frozen: what settings share that take one value under two names."""

from __future__ import annotations

from typing import Any, TypeVar

from radiobject.errors import ConfigError

__all__ = ["is_whole", "one_of", "set_fields"]

T = TypeVar("T")


def set_fields(frozen: object, **values: Any) -> None:
    """Fill the fields of a frozen dataclass that has an `__init__` of its own."""
    for name, value in values.items():
        object.__setattr__(frozen, name, value)


def is_whole(value: Any, none: bool = False) -> bool:
    """Whether it is a positive int, also NumPy's; `none` lets None pass."""
    if value is None:
        return none
    return hasattr(value, "__index__") and not isinstance(value, bool) and bool(value >= 1)


def one_of(kind: str, name: str, value: T | None, alias: str, other: T | None) -> T | None:
    """The value given under one of two names."""
    if value is not None and other is not None and value != other:
        raise ConfigError(
            f"{kind}({name}=, {alias}=)", expected="one of them", got=f"{value!r} and {other!r}"
        )
    return other if value is None else value
