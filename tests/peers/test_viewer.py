"""The viewer, in a headless Chromium, shows every voxel where its affine says, in its own grey or colour."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from peers.browser import opened
from peers.proxy import proxied
from radiobject import RadiObject, Volume, WriteConfig
from radiobject.show.appearance import label_colours, window_of

# a page that never comes would be waited for
pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

neuroglancer = pytest.importorskip("neuroglancer", reason="needs pip install 'radiobject-zarr[viewer]'")

SIZE = 96
"""Pixels across one panel."""

SCALE = 0.37
"""Millimetres between pixels; no voxel size is a multiple of it, so that few pixels lie on an edge."""

# what each plane has to the right and downwards, in x, y, z (RAS+)
PANELS = {
    "axial": ((-1, 0, 0), (0, -1, 0)),
    "coronal": ((-1, 0, 0), (0, 0, -1)),
    "sagittal": ((0, -1, 0), (0, 0, -1)),
}


def turned(degrees: float, spacing: tuple[float, float, float], origin: tuple[float, float, float]) -> Any:
    """An affine turned about an axis that is none of x, y, z, its first two array axes flipped."""
    axis = np.array([1.0, 2.0, 3.0]) / 14**0.5
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = np.radians(degrees)
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k) @ np.diag(
        np.array(spacing) * (-1, -1, 1)
    )
    affine[:3, 3] = origin
    return affine


def noise(shape: tuple[int, ...], high: int, dtype: str, seed: int) -> npt.NDArray[Any]:
    """Neighbours that differ: a shift by half a voxel changes every second pixel."""
    return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)


@pytest.fixture(scope="module")
def radi(tmp_path_factory: pytest.TempPathFactory, make_nifti: Any) -> RadiObject:
    """A plain scan with slope and intercept, a 4D one, an oblique one and its label; two chunks and more."""
    folder = tmp_path_factory.mktemp("viewer")
    plain, bold = (np.diag([*spacing, 1.0]) for spacing in ((1.1, 0.9, 1.3), (-2, 2.2, 2.6)))
    plain[:3, 3], bold[:3, 3] = (-20, -15, -21), (18, -20, -19)
    scaling = {"scl_slope": 0.5, "scl_inter": -10}
    seconds = {"pixdim": [1, 2, 2.2, 2.6, 2.5, 0, 0, 0], "xyzt_units": 10}
    voxels = noise((40, 36, 34), 200, "i2", 0), noise((20, 18, 16, 4), 200, "u1", 1)
    (folder / "plain.nii").write_bytes(make_nifti(voxels[0], affine=plain, fields=scaling))
    (folder / "bold.nii").write_bytes(make_nifti(voxels[1], affine=bold, fields=seconds))
    oblique = turned(20, (0.8, 1.0, 3.0), (14, 22, -17))
    return RadiObject.from_niftis(
        folder / "study",
        {
            "plain": [(folder / "plain.nii", "sub-01")],
            "bold": [(folder / "bold.nii", "sub-01")],
            "oblique": [((noise((37, 41, 12), 200, "u1", 2), oblique), "sub-01")],
            "seg": [((noise((37, 41, 12), 4, "i2", 3), oblique), "sub-01")],
        },
        labels={"seg": {1: "liver", 2: "spleen", 3: "kidney"}},
        progress=False,
    )


class Page:
    """The page of a session, in a browser."""

    def __init__(self, session: Any) -> None:
        self.viewer, self.layers = session.viewer, session.layers
        first, second = self.viewer.state.layout.children
        self.panels = dict(zip(PANELS, (*first.children, *second.children), strict=False))

    def shows(
        self, names: Sequence[str], plane: str, position: Sequence[float], scale: float = SCALE
    ) -> Iterator[npt.NDArray[Any]]:
        """What one of the session's panels shows of some layers when it fills the page: RGB (SIZE, SIZE, 3).

        The page may take a picture before a layer that has just become visible has asked for its voxels;
        the pictures that follow are those after that.
        """
        with self.viewer.txn() as state:
            state.layout = neuroglancer.row_layout([self.panels[plane]])
            state.show_axis_lines = state.show_scale_bar = state.layer_list_panel.visible = False
            state.cross_section_scale = scale
            for layer in state.layers:
                layer.visible = layer.name in names
            state.position = list(position)
        for _ in range(100):
            shot = self.viewer.screenshot(size=[SIZE, SIZE]).screenshot
            yield np.asarray(Image.open(io.BytesIO(shot.image)).convert("RGB")).astype(int)

    def check(self, wanted: npt.NDArray[Any], *what: Any, scale: float = SCALE) -> None:
        """The page shows what is wanted, but for pixels on edges of voxels."""
        assert wanted.any(), what
        same = 0.0
        for shown in self.shows(*what, scale=scale):
            right = (np.abs(shown - wanted) <= 2).all(axis=-1)
            same = right[shown.any(axis=-1) | wanted.any(axis=-1)].mean()
            if (
                same > 0.9
            ):  # some lie on an edge between voxels; a shift by half a voxel leaves less than half
                return
        pytest.fail(f"{what}: {same:.1%} of the pixels are right")

    def compare(self, name: str, look: Look, position: Sequence[float]) -> None:
        """Each plane through `position` shows the layer's own voxels."""
        for plane in PANELS:
            values = sampled(self.layers[name], plane, position)
            self.check(look(self.layers[name], values), [name], plane, position)


