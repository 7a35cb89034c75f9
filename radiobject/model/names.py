"""Names: functions and types that scripts for the TileDB-based package import from its top level."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pandas as pd

from radiobject.errors import StudyNotFoundError, UpstreamStudyError
from radiobject.model.study import Study, split_collection

__all__ = ["VERSION", "AttrValue", "BatchTransformFn", "TransformFn", "generate_obs_id", "uri_exists"]

VERSION = version("radiobject-zarr")

TransformFn = Callable[[Any, pd.Series], Any]
"""What `map` takes: `fn(volume, obs_row)` gives the volume, or `(volume, {column: value})`."""
BatchTransformFn = Callable[[list[tuple[Any, pd.Series]]], list[Any]]
"""What `map_batches` takes: the same for several volumes at once."""
AttrValue = str | int | float | bool | None
"""What a column of obs holds for one volume."""


def generate_obs_id(obs_subject_id: str, collection_name: str, acquisition_index: int | None = None) -> str:
    """The obs_id that an ingest gives: of a subject's first volume in a collection, or a further one.

    >>> generate_obs_id("sub-01", "T1w"), generate_obs_id("sub-01", "T1w", 1)
    ('sub-01_T1w', 'sub-01_T1w_acq-1')
    """
    more = "" if acquisition_index is None else f"_acq-{acquisition_index}"
    return f"{obs_subject_id}_{collection_name}{more}"


def uri_exists(uri: str | os.PathLike[str]) -> bool:
    """Whether a study of this package or of the TileDB-based one stands at `uri`; `uri#T1w`: that collection.

    Other things that may be there, such as volumes that no commit names, do not count.
    """
    place, name = split_collection(os.fspath(uri))
    try:
        study = Study.at(place)
    except StudyNotFoundError:
        return False
    except UpstreamStudyError:
        return name is None
    return name is None or name in study.names
