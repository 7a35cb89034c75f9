"""Of tests/model/test_dataframe_changes.py, on S3."""

from model.test_dataframe_changes import (
    radi,
    test_a_dropped_column_is_gone_and_older_versions_have_it,
    test_a_known_and_a_new_subject_in_one_update,
)

__all__ = [
    "ENGINES",
    "radi",
    "test_a_dropped_column_is_gone_and_older_versions_have_it",
    "test_a_known_and_a_new_subject_in_one_update",
]

ENGINES = ("tensorstore",)
