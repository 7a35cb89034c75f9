"""Moved: names of the TileDB-based radiobject package that are called otherwise here, or do not exist.

Whoever uses one is told what to write instead; docs/moving-from-upstream.md has all of them.
"""

from __future__ import annotations

import functools
import importlib.abc
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn, ParamSpec, TypeVar

from radiobject.errors import MovedImportError, MovedNameError

__all__ = ["ALIASES", "MODULES", "NAMES", "Moved", "known_as", "point_to_modules", "refuse_moved", "renamed"]

P = ParamSpec("P")
R = TypeVar("R")

_SAMPLES = "radiobject.ml.VolumeCollectionDataset reads volumes, patches and slices; "
_CACHES = "Loaders take cache=InMemory(bytes=), cache=Scratch(directory) or cache=CacheStrategy.IN_MEMORY."

ALIASES = {
    "AlignmentError": "exceptions:AlignmentError",
    "AttrValue": "model.names:AttrValue",
    "BatchTransformFn": "model.names:BatchTransformFn",
    "CollectionQuery": "model.query:LazyQuery",
    "Compressor": "config:Compressor",
    "ConfigurationError": "exceptions:ConfigurationError",
    "EagerQuery": "model.eager:EagerQuery",
    "ImageFormat": "ingest.mixed:ImageFormat",
    "IngestError": "exceptions:IngestError",
    "LabelSource": "ml.labels:LabelSource",
    "LazyQuery": "model.query:LazyQuery",
    "Query": "model.study_query:StudyQuery",
    "QueryCount": "model.study_query:QueryCount",
    "RadiObjectConfig": "config:Config",
    "RadiObjectError": "exceptions:RadiObjectError",
    "SchemaError": "exceptions:SchemaError",
    "ShapeError": "exceptions:ShapeError",
    "StorageError": "exceptions:StorageError",
    "TransformFn": "model.names:TransformFn",
    "ViewError": "exceptions:ViewError",
    "VolumeBatch": "model.query:VolumeBatch",
    "__version__": "model.names:VERSION",
    "ctx": "backends.tiledb.callers:get_tiledb_ctx",
    "generate_obs_id": "model.names:generate_obs_id",
    "get_radiobject_config": "config:current",
    "get_tiledb_config": "backends.tiledb.callers:get_tiledb_config",
    "get_tiledb_ctx": "backends.tiledb.callers:get_tiledb_ctx",
    "reset_radiobject_config": "config:reset",
    "uri_exists": "model.names:uri_exists",
}
"""What `from radiobject import NAME` finds there, and here too -> where it stands. Listed nowhere else."""

_ORIENTATION_TEXT = "Volume.orientation_info is what a volume says of itself."
_HEADERS = "What headers say stands in the columns of VolumeCollection.obs."
_KINDS = "Kinds of series are not guessed from file names: name the collections in images={...}."
_PARALLEL = "Handles serve threads and processes as they are; radiobject.executor.run maps over anything."
_SERIES = "RadiObject.from_dicoms(uri, folder) finds series by their headers, wherever the files lie."
_IMAGES = "RadiObject.from_niftis(images={name: files}) takes files as they are and finds out the rest."

NAMES = {
    "radiobject": {
        "CacheStats": "radiobject.measure counts cache_hits and chunks_decoded.",
        "S3Stats": "radiobject.measure counts requests and bytes_read.",
        "TileDBStats": "radiobject.measure is the context manager that counts.",
        "delete_tiledb_uri": "A study is a folder or prefix: shutil.rmtree(uri), or fsspec's rm(uri, "
        "recursive=True). RadiObject.delete(subjects=...) takes a part out.",
        "get_config": "radiobject.get_radiobject_config() returns the settings.",
    },
    "radiobject.ml": {
        "GridPatchDataset": _SAMPLES + "with sampling=Grid(overlap=) on a grid.",
        "MultiModalDataset": _SAMPLES + "several collections become channels.",
        "PatchVolumeDataset": _SAMPLES + "DatasetConfig says which.",
        "RadiObjectDataset": _SAMPLES + "it takes a study, and modalities=.",
    },
    "radiobject.ingest": {
        "detect_format": _IMAGES,
        "resolve_dicom_source": _SERIES,
        "resolve_image_source": _IMAGES,
        "resolve_nifti_source": _IMAGES,
    },
    "radiobject.imaging_metadata": {
        "KNOWN_SERIES_TYPES": _KINDS,
        "NiftiMetadata": _HEADERS,
        "extract_nifti_metadata": _HEADERS,
        "infer_series_type": _KINDS,
    },
    "radiobject.parallel": {
        "WriteResult": _PARALLEL,
        "map_on_threads": _PARALLEL,
    },
    "radiobject.orientation": {
        "metadata_to_orientation_info": _ORIENTATION_TEXT,
        "orientation_info_to_metadata": _ORIENTATION_TEXT,
    },
}
"""Module -> what can be imported from it there and not here -> what to do."""

