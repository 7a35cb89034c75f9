"""Studies to purge, and a search for what is left that shares nothing with the code under test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from radiobject import RadiObject
from radiobject.errors import IngestError
from radiobject.format.layout import version_key
from radiobject.location import Location
from radiobject.storage import Storage

GONE = ("pat-0042", "Ärztin 7", "zz-scan-31", "zz-odd-51", "~C3~84rztin~207")
"""Ids of the erased subjects and of their volumes that the subjects' ids are no part of; one as a path."""


def scan(value: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((6, 5, 4), value, dtype=np.int16), np.eye(4)


def grow(uri: str, folder: Path, options: dict[str, Any] | None = None, **how: Any) -> RadiObject:
    """A study in which two subjects have left traces wherever a study keeps any."""
    broken = folder / "pat-0042.nii"
    broken.write_bytes(b"no image")
    meta = pd.DataFrame(
        {
            "obs_subject_id": ["pat-1", "pat-0042", "Ärztin 7"],
            "family": pd.Categorical(
                ["one", "of pat-0042", "two"], ["two", "of pat-0042", "one"], ordered=True
            ),
        }
    )
    T1w = [(scan(1), "pat-1"), (scan(2), "pat-0042"), (scan(3), "Ärztin 7", "zz-scan-31")]  # noqa: N806
    options = options or {}
    radi = RadiObject.from_niftis(
        uri, {"T1w": T1w, "seg": [(scan(4), "pat-0042")]}, meta, storage_options=options, labels=["seg"],
        message="pat-0042 and others", progress=False, **how,
    )  # fmt: skip
    first = (radi._study.snapshot.storage, 1, radi._study.snapshot.commit.sha256)
    radi.append(
        {"T1w": [(scan(9), "pat-0042")]}, on_conflict="replace", progress=False, message="rescan pat-0042"
    )
    radi.delete(obs_ids="pat-0042_seg")
    with pytest.raises(IngestError):  # leaves a journal and a finished volume
        radi.append(
            {"FLAIR": [(scan(5), "pat-0042"), (str(broken), "Ärztin 7")]}, executor="serial", progress=False
        )
    radi.append(
        {"FLAIR": [(scan(6), "pat-1"), (str(broken), "pat-1", "pat-1_again")]}, errors="collect",
        executor="serial", progress=False,
    )  # fmt: skip
    assert first[0].size(version_key(4)) is not None
    return radi


def objects(storage: Storage) -> dict[str, bytes]:
    return {info.key: storage.read(info.key) for info in storage.list("")}


def holding(storage: Storage, ids: tuple[str, ...] = GONE) -> list[str]:
    """Keys of objects with one of the ids in path or bytes, found by other means than the code under test."""
    found = []
    for key, data in objects(storage).items():
        text = key + "\n" + data.decode("latin-1") + data.decode("utf-8", "replace")
        if key.endswith(".json"):
            text += json.dumps(json.loads(data), ensure_ascii=False)
        if key.endswith(".parquet"):
            table = pq.read_table(pa.BufferReader(data))
            text += str(table.to_pylist())
            text += str(
                [c.chunk(0).dictionary for c in table.columns if pa.types.is_dictionary(c.type) and len(c)]
            )
        found += [key for i in ids if i in text]
    return found


def folders(place: str) -> str:
    return "\n".join(str(path.relative_to(place)) for path in Path(place).rglob("*"))


def erase(place: str, **how: Any) -> Any:
    return RadiObject(place).purge(["pat-0042", "Ärztin 7"], "withdrew consent", force=True, **how)


def unchanged(place: str, call: Callable[[], object], error: type[Exception], match: str) -> None:
    before = objects(Storage(Location(place)))
    with pytest.raises(error, match=match):
        call()
    assert objects(Storage(Location(place))) == before
