"""Of tests/model/test_volume_slicing.py, on S3."""

from model.test_volume_slicing import (
    array,
    test_a_slice_of_a_slice_is_the_slice_of_both,
    test_voxels_keep_their_places_in_the_world,
    uri,
    vol,
)

__all__ = [
    "ENGINES",
    "array",
    "test_a_slice_of_a_slice_is_the_slice_of_both",
    "test_voxels_keep_their_places_in_the_world",
    "uri",
    "vol",
]

ENGINES = ("tensorstore", "zarr-python")
