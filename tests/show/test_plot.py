"""`vol.plot` and `radi.plot_subject`: what is drawn is where and how it should be, looked at as pixels."""

from __future__ import annotations

import dataclasses
import gc
import io
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from radiobject import Volume
from radiobject.errors import ConfigError, IndexingError, SelectionError, UnknownIdError
from radiobject.format.ome import default_rgba
from radiobject.show.appearance import hot
from radiobject.show.sections import sections

SHAPE = (24, 30, 18)
AFFINE = np.diag([-2.0, 2.0, 3.0, 1.0])


def scan(seed: int = 0, affine: np.ndarray = AFFINE) -> Volume:
    """Blocks of 3 voxels of one value each, so that smoothing leaves their middles alone."""
    blocks = np.random.default_rng(seed).integers(0, 1000, tuple(-(-n // 3) for n in SHAPE), "i2")
    return Volume.from_numpy(np.kron(blocks, np.ones((3, 3, 3), "i2"))[:24, :30, :18], affine)


def rendered(figure: Any) -> np.ndarray:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return np.asarray(Image.open(io.BytesIO(out.getvalue())).convert("RGB")).astype(int)


def at_pixels(figure: Any, axes: Any, section: Any) -> np.ndarray:
    """The drawn colour at the middle of each pixel of a section, (rows, columns, 3)."""
    image = rendered(figure)
    left, right, top, bottom = section.bounds
    rows, columns = section.shape
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns
    y = top + (np.arange(rows) + 0.5) * (bottom - top) / rows
    places = axes.transData.transform(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    column, row = np.floor(places).astype(int).T
    return image[len(image) - 1 - row, column].reshape(rows, columns, 3)


def texts(axes: Any) -> dict[str, str]:
    """What is written at the left, right, top and bottom edge."""
    found = {}
    for text in axes.texts:
        x, y = text.get_position()
        side = {(True, False): "left" if x < 0.5 else "right", (False, True): "bottom" if y < 0.5 else "top"}
        where = side.get((y == 0.5, x == 0.5))
        if where is not None:
            found[where] = text.get_text()
    return found


@pytest.mark.parametrize("codes", ["LAS", "RAS", "SPR", "ALI"])
def test_grey_pixels_are_the_voxels_whatever_the_order_of_the_array(codes: str) -> None:
    volume = scan().reorient(codes)
    figure = volume.plot(at=(-20, 30, 24), window=(100, 900), crosshair=False)
    for axes, section in zip(figure.axes, sections(volume, (-20, 30, 24)), strict=True):
        plane = getattr(volume, section.plane)(
            mm={"axial": 24, "coronal": 30, "sagittal": -20}[section.plane], display=True
        )
        expected = np.clip((plane - 100) / 800, 0, 1) * 255
        found = at_pixels(figure, axes, section)
        middles = np.s_[1::3, 1::3]
        # letters, facts and the scale bar hide a few
        off = np.abs(found[middles] - expected[middles][..., None]).max(axis=-1)
        assert np.quantile(off, 0.9) <= 3


def test_letters_scale_window_and_facts_are_written() -> None:
    figure = scan().plot(window=(-160, 240), title="scan $1 of $2")
    axial, coronal, sagittal = figure.axes
    assert texts(axial) == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    assert texts(coronal) == {"left": "R", "right": "L", "top": "S", "bottom": "I"}
    assert texts(sagittal) == {"left": "A", "right": "P", "top": "S", "bottom": "I"}
    written = [t.get_text() for axes in figure.axes for t in axes.texts] + [
        t.get_text() for t in figure.texts
    ]
    assert "W 400  L 40" in written
    assert "10 mm" in written
    assert r"scan \$1 of \$2" in written
    assert any("24 x 30 x 18 voxels of 2 x 2 x 3 mm, LAS" in text for text in written)
    # one scale for all panels: a millimetre is as many pixels everywhere, in both directions
    figure.draw_without_rendering()
    scales = [a.transData.transform([(1, 1)]) - a.transData.transform([(0, 0)]) for a in figure.axes]
    np.testing.assert_allclose(np.abs(scales), abs(scales[0][0, 0]), rtol=1e-3)


def test_labels_and_images_are_laid_on_by_affine() -> None:
    below = Volume.from_numpy(np.full((20, 20, 20), 500, "i2"), np.diag([2.0, 2.0, 2.0, 1.0]))
    array = np.zeros((10, 10, 10), "u1")
    array[5:, :, :] = 2
    labels = Volume.from_numpy(array, np.diag([4.0, 4.0, 4.0, 1.0]), kind="label")
    figure = below.plot(at=(20, 20, 20), window=(0, 1000), overlay=labels, opacity=0.4, crosshair=False)
    axial = sections(below, (20, 20, 20))[0]
    colours = at_pixels(figure, figure.axes[0], axial)
    # x = 18 to 38 mm is the label's; the patient's right is on the left
    expected = 0.6 * 127.5 + 0.4 * np.array(default_rgba(2)[:3])
    assert np.abs(np.median(colours[:, :10], axis=(0, 1)) - expected).max() <= 3
    assert np.abs(np.median(colours[:, 12:], axis=(0, 1)) - 127.5).max() <= 3
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["label 2"]
    # between two labels lies none, and no colour of one
    smooth = [image.get_interpolation() for image in figure.axes[0].images]
    assert smooth == ["bilinear", "nearest"]

    heat = Volume.from_numpy(array.astype("f4") * 10, np.diag([4.0, 4.0, 4.0, 1.0]))
    figure = below.plot(
        at=(20, 20, 20), window=(0, 1000), overlay=heat, overlay_window=(0, 40), crosshair=False
    )
    colours = at_pixels(figure, figure.axes[0], axial)
    expected = 0.5 * 127.5 + 0.5 * hot(0.5)
    assert np.abs(np.median(colours[:, :8], axis=(0, 1)) - expected).max() <= 3
    assert np.abs(np.median(colours[:, 12:], axis=(0, 1)) - 127.5).max() <= 3
    assert any("overlay: 0 to 40" in t.get_text() for t in figure.texts)


def test_the_cross_is_open_at_the_point() -> None:
    figure = scan().plot(at=(-20, 30, 24))
    assert all(len(axes.lines) >= 4 for axes in figure.axes)
    for axes in figure.axes:
        for line in axes.lines[:4]:
            x, y = (np.abs(np.asarray(v)) for v in line.get_data())
            assert (x.max() == 0) != (y.max() == 0)
            assert min(x.min() + y.max(), y.min() + x.max()) > 0
    assert all(len(axes.lines) <= 1 for axes in scan().plot(crosshair=False).axes)


def test_a_notebook_shows_the_figure_and_nothing_global_holds_it() -> None:
    figure = scan().plot()
    assert isinstance(figure, Figure)
    assert figure._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"
    gone = weakref.ref(figure)
    del figure
    gc.collect()
    assert gone() is None
    code = "import sys, radiobject.show.plot; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_it_draws_into_a_figure_of_the_caller() -> None:
    figure = Figure(figsize=(8, 8))
    upper, lower = figure.subfigures(2)
    assert scan().plot(figure=upper) is upper
    scan(1).plot(figure=lower, crosshair=False)
    assert len(figure.axes) == 6
    assert len(upper.axes) == len(lower.axes) == 3


def test_labels_alone_and_other_time_points_are_drawn() -> None:
    labels = Volume.from_numpy(np.full((5, 5, 5), 1, "u1"), kind="label")
    figure = labels.plot(crosshair=False)
    colours = at_pixels(figure, figure.axes[0], sections(labels)[0])
    assert (np.median(colours, axis=(0, 1)) == default_rgba(1)[:3]).all()
    four = np.zeros((5, 5, 5, 3), "i2")
    four[..., 2] = 100
    moving = Volume.from_numpy(four, axis4="time")
    figure = moving.plot(t=-1, window=(0, 200), overlay=moving, overlay_window=(0, 400), opacity=1.0)
    assert any("t 2 of 3" in t.get_text() for t in figure.texts)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), 100)
    # the overlay shows the same moment
    assert figure.axes[0].images[1].get_array()[0, 0].tolist() == [*hot(0.25), 255]


def test_no_voxel_is_read_for_the_window_of_a_stored_volume(study: Any) -> None:
    array = np.arange(1000, dtype="i2").reshape(10, 10, 10)
    volume = study({"a": {"s": array}}).a.iloc[0]
    image = volume.slicer[2:].plot().axes[0].images[0]
    assert (image.norm.vmin, image.norm.vmax) == (
        volume.metadata["intensity_p1"],
        volume.metadata["intensity_p99"],
    )
    shown = Volume.from_numpy(array).plot(at=(0, 0, 0)).axes[0].images[0]
    # without a row it is that of the three planes
    planes = np.concatenate([array[0].ravel(), array[:, 0].ravel(), array[:, :, 0].ravel()])
    assert shown.norm.vmax == np.percentile(planes, 99, method="inverted_cdf")


def test_the_source_s_window_is_taken_unless_it_is_none() -> None:
    volume = scan()
    for window, taken in (
        ((20.0, 80.0), True),
        ((5.0, 5.0), False),
        ((9.0, 3.0), False),
        ((0.0, np.inf), False),
    ):
        given = Volume._of(volume._handle, dataclasses.replace(volume.meta, window=window))
        norm = given.plot().axes[0].images[0].norm
        assert ((norm.vmin, norm.vmax) == window) == taken
        assert norm.vmin < norm.vmax


def test_what_cannot_be_drawn_is_refused() -> None:
    volume = scan()
    with pytest.raises(IndexingError):
        volume.plot(at=(500, 0, 0))
    for window in ((1, 1), (2, 1), (0, np.inf), 5, ("a", "b")):
        with pytest.raises(ConfigError, match="window="):
            volume.plot(window=window)
    with pytest.raises(ConfigError, match="opacity="):
        volume.plot(overlay=volume, opacity=40)
    labels = Volume.from_numpy(np.ones((3, 3, 3), "u1"), kind="label")
    with pytest.raises(ConfigError, match="label volume"):
        labels.plot(window=(0, 1))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0, 3e38])
