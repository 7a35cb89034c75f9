"""Predictions: a network over all samples, its results a collection, on the images' own grids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from radiobject import RadiObject
from radiobject.errors import ConfigError, TransformError, ViewError
from radiobject.ml import SampleSpec
from radiobject.ml.monai import argmax, predict
from tests.ml.ground import SHAPES, coded, make_study
from tests.ml.test_sliding_window import network, theirs

CT = SampleSpec("CT", patch_size=5)


def above(limit: float) -> Any:
    """A predictor with two classes: is the voxel's code above a limit?"""
    return lambda windows: torch.cat([limit - windows, windows - limit], 1)


@pytest.fixture
def radi(tmp_path: Path) -> RadiObject:
    return make_study(tmp_path)


def test_predictions_are_a_collection_with_provenance(radi: RadiObject) -> None:
    model, told = network(channels=2), []
    model.train()
    model[1].eval()
    spec = SampleSpec(["CT", "PET"], "seg", patch_size=(6, 5, 4))
    merging = {"sw_batch_size": 3, "overlap": 0.5, "mode": "gaussian"}
    found = predict(radi, spec, model, "tumour", progress=lambda *n: told.append(n), **merging)
    assert (radi.version, found.kind, told[-1]) == (2, "label", (4, 4))
    assert [part.training for part in model] == [True, False, True]
    assert found.obs_ids == [f"{s}_tumour" for s in SHAPES]
    rows = found.obs.read()
    assert rows["parent_obs_id"].tolist() == [f"{s}_CT" for s in SHAPES]
    assert (rows["parent_version"] == 1).all()
    assert rows["parent_function"].str.startswith("radiobject.ml.monai.prediction.predict(Sequential)#").all()
    model.eval()
    for number, volume in enumerate(found):
        images = [radi.CT.iloc[number], radi.PET.iloc[number]]
        expected = theirs(images, (6, 5, 4), 3, model, 0.5, "gaussian").argmax(0)
        assert np.array_equal(volume.to_numpy(), expected)
        assert volume.dtype == np.uint8
        assert np.array_equal(volume.affine, images[0].affine)


@pytest.mark.parametrize(
    "options", [{"axcodes": "PIL"}, {"spacing": 0.8}, {"spacing": 1.0, "axcodes": "LPS"}]
)
def test_what_the_spec_turned_is_brought_back(radi: RadiObject, options: dict[str, Any]) -> None:
    spec = SampleSpec("CT", patch_size=6, pad=-1.0, **options)
    values = predict(radi, spec, lambda windows: windows, "same", post=None)
    labels = predict(radi, spec, above(45_600), "high")
    assert (values.kind, labels.kind) == ("image", "label")
    for image, same, high in zip(radi.CT, values, labels, strict=True):
        stored = image.to_numpy()
        inside = (slice(2, -2),) * 3 if "spacing" in options else ()
        assert np.abs(same.to_numpy() - stored)[inside].max() < (0.5 if "spacing" in options else 1e-9)
        apart = high.to_numpy()[inside] != (stored > 45_600)[inside]
        assert not apart.any()  # the limit lies between two planes z, well away from both
        assert np.array_equal(same.affine, image.affine)


def test_scores_may_be_kept_as_channels(radi: RadiObject) -> None:
    found = predict(radi, CT, network(), "scores", post=None, samples=radi.filter("age > 55"))
    assert (found.kind, found.obs_ids) == ("image", ["c_scores", "d_scores"])
    volume, image = found.iloc[0], radi.CT.loc["c_CT"]
    assert (volume.axes, volume.dtype) == (("x", "y", "z", "c"), np.float32)
    assert np.array_equal(np.moveaxis(volume.to_numpy(), -1, 0), theirs([image], 5, 1, network()))


class Counted:
    """A predictor that counts its volumes by their last voxel, and fails at one of them."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.seen: set[int] = set()
        self.fails_at = fails_at

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        self.seen.add(int(windows.max()))
        if self.fails_at in self.seen:
            raise RuntimeError("no memory left on this card")
        return above(300)(windows)


def test_an_interrupted_run_goes_on_where_it_was(radi: RadiObject) -> None:
    last = [int(coded(shape).max()) for shape in SHAPES.values()]
    options = {"roi_size": 20, "kind": "label", "version": "1"}
    with pytest.raises(TransformError, match=r"predict\(Counted\) for 'c_CT'.*no memory left"):
        predict(radi, SampleSpec("CT"), Counted(last[2]), "high", **options)
    assert (radi.version, "high" in radi.collection_names) == (1, False)
    again = Counted()
    found = predict(radi, SampleSpec("CT"), again, "high", resume=True, **options)
    assert again.seen == set(last[2:])
    assert (radi.version, len(found)) == (2, 4)
    expected = [int((coded(shape) > 300).sum()) for shape in SHAPES.values()]
    assert [int(volume.to_numpy().sum()) for volume in found] == expected


def test_after_an_append_only_what_is_new_is_predicted(radi: RadiObject) -> None:
    options = {"roi_size": 20, "kind": "label"}
    first = predict(radi, SampleSpec("CT"), network(), "high", **options)
    people = pd.DataFrame({"obs_subject_id": ["e"], "age": [20], "dx": ["well"]})
    radi.append({"CT": [((coded((5, 5, 5)), np.eye(4)), "e")]}, people)
    again = predict(radi, SampleSpec("CT"), network(), "high", **options)
    assert (len(first), again.obs_ids[-1], radi.version) == (4, "e_high", 4)
    paths = [{volume.uri for volume in found} for found in (first, again)]
    assert paths[0] < paths[1]
    # another network makes them anew
    other = network()
    torch.nn.init.zeros_(other[0].weight)
    assert not paths[1] & {volume.uri for volume in predict(radi, SampleSpec("CT"), other, "high", **options)}


class Scaled(torch.nn.Module):
    """A network with a number that is no parameter."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return windows * self.factor


def test_a_number_of_a_network_makes_another_one_of_it(radi: RadiObject) -> None:
    for factor in (2.0, 3.0):
        found = predict(
            radi, CT, Scaled(factor), "scaled", post=lambda scores: scores.to(torch.bfloat16) * 0 + 1
        )
    assert radi.version == 3
    assert found.iloc[0].dtype == np.float32


def test_what_cannot_be_predicted_is_refused_before_anything_is_written(
    radi: RadiObject, tmp_path: Path
) -> None:
    for spec, what in (
        (SampleSpec("CT"), "roi_size="),
        (SampleSpec("CT", plane="axial"), "neither|plane="),
    ):
        with pytest.raises(ConfigError, match=what):
            predict(radi, spec, network())
    with pytest.raises(ConfigError, match="two channels"):
        predict(radi, CT, network(classes=1))
    with pytest.raises(ViewError):
        predict(radi.head(2), CT, network())
    for samples in (radi.CT, make_study(tmp_path / "other").head(2)):
        with pytest.raises(ConfigError, match="a view of radi"):
            predict(radi, CT, network(), samples=samples)
    assert radi.version == 1
    assert argmax(torch.eye(3)[:, :, None, None]).squeeze().tolist() == [0, 1, 2]
