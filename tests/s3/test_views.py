"""Of tests/model/test_views.py, on S3."""

from model.test_views import (
    radi,
    test_chained_views_intersect,
    test_collection_selections_are_volumes_or_views_in_study_order,
    test_subject_selections_are_views_in_study_order,
    test_views_pickle,
    test_views_refuse_changes,
)

__all__ = [
    "ENGINES",
    "radi",
    "test_chained_views_intersect",
    "test_collection_selections_are_volumes_or_views_in_study_order",
    "test_subject_selections_are_views_in_study_order",
    "test_views_pickle",
    "test_views_refuse_changes",
]

ENGINES = ("tensorstore",)
