"""`plot`, `show` and `plot_subject` at their limits: odd sizes, several time points, wrong arguments."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from typing import Any

import numpy as np
import pytest

from radiobject import Volume
from radiobject.errors import ConfigError, GeometryError, IndexingError, SelectionError
from radiobject.show.figure import round_length
from tests.show.test_page import codes_of, data_of

LENGTHS = [*(float(np.nextafter(v, 0)) for v in (0.001, 0.1, 1, 10, 100, 1000)), 1e-3, 0.3, 1.0, 70.0, 99.9]


@pytest.mark.parametrize("most", LENGTHS)
def test_the_scale_bar_is_a_round_length_that_fits(most: float) -> None:
    length = round_length(most)
    assert most / 2.5 < length <= most
    assert f"{length:.0e}"[0] in "125"


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_page_has_the_same_round_lengths() -> None:
    script = (files("radiobject.show") / "page" / "page.js").read_text(encoding="utf-8")
    start = script.index("function roundLength")
    function = script[start : script.index("\n}", start) + 2]
    code = f"{function} console.log(JSON.stringify({json.dumps(LENGTHS)}.map(roundLength)))"
    found = json.loads(subprocess.check_output(["node", "-e", code], text=True))
    np.testing.assert_allclose(found, [round_length(most) for most in LENGTHS], rtol=1e-12)


def test_a_volume_just_below_a_round_width_is_drawn() -> None:
    volume = Volume.from_numpy(np.zeros((300, 4, 4), "u1"), np.diag([np.nextafter(300, 0) / 300, 1, 1, 1]))
    assert volume.plot().axes[0].texts[-1].get_text() == "50 mm"


@pytest.mark.parametrize("planes", ["scan", "world"])
def test_a_needle_is_drawn_at_a_lower_scale(planes: Any) -> None:
    needle = Volume.from_numpy(np.zeros((20, 20, 20), "u1"), np.diag([1e-3, 1e-3, 1e3, 1]))
    figure = needle.plot(planes=planes)
    figure.draw_without_rendering()
    assert figure.get_figheight() < 22
    scales = [a.transData.transform([(1, 1)]) - a.transData.transform([(0, 0)]) for a in figure.axes]
    np.testing.assert_allclose(np.abs(scales), abs(scales[0][0, 0]), rtol=1e-3)


def test_a_subject_with_forty_volumes_is_no_image_too_large(study: Any) -> None:
    tall = (np.zeros((4, 4, 40), "u1"), np.eye(4))
    figure = study({"a": {"s": [tall] * 40}}).plot_subject("s")
    assert figure.get_figheight() * figure.dpi < 2**16
    assert len(figure.axes) == 120


def moving(n: int, kind: Any = "image") -> Volume:
    """Voxel values say the time point, from 1 on."""
    array = np.zeros((6, 5, 4, n), "u1") + np.arange(1, n + 1, dtype="u1")
    return Volume.from_numpy(array, axis4="time", kind=kind)


@pytest.mark.parametrize("kind", ["image", "label"])
def test_an_overlay_moves_with_the_image(kind: Any) -> None:
    image, overlay = moving(5), moving(5, kind)
    data = {**data_of(image.show(overlay=overlay)), "frames": 5}
    shown, labels = codes_of(data, 1), data["layers"][1].get("labels")
    if labels is not None:
        shown = np.array([label["value"] for label in labels])[shown]
    assert [np.unique(frame).tolist() for frame in shown] == [[t] for t in range(1, 6)]
    assert not any("overlay" in fact for fact in data["facts"])
    fixed = data_of(image.show(overlay=overlay, t=3))
    assert len(np.unique(codes_of(fixed, 1))) == 1


def test_an_overlay_of_other_time_points_is_at_its_first_and_that_is_said() -> None:
    for image in (moving(6), Volume.from_numpy(np.zeros((6, 5, 4), "u1"))):
        t = 5 if "t" in image.axes else None
        overlay = moving(2, "label")
        page = data_of(image.show(overlay=overlay, t=t))
        labels = page["layers"][1]["labels"]
        assert {labels[code]["value"] for code in np.unique(codes_of(page, 1))} == {1}
        assert "overlay: t 0 of 2" in page["facts"]
        figure = image.plot(overlay=overlay, t=t)
        assert any("overlay: t 0 of 2" in text.get_text() for text in figure.texts)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["label 1"]


def test_wrong_arguments_are_refused_by_name() -> None:
    image = Volume.from_numpy(np.ones((4, 4, 4), "u1"))
    labels = Volume.from_numpy(np.ones((4, 4, 4), "u1"), kind="label")
    for draw in (image.plot, image.show):
        with pytest.raises(SelectionError, match="overlay=: expected a Volume"):
            draw(overlay=np.ones((4, 4, 4)))
        for opacity in ("a", None, np.nan, -0.1):
            with pytest.raises(ConfigError, match="opacity="):
                draw(opacity=opacity)
        with pytest.raises(ConfigError, match="title="):
            draw(title=5)
        with pytest.raises(IndexingError, match="at= of"):
            draw(at=(np.inf, 0, 0))
    for draw in (labels.plot, labels.show):
        with pytest.raises(ConfigError, match="label volume"):
            draw(window=(0, 1))


def test_a_subject_s_point_and_opacity_are_checked(study: Any) -> None:
    radi = study()
    for at in ("abc", (1, 2), (1, 2, "x"), 5):
        with pytest.raises(GeometryError, match="at="):
            radi.plot_subject("sub-01", at=at)
    with pytest.raises(ConfigError, match="opacity="):
        radi.plot_subject("sub-01", opacity="a")
