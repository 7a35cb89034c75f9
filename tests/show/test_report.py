"""The report of a study: what it reads, what its page holds, and what a hostile study can do to it."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from radiobject import RadiObject, measure
from radiobject.format import catalog
from radiobject.format.changes import CollectionEdit, Edit
from radiobject.format.schema import THUMBNAIL_SCHEMA
from radiobject.format.transaction import Transaction
from radiobject.storage import Storage
from tests.conftest import Place
from tests.show.planted import N, Planted

StudyMaker = Callable[..., RadiObject]


class Page(HTMLParser):
    """Elements with their attributes, the texts of style and script, and all text that is shown."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, str] = {}
        self.text = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in ("style", "script"):
            self.raw[self._inside] = self.raw.get(self._inside, "") + data
        else:
            self.text += data

    def values(self, name: str) -> list[str]:
        return [v for _, attributes in self.elements if (v := attributes.get(name)) is not None]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> RadiObject:
    """Sixteen subjects, of whom the third's image is constant and the fifth's label lies elsewhere."""
    planted = Planted()
    planted.images[2] = (np.zeros_like(planted.images[2][0]), planted.images[2][1])
    planted.labels[4] = (planted.labels[4][0], planted.labels[4][1] @ np.diag([-1.0, 1, 1, 1]))
    return planted.write(tmp_path_factory.mktemp("odd") / "study")


