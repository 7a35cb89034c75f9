"""`vol.show()`: one document, small, closed to the outside, and honest about what is in it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject, Volume, WriteConfig, measure
from radiobject.errors import CapabilityError, ConfigError, IndexingError
from radiobject.format.meta import Label
from radiobject.show.interactive import MAX_BYTES, Page
from radiobject.show.packing import unpacked

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'é<!--"


def data_of(page: Page) -> dict[str, Any]:
    """What the page carries, as its script reads it."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.html, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def codes_of(data: dict[str, Any], layer: int = 0) -> np.ndarray:
    packed = base64.b64decode(data["layers"][layer]["data"])
    frames = 2 if data["layers"][layer].get("wide") else data.get("frames", 1)
    return unpacked(packed, (frames, *data["shape"][::-1]))


def test_a_small_volume_is_in_the_page_voxel_by_voxel() -> None:
    array = np.random.default_rng(0).integers(0, 256, (9, 8, 7), "u1")
    volume = Volume.from_numpy(
        array, np.array([[0, 0, 2.0, 5], [-3, 0, 0, 7], [0, 1.5, 0, -9], [0, 0, 0, 1]])
    )
    data = data_of(volume.show())
    # x, y, z of the page run to L, P, I
    turned = volume.reorient("LPI")
    np.testing.assert_array_equal(codes_of(data)[0], turned[...].T)
    np.testing.assert_allclose(data["affine"], turned.affine)
    np.testing.assert_allclose(
        np.array(data["toVoxel"]) @ data["affine"], np.linalg.solve(volume.affine, turned.affine)
    )
    assert data["letters"]["coronal"] == ["R", "L", "S", "I"]
    assert data["layers"][0]["exact"]
    assert any("Every voxel" in note for note in data["notes"])


def test_a_page_asks_nobody_for_anything() -> None:
    page = Volume.from_numpy(np.zeros((4, 4, 4), "i2")).show()
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page.html)[1])
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, source in (("script", "script-src"), ("style", "style-src")):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", page.html, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{source} 'sha256-{digest}'" in policy
    assert not re.findall(r"https?:|//[a-z]+\.|url\(|@import|import\(|fetch\(|XMLHttp|\bsrc=", page.html)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)


def test_hostile_names_stay_text() -> None:
    array = np.ones((3, 3, 3), "u1")
    calm = Volume.from_numpy(array, kind="label")
    hostile = Volume._of(calm._handle, calm.meta, obs_id=HOSTILE)
    hostile._meta = type(calm.meta)(**{**vars(calm.meta), "labels": (Label(1, HOSTILE),)})
    page, plain = hostile.show(overlay=hostile), calm.show(overlay=calm)
    tags, expected = Tags(), Tags()
    tags.feed(page.html)
    expected.feed(plain.html)
    assert tags.seen == expected.seen
    data = data_of(page)
    assert data["title"] == HOSTILE
    assert data["layers"][1]["labels"][1]["name"] == HOSTILE
    frame = Tags()
    frame.feed(page._repr_html_())
    assert frame.seen == ["iframe"]


def test_a_notebook_gets_a_closed_frame_in_ascii() -> None:
    page = Volume.from_numpy(np.zeros((4, 4, 4), "i2")).show(title="Schädel")
    text = page._repr_html_()
    assert text.isascii()
    assert 'sandbox="allow-scripts"' in text
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', text)[1]) == page.html


def test_it_is_saved_as_utf8(tmp_path: Path) -> None:
    page = Volume.from_numpy(np.zeros((4, 4, 4), "i2")).show(title="Schädel")
    page.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes().decode("utf-8") == page.html
    assert repr(page) == "Page(title='Schädel')"


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> RadiObject:
    """512 x 512 x 300 voxels of 16 bits as noisy as a CT's, and labels for them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    body = (x**2 / 0.7 + y**2 / 0.5) < 1
    slab = rng.integers(-15, 16, (512, 512, 8), "i2") + np.where(body, 40, -1000)[..., None].astype("i2")
    slab[200:260, 200:260] += 900
    array = np.concatenate([np.roll(slab, 3 * k, axis=1) for k in range(38)], axis=2)[:, :, :300]
    labels = (array > 500).astype("u1")
    affine = np.diag([-0.7, -0.7, 1.0, 1.0])
    return RadiObject.from_niftis(
        tmp_path_factory.mktemp("ct") / "study",
        {"CT": [((array, affine), "s")], "seg": [((labels, affine), "s")]},
        labels={"seg": {1: "bone"}},
        write=WriteConfig(pyramid="none"),
    )


def test_a_large_volume_fits_and_takes_bounded_memory(ct: RadiObject) -> None:
    code = f"""