def test_constant_and_strange_voxels_are_drawn(value: float) -> None:
    array = np.full((4, 4, 1), value, "f4")
    array[0, 0, 0] = np.nan
    assert len(rendered(Volume.from_numpy(array).plot(overlay=Volume.from_numpy(array)))) > 50


def test_missing_matplotlib_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import numpy as np\nfrom radiobject import Volume\n"
        "try: Volume.from_numpy(np.zeros((3, 3, 3))).plot()\n"
        "except ImportError as error: print(type(error).__name__, error)"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert (
        out.strip() == 'MissingDependencyError pictures need matplotlib. pip install "radiobject-zarr[plot]"'
    )


@pytest.fixture
def visits(study: Any) -> Any:
    """Two sessions with labels, and a small scan elsewhere."""
    one, two = scan(1)[...], scan(2)[...]
    label = np.zeros(SHAPE, "u1")
    label[:12] = 1
    radi = study(
        {"T1w": {"s": [(one, AFFINE), (two, AFFINE)]}, "seg": {"s": [(label, AFFINE), (label[::-1], AFFINE)]},
         "far": {"s": (np.ones((3, 3, 3), "i2"), np.diag([1.0, 1, 1, 1]))}},
        labels={"seg": {1: "half"}},
    )  # fmt: skip
    for name in ("T1w", "seg"):
        frame = radi.collection(name).obs.read(["obs_id"])
        frame["session"] = ["a", "b"]
        radi.collection(name).obs.update(frame)
    return radi


