"""Panels: what the page shows when it opens, and which way each plane lies on the screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import neuroglancer
import numpy as np
import numpy.typing as npt

from radiobject.show.viewer.layers import WORLD, seconds_of, space_of

if TYPE_CHECKING:
    from radiobject.model.volume import Volume

__all__ = ["ORIENTATIONS", "first_state"]

ORIENTATIONS = {
    "axial": (0.0, 0.0, 1.0, 0.0),
    "coronal": (0.0, 0.5**0.5, -(0.5**0.5), 0.0),
    "sagittal": (-0.5, 0.5, -0.5, 0.5),
}
"""Quaternions (x, y, z, w) that turn Neuroglancer's screen, x to the right and y down, to radiology's.

The table of `radiobject.geometry.planes` has the convention. Neuroglancer's own four panels cannot have it:
one turn of all three planes never puts anterior and superior both where they belong.
"""

_FROM_THE_FRONT = (0.223, -0.805, 0.531, -0.147)
"""The view of the fourth panel: from the front, from the patient's left and from above."""

_PIXELS = 380
"""Across one of the four panels of a window of usual size."""


def first_state(
    volumes: Mapping[str, Volume], layers: Mapping[str, neuroglancer.Layer], title: str
) -> neuroglancer.ViewerState:
    """Axial, coronal and sagittal plane through the middle of the first image, and all three in space.

    That image and all labels are visible; the other images are a click away.
    """
    state = neuroglancer.ViewerState()
    first = next((v for v in volumes.values() if v.meta.kind == "image"), next(iter(volumes.values())))
    for name, layer in layers.items():
        state.layers[name] = layer
        state.layers[name].visible = volumes[name] is first or volumes[name].meta.kind == "label"
    corners = _corners(first)
    extent = float(np.ptp(corners, axis=0).max())
    # at the first time point; Neuroglancer would begin in the middle
    step = next((s for s in map(seconds_of, volumes.values()) if s is not None), None)
    time = {} if step is None else {"t": (step, "s")}
    state.dimensions = space_of({**WORLD, **time})
    state.position = [*corners.mean(axis=0), *(0 for _ in time)]
    state.cross_section_scale = extent / _PIXELS
    state.projection_scale = 0.8 * extent
    state.projection_orientation = _FROM_THE_FRONT
    state.cross_section_background_color = "#000000"
    state.show_default_annotations = False
    state.layer_list_panel = neuroglancer.viewer_state.LayerListPanelState(visible=True, size=160)
    state.title = title or None
    turns = {
        plane: neuroglancer.LinkedOrientationState(link="unlinked", value=turn)
        for plane, turn in ORIENTATIONS.items()
    }
    sections = {
        plane: neuroglancer.CrossSection(width=_PIXELS, height=_PIXELS, orientation=turn)
        for plane, turn in turns.items()
    }
    space = neuroglancer.DataPanelLayout(type="3d", cross_sections=sections)
    axial, coronal, sagittal = (
        neuroglancer.LayerGroupViewer(layers=list(layers), layout="xy", cross_section_orientation=turn)
        for turn in turns.values()
    )
    fourth = neuroglancer.LayerGroupViewer(layers=list(layers), layout=space)
    rows = [neuroglancer.row_layout(pair) for pair in ([axial, coronal], [sagittal, fourth])]
    state.layout = neuroglancer.column_layout(rows)
    return state


def _corners(volume: Volume) -> npt.NDArray[np.float64]:
    """The eight corners of a volume in mm, at the outer edges of its voxels."""
    ends = np.array(list(np.ndindex(2, 2, 2))) * volume.shape[:3] - 0.5
    corners: npt.NDArray[np.float64] = ends @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return corners
