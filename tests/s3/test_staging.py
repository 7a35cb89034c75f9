"""Of tests/model/test_staging.py, on S3."""

from model.test_staging import (
    radi,
    test_a_store_that_fails_at_the_end_leaves_the_version_before,
    test_another_writers_change_of_other_things_stays,
    test_changes_see_each_other_and_are_one_version,
)

__all__ = [
    "ENGINES",
    "radi",
    "test_a_store_that_fails_at_the_end_leaves_the_version_before",
    "test_another_writers_change_of_other_things_stays",
    "test_changes_see_each_other_and_are_one_version",
]

ENGINES = ("tensorstore",)
