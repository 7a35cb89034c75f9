"""Neuroglancer, in a headless Chromium, shows a volume whose second level is at "pyramid/1"."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from foreign.server import serve
from PIL import Image

from peers.browser import opened
from peers.pyramids import SPACING, write_pyramid

pytestmark = pytest.mark.peers

neuroglancer = pytest.importorskip("neuroglancer", reason="needs pip install 'radiobject-zarr[viewer]'")

# this release takes no display range from the metadata
SHADER = "#uicontrol invlerp normalized(range=[0, 3000])\nvoid main() { emitGrayscale(normalized()); }"


def picture(viewer: Any) -> npt.NDArray[np.uint8]:
    """What the page shows once everything visible has come."""
    png = viewer.screenshot(size=[300, 300]).screenshot.image
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.timeout(90)
def test_neuroglancer_shows_both_levels(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_pyramid(tmp_path / "data", "v.ome.zarr")
    neuroglancer.set_server_bind_address("127.0.0.1")
    with serve(tmp_path / "data") as server:
        viewer = neuroglancer.Viewer()
        with viewer.txn() as state:
            state.layers["v"] = neuroglancer.ImageLayer(
                source=f"{server.url}/v.ome.zarr/|zarr3:", shader=SHADER
            )
            state.layout = "xy"
            state.cross_section_background_color = "#000000"
            state.show_axis_lines = state.show_scale_bar = False
        try:
            with opened(viewer.get_viewer_url(), tmp_path / "profile"):
                near = picture(viewer)
                dimensions = viewer.state.dimensions
                with viewer.txn() as state:
                    state.cross_section_scale = 4.0
                far = picture(viewer)
        finally:
            neuroglancer.stop()
        paths = {path for _, path, status in server.asked if status in (200, 206)}
    # metres, in the order of the axes on disk
    assert [round(float(s) * 1000, 9) for s in dimensions.scales] == list(SPACING[::-1])
    assert "/v.ome.zarr/0/c/0/0/0" in paths
    assert "/v.ome.zarr/pyramid/1/c/0/0/0" in paths
    # the ball is bright on a dark ground, and smaller from further away
    bright = [int((shown.min(axis=2) > 200).sum()) for shown in (near, far)]
    assert bright[0] > bright[1] > 0
