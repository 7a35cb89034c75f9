"""Of tests/model/test_writers.py, on S3."""

from model.test_writers import (
    test_an_exception_in_the_block_commits_nothing_and_leaves_the_place_free,
    test_of_two_writers_at_one_place_one_wins,
    test_volumes_written_one_by_one_are_one_version,
)

__all__ = [
    "ENGINES",
    "test_an_exception_in_the_block_commits_nothing_and_leaves_the_place_free",
    "test_of_two_writers_at_one_place_one_wins",
    "test_volumes_written_one_by_one_are_one_version",
]

ENGINES = ("tensorstore",)