Look = Callable[[Volume, npt.NDArray[Any]], npt.NDArray[Any]]
"""A volume, and its voxels at the pixels of a plane (NaN outside), to RGB."""


def sampled(
    volume: Volume, plane: str, position: Sequence[float], scale: float = SCALE, affine: Any = None
) -> npt.NDArray[Any]:
    """The volume's own voxels at the pixels of a plane through a world point; of the frame position[3]."""
    right, down = PANELS[plane]
    away = (np.arange(SIZE) + 0.5 - SIZE / 2) * scale
    world = np.array(position[:3]) + away[:, None] * np.array(right) + away[:, None, None] * np.array(down)
    inverse = np.linalg.inv(volume.affine if affine is None else affine)
    index = np.floor(world @ inverse[:3, :3].T + inverse[:3, 3] + 0.5).astype(int)
    voxels = np.asarray(volume, "f8")
    if voxels.ndim == 4:
        voxels = voxels[..., position[3] if len(position) > 3 else 0]
    inside = ((index >= 0) & (index < voxels.shape)).all(axis=-1)
    i, j, k = np.moveaxis(np.clip(index, 0, np.array(voxels.shape) - 1), -1, 0)
    return np.where(inside, voxels[i, j, k], np.nan)


def grey(volume: Volume, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Through the volume's window; black outside."""
    low, high = window_of(volume)
    shade = np.nan_to_num(np.clip((values - low) / (high - low), 0, 1) * 255)
    return np.repeat(shade[..., None], 3, axis=-1)


def coloured(volume: Volume, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Every label in its colour; the background and what is outside black."""
    found = np.zeros((*values.shape, 3))
    for value, (_, rgba) in label_colours(volume).items():
        found[values == value] = rgba[:3]
    return found


POSITIONS = [(0, 0, 0), (1.3, 2.1, -0.7), (-5.2, 4.3, 6.6)]


def test_every_volume_of_a_subject_lies_where_its_affine_says(radi: RadiObject, tmp_path: Path) -> None:
    with radi.view("sub-01") as session:
        assert list(session.layers) == ["plain", "bold", "oblique", "seg"]
        assert session.layers["plain"].dtype == "f4"  # scaled, where the page reads the stored integers
        transforms = {layer.name: layer.source[0].transform for layer in session.viewer.state.layers}
        with opened(session.url, tmp_path):
            page = Page(session)
            for position in POSITIONS:
                page.compare("plain", grey, (*position, 0))
                page.compare("oblique", grey, (*position, 0))
                page.compare("seg", coloured, (*position, 0))
            for frame in range(4):
                page.compare("bold", grey, (2.2, -3.1, 5.1, frame))
            image, seg = session.layers["oblique"], session.layers["seg"]
            values, labels = (sampled(volume, "axial", (1.3, 2.1, -0.7)) for volume in (image, seg))
            over = np.where((labels > 0)[..., None], 0.4 * coloured(seg, labels), 0)
            both = over + np.where((labels > 0)[..., None], 0.6, 1) * grey(image, values)
            page.check(both, ["oblique", "seg"], "axial", (1.3, 2.1, -0.7, 0))
            state = session.viewer.state
    assert dict(zip(state.dimensions.names, state.dimensions.scales, strict=True)) == {
        "x": 1e-3, "y": 1e-3, "z": 1e-3, "t": 2.5,
    }  # fmt: skip
    for layer in state.layers:
        transform, volume = transforms[layer.name], session.layers[layer.name]
        steps = dict(zip(transform.input_dimensions.names, transform.input_dimensions.scales, strict=True))
        assert [1e3 * steps[axis] for axis in "xyz"] == pytest.approx(volume.spacing)
        columns = [list(steps).index(axis) for axis in "xyz"]
        lengths = 1e3 * np.array([steps[axis] for axis in "xyz"])
        np.testing.assert_allclose(transform.matrix[:3, columns] * lengths, volume.affine[:3, :3], atol=1e-9)
        # the page has taken it as it is, and nothing of its own besides
        kept = layer.source[0].transform
        np.testing.assert_allclose(kept.matrix, transform.matrix, atol=1e-12)
        assert kept.output_dimensions.to_json() == transform.output_dimensions.to_json()


def test_computed_volumes_lie_there_too(radi: RadiObject, tmp_path: Path) -> None:
    """Those that no browser could read: in memory, of 64 bits, sliced, turned, resampled."""
    oblique, seg = (radi.collection(name).iloc[0] for name in ("oblique", "seg"))
    images = [
        Volume.from_numpy(noise((30, 28, 26), 200, "f8", 4), turned(-35, (1, 1.2, 1.4), (14, 15, -18))),
        oblique.slicer[4:30, ::-2, 1:],
        oblique.reorient("PIR"),
        oblique.resample((1.3, 0.7, 2.2), order=0),
    ]
    wide = Volume.from_numpy(noise((20, 22, 24), 4, "i8", 5), np.diag([1.5, 1.5, 1.5, 1]), kind="label")
    session = images[0].view(*images[1:], seg.slicer[3:, 5:, ::-1], wide)
    with session, opened(session.url, tmp_path):
        page, (*names, labels, numbers) = Page(session), session.layers
        for name in names:
            page.compare(name, grey, (1.3, 2.1, -0.7))
        page.compare(labels, coloured, (1.3, 2.1, -0.7))
        # labels without a name have colours of Neuroglancer's choice: one each, and none for the background
        values = sampled(wide, "axial", (13.1, 12.2, 11.3))
        *_, shown = itertools.islice(page.shows([numbers], "axial", (13.1, 12.2, 11.3)), 5)
        middle = np.array([np.median(shown[values == value], axis=0) for value in range(4)])
        assert len(np.unique(middle, axis=0)) == 4
        page.check(middle[np.nan_to_num(values).astype(int)], [numbers], "axial", (13.1, 12.2, 11.3))
        assert not middle[0].any()


def test_coarser_levels_lie_where_the_finest_does(tmp_path: Path) -> None:
    affine = turned(20, (1, 1, 1.5), (30, 33, -31))
    voxels, write = noise((64, 60, 40), 200, "u1", 7), WriteConfig(pyramid=1)
    volume = Volume.from_numpy(voxels, affine, tmp_path / "a.ome.zarr", write=write)
    assert volume.n_levels == 2
    with volume.view() as session, opened(session.url, tmp_path / "profile"):
        page, (name,) = Page(session), session.layers
        page.compare(name, grey, (1.3, 2.1, -0.7))
        for plane in PANELS:
            wanted = grey(volume, sampled(volume.level(1), plane, (1.3, 2.1, -0.7), scale=2.3))
            page.check(wanted, [name], plane, (1.3, 2.1, -0.7), scale=2.3)


def test_time_and_channels_without_a_unit_are_dimensions_of_the_layer(tmp_path: Path) -> None:
    voxels = noise((24, 22, 20, 3), 200, "u1", 6)
    stored = Volume.from_numpy(voxels, np.diag([1, 1, 1.5, 1]), tmp_path / "a.ome.zarr", axis4="channel")
    series = Volume.from_numpy(voxels, np.diag([1, 1, 1.5, 1]), axis4="time")
    with stored.view(series) as session, opened(session.url, tmp_path / "profile"):
        page = Page(session)
        for name, axis in zip(session.layers, ("c'", "t'"), strict=True):
            for place in range(3):
                with session.viewer.txn() as state:
                    assert list(state.layers[name].local_dimensions.names) == [axis]
                    state.layers[name].local_position = [place]
                values = sampled(series, "axial", (11.3, 10.2, 14.1, place))
                page.check(grey(series, values), [name], "axial", (11.3, 10.2, 14.1))


def test_the_page_finds_everything_behind_the_proxy_of_a_hub(
    radi: RadiObject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/me/")
    oblique, seg = (radi.collection(name).iloc[0] for name in ("oblique", "seg"))
    session = oblique.view(seg, oblique.slicer[3:, ::-1])
    with proxied("/user/me/") as host, session, opened(f"{host}{session.url}", tmp_path):
        page, (stored, labels, computed) = Page(session), session.layers
        page.compare(stored, grey, (1.3, 2.1, -0.7))
        page.compare(labels, coloured, (1.3, 2.1, -0.7))
        page.compare(computed, lambda _, values: grey(oblique, values), (1.3, 2.1, -0.7))
