"""Names that are imported from the top level or from submodules, and the settings."""

from __future__ import annotations

from typing import Any

import radiobject
from radiobject import config, errors
from radiobject.location import Location
from radiobject.model import eager, names, query, study_query
from tests.upstream.ground import Case, Ground, imported


def top(name: str, ours: object) -> Case:
    """`from radiobject import name` gives the object that has another name here."""
    return lambda g: (imported("radiobject", name) is ours, True)


def gone(name: str, module: str = "radiobject") -> Case:
    """`from module import name`."""
    return lambda g: imported(module, name)


def module(name: str) -> Case:
    """`import radiobject.name`."""
    return lambda g: imported(f"radiobject.{name}")


def s3(**settings: object) -> Location:
    """An S3 place under these settings."""
    with radiobject.configure(s3=radiobject.S3Config(**settings)):
        return Location("s3://bucket/study")


def client(location: Location) -> dict[str, object]:
    """What botocore's Config is made with for a place."""
    found: dict[str, object] = location._fsspec_options()["config_kwargs"]
    return found


def after_configure(**settings: object) -> object:
    """The settings in force after a plain call of configure()."""
    try:
        radiobject.configure(**settings)
        return radiobject.get_radiobject_config()
    finally:
        radiobject.reset_radiobject_config()


ZSTD = config.CompressionConfig("zstd", 3)
TILE = config.TileConfig(config.SliceOrientation.AXIAL)


def series_metadata(g: Ground) -> Any:
    """What the headers of a series say."""
    return imported("radiobject.imaging_metadata", "extract_dicom_metadata")(g.series())