MODULES = {
    "ctx": "from radiobject import configure, WriteConfig, ...",
    "data": "radiobject.examples.study(n) and radiobject.examples.cohort(folder) make data to try.",
    "dataframe": "from radiobject import Dataframe; Dataframe.index_columns names the keys.",
    "indexing": "from radiobject import Index, align",
    "ml.cache": _CACHES,
    "ml.compat": "from radiobject.ml import Compose",
    "ml.config": "from radiobject.ml import DatasetConfig, LoadingMode",
    "ml.factory": "from radiobject.ml import create_training_dataloader",
    "ml.reader": "Volumes are lazy and picklable: VolumeCollection.iloc[n][...] reads a part of one.",
    "ml.utils": "labels= of datasets and loaders takes what load_labels takes. SampleSpec says which "
    "collections make a sample and checks that they match; volumes may differ in shape "
    "(VolumeCollection.shape is None then). Workers of a DataLoader need no worker_init_fn.",
    "query": "from radiobject import LazyQuery, EagerQuery",
    "radi_object": "from radiobject import RadiObject",
    "stats": "radiobject.measure is the context manager that counts requests and bytes.",
    "utils": "from radiobject import uri_exists; the rest has no use here.",
    "volume": "from radiobject import Volume",
    "volume_collection": "from radiobject import VolumeCollection, generate_obs_id",
}
"""Submodules of `radiobject` there -> what to do here."""


def refuse_moved(module: str, name: str) -> None:
    """Raise `MovedImportError` for a name that is imported from `module` there, and has no place here.

    For a module's `__getattr__`: an AttributeError would be turned into "cannot import name" without a word.
    """
    if name in NAMES[module]:
        raise MovedImportError(
            f"{module}.{name} is a name of the TileDB-based package", hint=NAMES[module][name]
        )


class Moved:
    """A class attribute that stands for a method of that package: using it raises `MovedNameError`."""

    def __init__(self, hint: str) -> None:
        self._hint = hint

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"{owner.__name__}.{name}"

    def __get__(self, instance: object, owner: type | None = None) -> NoReturn:
        raise MovedNameError(f"{self._name} is a name of the TileDB-based package", hint=f"{self._hint}.")


def renamed(**hints: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: an argument of that name raises `MovedNameError` that says what to write instead."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in hints.keys() & kwargs.keys():
                raise MovedNameError(
                    f"{function.__qualname__.removesuffix('.__init__')}({name}=) is an argument of the "
                    "TileDB-based package",
                    hint=f"Write {hints[name]}.",
                )
            return function(*args, **kwargs)

        return checked

    return decorate


def known_as(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: an argument may be given under its name in that package too (`theirs="ours"`)."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            given: Any = {names.get(name, name): value for name, value in kwargs.items()}
            return function(*args, **given)

        return called

    return decorate


class _ModuleFinder(importlib.abc.MetaPathFinder):
    """Asked last, for submodules that do not exist: `import radiobject.utils` is to say more than that."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package == "radiobject" and name in MODULES:
            raise MovedImportError(f"{fullname} is a module of the TileDB-based package", hint=MODULES[name])
        return None


def point_to_modules() -> None:
    """Make imports of that package's submodules say what is here instead; once a process."""
    if not any(type(finder).__qualname__ == _ModuleFinder.__qualname__ for finder in sys.meta_path):
        sys.meta_path.append(_ModuleFinder())
