"""Key: the secret that pseudonyms are made with; given, found in the environment, or made once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
from functools import cache
from typing import Any

from radiobject.errors import ConfigError, StorageError
from radiobject.local_disk import create_file

__all__ = ["VARIABLE", "DeidKey", "find_key", "key_path"]

VARIABLE = "RADIOBJECT_DEID_KEY"
"""Environment variable: the key as hexadecimal text, or the path of a file that holds it."""

_log = logging.getLogger(__name__)

_BYTES = 32
_HEX = re.compile(rf"(?:[0-9a-fA-F]{{2}}){{{_BYTES},}}")


class DeidKey:
    """A secret of 32 bytes or more. It shows and stores its `id` only.

    A pickle of it does hold the secret: it may go to worker processes of this machine, and nowhere else.

    >>> key = DeidKey(bytes(32))
    >>> key
    DeidKey(id='cbd9cb908d55aefd')
    >>> key.code("subject", "12345")
    '3ttkmy3k25fz'
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) < _BYTES:
            raise ConfigError("deid_key=", expected=f"{_BYTES} bytes or more", got=str(len(secret)))
        self._secret = bytes(secret)

    @property
    def id(self) -> str:
        """16 hexadecimal digits that tell keys apart and do not lead back to them."""
        return self.digest("key id", "")[:8].hex()

    def digest(self, domain: str, text: str) -> bytes:
        """HMAC-SHA256 (RFC 2104) of the text; 32 bytes that are unrelated for another `domain` or key."""
        return hmac.digest(self._secret, f"{domain}\0{text}".encode("utf-8", "surrogatepass"), hashlib.sha256)

    def code(self, domain: str, text: str) -> str:
        """The first 60 bits of `digest` as 12 letters and digits (base32, RFC 4648, in lower case).

        Two of 100,000 texts share a code with a chance of 1 in 230 million.
        """
        return base64.b32encode(self.digest(domain, text)).decode()[:12].lower()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeidKey) and hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"DeidKey(id={self.id!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return DeidKey, (self._secret,)


def find_key(deid_key: str | bytes | os.PathLike[str] | None = None) -> DeidKey:
    """The key to use: the argument, else `$RADIOBJECT_DEID_KEY`, else the user's own file, made if missing.

    The argument is 32 bytes or more, the same as hexadecimal text, or the path of a file that holds such
    text; the variable is text or a path. The file that is made is `key_path()`, readable by its owner alone;
    a line on stderr tells where it is. Raises `ConfigError` for what is no key, `StorageError` where the file
    cannot be made.
    """
    if isinstance(deid_key, bytes | bytearray | memoryview):
        return DeidKey(bytes(deid_key))
    if isinstance(deid_key, str | os.PathLike):
        return _from_text(os.fspath(deid_key), "deid_key=")
    if deid_key is not None:
        raise ConfigError("deid_key=", expected="bytes, text or a path", got=type(deid_key).__name__)
    named = os.environ.get(VARIABLE)
    return _from_text(named, f"${VARIABLE}") if named else _made_once(key_path())


def key_path() -> str:
    """Where the key of this user is kept: `radiobject/deid.key` in $XDG_CONFIG_HOME, or else in ~/.config."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(config):  # the specification has relative paths ignored
        config = os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(config, "radiobject", "deid.key")


def _from_text(text: str, what: str) -> DeidKey:
    if _HEX.fullmatch(text.strip()):
        return DeidKey(bytes.fromhex(text.strip()))
    try:
        return _read(text.replace("\0", " "))
    except (FileNotFoundError, NotADirectoryError):
        # a key with a typing error is still nearly a key: it is not repeated in a message
        digits = re.fullmatch(r"[\s0-9a-fA-F]{16,}", text)
        raise ConfigError(
            what,
            expected=f"{2 * _BYTES} or more hexadecimal digits, or the path of a file that holds them",
            got=f"{len(text.strip())} hexadecimal digits" if digits else f"{text!r}, where no file is",
            hint="Make one with: python -c 'import secrets; print(secrets.token_hex(32))'",
        ) from None
    except OSError as error:
        raise StorageError(f"key file {text}", expected="to be readable", got=str(error)) from error


def _read(path: str) -> DeidKey:
    with open(path, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        content = file.read(4097).strip()
    text = content.decode("latin-1")
    if not _HEX.fullmatch(text) or len(text) > 4096:
        raise ConfigError(
            f"key file {path}",
            expected=f"{2 * _BYTES} or more hexadecimal digits and nothing else",
            got=f"{len(content)} bytes that are not",
        )
    if stat.S_IMODE(mode) & 0o077:
        _warn_of_readers(path)
    return DeidKey(bytes.fromhex(text))


@cache  # the key is looked up for every table that is joined; saying it once is enough
def _warn_of_readers(path: str) -> None:
    _log.warning("key file %s can be read by others: chmod 600 %s", path, path)


def _made_once(path: str) -> DeidKey:
    """The key of that file. Of several processes that find none, one makes it and all read it."""
    try:
        try:
            return _read(path)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        if create_file(path, f"{secrets.token_hex(_BYTES)}\n".encode(), mode=0o600):
            # a warning, so that it is seen without any logging set up: who loses this file loses the link
            _log.warning(
                "made a key for pseudonyms: %s. Keep it as safe as the patients' names: without it no later "
                "scan of these patients can join them, and whoever has it can tell which pseudonym is whose.",
                path,
            )
        return _read(path)
    except OSError as error:
        raise StorageError(
            f"key file {path}",
            expected="to be there, or to be created",
            got=str(error),
            hint=f"Pass deid_key=, or set ${VARIABLE}.",
        ) from error
