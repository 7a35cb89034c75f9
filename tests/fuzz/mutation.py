"""Random changes of bytes and of JSON, each decided by one `random.Random` alone."""

from __future__ import annotations

import copy
import hashlib
import json
from random import Random
from typing import Any

__all__ = ["as_json", "changed_bytes", "changed_json", "nasty", "sealed"]

# What json.dumps cannot be asked to write stands here as a word, and is put in afterwards.
_WORDS = {
    b'"@deep@"': b"[" * 20_000 + b"]" * 20_000,
    b'"@objects@"': b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    b'"@digits@"': b"9" * 5_000,
    b'"@huge@"': b"1e999",
}
_NASTY: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 5, 255, 256, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64,
    10**30, -(2**63), 0.5, -0.0, 1e-320, 1e308, -1e308, float("nan"), float("inf"), "", "x", "0",
    "1.0", "x" * 3_000,
    "../../x", "/etc/passwd", "a/./b", "a\\b", "a\0b", "s3://a/b", "file:///x", "C:\\x", "\ud800", "\u202e",
    "zarr", "tiledb", "memory", "label", "image", "int16", "<i2", "f8", "object", "@deep@", "@objects@",
    "@digits@", "@huge@", [], {}, [[]], [None], [0], [1, 2, 3], [0] * 300, ["x"], {"x": 1}, {"": None},
)  # fmt: skip


def nasty(rng: Random) -> Any:
    """A value that a reader may not expect."""
    return copy.deepcopy(rng.choice(_NASTY))


def changed_json(rng: Random, value: Any, most: int = 3) -> Any:
    """A copy with one to `most` of its nodes changed, gone, twice, renamed, or moved to another place."""
    whole = [copy.deepcopy(value)]
    for _ in range(rng.randint(1, most)):
        _change(rng, whole)
    return whole[0]


def _change(rng: Random, whole: list[Any]) -> None:
    places = list(_places(whole))
    owner, key = rng.choice(places)
    what = rng.choice(("nasty", "nasty", "tweak", "tweak", "gone", "twice", "name", "move"))
    if what == "tweak":
        owner[key] = _tweaked(rng, owner[key])
    elif what == "gone" and owner is not whole:
        del owner[key]
    elif what == "twice" and isinstance(owner, list) and owner is not whole:
        owner.insert(key, copy.deepcopy(owner[key]))
    elif what == "name" and isinstance(owner, dict):
        owner[rng.choice([*owner, "x", "", "\ud800"])] = owner.pop(key)
    elif what == "move":
        other, there = rng.choice(places)
        owner[key] = copy.deepcopy(other[there])
    else:
        owner[key] = nasty(rng)


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield value, key
        yield from _places(part)


def _tweaked(rng: Random, value: Any) -> Any:
    """The same type, nearly the same value."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return rng.choice((value + 1, value - 1, -value, value * 2, value * 1.5, value * 10**6, str(value)))
    if isinstance(value, str):
        at = rng.randint(0, len(value))
        more = rng.choice(("", "x", "/", "..", "\0", "\u00e9", "0", "~", " "))
        return value[:at] + more + value[at + rng.randint(0, 2) :]
    if isinstance(value, list):
        return rng.choice((value[::-1], value[:-1], [*value, *value[:1]], [value]))
    return [value] if value is None else dict(list(value.items())[::-1])


def as_json(value: Any) -> bytes:
    """As JSON, in which NaN, lone surrogates and absurd depths may stand."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=False).encode()
    for word, meant in _WORDS.items():
        text = text.replace(word, meant)
    return text


def sealed(body: bytes) -> bytes:
    """A JSON object that ends in its own SHA-256, as commits, hints, tags and manifests do."""
    return body[:-1] + b',"self_sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}'


def changed_bytes(rng: Random, data: bytes, first: int = 0, last: int | None = None) -> bytes:
    """A copy with a few bits, bytes or runs changed between `first` and `last`, or cut, or made longer."""
    made, last = bytearray(data), len(data) if last is None else last
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(first, max(last, first + 1))
        what = rng.choice(("bit", "bit", "byte", "run", "number", "move"))
        if at >= len(made):
            made += rng.randbytes(rng.randint(1, 9))
        elif what == "bit":
            made[at] ^= 1 << rng.randrange(8)
        elif what == "byte":
            made[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif what == "run":
            made[at : at + 8] = rng.randbytes(min(8, len(made) - at))
        elif what == "number":
            number = rng.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, len(data)))
            size = rng.choice((2, 4, 8))
            low = (number % 2 ** (8 * size)).to_bytes(size, rng.choice(("little", "big")))
            made[at : at + size] = low[: len(made) - at]
        else:
            other = rng.randrange(len(made))
            made[at : at + 8] = made[other : other + min(8, len(made) - at)]
    if rng.random() < 0.08:
        del made[rng.randint(first, len(made)) :]
    if rng.random() < 0.04:
        made += rng.randbytes(rng.choice((1, 4, 64, 5_000)))
    return bytes(made)
