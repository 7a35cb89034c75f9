"""Labels: a value for each sample, from a column, a table, a mapping or a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from radiobject.errors import ConfigError, MetadataError
from radiobject.ml.cohort import Cohort

__all__ = ["LabelSource", "labels_of"]

LabelSource: TypeAlias = str | pd.DataFrame | pd.Series | Mapping[str, Any] | Callable[[str], Any] | None
"""A column of the volume or subject table; a table or mapping by obs_id or obs_subject_id; a function that is
called with each obs_id.

A DataFrame has the ids in a column `obs_id` or `obs_subject_id` or in its index, and the labels in its first
other column.
"""


def labels_of(cohort: Cohort, labels: LabelSource) -> npt.NDArray[Any]:
    """A label for each sample, (samples,); an array for each gives (samples, ...).

    Raises `UnknownIdError` for a column that is not there, `MetadataError` for volumes without a label or
    labels of different shapes, `ConfigError` for labels of another kind.

    >>> import radiobject.examples
    >>> from radiobject.ml.spec import SampleSpec
    >>> cohort = Cohort.of(SampleSpec("T1w"), radiobject.examples.study(3))
    >>> labels_of(cohort, {"sub-01": 0, "sub-02": 1, "sub-03": 1}).tolist()
    [0, 1, 1, 1]
    """
    if isinstance(labels, str):
        return _complete(cohort, cohort.column(labels).tolist(), f"column {labels!r}")
    if callable(labels):
        return _complete(cohort, [labels(obs_id) for obs_id in cohort.obs_ids], "labels= function")
    if isinstance(labels, pd.DataFrame | pd.Series):
        labels = _mapping(labels)
    if not isinstance(labels, Mapping):
        raise ConfigError(
            "labels=", expected="a column, a DataFrame, a mapping or a function", got=type(labels).__name__
        )
    by_volume = any(obs_id in labels for obs_id in cohort.obs_ids)
    ids = cohort.obs_ids if by_volume else cohort.obs_subject_ids
    return _complete(cohort, [labels.get(i) for i in ids], "labels=")


def _mapping(table: pd.DataFrame | pd.Series) -> dict[str, Any]:
    if isinstance(table, pd.Series):
        found = table
    else:
        key = next((c for c in ("obs_id", "obs_subject_id") if c in table.columns), None)
        indexed = table if key is None else table.set_index(key)
        values = [c for c in indexed.columns if c not in ("obs_id", "obs_subject_id")]
        if not values:
            raise MetadataError("labels=", expected="a column beside the ids", got=str(list(table.columns)))
        found = indexed[values[0]]
    if not found.index.is_unique:
        raise MetadataError(
            "labels=", expected="each id once", got=str(found.index[found.index.duplicated()][0])
        )
    return dict(zip(found.index.tolist(), found.tolist(), strict=True))


def _complete(cohort: Cohort, values: list[Any], where: str) -> npt.NDArray[Any]:
    missing = [
        i
        for i, v in zip(cohort.obs_ids, values, strict=True)
        if v is None or (np.ndim(v) == 0 and pd.isna(v))
    ]
    if missing:
        raise MetadataError(
            f"{where}: {len(missing)} of {len(values)} volumes: {', '.join(missing[:5])}",
            expected="a label for each volume",
            hint="Pass a filtered collection without them.",
        )
    shapes = {np.shape(v) for v in values}
    if len(shapes) > 1:
        raise MetadataError(where, expected="labels of one shape", got=str(sorted(shapes)))
    return np.array(values)
