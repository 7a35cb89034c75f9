"""Of tests/model/test_filter.py, on S3."""

from model.test_filter import (
    radi,
    test_a_study_is_filtered_by_its_subjects,
    test_tables_are_read_by_filter_as_text_or_pyarrow,
)

__all__ = [
    "ENGINES",
    "radi",
    "test_a_study_is_filtered_by_its_subjects",
    "test_tables_are_read_by_filter_as_text_or_pyarrow",
]

ENGINES = ("tensorstore",)
