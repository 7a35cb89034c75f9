"""Page: a report as one HTML file that loads nothing. Every text from a study is escaped by the template."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata, resources
from itertools import groupby
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import pyarrow as pa

from radiobject.show.appearance import short
from radiobject.show.document import policy_of
from radiobject.show.report import curves
from radiobject.show.report.findings import KINDS, Finding, Kind
from radiobject.show.report.gather import StudyFacts, Volumes
from radiobject.show.report.geometry import STRAIGHT, shape_text, spacing_text
from radiobject.show.report.labels import label_rows
from radiobject.show.report.relations import failed_now
from radiobject.show.report.robust import FAR, FEWEST, MOST_USUAL
from radiobject.show.report.subjects import CATEGORIES, summaries

if TYPE_CHECKING:
    from radiobject.show.report import Report

__all__ = ["page"]

_ROWS, _LINES, _VALUES, _LABELS = 50, 200, 12, 64
_PLOTTED = frozenset({"intensity", "clipped", "nonfinite"})
"""Findings that mark a volume's line in the histograms."""

_TONES = {"failed": "problem", "repaired": "odd", "noted": "odd"}


@dataclass(frozen=True)
class Card:
    """Distinct values with counts, the most frequent first; `more` are not listed."""

    title: str
    rows: list[tuple[str, int]]
    more: int


def page(report: Report) -> str:
    """The report as one HTML document."""
    facts, style, script = report.facts, _text("page.css"), _text("page.js")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"thousands": "{:,}".format, "short": short, "moment": _moment}
    template = environment.from_string(_text("page.html"))
    shown = _anchors(report)
    collections = [_collection(report, n, volumes, shown) for n, volumes in enumerate(facts.collections)]
    return template.render(
        facts=facts,
        policy=policy_of(style, script),
        style=style,
        script=script,
        pin=f"{facts.name}@{facts.commit.version}#sha256:{facts.commit.sha256[:12]}",
        tiles=_tiles(report),
        sections=[
            ("findings", "Findings"),
            *((c["anchor"], c["name"]) for c in collections),
            ("subjects", "Subjects"), ("ledger", "Ledger"), ("versions", "Versions"),
            ("rules", "What was looked for"),
        ],
        groups=list(_groups(report.found, shown)),
        few=[c.name for c in facts.collections if 0 < len(c) < FEWEST],
        collections=collections,
        width=curves.WIDTH,
        height=curves.HEIGHT,
        columns=None if facts.obs_meta is None else summaries(facts.obs_meta),
        kinds=KINDS,
        fewest=FEWEST,
        far=FAR,
        usual=MOST_USUAL,
        categories=CATEGORIES,
        made_by=metadata.version("radiobject-zarr"),
        **_ledger(facts),
    )  # fmt: skip


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _moment(created: str) -> str:
    """An ISO time in UTC as people write it, to the minute."""
    return created[:16].replace("T", " ") + " UTC"


def _tiles(report: Report) -> list[tuple[str, str, str, str]]:
    """(number, what, tone, anchor) of the figures at the head of the page."""
    facts = report.facts
    stored = sum(c.stored_bytes for c in facts.collections)
    raw = sum(c.voxel_bytes for c in facts.collections)
    problems, odd = report.count("problem"), report.count("odd")
    size = jinja2.filters.do_filesizeformat
    return [
        (
            f"{problems:,}",
            "problem" if problems == 1 else "problems",
            "problem" if problems else "fine",
            "findings",
        ),
        (f"{odd:,}", "odd", "odd" if odd else "fine", "findings"),
        (f"{len(facts.subjects):,}", "subjects", "", ""),
        (f"{len(facts.collections):,}", "collections", "", ""),
        (f"{facts.n_volumes:,}", "volumes", "", ""),
        (size(stored), f"stored, of {size(raw)} of voxels", "", ""),
    ]


def _anchors(report: Report) -> dict[tuple[str, str], str]:
    """The anchor of each volume on the contact sheets, by collection and id; ids may hold anything."""
    return {
        (volumes.name, volumes.obs_ids[row]): f"c{n}v{row}"
        for n, volumes in enumerate(report.facts.collections)
        for row in report.pictures[volumes.name].rows
    }


def _groups(found: Iterable[Finding], shown: dict[tuple[str, str], str]) -> Iterator[dict[str, Any]]:
    for name, members in groupby(found, key=lambda f: f.kind):
        findings, kind = list(members), KINDS[name]
        rows = [
            {
                "who": f.obs_id
                or f.obs_subject_id
                or ("(the collection)" if f.collection else "(the study)"),
                "collection": f.collection,
                "message": f.message,
                "anchor": f"{anchor}-large" if (anchor := shown.get((f.collection, f.obs_id))) else None,
            }
            for f in findings[:_ROWS]
        ]
        yield {
            "title": kind.title, "severity": kind.severity, "rule": f"rule-{name}", "rows": rows,
            "total": sum(f.volumes for f in findings), "more": len(findings) - len(rows),
        }  # fmt: skip