import resource
from radiobject import RadiObject
radi = RadiObject({ct.uri!r})
volume, labels = radi.CT.iloc[0], radi.seg.iloc[0]
volume.slicer[:64, :64, :64].show(overlay=labels)  # what is loaded once is no cost of a page
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
page = volume.show(overlay=labels)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(page.html.encode()), (after - before) * 1024)
"""
    size, grown = map(int, subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert 0.5 * MAX_BYTES < size <= MAX_BYTES
    assert grown < 1.5 * np.prod(ct.CT.shape) * 2  # the volume is 157 MB and was never there as a whole


def test_the_page_says_what_became_of_the_voxels(ct: RadiObject) -> None:
    data = data_of(ct.CT.iloc[0].show())
    assert any("values from" in note and "in steps of" in note for note in data["notes"])
    assert any(f"In this page: {data['shape'][0]} x" in note for note in data["notes"])
    low, high = data["layers"][0]["low"], data["layers"][0]["high"]
    row = ct.CT.iloc[0].metadata
    assert (low, high) == (row["intensity_p0_5"], row["intensity_p99_5"])
    # asked for a window, it keeps that and as much again around it
    brain = data_of(ct.CT.iloc[0].slicer[:50].show(window=(0, 80)))["layers"][0]
    assert (brain["low"], brain["high"], brain["window"]) == (-40, 215, [0, 80])


def test_pyramids_are_read_instead_of_all_voxels(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 4000, (256, 256, 256), "i2")
    radi = RadiObject.from_niftis(
        tmp_path / "study", {"CT": [((array, np.eye(4)), "s")]}, write=WriteConfig(pyramid=2)
    )
    volume = radi.CT.iloc[0]
    with measure() as counts:
        page = volume.show()
    assert data_of(page)["shape"][0] < 128
    # the first try is at 215 voxels a side, to which noise does not compress; then the level of 128 is read
    assert counts["bytes_used"] < 2.5 * array.nbytes
    assert len(page.html.encode()) <= MAX_BYTES


def test_all_time_points_are_there_if_they_fit(nibabel_data: Path) -> None:
    scan = Volume.from_nifti(nibabel_data / "example4d.nii.gz", axis4="time")
    data = {**data_of(scan.show()), "frames": 2}
    codes, low, width = (
        codes_of(data),
        data["layers"][0]["low"],
        data["layers"][0]["high"] - data["layers"][0]["low"],
    )
    shown = low + codes / 255 * width
    for t in range(2):
        wanted = np.clip(scan.slicer[..., t].reorient("LPI")[...].T, low, low + width)
        np.testing.assert_allclose(shown[t], wanted, atol=width / 500)
    assert "2 time points" in data["facts"]
    one = data_of(scan.show(t=1))
    np.testing.assert_array_equal(codes_of(one)[0], codes[1])
    assert "t 1 of 2" in one["facts"]
    noise = np.random.default_rng(0).integers(0, 900, (40, 40, 40, 120), "i2")
    many = data_of(Volume.from_numpy(noise, axis4="time").show())
    assert len(many["layers"][0]["data"]) > 0
    assert any("time point 0 alone" in fact for fact in many["facts"])
    assert many["shape"] == [40, 40, 40]


def test_labels_lie_on_the_grid_of_the_image() -> None:
    image = Volume.from_numpy(np.zeros((10, 10, 10), "u1"), np.diag([2.0, 2.0, 2.0, 1.0]))
    array = np.zeros((5, 5, 5), "i4")
    array[3:, 0, 4] = 100_000
    labels = Volume.from_numpy(array, np.diag([4.0, 4.0, 4.0, 1.0]), kind="label")
    data = data_of(image.show(overlay=labels))
    codes = codes_of(data, 1)[0]
    expected = labels.resample(like=image.reorient("LPI"))[...].T
    names = data["layers"][1]["labels"]
    np.testing.assert_array_equal(np.array([label["value"] for label in names])[codes], expected)
    assert names[1]["name"] == "label 100000"


def test_three_hundred_labels_are_told_apart() -> None:
    array = np.arange(7 * 7 * 7, dtype="i2").reshape(7, 7, 7)
    data = data_of(Volume.from_numpy(array, np.diag([-1.0, -1, -1, 1]), kind="label").show())
    low, high = codes_of(data)
    np.testing.assert_array_equal(low + 256 * high.astype(int), array.T)
    assert len(data["layers"][0]["labels"]) == 343


def test_what_cannot_be_shown_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = Volume.from_numpy(np.ones((4, 4, 4), "u1"))
    with pytest.raises(ConfigError, match="opacity="):
        volume.show(opacity=2)
    with pytest.raises(ConfigError, match="window="):
        volume.show(window=(5, 5))
    with pytest.raises(IndexingError, match="at= of"):
        volume.show(at=(90, 0, 0))
    monkeypatch.setattr("radiobject.show.interactive.MAX_BYTES", 22_000)
    with pytest.raises(CapabilityError, match="names of labels"):
        volume.show(title="x" * 30_000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e300, 0.0])
def test_constant_and_strange_voxels_are_shown(value: float) -> None:
    array = np.full((3, 4, 1), value)
    array[0, 0, 0] = np.nan
    data = data_of(Volume.from_numpy(array).show())
    assert codes_of(data).shape == (1, 1, 4, 3)