def test_a_subject_has_a_row_for_each_volume_at_one_point(visits: Any) -> None:
    figure = visits.plot_subject("s", at=(-20, 30, 24), crosshair=False)
    assert len(figure.axes) == 12
    names = [axes.texts[4].get_text() for axes in figure.axes[::3]]
    assert names == ["T1w s_T1w", "T1w s_T1w_acq-1", "seg s_seg on T1w", "seg s_seg_acq-1 on T1w"]
    assert any("far does not reach it" in text.get_text() for text in figure.texts)
    axial = sections(visits.T1w.iloc[0], (-20, 30, 24))[0]
    for row, volume in enumerate(visits.T1w):
        expected = volume.axial(mm=24, display=True)
        for axes in (
            figure.axes[3 * row],
            figure.axes[6 + 3 * row],
        ):  # each label on the image of its session
            np.testing.assert_array_equal(axes.images[0].get_array(), expected)
    bounds = [axes.get_xlim() for axes in figure.axes[::3]]
    assert len(set(bounds)) == 1
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["half"]
    label = figure.axes[6].images[1].get_array()[..., 3]
    np.testing.assert_array_equal(label > 0, visits.seg.iloc[0].axial(mm=24, display=True) > 0)
    assert axial.letters == ("R", "L", "A", "P")


def test_views_leave_rows_out_and_errors_name_the_subject(visits: Any) -> None:
    figure = visits.sel(session="b").select_collections(["T1w"]).plot_subject("s")
    assert len(figure.axes) == 3
    with pytest.raises(UnknownIdError):
        visits.plot_subject("nobody")
    with pytest.raises(IndexingError, match="'s'"):
        visits.plot_subject("s", at=(900, 0, 0))
    with pytest.raises(SelectionError, match="a subject with volumes"):
        visits.select_collections([]).plot_subject("s")


def test_a_real_scan_reads_right(real_data: Path) -> None:
    """The letters R and L are burnt into the voxels of this file, on the sides of the patient they name."""
    volume = Volume.from_nifti(real_data / "niivue" / "avg152T1_RL_nifti.nii.gz")
    figure = volume.plot(at=(0, -18, 18), window=(0, 255))
    shown = np.asarray(figure.axes[0].images[0].get_array())
    burnt = shown == 255
    # R has a closed loop: its upper half has a hole, L has none
    left, right = burnt[:, :45], burnt[:, 45:]
    assert left[:54].sum() > 1.3 * right[:54].sum()
    assert right[60:70, 15:].sum() > left[60:70, :30].sum() / 2
