"""Location: a URI and its options, translated for each engine. The only reader of storage options."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from radiobject.config import current
from radiobject.errors import ConfigError, MissingDependencyError

__all__ = ["Location", "secrets_kept", "tiledb_s3"]

_keep_secrets: ContextVar[bool] = ContextVar("radiobject_keep_secrets", default=False)

_SECRET = re.compile("key|secret|token|pass|cred|connection_string|header|auth|cookie|cert", re.IGNORECASE)
_NAMED_S3 = (
    "max_parallel_ops", "use_virtual_addressing", "multipart_part_size_mb", "retries", "connect_timeout",
    "read_timeout",
)  # fmt: skip
"""Options that S3Config has and s3fs has not: each reader here takes those that concern it."""
_CONNECTIONS = 32
_PROCESS = os.urandom(32)
_TENSORSTORE_S3 = frozenset({"anon", "profile", "endpoint_url", "region", *_NAMED_S3})


class Location:
    """Where something stands: a local path or any fsspec URL, with `storage_options`.

    Pickles without secrets: options that are named like keys, tokens or headers are dropped, and URLs with
    a user or a signature in them, also inside others. The receiving process finds its credentials in its
    own environment.

    Raises `ConfigError` for what is no path or URL, and for chained URLs (`simplecache::s3://...`).

    >>> Location("s3://bucket/study", {"anon": True}).child("collections").uri
    's3://bucket/study/collections'
    """

    context: Any = None
    """What a caller gave to read the volumes here by, for the engine that made it. This process has it alone:
    pickles leave it out, and a forked child does not use it."""

    sources: Location | None = None
    """The root of source files that a caller gave, for studies that read them where they lie."""

    def __init__(self, uri: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> None:
        text = os.fspath(uri)
        if not isinstance(text, str) or not text or "\0" in text:
            raise ConfigError("uri", expected="a non-empty path or URL", got=repr(text))
        if re.match(r"^[a-zA-Z0-9+.-]+::", text) and "://" in text:
            raise ConfigError("uri", expected="one URL", got=f"the chain {text!r}")
        self.options: dict[str, Any] = dict(options or {})
        match = re.match(r"^([a-zA-Z][a-zA-Z0-9+.-]+)://", text)
        if match and re.match(r"[^/]*:[^/]*@", text[match.end() :]):
            # a URI is written to logs, errors and pickles; a password must not be part of it
            raise ConfigError(
                f"uri of scheme {match.group(1)}",
                expected="no user and password in it",
                got="user:...@",
                hint="Pass credentials in storage_options.",
            )
        self.scheme = match.group(1).lower() if match else "file"
        if self.scheme in ("file", "local"):
            text = text[match.end() :] if match else text
            self.scheme = "file"
            self.uri = os.path.abspath(os.path.expanduser(text))
        else:
            self.uri = text.rstrip("/")
        if self.scheme == "s3":
            self.options = {**current().s3.storage_options(), **self.options}

    @property
    def is_local(self) -> bool:
        """Whether it is a path of this machine's file system."""
        return self.scheme == "file"

    @property
    def is_near(self) -> bool:
        """Whether a request costs next to nothing: it is a local disk or memory."""
        return self.scheme in ("file", "memory")

    @cached_property
    def identity(self) -> tuple[str, bytes]:
        """The URI, and a digest of the options that only this process can make: what to keep answers by."""
        said = "" if self.is_local else _frozen(self.options)
        return self.uri, hashlib.blake2b(said.encode(), key=_PROCESS, digest_size=16).digest()

    @property
    def path(self) -> str:
        """The local absolute path; only for local places."""
        if not self.is_local:
            raise ConfigError(f"path of {self.uri}", expected="a local place", got=self.scheme)
        return self.uri

    def child(self, relative: str) -> Location:
        """The place `relative` below this one, with the same options."""
        below = Location.__new__(Location)
        below.options, below.scheme, below.context = self.options, self.scheme, self.context
        below.sources = self.sources
        below.uri = f"{self.uri}/{relative}" if relative else self.uri
        return below

    def parents(self, levels: int) -> list[Location]:
        """The folders that this one lies in, nearest first; of a store elsewhere at most `levels` of them.

        >>> [place.uri for place in Location("s3://bucket/a/b/c").parents(2)]
        ['s3://bucket/a/b', 's3://bucket/a']
        """
        if self.is_local:
            above = [str(folder) for folder in Path(os.path.realpath(self.path)).parents]
        else:
            scheme, _, rest = self.uri.partition("://")
            names = rest.split("/")
            above = [f"{scheme}://{'/'.join(names[:n])}" for n in range(len(names) - 1, 0, -1)]
            above = above if self.scheme == "memory" else above[:levels]
        return [Location(uri, self.options) for uri in above if not uri.endswith("://")]

    def with_context(self, context: Any) -> Location:
        """The same place, to be read by `context`."""
        if context is self.context:
            return self
        same = self.child("")
        same.context = context
        return same

    def with_sources(self, source_root: str | os.PathLike[str] | Location | None) -> Location:
        """The same place, whose source files lie below `source_root`; None changes nothing.

        >>> Location("/data/study").with_sources("/archive").source_root
        Location('/archive')
        """
        if source_root is None:
            return self
        same = self.child("")
        if not isinstance(source_root, Location):
            source_root = self.beside(os.fspath(source_root))
        same.sources = source_root
        return same

    @property
    def source_root(self) -> Location:
        """Where paths of source files begin: what a caller gave, else the folder that holds this place.

        `ConfigError` where there is neither.
        """
        above = [] if self.sources is not None else self.parents(1)
        if self.sources is None and not above:
            raise ConfigError(
                f"source root of {self.uri}", expected="a folder around it", got="none",
                hint="Pass source_root=, the folder or URL that the source files are below.",
            )  # fmt: skip
        return self.sources or above[0]

    def beside(self, uri: str) -> Location:
        """Another place, with this one's options where they speak of the same kind of store."""
        other = Location(uri)
        return Location(uri, self.options) if other.scheme == self.scheme else other

    def filesystem(self) -> tuple[Any, str]:
        """An fsspec filesystem and the root path in it. One per process: a forked child makes its own."""
        pid = os.getpid()
        if self._filesystem.get("pid") != pid:
            self._filesystem.update(pid=pid, made=self._make_filesystem())
        made: tuple[Any, str] = self._filesystem["made"]
        return made

    @cached_property
    def _filesystem(self) -> dict[str, Any]:
        return {}

    def _make_filesystem(self) -> tuple[Any, str]:
        import fsspec

        try:
            # listings of another writer's commits must never come from a cache
            made: tuple[Any, str] = fsspec.core.url_to_fs(
                self.uri, use_listings_cache=False, **self._fsspec_options()
            )
            if self.retries is not None:
                # its own, of answers that break off; fsspec keeps one client for equal options: also these
                made[0].retries = self.retries + 1
            return made
        except ImportError as error:
            extra = "s3" if self.scheme == "s3" else None
            line = (
                f'pip install "radiobject-zarr[{extra}]"' if extra else "install the fsspec driver it names"
            )
            raise MissingDependencyError(f"{self.uri}: {error}", hint=line) from error
        except ValueError as error:
            raise ConfigError(
                f"uri {self.uri!r}", expected="a path or an fsspec URL", got=str(error)
            ) from error

    def _fsspec_options(self) -> dict[str, Any]:
        options = dict(self.options)
        if self.scheme != "s3":
            return options
        region = options.pop("region", None)
        named = {name: options.pop(name, None) for name in _NAMED_S3}
        client = dict(options.pop("client_kwargs", {}))
        config = dict(options.pop("config_kwargs", {}))
        if region:
            client.setdefault("region_name", region)
        # the client's ten would let the ranges of one read wait for one another
        config.setdefault("max_pool_connections", named["max_parallel_ops"] or _CONNECTIONS)
        if named["retries"] is not None:
            config.setdefault("retries", {"max_attempts": named["retries"], "mode": "standard"})
        for name in ("connect_timeout", "read_timeout"):
            if named[name] is not None:
                config.setdefault(name, named[name])
        virtual = named["use_virtual_addressing"]
        if virtual is not None:
            config.setdefault("s3", {"addressing_style": "virtual" if virtual else "path"})
        if _endpoint(options):
            # servers other than AWS commonly know neither bucket host names nor the newer checksums
            config.setdefault("s3", {"addressing_style": "path"})
            config.setdefault("request_checksum_calculation", "when_required")
        return {**options, "client_kwargs": client, "config_kwargs": config}

    @property
    def retries(self) -> int | None:
        """How often a failed request is sent again; None leaves it to the engine."""
        times: int | None = self.options.get("retries") if self.scheme == "s3" else None
        return times

    @property
    def max_requests(self) -> int | None:
        """How many requests an engine may have under way at a time; None leaves it to the engine."""
        limit: int | None = self.options.get("max_parallel_ops") if self.scheme == "s3" else None
        return limit

    @property
    def read_args(self) -> dict[str, int]:
        """What fsspec's `cat_file` is to be told here: s3fs else asks for the size first."""
        return {"max_concurrency": 1} if self.scheme in ("s3", "s3a") else {}

    @property
    def has_suffix_ranges(self) -> bool:
        """Whether a range may count from an object's end, and is one request."""
        return self.scheme in ("s3", "s3a", "http", "https")

    @property
    def pipe_args(self) -> dict[str, int]:
        """What fsspec's `pipe_file` is to be told here: the size of the parts of a large object, in bytes."""
        size = self.options.get("multipart_part_size_mb") if self.scheme == "s3" else None
        return {} if size is None else {"chunksize": size * 2**20}

    def tiledb_config(self) -> dict[str, str] | None:
        """TileDB's settings for this place: of S3 only, and those that the options name.

        None when TileDB cannot express the options, such as a profile.
        """
        if self.scheme != "s3":
            return {}
        return tiledb_s3(self.options)

    def kvstore(self, relative: str = "") -> dict[str, Any] | None:
        """The tensorstore kvstore spec of a folder below, or None when tensorstore cannot express it."""
        tail = f"{relative}/" if relative else ""
        if self.is_local:
            return {"driver": "file", "path": f"{self.uri}/{tail}"}
        parts = urlsplit(self.uri)
        if self.scheme in ("http", "https") and not self.options:
            return {
                "driver": "http",
                "base_url": f"{parts.scheme}://{parts.netloc}",
                "path": f"{unquote(parts.path)}/{tail}",  # which tensorstore encodes again
            }
        if self.scheme == "s3" and set(self.options) <= _TENSORSTORE_S3:
            # no URL parsing: "#" and "?" are ordinary letters of a key
            bucket, _, prefix = self.uri.removeprefix("s3://").partition("/")
            path = f"{prefix.strip('/')}/{tail}" if prefix else tail
            spec = {"driver": "s3", "bucket": bucket, "path": path, **self._tensorstore_s3()}
            # it puts the bucket into the path for a server of one's own, and into the host name for AWS
            virtual = self.options.get("use_virtual_addressing")
            return spec if virtual is None or virtual is ("endpoint" not in spec) else None
        return None

    def _tensorstore_s3(self) -> dict[str, Any]:
        """Endpoint, region and credentials as the client behind fsspec settles them."""
        spec: dict[str, Any] = {}
        given, env = self.options, os.environ
        endpoint = _endpoint(given)
        if endpoint:
            spec["endpoint"] = endpoint
        region = given.get("region")
        if endpoint and not region:
            region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1"
        if region:  # else tensorstore asks AWS where the bucket is
            spec["aws_region"] = region
        if given.get("anon"):
            spec["aws_credentials"] = {"type": "anonymous"}
        elif given.get("profile"):
            # tensorstore looks for the two files nowhere by itself
            files = {"config_file": "AWS_CONFIG_FILE", "credentials_file": "AWS_SHARED_CREDENTIALS_FILE"}
            spec["aws_credentials"] = {"type": "profile", "profile": given["profile"]} | {
                name: os.path.expanduser(env.get(variable) or f"~/.aws/{name.removesuffix('_file')}")
                for name, variable in files.items()
            }
        elif env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
            # the default chain would look here too, after it complained on stderr that there is no ~/.aws
            spec["aws_credentials"] = {"type": "environment"}
        return spec

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Location) and (
            (self.uri, self.options, self.sources) == (other.uri, other.options, other.sources)
        )

    def __hash__(self) -> int:
        return hash(self.uri)

    def __repr__(self) -> str:
        return f"Location({self.uri!r})"

    def __getstate__(self) -> dict[str, Any]:
        options = self.options if _keep_secrets.get() else _without_secrets(self.options)
        return {"uri": self.uri, "scheme": self.scheme, "options": options, "sources": self.sources}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def tiledb_s3(options: Mapping[str, Any]) -> dict[str, str] | None:
    """TileDB's settings for S3 under these storage options; None for some that it does not have."""
    names = {
        "region": "region",
        "key": "aws_access_key_id",
        "secret": "aws_secret_access_key",
        "token": "aws_session_token",
        "max_parallel_ops": "max_parallel_ops",
    }
    if not set(options) <= {*names, "anon", "endpoint_url", *_NAMED_S3}:
        return None
    settings = {f"vfs.s3.{theirs}": str(options[ours]) for ours, theirs in names.items() if options.get(ours)}
    if options.get("anon"):
        settings["vfs.s3.no_sign_request"] = "true"
    if options.get("multipart_part_size_mb"):
        settings["vfs.s3.multipart_part_size"] = str(options["multipart_part_size_mb"] * 2**20)
    if options.get("retries") is not None:
        settings["vfs.s3.connect_max_tries"] = str(options["retries"] + 1)
    for name, theirs in (("connect_timeout", "connect_timeout_ms"), ("read_timeout", "request_timeout_ms")):
        if options.get(name) is not None:
            settings[f"vfs.s3.{theirs}"] = str(max(round(options[name] * 1000), 1))
    endpoint = _endpoint(options)
    if endpoint:
        parts = urlsplit(endpoint)
        settings["vfs.s3.scheme"] = parts.scheme
        settings["vfs.s3.endpoint_override"] = parts.netloc
    virtual = options.get("use_virtual_addressing", not endpoint)
    settings["vfs.s3.use_virtual_addressing"] = str(bool(virtual)).lower()
    return settings