def test_tables_are_read_once_and_nothing_below_the_collections(
    odd: RadiObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = Storage._call

    def call(self: Storage, operation: str, key: str, *rest: object) -> object:
        asked.append(key)
        return real(self, operation, key, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Storage, "_call", call)
    catalog._snapshots.clear()
    with measure() as m:
        assert len(RadiObject(odd.uri).report().html) > 10_000
    assert m["volumes_opened"] == m["chunks_decoded"] == m["bytes_used"] == 0
    assert asked
    assert not [key for key in asked if key.startswith("collections")]
    reads = {k.removeprefix("table_reads:"): n for k, n in m.counts.items() if k.startswith("table_reads:")}
    # of thumbnails the ids, then the pictures that are shown
    assert reads == {
        "obs_meta": 1, "ledger": 1, "T1w/obs": 1, "seg/obs": 1, "T1w/thumbnails": 2, "seg/thumbnails": 2
    }  # fmt: skip


def test_every_backend_s_tables_say_enough(backend: Place) -> None:
    planted = Planted()
    planted.images[2] = (np.zeros_like(planted.images[2][0]), planted.images[2][1])
    radi = planted.write(backend.uri(), backend=backend.backend)
    with measure() as m:
        report = radi.report()
    assert m["volumes_opened"] == m["bytes_used"] == 0
    assert list(report.findings["obs_id"]) == ["sub-03_T1w"]
    assert report.html.count("<img") == 2 * N


def test_the_page_loads_nothing_and_runs_its_own_script_only(odd: RadiObject) -> None:
    page = Page(odd.report().html)
    tags = Counter(tag for tag, _ in page.elements)
    assert (tags["script"], tags["style"], tags["link"], tags["iframe"]) == (1, 1, 0, 0)
    assert all(v.startswith("data:image/jpeg;base64,") for v in page.values("src"))
    assert all(v.startswith("#") for v in page.values("href"))
    names = {name for _, attributes in page.elements for name in attributes}
    assert not [n for n in names if n.startswith("on") or n in ("style", "action", "srcset", "background")]
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for kind, text in page.raw.items():
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
        assert not re.search(r"url\(|@import|https?:", text)


def test_every_link_leads_to_an_anchor_of_its_own(odd: RadiObject) -> None:
    page = Page(odd.report().html)
    anchors = page.values("id")
    assert len(set(anchors)) == len(anchors)
    assert {v[1:] for v in page.values("href")} <= set(anchors)


def test_pictures_and_tables_tell_what_they_are_without_being_seen(odd: RadiObject) -> None:
    page = Page(odd.report().html)
    pictures = [a for tag, a in page.elements if tag == "img"]
    assert len(pictures) == 2 * N
    assert {a["alt"] for a in pictures} >= {"axial, coronal and sagittal plane of sub-01_T1w"}
    assert all("scope" in a for tag, a in page.elements if tag == "th")
    drawings = [a for tag, a in page.elements if tag == "svg"]
    assert all("aria-label" in a or a.get("aria-hidden") == "true" for a in drawings)


def test_findings_are_told_with_reason_rule_and_picture(odd: RadiObject) -> None:
    report = odd.report()
    assert list(report.findings["severity"]) == ["problem", "problem", "odd"]
    assert list(report.findings["kind"]) == ["constant", "grid", "axcodes"]
    page = Page(report.html)
    for text in ("every voxel is 0", "sub-03_T1w", "All voxels have one value.", "LAS; 15 of 16 have RAS"):
        assert text in page.text
    flagged = [a["id"] for tag, a in page.elements if tag == "li" and a.get("class") == "flagged"]
    assert flagged == ["c0v2", "c1v4"]
    assert "#c0v2-large" in page.values("href")


def test_facts_of_the_study_are_on_the_page(odd: RadiObject) -> None:
    text = Page(odd.report().html).text
    for fact in ("16 subjects", "2 collections", "32 volumes", "14 x 16 x 12", "3 x 3 x 4", "int16", "uint8",
                 "grey matter", "white matter", "16 of 16", "30 to 45, median 37.5", "ingested"):  # fmt: skip
        assert fact in re.sub(r"\s+", " ", text), fact


def test_the_page_tells_no_folder(odd: RadiObject) -> None:
    html = odd.report().html
    assert str(Path(str(odd.uri)).parent) not in html
    assert "study@1#sha256:" in html


def test_obs_meta_is_left_out_where_asked(odd: RadiObject) -> None:
    assert "median 37.5" in odd.report().html
    assert "median 37.5" not in odd.report(obs_meta=False).html


def test_a_view_s_report_is_about_the_view(odd: RadiObject) -> None:
    part = odd.loc[["sub-01", "sub-03"]].select_collections(["T1w"]).report()
    assert [c.name for c in part.facts.collections] == ["T1w"]
    assert part.facts.ledger.num_rows == 2
    assert list(part.findings["obs_id"]) == ["sub-03_T1w"]
    assert "sub-05" not in part.html


def test_a_report_of_an_old_version_knows_nothing_later(study: StudyMaker) -> None:
    radi = study()
    radi.delete(obs_ids="sub-01_seg", message="a bad one")
    assert "a bad one" in radi.report().html
    old = RadiObject(radi.uri, version=1).report()
    assert "a bad one" not in old.html
    assert old.facts.n_volumes == 6


HOSTILE = "\"><script>alert('1')</script>&lt;b onload=x&#39; `{{7*7}}`"


def test_texts_of_a_study_are_shown_and_never_obeyed(study: StudyMaker) -> None:
    def hostile(what: str) -> str:
        return f"{what}{HOSTILE}"

    rng = np.random.default_rng(0)
    subjects = [hostile(f"subject {i}") for i in range(8)]
    meta = pd.DataFrame({"obs_subject_id": subjects, hostile("column"): [hostile("value")] * 8})
    images = {
        hostile("images"): {s: rng.integers(0, 99, (5, 6, 7)).astype("i2") for s in subjects},
        hostile("labels"): {s: rng.integers(0, 2, (5, 6, 7)).astype("u1") for s in subjects[:7]},
    }
    labels = {hostile("labels"): {1: hostile("name")}}
    images[hostile("images")][subjects[0]][:] = 0
    report = study(images, meta, labels=labels, message=hostile("message")).report()
    assert set(report.findings["kind"]) == {"constant", "missing"}
    page = Page(report.html)
    assert Counter(tag for tag, _ in page.elements)["script"] == 1
    assert not [n for _, attributes in page.elements for n in attributes if n.startswith("on")]
    for what in ("subject 0", "column", "value", "images", "labels", "name", "message"):
        assert hostile(what) in page.text
    inside = Page(report._repr_html_())  # attributes are unescaped by the parser
    assert [tag for tag, _ in inside.elements] == ["iframe"]
    assert inside.elements[0][1]["srcdoc"] == report.html
    assert inside.elements[0][1]["sandbox"] == "allow-scripts"


def test_the_number_of_pictures_is_bounded_and_odd_volumes_come_first(odd: RadiObject) -> None:
    report = odd.report(thumbnails=7)
    assert {name: len(p.rows) for name, p in report.pictures.items()} == {"T1w": 3, "seg": 4}
    assert report.pictures["T1w"].rows == [2, 0, 15]
    assert sum(tag == "img" for tag, _ in Page(report.html).elements) == 7
    assert "3 of 16 volumes" in report.html
    assert "<img" not in odd.report(thumbnails=0).html


def with_rows(radi: RadiObject, **columns: pa.Array) -> RadiObject:
    """The study with a collection `other`: the rows of T1w with other columns, and no thumbnails."""
    entry, rows = radi._study.entry("T1w"), radi._study.obs("T1w").read()
    for name, values in columns.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), values.cast(rows.schema.field(place).type))
    edit = Edit({"other": CollectionEdit(entry.kind, entry.backend, create=True, added={"obs": rows})})
    Transaction(radi._study.snapshot.storage, radi._study.snapshot, "test").commit(edit)
    return RadiObject(radi.uri)