def _collection(
    report: Report, number: int, volumes: Volumes, shown: dict[tuple[str, str], str]
) -> dict[str, Any]:
    mine = [f for f in report.found if f.collection == volumes.name and f.obs_id]
    labels, known, plot = [], 0, None
    if volumes.kind == "label":
        held = report.labels[volumes.name]
        labels, known = label_rows(volumes, held), int(held.known.sum())
    else:
        marked = {f.obs_id for f in mine if f.kind in _PLOTTED}
        rows = [i for i, obs_id in enumerate(volumes.obs_ids) if obs_id in marked]
        plot = curves.intensity_plot(volumes, rows)
    return {
        "anchor": f"c{number}",
        "name": volumes.name,
        "kind": volumes.kind,
        "backend": volumes.backend,
        "volumes": len(volumes),
        "subjects": len(set(volumes.subjects)),
        "stored": volumes.stored_bytes,
        "raw": volumes.voxel_bytes,
        "cards": _cards(volumes),
        "labels": labels[:_LABELS],
        "more_labels": max(len(labels) - _LABELS, 0),
        "known": known,
        "unread": int(volumes.intensities.unread.sum()),
        "plot": plot,
        "ids": volumes.obs_ids,
        "pictures": _pictures(report, volumes, mine, shown),
    }


def _cards(volumes: Volumes) -> list[Card]:
    found = volumes.geometry
    shapes = (shape_text(s, m) for s, m in zip(found.shape.tolist(), found.more, strict=True))
    tilts = (
        "straight" if t <= STRAIGHT else "oblique" for t in found.obliquity[np.isfinite(found.obliquity)]
    )
    columns: dict[str, Iterable[str]] = {
        "voxels": shapes,
        "spacing, mm": (spacing_text(s) for s in found.spacing.tolist()),
        "axes": found.axcodes,
        "tilt": tilts,
        "dtype": volumes.dtype,
    }
    if set(found.units) != {"mm"}:
        columns["unit of length"] = found.units
    cards = []
    for title, values in columns.items():
        counts = Counter(values).most_common()
        cards.append(Card(title, counts[:_VALUES], max(len(counts) - _VALUES, 0)))
    return cards


def _pictures(
    report: Report, volumes: Volumes, mine: list[Finding], shown: dict[tuple[str, str], str]
) -> list[dict[str, Any]]:
    found, geometry = report.pictures[volumes.name], volumes.geometry
    reasons: dict[str, list[Finding]] = {}
    for finding in mine:
        reasons.setdefault(finding.obs_id, []).append(finding)
    # one more at either end, so that the first and the last have neighbours too
    anchors = [None, *(shown[volumes.name, volumes.obs_ids[row]] for row in found.rows), None]
    return [
        {
            "anchor": anchors[n],
            "previous": anchors[n - 1],
            "next": anchors[n + 1],
            "obs_id": volumes.obs_ids[row],
            "shape": shape_text(geometry.shape[row], geometry.more[row]),
            "spacing": spacing_text(geometry.spacing[row]),
            "jpeg": jpeg and base64.b64encode(jpeg).decode("ascii"),
            "unread": bool(volumes.intensities.unread[row]),
            "reasons": [_reason(f, KINDS[f.kind]) for f in reasons.get(volumes.obs_ids[row], ())],
        }
        for n, (row, jpeg) in enumerate(zip(found.rows, found.jpegs, strict=True), start=1)
    ]


def _reason(finding: Finding, kind: Kind) -> dict[str, str]:
    return {"severity": kind.severity, "title": kind.title, "message": finding.message}


def _ledger(facts: StudyFacts) -> dict[str, Any]:
    """Counts by collection and outcome, and the lines that tell of more than success."""
    rows = facts.ledger.select(["collection", "outcome"])
    counts = Counter(zip(rows["collection"].to_pylist(), rows["outcome"].to_pylist(), strict=True))
    outcomes = [outcome for outcome, _ in Counter(rows["outcome"].to_pylist()).most_common()]
    names = list(dict.fromkeys(rows["collection"].to_pylist()))
    open_failures = failed_now(facts)
    told = [
        i for i, outcome in enumerate(rows["outcome"].to_pylist()) if outcome not in ("ingested", "resumed")
    ]
    told.sort(key=lambda i: not open_failures[i])
    lines = [
        {
            "outcome": line["outcome"],
            "tone": _TONES.get(line["outcome"], ""),
            "collection": line["collection"],
            "who": line["obs_id"] or line["obs_subject_id"],
            "error": line["error"] or "",
            "message": line["message"] or "",
        }
        for line in facts.ledger.take(pa.array(told[:_LINES], pa.int64())).to_pylist()
    ]
    return {
        "outcomes": outcomes,
        "outcome_rows": [(name or "(the study)", [counts[name, o] for o in outcomes]) for name in names],
        "lines": lines,
        "more_lines": len(told) - len(lines),
    }
