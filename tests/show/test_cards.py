"""What notebooks show of volumes, collections and studies: stored pictures and facts, and not one voxel."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from radiobject import RadiObject, Volume, measure
from radiobject.format.schema import THUMBNAIL_SCHEMA
from radiobject.format.tables import Table, write_part
from radiobject.location import Location
from radiobject.storage import Storage

HOSTILE = "\"><img src=x onerror=alert(1)>&'é"


class Page(HTMLParser):
    """Tags and pictures of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def pictures(self) -> list[bytes]:
        found = [attrs["src"] for tag, attrs in self.tags if tag == "img"]
        assert all(source.startswith("data:image/jpeg;base64,") for source in found)
        return [base64.b64decode(source.partition(",")[2]) for source in found]


def stored(radi: RadiObject, collection: str) -> dict[str, bytes]:
    rows = radi._study.snapshot.table("thumbnails", collection).read().to_pylist()
    return {row["obs_id"]: row["jpeg"] for row in rows}


def test_a_volume_shows_its_thumbnail_and_facts(study: Any) -> None:
    radi = study()
    volume = radi.T1w.loc["sub-01_T1w"]
    with measure() as counts:
        page = Page(volume._repr_html_())
    assert counts["chunks_decoded"] == counts["volumes_opened"] == counts["bytes_used"] == 0
    assert page.pictures == [stored(radi, "T1w")["sub-01_T1w"]]
    for fact in ("sub-01_T1w", "6 x 5 x 4 (x, y, z)", "1 x 1 x 1 mm", "RAS", "image, int16"):
        assert fact in page.text


def test_what_is_not_the_whole_stored_volume_has_no_picture(study: Any) -> None:
    volume = study().T1w.iloc[0]
    for other in (
        volume.slicer[1:],
        volume.resample(spacing=2),
        Volume.from_numpy(np.zeros((2, 3, 4), "u1")),
    ):
        page = Page(other._repr_html_())
        assert page.pictures == []
        assert " x ".join(map(str, other.shape)) in page.text
    assert len(Page(volume.reorient("LPS")._repr_html_()).pictures) == 1


def test_scaled_time_and_labels_are_told(study: Any) -> None:
    labels = {n: f"organ {n}" for n in range(1, 12)}
    radi = study({"seg": {"s": np.ones((3, 3, 3), "u1")}}, labels={"seg": labels})
    text = Page(radi.seg.iloc[0]._repr_html_()).text
    assert "label, uint8" in text
    assert "organ 1, organ 2" in text
    assert "and 3 more" in text
    moving = Volume.from_numpy(np.zeros((3, 3, 3, 5), "i2"), axis4="time", time_step=2.5)
    assert "2.5 s" in moving._repr_html_()


def test_a_collection_is_a_contact_sheet_by_one_read(study: Any) -> None:
    arrays = {f"s{i:02d}": np.full((4, 4 + i // 10, 4), i + 1, "i2") for i in range(20)}
    radi = study({"T1w": arrays})
    with measure() as counts:
        page = Page(radi.T1w._repr_html_())
    assert counts["chunks_decoded"] == counts["volumes_opened"] == 0
    # the ids that the filter compares, and the pictures
    assert counts["table_reads:T1w/thumbnails"] == 2
    pictures = stored(radi, "T1w")
    assert page.pictures == [pictures[i] for i in radi.T1w.obs_ids[:12]]
    assert "and 8 more" in page.text
    assert "20 image volumes of 20 subjects" in page.text
    assert page.text.index("4 x 4 x 4") < page.text.index("4 x 5 x 4")
    view = Page(radi.T1w.iloc[[3, 19]]._repr_html_())
    assert view.pictures == [pictures[i] for i in ("s03_T1w", "s19_T1w")]
    assert "a view of T1w: 2 image volumes" in view.text
    assert Page(radi.T1w.iloc[[]]._repr_html_()).pictures == []


def test_a_study_shows_a_few_of_each_collection(study: Any) -> None:
    radi = study()
    with measure() as counts:
        page = Page(radi._repr_html_())
    assert counts["chunks_decoded"] == counts["volumes_opened"] == 0
    pictures = {**stored(radi, "T1w"), **stored(radi, "seg")}
    assert page.pictures == [pictures[i] for i in radi.all_obs_ids]
    assert f"{Path(radi.uri).name}, version 1: 3 subjects" in page.text
    assert str(Path(radi.uri).parent) not in page.text  # a notebook that others see
    one = Page(radi["sub-01"]._repr_html_())
    assert "a view of" in one.text
    assert one.pictures == [pictures["sub-01_T1w"], pictures["sub-01_seg"]]
    with radi.transaction("later") as change:
        assert len(Page(change._repr_html_()).pictures) == 6


def test_hostile_names_stay_text(study: Any) -> None:
    calm = study({"T1w": {"s": np.ones((3, 3, 3), "i2")}})
    radi = study({"T1w": {HOSTILE: np.ones((3, 3, 3), "i2")}}, labels=None)
    pairs = [(radi, calm), (radi.T1w, calm.T1w), (radi.T1w.iloc[0], calm.T1w.iloc[0])]
    for hostile, expected in pairs:
        page, plain = Page(hostile._repr_html_()), Page(expected._repr_html_())
        assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
        assert all(not name.startswith("on") for _, attrs in page.tags for name in attrs)
    named = study({"seg": {"s": np.ones((3, 3, 3), "u1")}}, labels={"seg": {1: HOSTILE}}).seg.iloc[0]
    assert HOSTILE in Page(named._repr_html_()).text


def test_one_thumbnail_of_thousands_is_little_to_read(tmp_path: Any) -> None:
    storage, n = Storage(Location(str(tmp_path))), 4000
    ids = [f"v{i:05d}" for i in range(n)]
    jpegs = list(map(bytes, np.random.default_rng(0).integers(0, 256, (n, 3000), "u1")))
    part = write_part(storage, "T1w/thumbnails", pa.table([ids, ids, jpegs], schema=THUMBNAIL_SCHEMA))
    table = Table(storage, "T1w/thumbnails", [part], THUMBNAIL_SCHEMA)
    with measure() as counts:
        found = table.read(["jpeg"], filter=pc.field("obs_id") == "v03333")
    assert found["jpeg"].to_pylist() == [jpegs[3333]]
    assert counts["bytes_read"] < part.bytes / 20


def test_every_backend_has_cards(backend: Any) -> None:
    source = {"T1w": [((np.ones((3, 3, 3), "i2"), np.eye(4)), "s")]}
    radi = RadiObject.from_niftis(backend.uri(), source, backend=backend.backend)
    assert len(Page(radi.T1w.iloc[0]._repr_html_()).pictures) == 1
