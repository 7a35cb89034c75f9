"""Tables that callers hand in, as Arrow: what is no table of ids is told by its trouble."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from radiobject.errors import MetadataError
from radiobject.writing.frames import to_arrow

TWICE = (["a"], [1], [2])


@pytest.mark.parametrize(
    "frame",
    [
        pa.Table.from_arrays([pa.array(c) for c in TWICE], names=["obs_id", "age", "age"]),
        pd.DataFrame([["a", 1, 2]], columns=["obs_id", "age", "age"]),
    ],
    ids=["arrow", "pandas"],
)
def test_a_column_twice_is_refused(frame: Any) -> None:
    with pytest.raises(MetadataError, match=r"each column once.*\['age'\] twice"):
        to_arrow(frame, "obs", "obs_id")
