"""Failures: what a disk, a server or a driver raised as an error of ours, with its cause and what to do."""

from __future__ import annotations

import errno
import re
from types import TracebackType

from radiobject.errors import (
    MissingObjectError,
    RadiObjectError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
)
from radiobject.location import Location

__all__ = ["code_of", "hint_for", "mapped", "private"]

_KEYS = "in storage_options, in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in the profile"
_REGION = 'Say which with region= in storage_options, or as S3Config(region="...").'
_EXPIRED = "The temporary credentials are no longer valid: renew them, then open the study again."
_NOBODY = "Check endpoint_url, and that the server runs and can be reached from here."

_HINTS = {
    # what S3 servers answer: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    "NoSuchBucket": "Check the bucket's name and the endpoint; buckets are not made here.",
    "AccessDenied": "These credentials may not do this: s3:GetObject and s3:ListBucket are needed to read, "
    "s3:PutObject and s3:DeleteObject to write.",
    "403": "These credentials may not do this, or nothing is there and they may not s3:ListBucket.",
    "InvalidAccessKeyId": f"The server does not know this access key: check the one {_KEYS}.",
    "SignatureDoesNotMatch": f"The secret does not belong to the access key: check both {_KEYS}.",
    "ExpiredToken": _EXPIRED,
    "InvalidToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestTimeTooSkewed": "Set the clock of this machine.",
    "PermanentRedirect": f"The bucket is in another region. {_REGION}",
    "AuthorizationHeaderMalformed": f"The bucket is in another region. {_REGION}",
    "SlowDown": "The server wants fewer requests: lower max_parallel_ops, or raise retries.",
    # what botocore raises before a server has answered
    "NoCredentialsError": f"Give them {_KEYS}; for a public bucket pass anon=True.",
    "PartialCredentialsError": f"Give key and secret both, {_KEYS}.",
    "ProfileNotFound": "Check the profile's name, and that AWS_CONFIG_FILE or ~/.aws/config has it.",
    "EndpointConnectionError": _NOBODY,
    "ConnectTimeoutError": _NOBODY,
    "CURL error": _NOBODY,
    "ReadTimeoutError": "The server took too long: raise read_timeout or retries.",
}
_REFUSED = ("NoCredentialsError", "PartialCredentialsError", "InvalidToken", "TokenRefreshRequired")


def hint_for(text: str) -> str | None:
    """What to do about a failure whose text names S3's code for it, as tensorstore's do."""
    return next((hint for code, hint in _HINTS.items() if not code.isdigit() and code in text), None)


def code_of(error: BaseException) -> str:
    """S3's word for it, else the class of the exception that began it; drivers chain them."""
    found: BaseException | None = error
    while found is not None:
        response = getattr(found, "response", None)
        if isinstance(response, dict) and "Error" in response:
            return str(response["Error"].get("Code", ""))
        if type(found).__name__ in _HINTS:
            return type(found).__name__
        found = found.__cause__ or found.__context__
    return ""


def private(text: str, study: Location) -> str:
    """What an error says, without the folders that a study and its source files lie in: others read it there.

    >>> private("/data/a.nii: got nothing there. Look below /data, not /data.old.", Location("/data/study"))
    'a.nii: got nothing there. Look below the source root, not /data.old.'
    """
    places = {study.source_root.uri: "the source root", study.uri: "the study"}
    for uri in sorted(places, key=len, reverse=True):
        if uri.strip("/"):  # of the whole disk nothing is told
            place = rf"(?<![\w./-])(?:file://)?{re.escape(uri)}"
            text = re.sub(rf"{place}/(?=[^\s/])", "", text)
            text = re.sub(rf"{place}(?![\w/-]|\.\w)", places[uri], text)
    return text


class mapped:  # noqa: N801  # a with statement reads it as a verb, as contextlib's suppress
    """Raise what the block raises as one of our errors that begins with `where`.

    A class, because what passes a generator's `throw` ends in a circle of frames on Python 3.12 and newer: a
    caller that catches our error would keep its voxels until garbage is collected.
    """

    __slots__ = ("where", "writing")

    def __init__(self, where: str, *, writing: bool = False) -> None:
        self.where, self.writing = where, writing

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # drivers raise their client's own exceptions (botocore, aiohttp, azure); none of them may leave here
        if isinstance(error, Exception) and not isinstance(error, RadiObjectError):
            raise _ours(error, self.where, self.writing) from error


def _ours(error: Exception, where: str, writing: bool) -> RadiObjectError:
    code = code_of(error)
    hint = _HINTS.get(code)
    if isinstance(error, FileNotFoundError | NotADirectoryError) and code != "NoSuchBucket":
        if writing:
            hint = "Check that the bucket or folder above it exists."
            return StorageError(where, got=str(error), hint=hint)
        return MissingObjectError(where, expected="an object", got="nothing there")
    said = str(error)
    if hint and code not in said:
        # some servers send a code and no message, which botocore hands on as None
        cause = code if said.endswith("None") else f"{code}: {said}"
    else:
        cause = said
    if isinstance(error, PermissionError) or code in _REFUSED:
        return StorageReadOnlyError(where, got=cause, hint=hint or "Check the rights of this place.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(where, got=cause, hint="Free some space and run again.")
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return StorageReadOnlyError(where, got=cause, hint="Choose a place you can write to.")
    return StorageError(where, got=cause if hint else f"{type(error).__name__}: {error}", hint=hint)
