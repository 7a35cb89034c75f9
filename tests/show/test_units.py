"""Volumes whose affine is in micrometres or metres are shown in millimetres, whatever shows them."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pytest

from radiobject import RadiObject, Volume
from radiobject.show.sections import point_of
from radiobject.show.units import in_mm
from tests.show.test_page import codes_of, data_of

SPACING = {"micron": (50.0, 50.0, 80.0), "mm": (0.05, 0.05, 0.08), "meter": (5e-5, 5e-5, 8e-5)}


@pytest.fixture(scope="module")
def radi(tmp_path_factory: pytest.TempPathFactory) -> RadiObject:
    """One block of voxels at one place of the world, in three units of length."""
    folder = tmp_path_factory.mktemp("units")
    array = np.zeros((20, 16, 12), "i2")
    array[4:9, 3:12, 2:7] = np.random.default_rng(0).integers(1, 250, (5, 9, 5))
    images = {}
    for unit, spacing in SPACING.items():
        image = nib.Nifti1Image(array, np.diag([*spacing, 1.0]))
        image.header.set_xyzt_units(unit, "sec")
        nib.save(image, folder / f"{unit}.nii")
        images[unit] = [(str(folder / f"{unit}.nii"), "s")]
    return RadiObject.from_niftis(folder / "study", images, progress=False)


def volumes(radi: RadiObject) -> dict[str, Volume]:
    return {name: radi.collection(name).iloc[0] for name in SPACING}


def test_all_say_and_reach_the_same_millimetres(radi: RadiObject) -> None:
    figures, pages, points = {}, {}, {}
    for name, volume in volumes(radi).items():
        figure = volume.plot(at=(0.3, 0.35, 0.32), title="")
        figures[name] = [t.get_text() for part in (figure, *figure.axes) for t in part.texts]
        pages[name] = data_of(volume.show(at=(0.3, 0.35, 0.32)))
        points[name] = point_of(in_mm(volume))
    assert figures["micron"] == figures["meter"] == figures["mm"]
    assert any("voxels of 0.05 x 0.05 x 0.08 mm" in text for text in figures["micron"])
    assert any("at (0.30, 0.35, 0.32) mm, voxel (6, 7, 4)" in text for text in figures["micron"])
    assert "0.2 mm" in figures["micron"]
    for name in ("micron", "meter"):
        assert pages[name]["facts"] == pages["mm"]["facts"]
        assert pages[name]["point"] == pages["mm"]["point"]
        np.testing.assert_allclose(pages[name]["affine"], pages["mm"]["affine"], rtol=1e-6)
        # the middle of what is not background, by the row, whose lengths are those of the file
        np.testing.assert_allclose(points[name], points["mm"], rtol=1e-6)


def test_an_overlay_of_another_unit_lies_where_it_should(radi: RadiObject) -> None:
    held = volumes(radi)
    codes = codes_of(data_of(held["mm"].show(overlay=held["micron"])), 1)
    np.testing.assert_array_equal(codes, codes_of(data_of(held["mm"].show(overlay=held["mm"])), 1))
    assert codes.any()


def test_parts_and_resampled_volumes_keep_their_place(radi: RadiObject) -> None:
    micron, mm = (volumes(radi)[name] for name in ("micron", "mm"))
    for one, other in (
        (micron.slicer[3:, ::-1], mm.slicer[3:, ::-1]),
        (micron.reorient("PIR"), mm.reorient("PIR")),
        (micron.resample(100.0), mm.resample(0.1)),
    ):
        placed = in_mm(one)
        np.testing.assert_allclose(placed.affine, other.affine, rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(placed[...], one[...])
        assert placed.meta.space_unit == "mm"
    assert in_mm(mm) is mm


def test_cards_say_millimetres(radi: RadiObject) -> None:
    for name in SPACING:
        assert "0.05 x 0.05 x 0.08 mm" in radi.collection(name).iloc[0]._repr_html_()
        assert "<td>0.05 x 0.05 x 0.08</td>" in radi.collection(name)._repr_html_()


def test_the_viewer_has_one_world(radi: RadiObject) -> None:
    pytest.importorskip("neuroglancer", reason="needs pip install 'radiobject-zarr[viewer]'")
    with radi.view("s") as session:
        state: dict[str, Any] = session.viewer.state.to_json()
        assert session.layers["micron"].meta.space_unit == "um"
    transforms = [layer["source"][0]["transform"] for layer in state["layers"]]
    sides = [[float(f"{t['inputDimensions'][a][0]:.5g}") for a in "xyz"] for t in transforms]
    assert sides == [[5e-5, 5e-5, 8e-5]] * 3


def test_the_unit_of_an_image_in_memory_counts() -> None:
    image = nib.Nifti1Image(np.zeros((4, 4, 4), "i2"), np.diag([50.0, 50.0, 50.0, 1.0]))
    image.header.set_xyzt_units("micron", "sec")
    assert "0.05 x 0.05 x 0.05 mm" in Volume.from_nifti(image)._repr_html_()
