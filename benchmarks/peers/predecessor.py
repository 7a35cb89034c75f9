"""PyPI `radiobject` 0.1.1, with isotropic tiles and with axial ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

import numpy as np
import pandas as pd
import tiledb
from radiobject.ctx import S3Config, SliceOrientation, TileConfig, WriteConfig
from radiobject.dataframe import Dataframe

import radiobject

from .serve import Alone, Read, slices

__all__ = ["Axial", "Isotropic", "Tables"]


class Isotropic:
    """`Volume[...]` with tiles of 64 voxels along each axis and zstd 3, its own compressor."""

    tiles = SliceOrientation.ISOTROPIC

    def __init__(self, place: Path) -> None:
        self._place = place / "study"
        write = WriteConfig(tile=TileConfig(orientation=self.tiles))
        radiobject.configure(write=write, s3=S3Config(include_credentials=False))
        self._ids: dict[str, str] = {}
        self._collection: Any = None

    def store(self, files: dict[str, str]) -> None:
        images = {"image": [(path, name) for name, path in files.items()]}
        radi = radiobject.RadiObject.from_niftis(uri=str(self._place), images=images)
        rows = radi.collection("image").obs.read()
        self._ids = dict(
            zip(rows["obs_subject_id"], rows["obs_id"], strict=True)
        )  # it names them by their files

    def open(self, name: str) -> Read:
        self._collection = radiobject.RadiObject(str(self._place)).collection("image")
        return self.among(name)

    def among(self, name: str) -> Read:
        if self._collection is None:
            return self.open(name)
        volume = self._collection.loc[self._ids[name]]
        return lambda box: volume[slices(box)]

    def kept(self) -> list[str]:
        return [str(self._place / "collections")]


class Axial(Isotropic):
    """The same with one tile a plane of constant z."""

    tiles = SliceOrientation.AXIAL


class Tables(Alone):
    """Its tables, written from CSV files; asked for the rows that fit an expression."""

    def __init__(self, place: Path) -> None:
        self._place = place
        radiobject.configure(s3=S3Config(include_credentials=False))

    def store(self, files: dict[str, str]) -> None:
        for name, path in files.items():
            rows = pd.read_csv(path)
            ids = [rows.pop(column).to_numpy("U") for column in ("obs_subject_id", "obs_id")]
            # its from_pandas takes no text
            data = {c: v.to_numpy("U" if v.dtype.kind == "O" else None) for c, v in rows.items()}
            place = str(self._place / name)
            Dataframe.create(
                place, {c: np.dtype("U") if v.dtype.kind == "U" else v.dtype for c, v in data.items()}
            )
            with tiledb.open(place, "w") as array:
                array[ids[0], ids[1]] = data

    def count(self, name: str, expression: str) -> int:
        """Rows that fit, with their ids."""
        return len(Dataframe(str(self._place / name)).read(columns=[], value_filter=expression))

    def kept(self) -> list[str]:
        return [str(self._place)]
