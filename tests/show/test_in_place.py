"""What people look at of volumes that lie in their source files: pages say what is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject
from tests.conftest import NiftiMaker


@pytest.fixture
def radi(tmp_path: Path, make_nifti: NiftiMaker) -> RadiObject:
    ramp = np.arange(20 * 24 * 28, dtype="i2").reshape(20, 24, 28)
    for subject in ("sub-01", "sub-02"):
        (tmp_path / f"{subject}_T1w.nii").write_bytes(make_nifti(ramp))
        (tmp_path / f"{subject}_seg.nii").write_bytes(make_nifti((ramp % 3).astype("u1")))
    images = {name: str(tmp_path / f"*_{name}.nii") for name in ("T1w", "seg")}
    return RadiObject.from_niftis(tmp_path / "study", images, copy=False)


def test_a_report_says_that_nobody_has_read_the_voxels(radi: RadiObject) -> None:
    made = radi.report()
    assert len(made.findings) == 0
    assert made.html.count("Nobody has read the voxels yet") == 2
    assert made.html.count("not read yet") == 4
    assert "no picture<" not in made.html
    radi.append({"T1w": [(Path(radi.uri).parent / "sub-01_T1w.nii", "sub-01", "stored")]})
    assert "Of 2 volumes nobody has read" in radi.report().html


def test_cards_say_so_too(radi: RadiObject) -> None:
    assert radi.T1w._repr_html_().count("not read yet") == 2
    assert "not read yet" in radi.T1w.iloc[0]._repr_html_()
    assert "src" not in radi._repr_html_()


def test_statistics_and_pictures_come_from_the_voxels_when_somebody_asks(radi: RadiObject) -> None:
    assert radi.T1w.iloc[0].get_statistics([1])["max"] == 20 * 24 * 28 - 1
    counts, _ = radi.T1w.iloc[0].compute_histogram()
    assert counts.sum() == 20 * 24 * 28
    assert "not read yet" not in radi.T1w.iloc[0].show().html


def test_a_plot_is_drawn(radi: RadiObject) -> None:
    pytest.importorskip("matplotlib")
    assert radi.T1w.iloc[0].plot() is not None
    assert radi.plot_subject("sub-01") is not None


def test_the_viewer_draws_what_this_process_reads(radi: RadiObject) -> None:
    pytest.importorskip("neuroglancer")
    from radiobject.show.viewer.layers import layer_of, source_of

    for name in radi:
        volume = radi.collection(name).iloc[0]
        source = source_of(volume)
        assert source.files is None  # no page reads NIfTI: it asks this process for boxes
        boxes = layer_of(source, "http://127.0.0.1/0").source[0].url.data
        np.testing.assert_array_equal(boxes[3:5, :2, 7:9], volume[3:5, :2, 7:9])
