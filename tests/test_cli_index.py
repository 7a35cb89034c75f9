"""`radiobject index`: label volumes of older studies get what training wants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject, WriteConfig
from tests.command import Outcome


@pytest.fixture
def uri(tmp_path: Path) -> str:
    mask = np.zeros((6, 5, 4), "u1")
    mask[2:4] = 1
    images = {"CT": [((mask, None), "a")], "seg": [((mask, None), "a"), ((mask, None), "b")]}
    plain = WriteConfig(foreground_index=False)
    place = str(tmp_path / "study")
    RadiObject.from_niftis(place, images, labels=["seg"], write=plain, progress=False)
    return place


def indexes(uri: str) -> set[Path]:
    return set((Path(uri) / "indexes").rglob("*.fg"))


def test_what_has_no_index_gets_one(cli: Callable[..., Outcome], uri: str) -> None:
    done = cli("index", uri)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{uri}: seg indexed, version 1 to 2\n"
    assert len(first := indexes(uri)) == 2
    assert cli("index", uri).out == f"{uri}: nothing to do for seg, version 2 stays\n"
    again = cli("index", uri, "--rebuild", "--collection", "seg", "--message", "damaged", "--json")
    assert again.json() == {"uri": uri, "version": 3, "collections": ["seg"], "from": 2}
    assert len(indexes(uri) - first) == 2
    assert RadiObject(uri).versions()[-1]["message"] == "damaged"


def test_collections_of_images_are_refused(cli: Callable[..., Outcome], uri: str) -> None:
    done = cli("index", uri, "--collection", "CT")
    assert done.code == 1
    assert "index_foreground('CT')" in done.err


def test_a_study_without_labels_says_so(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    mask = np.zeros((6, 5, 4), "u1")
    RadiObject.from_niftis(tmp_path / "s", {"CT": [((mask, None), "a")]}, progress=False)
    assert "no collection of labels" in cli("index", tmp_path / "s").out
