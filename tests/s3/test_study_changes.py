"""Of tests/model/test_study_changes.py, on S3."""

from model.test_study_changes import (
    test_a_renamed_collection_opens_and_takes_more,
    test_a_written_view_holds_its_subjects_and_their_volumes_only,
    test_collections_of_several_studies_become_one,
    test_copies_within_a_backend_decode_nothing,
    test_restore_brings_back_what_was_and_keeps_what_came,
    uri,
)

__all__ = [
    "ENGINES",
    "test_a_renamed_collection_opens_and_takes_more",
    "test_a_written_view_holds_its_subjects_and_their_volumes_only",
    "test_collections_of_several_studies_become_one",
    "test_copies_within_a_backend_decode_nothing",
    "test_restore_brings_back_what_was_and_keeps_what_came",
    "uri",
]

ENGINES = ("tensorstore",)