CASES: dict[str, Case] = {
    **{
        n: top(n, getattr(radiobject, n))
        for n in (
            "RadiObject",
            "Volume",
            "VolumeCollection",
            "Dataframe",
            "Index",
            "align",
            "configure",
            "WriteConfig",
            "ReadConfig",
            "TileConfig",
            "CompressionConfig",
            "OrientationConfig",
            "S3Config",
            "SliceOrientation",
        )
    },
    "EagerQuery": top("EagerQuery", eager.EagerQuery),
    "LazyQuery": top("LazyQuery", query.LazyQuery),
    "CollectionQuery": top("CollectionQuery", query.LazyQuery),
    "Query": top("Query", study_query.StudyQuery),
    "QueryCount": top("QueryCount", study_query.QueryCount),
    "VolumeBatch": top("VolumeBatch", query.VolumeBatch),
    "TransformFn": top("TransformFn", names.TransformFn),
    "BatchTransformFn": top("BatchTransformFn", names.BatchTransformFn),
    "AttrValue": top("AttrValue", names.AttrValue),
    "uri_exists": lambda g: (
        [radiobject.uri_exists(u) for u in (g.uri, f"{g.uri}#T1w", f"{g.uri}#CT", g.new())],
        [True, True, False, False],
    ),
    "__version__": lambda g: (radiobject.__version__, names.VERSION),
    "RadiObjectError": top("RadiObjectError", errors.RadiObjectError),
    "ShapeError": top("ShapeError", errors.SourceError),
    "AlignmentError": top("AlignmentError", errors.AlignmentError),
    "ConfigurationError": top("ConfigurationError", errors.ConfigError),
    "SchemaError": top("SchemaError", errors.MetadataError),
    "IngestError": top("IngestError", errors.IngestError),
    "StorageError": top("StorageError", errors.StorageError),
    "ViewError": top("ViewError", errors.ViewError),
    "radiobject.exceptions": lambda g: (
        [imported("radiobject.exceptions", n) for n in imported("radiobject.exceptions").__all__],
        [imported("radiobject", n) for n in imported("radiobject.exceptions").__all__],
    ),
    **{
        n: gone(n)
        for n in (
            "TileDBStats",
            "CacheStats",
            "S3Stats",
            "delete_tiledb_uri",
            "get_config",
        )
    },
    **{
        f"radiobject.{n}": module(n)
        for n in (
            "ctx",
            "data",
            "dataframe",
            "indexing",
            "query",
            "radi_object",
            "stats",
            "utils",
            "volume",
            "volume_collection",
        )
    },
    "ImageFormat": lambda g: (
        [f.value for f in imported("radiobject", "ImageFormat")],
        ["nifti", "dicom"],
    ),
    "radiobject.imaging_metadata": lambda g: (
        imported("radiobject.imaging_metadata").__all__,
        ["DicomMetadata", "extract_dicom_metadata"],
    ),
    "radiobject.imaging_metadata.DicomMetadata": lambda g: (
        type(series_metadata(g)),
        imported("radiobject.imaging_metadata", "DicomMetadata"),
    ),
    "radiobject.imaging_metadata.extract_dicom_metadata": lambda g: (
        [series_metadata(g).dimensions, series_metadata(g).voxel_spacing, series_metadata(g).kvp],
        [(4, 5, 3), (0.75, 0.5, 2.5), 120],
    ),
    "map_on_threads": gone("map_on_threads", "radiobject.parallel"),
    "WriteResult": gone("WriteResult", "radiobject.parallel"),
    **{
        f"radiobject.utils.{n}": gone(n, "radiobject.utils")
        for n in (
            "affine_to_list",
            "affine_to_json",
            "ensure_obs_columns",
            "validate_no_column_collisions",
            "merge_obs_ids",
            "build_obs_ids_mapping",
        )
    },
    **{
        f"radiobject.imaging_metadata.{n}": gone(n, "radiobject.imaging_metadata")
        for n in (
            "KNOWN_SERIES_TYPES",
            "infer_series_type",
            "NiftiMetadata",
            "extract_nifti_metadata",
        )
    },
    "get_radiobject_config": lambda g: (radiobject.get_radiobject_config(), config.current()),
    "reset_radiobject_config": lambda g: (
        after_configure(write=config.WriteConfig(tile=TILE)) != config.Config(),
        radiobject.get_radiobject_config() == config.Config(),
    ),
    "RadiObjectConfig": lambda g: (radiobject.RadiObjectConfig(), config.Config()),
    "configure(write=, read=, s3=)": lambda g: (
        after_configure(
            write=config.WriteConfig(tile=TILE), read=config.ReadConfig(2), s3=config.S3Config("x")
        ),
        config.Config(config.WriteConfig(tile=TILE), config.ReadConfig(2), config.S3Config("x")),
    ),
    "configure(tile=)": lambda g: radiobject.configure(tile=TILE),
    "configure(compression=)": lambda g: radiobject.configure(compression=ZSTD),
    "configure(orientation=)": lambda g: radiobject.configure(orientation=config.OrientationConfig()),
    "configure(io=)": lambda g: radiobject.configure(io=None),
    "WriteConfig(tile=, compression=, orientation=)": lambda g: (
        [getattr(config.WriteConfig(tile=TILE, compression=ZSTD), n) for n in ("tile", "compression")],
        [TILE, ZSTD],
    ),
    "TileConfig(orientation=, x=, y=, z=, t=)": lambda g: (
        config.TileConfig(orientation=config.SliceOrientation.AXIAL, x=64, y=64, z=8, t=2),
        config.TileConfig(config.SliceOrientation.AXIAL, chunks=(64, 64, 8), chunk_t=2),
    ),
    "TileConfig.extents_for_shape": lambda g: TILE.extents_for_shape((4, 4, 4)),
    "CompressionConfig(algorithm=, level=)": lambda g: (
        config.CompressionConfig(algorithm=radiobject.Compressor.ZSTD, level=3),
        ZSTD,
    ),
    "CompressionConfig(level=10)": lambda g: config.CompressionConfig("zstd", 10),
    "Compressor": lambda g: (
        [
            config.CompressionConfig(c).algorithm
            for c in (radiobject.Compressor.ZSTD, radiobject.Compressor.LZ4, radiobject.Compressor.NONE)
        ],
        ["zstd", "lz4", "none"],
    ),
    "Compressor.GZIP": lambda g: config.CompressionConfig(radiobject.Compressor.GZIP),
    "SliceOrientation.AXIAL, SAGITTAL, CORONAL, ISOTROPIC": lambda g: (
        sorted(o.value for o in radiobject.SliceOrientation),
        ["axial", "coronal", "isotropic", "sagittal"],
    ),
    "OrientationConfig(canonical_target=, reorient_on_load=, store_original_affine=)": lambda g: (
        config.OrientationConfig(canonical_target="LPS", reorient_on_load=True, store_original_affine=False),
        config.OrientationConfig(True, "LPS", False),
    ),
    "OrientationConfig(auto_detect=True)": lambda g: (
        config.OrientationConfig(auto_detect=True),
        config.OrientationConfig(),
    ),
    "OrientationConfig(auto_detect=False)": lambda g: config.OrientationConfig(auto_detect=False),
    "ReadConfig(memory_budget_mb=)": lambda g: (
        config.ReadConfig(memory_budget_mb=2048).memory_budget_mb,
        2048,
    ),
    "ReadConfig(max_workers=)": lambda g: (config.ReadConfig(max_workers=8).max_workers, 8),
    "ReadConfig(concurrency=)": lambda g: (config.ReadConfig(concurrency=4).concurrency, 4),
    "ReadConfig(tile_cache_size_mb=)": lambda g: (
        config.ReadConfig(tile_cache_size_mb=512),
        config.ReadConfig(cache_bytes=512 * 2**20),
    ),
    "S3Config(region=)": lambda g: (s3(region="us-west-2").options, {"region": "us-west-2"}),
    "S3Config(endpoint=)": lambda g: (
        s3(endpoint="http://localhost:9000"),
        s3(endpoint_url="http://localhost:9000"),
    ),
    "S3Config(use_virtual_addressing=)": lambda g: (
        client(s3(use_virtual_addressing=False))["s3"],
        {"addressing_style": "path"},
    ),
    "S3Config(max_parallel_ops=)": lambda g: (
        [client(s3(max_parallel_ops=16))["max_pool_connections"], s3(max_parallel_ops=16).max_requests],
        [16, 16],
    ),
    "S3Config(multipart_part_size_mb=)": lambda g: (
        s3(multipart_part_size_mb=100).pipe_args,
        {"chunksize": 100 * 2**20},
    ),
    "S3Config(include_credentials=)": lambda g: (
        [s3(include_credentials=b).options for b in (True, False)],
        [{}, {}],
    ),
}
