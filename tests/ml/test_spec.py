"""SampleSpec: what may be said of a sample, in short and in full."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from radiobject.errors import ConfigError
from radiobject.ml.spec import SampleSpec


def test_short_forms_stand_for_the_usual_keys() -> None:
    spec = SampleSpec("CT", "seg", "age", patch_size=32, spacing=2)
    assert spec.images == {"image": ("CT",)}
    assert spec.masks == {"label": ("seg",)}
    assert spec.targets == {"age": "age"}
    assert (spec.patch_size, spec.spacing) == ((32, 32, 32), (2.0, 2.0, 2.0))
    assert SampleSpec(["T1w", "FLAIR"], targets=["age", "sex"]).images == {"image": ("T1w", "FLAIR")}


def test_volumes_are_named_in_order_the_first_sets_the_grid() -> None:
    spec = SampleSpec({"mr": ["T1w", "FLAIR"], "ct": "CT"}, {"label": "seg"}, {"y": "dx"})
    assert spec.streams == [("mr", 0, "T1w"), ("mr", 1, "FLAIR"), ("ct", 0, "CT"), ("label", 0, "seg")]
    assert pickle.loads(pickle.dumps(spec)) == spec


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"images": []}, "at least one collection"),
        ({"masks": {"image": "seg"}}, "each key once"),
        ({"targets": "image"}, "each key once"),
        ({"patch_size": (4, 4)}, "patch_size"),
        ({"patch_size": 4.5}, "patch_size"),
        ({"spacing": 0}, "spacing"),
        ({"spacing": float("nan")}, "spacing"),
        ({"plane": "axial", "patch_size": 4}, "plane"),
        ({"plane": "oblique"}, "plane"),
        ({"grid": "second"}, "grid"),
        ({"missing": "skip"}, "missing"),
        ({"dtype": "float16"}, "dtype"),
    ],
)
def test_what_makes_no_sample_is_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        SampleSpec(**{"images": "CT", **options})
