"""Of tests/model/test_derived_layers.py, on S3."""

from model.test_derived_layers import (
    radi,
    test_a_derived_layer_is_a_collection_of_the_study_that_knows_its_parents,
    test_a_failed_layer_leaves_the_study_as_it_was,
    test_a_parent_that_is_deleted_meanwhile_is_a_conflict,
    test_a_replaced_parent_is_computed_anew,
)

__all__ = [
    "ENGINES",
    "radi",
    "test_a_derived_layer_is_a_collection_of_the_study_that_knows_its_parents",
    "test_a_failed_layer_leaves_the_study_as_it_was",
    "test_a_parent_that_is_deleted_meanwhile_is_a_conflict",
    "test_a_replaced_parent_is_computed_anew",
]

ENGINES = ("tensorstore",)
