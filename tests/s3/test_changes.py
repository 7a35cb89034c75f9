"""Of tests/model/test_changes.py, on S3."""

from model.test_changes import (
    radi,
    test_a_tag_is_a_name_for_one_version,
    test_an_open_handle_does_not_see_what_others_change,
    test_append_adds_volumes_at_the_end_whatever_their_id,
    test_append_makes_new_collections_and_needs_no_row_for_known_subjects,
    test_delete_subjects_takes_their_volumes,
    test_on_conflict_replace_exchanges_in_place,
    test_on_conflict_update_writes_only_changed_sources,
)

__all__ = [
    "ENGINES",
    "radi",
    "test_a_tag_is_a_name_for_one_version",
    "test_an_open_handle_does_not_see_what_others_change",
    "test_append_adds_volumes_at_the_end_whatever_their_id",
    "test_append_makes_new_collections_and_needs_no_row_for_known_subjects",
    "test_delete_subjects_takes_their_volumes",
    "test_on_conflict_replace_exchanges_in_place",
    "test_on_conflict_update_writes_only_changed_sources",
]

ENGINES = ("tensorstore", "zarr-python")