def test_volumes_without_thumbnails_have_a_place_for_one(study: StudyMaker) -> None:
    report = with_rows(study(), obs_id=pa.array(["a", "b", "c"])).report()
    assert report.pictures["other"].jpegs == [None] * 3
    assert report.html.count("no picture") == 3


def test_an_affine_that_is_none_is_a_finding_and_no_error(study: StudyMaker) -> None:
    affines = pa.array([np.eye(4).ravel().tolist(), [0.0] * 16, None], pa.list_(pa.float64(), 16))
    report = with_rows(study(), obs_id=pa.array(["a", "b", "c"]), affine=affines).report()
    found = report.findings[report.findings["kind"] == "affine"]
    assert list(found["obs_id"]) == ["b", "c"]
    assert "reading it will fail" in report.html


def test_a_thousand_volumes_make_a_page_of_less_than_ten_megabytes(tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
    try:
        from subjects import write_subjects
    finally:
        sys.path.pop(0)
    radi = write_subjects(tmp_path / "study", 1000, ("T1w",))
    # a picture as large as they come, for every volume that has none yet
    jpeg = np.random.default_rng(0).bytes(12_000)
    rows = radi._study.obs("T1w").read(["obs_subject_id", "obs_id"]).slice(1)
    pictures = rows.append_column("jpeg", pa.array([jpeg] * 999, pa.binary())).cast(THUMBNAIL_SCHEMA)
    entry = radi._study.entry("T1w")
    edit = Edit({"T1w": CollectionEdit(entry.kind, entry.backend, added={"thumbnails": pictures})})
    Transaction(radi._study.snapshot.storage, radi._study.snapshot, "test").commit(edit)
    html = RadiObject(radi.uri).report().html
    assert html.count("<img") == 400
    assert len(html) < 10_000_000


def test_empty_studies_and_collections_have_a_page(study: StudyMaker) -> None:
    radi = study()
    radi.delete(obs_ids=radi.seg.obs_ids)
    report = radi.report()
    assert [(c.name, len(c)) for c in report.facts.collections] == [("T1w", 3), ("seg", 0)]
    assert "image, 3 volumes" in re.sub(r"\s+", " ", report.html)
    nobody = radi.iloc[:0].report()
    assert nobody.facts.n_volumes == len(nobody.findings) == 0
    assert "Nothing stands out" in nobody.html


def test_a_report_is_written_whole_or_not_at_all(odd: RadiObject, tmp_path: Path) -> None:
    report = odd.report(tmp_path / "deep" / "page.html")
    assert (tmp_path / "deep" / "page.html").read_text(encoding="utf-8") == report.html
    assert repr(report) == "<Report of study: 32 volumes, 2 problems, 1 odd>"


def test_equal_studies_have_equal_pages(odd: RadiObject) -> None:
    assert odd.report().html == RadiObject(odd.uri).report().html
