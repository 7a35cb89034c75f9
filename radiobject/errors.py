"""The exception tree. Every error is ours and also the builtin that a caller would expect.

::

    RadiObjectError
    ├── StorageError (OSError)                   the place itself failed
    │   ├── StorageReadOnlyError (PermissionError)
    │   └── StorageFullError
    ├── StudyNotFoundError (FileNotFoundError)   no committed study at this URI
    ├── StudyExistsError (FileExistsError)       something stands where a study should be created
    ├── SnapshotExpiredError (FileNotFoundError) the version was cleaned up
    ├── ConflictError (RuntimeError)             another writer changed the same thing
    ├── ConcurrencyError (RuntimeError)          this store cannot promise one winner
    ├── IntegrityError (OSError)                 stored bytes are missing or changed
    │   ├── MissingObjectError (FileNotFoundError)
    │   ├── CorruptObjectError
    │   ├── StaleIndexError                      an index was made from other voxels
    │   └── SourceChangedError                   a file that a volume is read from is not the one registered
    ├── FormatError (ValueError)                 metadata this version does not accept
    │   └── UpstreamStudyError                   a study that the TileDB-based package wrote
    ├── UnknownIdError (KeyError)                no such subject, volume, collection or column
    ├── DuplicateIdError (ValueError)
    ├── MetadataError (ValueError)               the obs_meta or obs handed in does not fit
    ├── AlignmentError (ValueError)              collections or partners do not match
    ├── IndexingError (IndexError)               a voxel index outside the volume
    ├── SelectionError (TypeError, ValueError)   an index of a kind or length that selects nothing
    ├── ExpressionError (ValueError)             a filter that cannot be understood; shows where
    │   └── UnknownColumnError (UnknownIdError)  it names a column that is not there
    ├── ViewError (TypeError, ValueError)        a change was asked of a view
    ├── TransactionError (RuntimeError)          not in a transaction() block, or only while it is open
    ├── GeometryError (ValueError)               an affine or axis code that describes no space
    ├── ConfigError (ValueError)
    ├── TransformError (RuntimeError)            a caller's function failed for a volume; names both
    ├── WorkerError (RuntimeError)               a worker process died
    ├── WriterError (RuntimeError)               a writer was used outside its `with` block, or for nothing
    ├── CapabilityError (ValueError)             this backend cannot do what was asked
    ├── MissingDependencyError (ImportError)
    ├── MovedImportError (ImportError)           a name of the TileDB-based package; says what is here instead
    ├── MovedNameError (AttributeError, TypeError)    the same for a method, attribute or argument
    ├── IngestError (ValueError)                 some sources failed; .report lists all of them
    └── SourceError (ValueError)                 one source cannot be ingested
        ├── SourceNotFoundError (FileNotFoundError)
        ├── SourceCorruptError                   truncated, wrong CRC, not what its name says
        ├── SourceUnsupportedError               intact, but of a kind 1.0 refuses
        └── AxisAmbiguousError                   the file does not say what its fourth axis is
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AlignmentError",
    "AxisAmbiguousError",
    "CapabilityError",
    "ConcurrencyError",
    "ConfigError",
    "ConflictError",
    "CorruptObjectError",
    "DuplicateIdError",
    "ExpressionError",
    "FormatError",
    "GeometryError",
    "IndexingError",
    "IngestError",
    "IntegrityError",
    "MetadataError",
    "MissingDependencyError",
    "MissingObjectError",
    "MovedImportError",
    "MovedNameError",
    "RadiObjectError",
    "SelectionError",
    "SnapshotExpiredError",
    "SourceChangedError",
    "SourceCorruptError",
    "SourceError",
    "SourceNotFoundError",
    "SourceUnsupportedError",
    "StaleIndexError",
    "StorageError",
    "StorageFullError",
    "StorageReadOnlyError",
    "StudyExistsError",
    "StudyNotFoundError",
    "TransactionError",
    "TransformError",
    "UnknownColumnError",
    "UnknownIdError",
    "UpstreamStudyError",
    "ViewError",
    "WorkerError",
    "WriterError",
]


class RadiObjectError(Exception):
    """Base of the tree. `what` names file, id or column; the rest says what to do about it.

    >>> print(FormatError("zarr.json of T1w/a", expected="zarr_format 3", got="2", hint="re-ingest it"))
    zarr.json of T1w/a: expected zarr_format 3, got 2. re-ingest it
    """

    def __init__(
        self, what: str, *, expected: str | None = None, got: str | None = None, hint: str | None = None
    ) -> None:
        middle = []
        if expected is not None:
            middle.append(f"expected {expected}")
        if got is not None:
            middle.append(f"got {got}")
        message = what + (": " + ", ".join(middle) if middle else "")
        if hint is not None:
            message = f"{message.rstrip('.')}. {hint}"
        super().__init__(message)
        self.what = what
        self.expected = expected
        self.got = got
        self.hint = hint

    def __str__(self) -> str:
        # KeyError would print the repr of its argument, quotes and all.
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args[0], self.__dict__.copy())


def _rebuild(kind: type[RadiObjectError], message: str, state: dict[str, Any]) -> RadiObjectError:
    error = kind.__new__(kind, message)
    error.args = (message,)
    error.__dict__.update(state)
    return error


class StorageError(RadiObjectError, OSError):
    """The place (disk, bucket, server) refused or failed."""


class StorageReadOnlyError(StorageError, PermissionError):
    """The place cannot be written to with these rights."""


class StorageFullError(StorageError):
    """No space is left at the place."""


class StudyNotFoundError(RadiObjectError, FileNotFoundError):
    """No committed study stands at the URI."""


class StudyExistsError(RadiObjectError, FileExistsError):
    """The URI already holds a study, or something that is none."""


class SnapshotExpiredError(RadiObjectError, FileNotFoundError):
    """The version asked for was removed by clean-up."""


class ConflictError(RadiObjectError, RuntimeError):
    """Another writer committed a change to the same thing first."""


class ConcurrencyError(RadiObjectError, RuntimeError):
    """The store cannot promise that only one of two writers wins."""


class IntegrityError(RadiObjectError, OSError):
    """Stored bytes are not what was committed."""


class MissingObjectError(IntegrityError, FileNotFoundError):
    """A stored object, or a chunk inside one, is gone."""


class CorruptObjectError(IntegrityError):
    """A stored object fails its checksum, size or structure."""


class StaleIndexError(IntegrityError):
    """A foreground index was made from other voxels than those of its volume."""


class SourceChangedError(IntegrityError):
    """A source file that a volume is read from, where it lies, is not the one that was registered."""


class FormatError(RadiObjectError, ValueError):
    """Metadata that this version of the package does not accept."""


class UpstreamStudyError(FormatError):
    """A study that the TileDB-based package wrote: it is imported, not opened."""


class UnknownIdError(RadiObjectError, KeyError):
    """No subject, volume, collection or column has this name."""


class DuplicateIdError(RadiObjectError, ValueError):
    """An id that must be unique occurs twice."""


class MetadataError(RadiObjectError, ValueError):
    """A table handed in lacks a column or a row, or contradicts the images."""


class AlignmentError(RadiObjectError, ValueError):
    """Collections or partners do not match each other."""


class IndexingError(RadiObjectError, IndexError):
    """A voxel index lies outside the volume, or there are too many of them."""


class SelectionError(RadiObjectError, TypeError, ValueError):
    """A selection of the wrong kind or length."""


class ExpressionError(RadiObjectError, ValueError):
    """A filter expression that cannot be understood, or cannot be computed.

    `text` is the expression and `span` the characters of it that are wrong; the message underlines them.

    >>> print(ExpressionError("no **", hint="Write a * a.", text="a ** 2", span=(2, 4)))
    no **. Write a * a.
        a ** 2
          ^^
    """

    def __init__(
        self,
        what: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        hint: str | None = None,
        text: str | None = None,
        span: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__(what, expected=expected, got=got, hint=hint)
        self.text, self.span = text, span
        if text is not None:
            self.args = (f"{self.args[0]}\n{_underlined(text, *span)}",)


def _underlined(text: str, start: int, stop: int) -> str:
    """The line of `text` that holds `start`, cut to what fits, with carets below."""
    first = text.rfind("\n", 0, start) + 1
    end = text.find("\n", start)
    line = text[first : len(text) if end < 0 else end]
    start, stop = start - first, max(min(stop - first, len(line)), start - first + 1)
    cut = max(0, start - 40)
    shown = line[cut : cut + 80]
    # escape sequences in somebody's text are not for this terminal; one character stays one, for the carets
    shown = "".join(c if c.isprintable() else "?" for c in shown)
    before, after = "..." if cut else "", "..." if len(line) > cut + 80 else ""
    carets = "^" * min(stop - start, 80 - (start - cut))
    return f"    {before}{shown}{after}\n    {' ' * (len(before) + start - cut)}{carets}"


class UnknownColumnError(ExpressionError, UnknownIdError):
    """A filter expression, or a column to drop, that the table does not have."""


class ViewError(RadiObjectError, TypeError, ValueError):
    """Views are read-only; change the study they came from."""


class TransactionError(RadiObjectError, RuntimeError):
    """What a `with radi.transaction()` block does not take, or takes only while it is open."""


class GeometryError(RadiObjectError, ValueError):
    """An affine that is not invertible, or axis codes that name no orientation."""


class ConfigError(RadiObjectError, ValueError):
    """A configuration value outside its range."""


class CapabilityError(RadiObjectError, ValueError):
    """The backend or engine cannot do what was asked."""


class MissingDependencyError(RadiObjectError, ImportError):
    """An optional package is not installed; the message has the pip line."""


class MovedImportError(RadiObjectError, ImportError):
    """A name or module that the TileDB-based package has; the message says what takes its place here."""


class MovedNameError(RadiObjectError, AttributeError, TypeError):
    """A method, attribute or argument that the TileDB-based package has; the message says what to use."""


class SourceError(RadiObjectError, ValueError):
    """One source cannot be ingested."""


class SourceNotFoundError(SourceError, FileNotFoundError):
    """The source file, or the partner of a pair, does not exist."""


class SourceCorruptError(SourceError):
    """The source is truncated, fails its checksum, or is not what its name says."""


class SourceUnsupportedError(SourceError):
    """The source is intact but of a kind that format 1.0 refuses."""


class AxisAmbiguousError(SourceError):
    """The source has a fourth axis and does not say whether it is time or channel."""


class TransformError(RadiObjectError, RuntimeError):
    """A function failed for a volume. `.obs_ids` names the volumes of the call; the cause is chained."""

    obs_ids: tuple[str, ...] = ()


class WorkerError(RadiObjectError, RuntimeError):
    """A worker process died, or what it sent back could not be read."""


class WriterError(RadiObjectError, RuntimeError):
    """A writer was used before or after its `with` block, entered twice, or given nothing to write."""


class IngestError(RadiObjectError, ValueError):
    """Some sources could not be ingested; nothing was committed. `.report` lists every failure."""

    report: list[dict[str, str]]

    def __init__(self, what: str, report: list[dict[str, str]], *, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.report = report
