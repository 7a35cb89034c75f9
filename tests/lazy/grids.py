"""Grids for property tests: along the axes, turned, oblique and sheared."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

__all__ = ["OBLIQUE", "affines", "slices"]

OBLIQUE = np.array([[1.9, -0.4, 0.1, -30.2], [0.5, 2.4, 0.3, 12.7], [-0.1, -0.2, 3.1, 40.9], [0, 0, 0, 1.0]])
"""Oblique and a little sheared, with voxels of three lengths."""


@st.composite
def affines(draw: st.DrawFn) -> npt.NDArray[np.float64]:
    """An affine of voxels from 0.1 to 12 mm, up to 2 m from the origin."""
    number = st.floats(-1, 1, width=32)
    kind = draw(st.sampled_from(["axes", "turned", "oblique", "sheared"]))
    direction = np.eye(3)
    if kind in ("oblique", "sheared"):
        direction = np.linalg.qr(direction + [[draw(number) for _ in range(3)] for _ in range(3)])[0]
    if kind == "sheared":
        direction = direction + 0.2 * np.array(
            [[0, draw(number), draw(number)], [0, 0, draw(number)], [0] * 3]
        )
    direction = direction[:, draw(st.permutations(range(3)))] if kind != "axes" else direction
    signs = [draw(st.sampled_from([-1, 1])) for _ in range(3)]
    steps = [draw(st.floats(0.1, 12)) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = direction * signs * steps
    affine[:3, 3] = [draw(st.floats(-2000, 2000)) for _ in range(3)]
    return affine


@st.composite
def slices(draw: st.DrawFn, n: int) -> slice:
    """A slice of any step that leaves at least one of `n`."""
    bound = st.none() | st.integers(-n - 2, n + 2)
    made = st.builds(slice, bound, bound, st.none() | st.integers(-4, 4).filter(bool))
    return draw(made.filter(lambda s: len(range(n)[s]) > 0))
