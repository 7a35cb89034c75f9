"""Of tests/model/test_volume_reading.py, on S3."""

from model.test_volume_reading import (
    all_ranks,
    test_any_index_gives_what_numpy_gives,
    test_reading_a_part_decodes_only_its_chunks,
)

__all__ = [
    "ENGINES",
    "all_ranks",
    "test_any_index_gives_what_numpy_gives",
    "test_reading_a_part_decodes_only_its_chunks",
]

ENGINES = ("tensorstore", "zarr-python")
