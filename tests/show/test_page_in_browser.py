"""The page of `vol.show()` in a real browser: its pixels are the volume's, and hand and keys move it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peers.devtools import DevTools, browsing

from radiobject import Volume
from radiobject.format.ome import default_rgba
from radiobject.show.interactive import Page
from radiobject.show.sections import sections

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

Open = Callable[..., Any]
PLANES = ("axial", "coronal", "sagittal")

# the colour of a canvas in the middle of every pixel of its plane, row by row
PIXELS = """(() => {
  const canvas = document.querySelector("#PLANE canvas"), [columns, rows] = SIZE;
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data, found = [];
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) {
    const x = Math.floor((c + 0.5) * canvas.width / columns);
    const start = 4 * (Math.floor((r + 0.5) * canvas.height / rows) * canvas.width + x);
    found.push(...data.slice(start, start + 3));
  }
  return found;
})()"""

SLIDE = """(() => {
  const labels = [...document.querySelectorAll("#controls > label")];
  const slider = labels.find((label) => label.textContent.startsWith("NAME")).querySelector("input");
  slider.value = VALUE;
  slider.dispatchEvent(new Event("input"));
})()"""


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """`with opened(page) as browser`: the page, once its voxels are shown."""

    @contextmanager
    def show(page: Page, **size: int) -> Iterator[DevTools]:
        page.save(tmp_path / "page.html")
        with browsing((tmp_path / "page.html").as_uri(), tmp_path / "profile", **size) as browser:
            browser.until("document.getElementById('readout').textContent !== ''")
            browser.settled()
            yield browser

    return show


def shown(browser: DevTools, section: Any, finer: int = 1) -> np.ndarray:
    """The colours of a canvas at the pixels of a section, (rows, columns, 3), or so many times as densely."""
    rows, columns = (finer * n for n in section.shape)
    script = PIXELS.replace("PLANE", section.plane).replace("SIZE", f"[{columns}, {rows}]")
    return np.array(browser.value(script)).reshape(rows, columns, 3)


def off_the_cross(section: Any) -> np.ndarray:
    """Which pixels the lines of the cross do not touch."""
    (rows, columns), (column, row) = section.shape, section.cross
    keep = np.ones((rows, columns), bool)
    keep[max(round(row) - 1, 0) : round(row) + 2] = False
    keep[:, max(round(column) - 1, 0) : round(column) + 2] = False
    return keep


def readout(browser: DevTools) -> tuple[list[float], list[int], str]:
    """World point, voxel, and what is said of the values."""
    text = browser.value("document.getElementById('readout').textContent")
    world, voxel = (re.search(rf"{before}\(([^)]*)\)", text)[1] for before in ("^", "voxel "))
    return [float(v) for v in world.split(",")], [int(v) for v in voxel.split(",")], text


def middle_of(browser: DevTools, plane: str, column: float, row: float) -> tuple[float, float]:
    """Where in the window a part of a canvas is; 0 to 1 from the left and the top."""
    box = browser.value(f"(({{x, y, width, height}}) => [x, y, width, height])"
                        f"(document.querySelector('#{plane} canvas').getBoundingClientRect())")  # fmt: skip
    return box[0] + column * box[2], box[1] + row * box[3]


def blocks(affine: np.ndarray, seed: int = 0) -> Volume:
    """Bytes in blocks of 3 voxels, so that smoothing leaves their middles alone."""
    coarse = np.random.default_rng(seed).integers(0, 256, (10, 12, 8), "u1")
    return Volume.from_numpy(np.kron(coarse, np.ones((3, 3, 3), "u1")), affine)


OBLIQUE = np.array([[1.9, -0.6, 0, -30], [0.6, 1.9, 0, -40], [0, 0, 3, 5], [0, 0, 0, 1.0]])
AFFINES = {
    "RAS": np.diag([2.0, 2.0, 3.0, 1.0]),
    "LPS": np.diag([-2.0, -2.0, 3.0, 1.0]),
    "PIR": np.array([[0, 0, 2.0, 0], [-2.0, 0, 0, 0], [0, -3.0, 0, 0], [0, 0, 0, 1]]),
    "oblique": OBLIQUE,
}


@pytest.mark.parametrize("name", AFFINES)
def test_the_pixels_are_the_volume_s_own_planes(name: str, opened: Open) -> None:
    volume = blocks(AFFINES[name])
    at = volume.meta.affine.apply((13, 16, 10))
    with opened(volume.show(at=at, window=(20, 220))) as browser:
        for section in sections(volume, at):
            grey = np.clip((section.read(volume) - 20) / 200, 0, 1) * 255
            found = shown(browser, section)
            keep = off_the_cross(section)
            # 256 steps over twice the window: a step is less than a grey value and a half
            middles = np.zeros_like(keep)
            middles[1::3, 1::3] = True
            off = np.abs(found - grey[..., None]).max(axis=-1)[keep & middles]
            assert off.max() <= 4
            letters = browser.value(
                f"[...document.querySelectorAll('#{section.plane} .letter')]"
                ".map((l) => [l.className, l.textContent])"
            )
            sides = ("left", "right", "top", "bottom")
            assert letters == [
                [f"letter {side}", text] for side, text in zip(sides, section.letters, strict=True)
            ]
        world, voxel, text = readout(browser)
        np.testing.assert_allclose(world, at, atol=0.06)
        assert voxel == [13, 16, 10]
        assert f"volume: {volume[13, 16, 10]}" in text.replace("≈ ", "")
        assert browser.errors == []
        assert [url for url in browser.asked if not url.startswith("file:")] == []
        if name == "oblique":
            assert "oblique" in browser.value("document.body.textContent")


def test_planes_have_one_physical_scale(opened: Open) -> None:
    volume = Volume.from_numpy(np.zeros((40, 60, 10), "u1"), np.diag([1.0, 1.0, 5.0, 1.0]))
    for size in ({}, {"width": 420, "height": 900}):
        with opened(volume.show(), **size) as browser:
            boxes = browser.value(
                "[...document.querySelectorAll('canvas')].map((c) => c.getBoundingClientRect())"
                ".map(({width, height}) => [width, height])"
            )
            scale = boxes[0][0] / 40
            np.testing.assert_allclose(boxes, np.array([[40, 60], [40, 50], [60, 50]]) * scale, rtol=0.01)
            bar = browser.value(
                "[document.querySelector('.scale').textContent, document.querySelector('.scale').offsetWidth]"
            )
            assert bar[0] == "10 mm"
            assert bar[1] == pytest.approx(10 * scale, abs=1)
            if size:  # one below the other on a narrow screen, nothing cut off
                assert browser.value("document.documentElement.scrollWidth") <= size["width"]


def test_labels_have_their_colours_and_can_be_hidden(opened: Open) -> None:
    image = Volume.from_numpy(np.full((30, 30, 30), 100, "u1"), np.diag([-2.0, -2.0, 2.0, 1.0]))
    array = np.zeros((15, 15, 15), "u1")
    array[:5], array[10:] = 1, 2
    labels = Volume.from_numpy(array, np.diag([-4.0, -4.0, 4.0, 1.0]), kind="label")
    at = (-28, -28, 28)
    axial = sections(image, at)[0]
    with opened(image.show(overlay=labels, at=at, window=(0, 200), opacity=0.4)) as browser:
        keep = off_the_cross(axial)

        def colour(of: slice) -> np.ndarray:
            found = shown(browser, axial)
            return np.median(found[:, of][keep[:, of]], axis=0)

        right, left = slice(0, 8), slice(22, 30)  # the patient's right is on the left
        expected = [0.6 * 127.5 + 0.4 * np.array(default_rgba(v)[:3]) for v in (1, 2)]
        np.testing.assert_allclose(colour(right), expected[0], atol=3)
        np.testing.assert_allclose(colour(left), expected[1], atol=3)
        # between two labels lies none: there is no colour but these
        everywhere = shown(browser, axial, finer=4)[8:100].reshape(-1, 3)
        known = np.array([*expected, np.full(3, 127.5)])
        off = np.abs(everywhere[:, None] - known).max(axis=-1).min(axis=1)
        assert (off > 6).mean() < 0.03
        names = browser.value("[...document.querySelectorAll('.names label')].map((l) => l.textContent)")
        assert names == ["all", "label 1", "label 2"]
        browser.value("document.querySelectorAll('.names input')[1].click()")
        browser.settled()
        np.testing.assert_allclose(colour(right), 127.5, atol=3)
        np.testing.assert_allclose(colour(left), expected[1], atol=3)
        browser.value(SLIDE.replace("NAME", "overlay opacity").replace("VALUE", "1"))
        browser.settled()
        np.testing.assert_allclose(colour(left), default_rgba(2)[:3], atol=2)
        assert "overlay: none" in readout(browser)[2]


def test_mouse_and_keys_move_the_point(opened: Open) -> None:
    volume = blocks(AFFINES["RAS"])
    with opened(volume.show(at=(30, 36, 36))) as browser:
        assert readout(browser)[1] == [15, 18, 12]
        # a click on the axial plane: to its left is the patient's right, further up the front
        x, y = middle_of(browser, "axial", 5.5 / 30, 7.5 / 36)
        browser.mouse("mousePressed", x, y, button="left", clickCount=1)
        assert readout(browser)[1] == [24, 28, 12]
        x, y = middle_of(browser, "axial", 6.5 / 30, 9.5 / 36)
        browser.mouse("mouseMoved", x, y, button="left", buttons=1)
        browser.mouse("mouseReleased", x, y, button="left")
        assert readout(browser)[1] == [23, 26, 12]
        browser.mouse("mouseMoved", x + 40, y)
        assert readout(browser)[1] == [23, 26, 12]
        browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=100)
        assert readout(browser)[1] == [23, 26, 11]
        # the canvas has the focus: arrows move within its plane, Page Up and Down change it
        for key, voxel in (
            ("ArrowLeft", [24, 26, 11]), ("ArrowUp", [24, 27, 11]), ("ArrowRight", [23, 27, 11]),
            ("ArrowDown", [23, 26, 11]), ("PageUp", [23, 26, 12]), ("PageDown", [23, 26, 11]),
            ("Home", [15, 18, 12]),
        ):  # fmt: skip
            browser.key(key)
            assert readout(browser)[1] == voxel, key
        # from canvas to canvas and to the sliders by Tab; the sagittal slider runs to the patient's right
        browser.value("document.querySelector('#axial canvas').focus()")
        browser.key("Tab")
        assert browser.value("document.activeElement.getAttribute('aria-label')") == "coronal slice"
        browser.value("document.querySelector('#sagittal input').focus()")
        browser.key("ArrowRight")
        assert readout(browser)[1] == [16, 18, 12]
        box = browser.value("document.querySelector('#sagittal canvas').getAttribute('aria-label')")
        assert "arrow keys" in box


def test_shift_drag_and_sliders_turn_the_window(opened: Open) -> None:
    volume = Volume.from_numpy(np.arange(1000, dtype="i2").reshape(10, 10, 10))
    with opened(volume.show(window=(300, 700))) as browser:

        def outputs() -> list[float]:
            texts = browser.value("[...document.querySelectorAll('output')].map((o) => o.textContent)")
            return [float(v) for v in texts[:2]]

        assert outputs() == [500, 400]
        point = readout(browser)[1]
        x, y = middle_of(browser, "axial", 0.5, 0.5)
        browser.mouse("mousePressed", x, y, button="left", buttons=1, modifiers=8, clickCount=1)
        browser.mouse("mouseMoved", x + 30, y - 20, button="left", buttons=1, modifiers=8)
        browser.mouse("mouseReleased", x + 30, y - 20, button="left", modifiers=8)
        level, width = outputs()
        assert level < 500
        assert width > 400
        assert readout(browser)[1] == point
        browser.value("document.querySelector('#controls button').click()")
        browser.settled()
        assert outputs() == [500, 400]


def test_time_goes_by_a_slider(opened: Open) -> None:
    frames = [blocks(AFFINES["LPS"], seed) for seed in (0, 1)]
    scan = Volume.from_numpy(np.stack([f[...] for f in frames], axis=-1), AFFINES["LPS"], axis4="time")
    axial = sections(frames[0])[0]
    keep = off_the_cross(axial)[1::3, 1::3]
    with opened(scan.show(window=(0, 255))) as browser:
        for t in (0, 1, 0):
            browser.value(SLIDE.replace("NAME", "t").replace("VALUE", str(t)))
            browser.settled()
            off = np.abs(shown(browser, axial)[..., 0] - axial.read(frames[t]))[1::3, 1::3]
            assert off[keep].max() <= 4


def test_a_notebook_s_frame_shows_it_too(tmp_path: Path, opened: Open) -> None:
    volume = blocks(AFFINES["LPS"])
    page = volume.show()
    (tmp_path / "notebook.html").write_text(f"<body>{page._repr_html_()}</body>", encoding="ascii")
    with browsing((tmp_path / "notebook.html").as_uri(), tmp_path / "profile") as browser:
        picture = browser.picture()
        while picture[100:400, 100:300].std() < 40:  # the test's time limit ends this
            picture = browser.picture()
        grey = picture[100:400, 100:300].reshape(-1, 3)
        assert (np.ptp(grey, axis=1) < 3).mean() > 0.9
        # it has no rights here: another origin than the page around it
        assert browser.value(
            "(() => { try { return document.querySelector('iframe').contentWindow.document.title; }"
            "catch { return 'closed'; } })()"
        ) == "closed"  # fmt: skip


def test_an_old_browser_is_told_why(opened: Open, tmp_path: Path) -> None:
    page = Volume.from_numpy(np.zeros((4, 4, 4), "u1")).show()
    page.save(tmp_path / "page.html")
    with browsing("about:blank", tmp_path / "profile") as browser:
        browser.call("Page.addScriptToEvaluateOnNewDocument", source="delete globalThis.DecompressionStream")
        browser.call("Page.navigate", url=(tmp_path / "page.html").as_uri())
        text = browser.until("document.getElementById('readout')?.textContent")
        assert "a browser from 2023 or later" in text


def test_labels_move_with_the_time_points_of_the_image(opened: Open) -> None:
    array = np.zeros((10, 10, 10, 3), "u1")
    for t in range(3):
        array[3 * t : 3 * t + 3, :, :, t] = t + 1
    labels = Volume.from_numpy(array, np.diag([-2.0, -2.0, 2.0, 1.0]), axis4="time", kind="label")
    image = Volume.from_numpy(np.full_like(array, 100), labels.affine, axis4="time")
    at = (-18, -18, 18)
    axial = sections(image.slicer[..., 0], at)[0]
    with opened(image.show(overlay=labels, at=at, window=(0, 200), opacity=1.0)) as browser:
        for t in (0, 2, 1):
            browser.value(SLIDE.replace("NAME", "t").replace("VALUE", str(t)))
            browser.settled()
            found = shown(browser, axial)
            there = np.abs(found - default_rgba(t + 1)[:3]).max(axis=-1) < 4
            # the patient's right, where x of this array begins to run from, is on the left
            expected = t + 1 == labels[:, :, 9, t].T
            keep = off_the_cross(axial)
            np.testing.assert_array_equal(there[keep], expected[keep])
