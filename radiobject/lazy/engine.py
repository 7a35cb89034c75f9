"""Engine: studies for `xr.open_dataset` and `xr.open_datatree`; xarray finds it by an entry point."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import xarray as xr
from xarray.backends import BackendEntrypoint

__all__ = ["RadiObjectBackendEntrypoint"]

_ROOT = "zarr.json"
_LARGEST_ROOT = 4096
"""Bytes. A study's root document is a few hundred and never grows."""


class RadiObjectBackendEntrypoint(BackendEntrypoint):
    """`xr.open_dataset(uri, engine="radiobject", collection="T1w")`: see `RadiObject.to_xarray`.

    `uri` is what `RadiObject(uri)` takes: a path or URL, or `study@7`; `study#T1w` names a collection.
    `chunks=` is xarray's own: `{}` is a task a stored shard; "auto" it refuses for coordinates that are text.

    >>> from radiobject.examples import study
    >>> ds = xr.open_dataset(study(n=2).uri, engine="radiobject", collection="T1w")
    >>> dict(ds.T1w.sizes)
    {'obs_id': 3, 'x': 49, 'y': 58, 'z': 47}
    """

    description = "Open collections of radiobject studies"
    url = "https://pypi.org/project/radiobject-zarr/"
    supports_groups = True
    open_dataset_parameters: ClassVar[tuple[str, ...]] = (
        "filename_or_obj", "drop_variables", "collection", "grid", "columns", "order", "fill",
        "antialias", "on", "missing", "version", "storage_options", "source_root",
    )  # fmt: skip

    def open_dataset(  # type: ignore[override]
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        collection: str | Sequence[str] | None = None,
        grid: Any = "error",
        columns: Sequence[str] | None = None,
        order: int | None = None,
        fill: float = 0,
        antialias: bool = False,
        on: Sequence[str] | None = None,
        missing: Literal["error", "drop"] = "error",
        version: int | str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        source_root: str | os.PathLike[str] | None = None,
    ) -> xr.Dataset:
        """A collection as a variable, one row a volume; of several collections one row a set of partners."""
        from radiobject.lazy.study import opened_dataset

        ds = opened_dataset(
            filename_or_obj, collection, version, storage_options, source_root=source_root,
            grid=grid, columns=columns, order=order, fill=fill, antialias=antialias, on=on, missing=missing,
        )  # fmt: skip
        return _without(ds, drop_variables)

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether it is the folder of a study on this machine: looks at one small file, makes no request."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        try:
            root = os.path.join(os.fspath(filename_or_obj), _ROOT)
            with open(root, "rb") as file:
                document = json.loads(file.read(_LARGEST_ROOT))
            return bool(document["attributes"]["radiobject"]["type"] == "study")
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return False  # not ours, whatever it is

    def open_datatree(  # type: ignore[override]
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        grid: Any = "index",
        columns: Sequence[str] | None = None,
        version: int | str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        source_root: str | os.PathLike[str] | None = None,
    ) -> xr.DataTree:
        """A node for each collection, as `open_dataset` opens it."""
        groups = self.open_groups_as_dict(
            filename_or_obj, drop_variables=drop_variables, grid=grid, columns=columns, version=version,
            storage_options=storage_options, source_root=source_root,
        )  # fmt: skip
        return xr.DataTree.from_dict(groups)

    def open_groups_as_dict(  # type: ignore[override]
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        grid: Any = "index",
        columns: Sequence[str] | None = None,
        version: int | str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        source_root: str | os.PathLike[str] | None = None,
    ) -> dict[str, xr.Dataset]:
        """The same as a dict, for `xr.open_groups`."""
        from radiobject.lazy.study import collections_to_groups
        from radiobject.model.radi_object import RadiObject

        radi = RadiObject(
            filename_or_obj, version=version, storage_options=storage_options, source_root=source_root
        )
        groups = collections_to_groups(radi, grid, columns)
        return {path: _without(ds, drop_variables) for path, ds in groups.items()}


def _without(ds: xr.Dataset, names: str | Iterable[str] | None) -> xr.Dataset:
    """Those of `names` that are not there are no mistake: one list serves many files."""
    dropped = [names] if isinstance(names, str) else list(names or ())
    return ds.drop_vars(dropped, errors="ignore")
