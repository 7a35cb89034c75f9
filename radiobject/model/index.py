"""Index: ordered unique ids and their positions, with set algebra that keeps the left order."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.errors import DuplicateIdError, IndexingError, SelectionError, UnknownIdError

__all__ = ["Index", "align", "select_labels", "select_positions"]

_SCANS = 8


class Index:
    """An immutable, ordered list of unique ids. `name` says what they identify.

    >>> train, val = Index(["a", "b", "c"]), Index(["c", "d"])
    >>> list(train & val), list(train | val), list(train - val)
    (['c'], ['a', 'b', 'c', 'd'], ['a', 'b'])
    """

    __slots__ = ("_ids", "_positions", "_scans", "name")

    def __init__(self, ids: Iterable[str], name: str = "obs_id", *, checked: bool = False) -> None:
        self._ids: Sequence[str] = ids if isinstance(ids, list) and checked else list(ids)
        self.name = name
        self._positions: dict[str, int] | None = None
        self._scans = 0
        if not checked:
            self._map()

    def _map(self) -> dict[str, int]:
        """Positions by id. `DuplicateIdError` also for ids said to be checked: tables come from anybody."""
        if self._positions is None:
            positions = {name: position for position, name in enumerate(self._ids)}
            if len(positions) != len(self._ids):
                seen: set[str] = set()
                twice = [i for i in self._ids if i in seen or seen.add(i)]  # type: ignore[func-returns-value]
                raise DuplicateIdError(f"{self.name} {twice[:5]}", expected="ids that occur once")
            self._positions = positions
        return self._positions

    def get_index(self, key: str) -> int:
        """Position of an id; `UnknownIdError` with the nearest spellings when there is none."""
        if self._positions is None and self._scans < _SCANS:
            # a study that is opened for one look should not pay for a map of all its ids
            self._scans += 1
            try:
                return self._ids.index(key)
            except ValueError:
                raise self._unknown(key) from None
        try:
            return self._map()[key]
        except KeyError:
            raise self._unknown(key) from None

    def get_key(self, position: int) -> str:
        """Id at a position; `IndexingError` outside the index."""
        try:
            return self._ids[position]
        except IndexError:
            raise _outside(f"{self.name} at", position, len(self)) from None

    def _unknown(self, key: object) -> UnknownIdError:
        near = difflib.get_close_matches(str(key), self._ids[:20_000], n=3)
        return UnknownIdError(
            f"{self.name} {key!r}",
            expected=f"one of {len(self)} ids",
            hint=f"Did you mean {' or '.join(near)}?" if near else "See .index for all of them.",
        )

    def take(self, positions: Iterable[int]) -> Index:
        """The ids at these positions, in this order."""
        return Index([self._ids[int(i)] for i in positions], self.name)

    def mask(self, mask: Sequence[bool] | npt.NDArray[np.bool_]) -> Index:
        """The ids where `mask` is true."""
        if len(mask) != len(self):
            raise SelectionError("mask", expected=f"{len(self)} values", got=str(len(mask)))
        return Index([i for i, keep in zip(self._ids, mask, strict=True) if keep], self.name, checked=True)

    def is_aligned(self, other: Index) -> bool:
        """Whether both hold the same ids in the same order."""
        return list(self._ids) == list(other._ids)

    def to_list(self) -> list[str]:
        """The ids as a new list."""
        return list(self._ids)

    def to_set(self) -> frozenset[str]:
        """The ids as a set."""
        return frozenset(self._ids)

    @property
    def keys(self) -> tuple[str, ...]:
        """The ids in order, as a tuple."""
        return tuple(self._ids)

    @property
    def key_to_idx(self) -> dict[str, int]:
        """Positions by id, as a new dict."""
        return dict(self._map())

    @classmethod
    def build(cls, keys: Iterable[str], name: str = "") -> Index:
        """The same as `Index(keys, name)`."""
        return cls(keys, name)

    def _where(self, keep: Callable[[str], bool]) -> Index:
        return Index([i for i in self._ids if keep(i)], self.name, checked=True)

    def __and__(self, other: Index) -> Index:
        return self._where(other.__contains__)

    def __sub__(self, other: Index) -> Index:
        return self._where(lambda i: i not in other)

    def __or__(self, other: Index) -> Index:
        return Index([*self._ids, *(other - self)._ids], self.name, checked=True)

    def __xor__(self, other: Index) -> Index:
        return (self - other) | (other - self)

    intersection, difference, union, symmetric_difference = __and__, __sub__, __or__, __xor__

    def __le__(self, other: Index) -> bool:
        return all(i in other for i in self._ids)

    def __ge__(self, other: Index) -> bool:
        return other <= self

    def __contains__(self, key: object) -> bool:
        return key in self._map()

    def __getitem__(self, key: int) -> str:
        return self._ids[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Index) and self.name == other.name and self.is_aligned(other)

    def __hash__(self) -> int:
        return hash((self.name, tuple(self._ids)))

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self._ids[:4])) + (", ..." if len(self) > 4 else "")
        return f"Index([{shown}], name={self.name!r}, len={len(self)})"


def align(*indexes: Index) -> Index:
    """Ids that all indexes hold, in the order of the first.

    >>> list(align(Index(["a", "b", "c"]), Index(["c", "a"])))
    ['a', 'c']
    """
    if not indexes:
        raise SelectionError("align()", expected="at least one Index", got="none")
    first, *others = indexes
    for other in others:
        first = first & other
    return first


def select_positions(key: Any, length: int, what: str) -> int | npt.NDArray[np.int64]:
    """What `iloc[key]` picks: one position for an int, else sorted unique positions.

    `IndexingError` outside the range; `SelectionError` for floats, strings and masks of another length.
    """
    if isinstance(key, int | np.integer) and not isinstance(key, bool | np.bool_):
        position = int(key)
        if not -length <= position < length:
            raise _outside(what, position, length)
        return position % length
    if isinstance(key, slice):
        return np.sort(np.arange(length, dtype=np.int64)[key])
    if isinstance(key, list | tuple | np.ndarray) or hasattr(key, "to_numpy"):
        array = np.asarray(key)
        if array.ndim == 1 and array.dtype == bool:
            if len(array) != length:
                raise SelectionError(f"{what}[mask]", expected=f"{length} values", got=str(len(array)))
            return np.flatnonzero(array)
        if array.ndim == 1 and (array.dtype.kind in "iu" or array.size == 0):
            wanted = array.astype(np.int64)
            beyond = wanted[(wanted < -length) | (wanted >= length)]
            if beyond.size:
                raise _outside(what, int(beyond[0]), length)
            return np.unique(wanted % length) if length else wanted
    raise SelectionError(
        f"{what}[{key!r}]",
        expected="an int, a slice, a list of ints or a boolean mask",
        got=type(key).__name__,
    )


def _outside(what: str, position: int, length: int) -> IndexingError:
    bounds = f"{-length} to {length - 1}" if length else "none, it is empty"
    return IndexingError(f"{what}[{position}]", expected=bounds, got=str(position))


def select_labels(key: Any, index: Index, what: str) -> int | npt.NDArray[np.int64]:
    """What `loc[key]` picks: one position for a str, else sorted unique positions of the ids."""
    if isinstance(key, str):
        return index.get_index(key)
    if isinstance(key, list | tuple | Index | np.ndarray) or hasattr(key, "to_numpy"):
        names = list(key)
        if not all(isinstance(n, str) for n in names):
            raise SelectionError(f"{what}[...]", expected="ids as str", got=repr(names[:3]))
        return np.unique(np.array([index.get_index(n) for n in names], dtype=np.int64))
    raise SelectionError(
        f"{what}[{key!r}]", expected="an id, a list of ids or an Index", got=type(key).__name__
    )