def _endpoint(options: Mapping[str, Any]) -> str | None:
    env = os.environ
    found = options.get("endpoint_url") or env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL")
    return found or None


@contextmanager
def secrets_kept() -> Iterator[None]:
    """Pickle locations whole inside the block: for worker processes of our own, never for a file."""
    token = _keep_secrets.set(True)
    try:
        yield
    finally:
        _keep_secrets.reset(token)


def _without_secrets(options: Any) -> Any:
    """What names an endpoint or a region stays; what could be a secret goes, at every depth."""
    if isinstance(options, Mapping):
        named = {name: value for name, value in options.items() if not _SECRET.search(str(name))}
        return {name: _without_secrets(value) for name, value in named.items() if not _is_signed(value)}
    if isinstance(options, list | tuple):
        kept = [_without_secrets(value) for value in options if not _is_signed(value)]
        return tuple(kept) if isinstance(options, tuple) else kept
    return options


def _frozen(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{','.join(sorted(f'{_frozen(k)}:{_frozen(v)}' for k, v in value.items()))}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_frozen, value))}]"
    return repr(value) if isinstance(value, str | bytes | int | float | None) else f"{type(value)}{id(value)}"


def _is_signed(value: Any) -> bool:
    """Whether it is a URL with a user, a password or a signature in it, such as a proxy's."""
    return isinstance(value, str) and bool(re.match(r"^[a-zA-Z][a-zA-Z0-9+.-]*://([^/]*@|.*[?])", value))
