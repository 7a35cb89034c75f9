"""Exceptions: the error names of the TileDB-based package, for `except` clauses that were written for it.

Each is one of `radiobject.errors`, which has them all and says more.
"""

from __future__ import annotations

from radiobject.errors import (
    AlignmentError,
    IngestError,
    RadiObjectError,
    StorageError,
    ViewError,
)
from radiobject.errors import ConfigError as ConfigurationError
from radiobject.errors import MetadataError as SchemaError
from radiobject.errors import SourceError as ShapeError

__all__ = [
    "AlignmentError",
    "ConfigurationError",
    "IngestError",
    "RadiObjectError",
    "SchemaError",
    "ShapeError",
    "StorageError",
    "ViewError",
]
