"""Relations: what only shows between volumes, subjects, collections and the ledger of one study."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from radiobject.model.partners import PARTNER_COLUMNS
from radiobject.show.report.findings import Finding, told
from radiobject.show.report.gather import StudyFacts, Volumes
from radiobject.show.report.geometry import shape_text
from radiobject.show.report.robust import MOST_USUAL, share

__all__ = ["failed_now", "relation_findings"]

_MAJORITY = 0.5


def relation_findings(facts: StudyFacts) -> list[Finding]:
    """Duplicates, subjects that lack volumes, labels off their images' grids, sources that failed."""
    found = [*_missing(facts), *_duplicates(facts), *_failed(facts)]
    if not facts.is_view:  # which leaves out collections that a subject may have volumes in
        found += _without_volumes(facts)
    images = [c for c in facts.collections if c.kind == "image"]
    for labels in (c for c in facts.collections if c.kind == "label"):
        found += _labels(labels, images)
    return found


def _without_volumes(facts: StudyFacts) -> Iterator[Finding]:
    have = {subject for volumes in facts.collections for subject in volumes.subjects}
    lines = zip(facts.ledger["obs_subject_id"].to_pylist(), failed_now(facts), strict=True)
    failed = {subject for subject, flag in lines if flag}
    without = [subject for subject in facts.subjects if subject not in have]
    for subject in without:
        if subject not in failed:
            yield Finding("no_volumes", "", subject, "", "in no collection")
    if lost := [subject for subject in without if subject in failed]:
        yield Finding("no_volumes", "", "", "", f"{_few(lost)}: their sources failed", len(lost))


def _missing(facts: StudyFacts) -> Iterator[Finding]:
    """Of subjects that have a volume somewhere: where most of the others have one, and they do not."""
    have = {volumes.name: set(volumes.subjects) for volumes in facts.collections}
    anywhere: set[str] = set().union(*have.values())
    for name, subjects in have.items():
        if MOST_USUAL * len(anywhere) <= len(subjects) < len(anywhere):
            covered = share(len(subjects), len(anywhere))
            for subject in (s for s in facts.subjects if s in anywhere and s not in subjects):
                yield Finding("missing", name, subject, "", f"no volume; {covered} subjects have one")


def _duplicates(facts: StudyFacts) -> Iterator[Finding]:
    """Each volume after the first of its content. What has one value only is alike by nature."""
    seen: dict[str, tuple[str, str, str]] = {}
    for volumes in facts.collections:
        low, high = (volumes.intensities.statistics[name] for name in ("min", "max"))
        for i, (digest, flat) in enumerate(zip(volumes.digest, (low == high).tolist(), strict=True)):
            if digest is None or flat:
                continue
            here = (volumes.name, volumes.subjects[i], volumes.obs_ids[i])
            first = seen.setdefault(digest, here)
            if first != here:
                other = "" if first[1] == here[1] else f" of {first[1]}, another subject"
                yield Finding("duplicate", *here, f"the same bytes as {first[2]} in {first[0]}{other}")


def failed_now(facts: StudyFacts) -> list[bool]:
    """For each line of the ledger whether it is a failure that no later line, and no volume, has mended."""
    here = {(volumes.name, obs_id) for volumes in facts.collections for obs_id in volumes.obs_ids}
    keys = list(zip(facts.ledger["collection"].to_pylist(), facts.ledger["obs_id"].to_pylist(), strict=True))
    last = {key: line for line, key in enumerate(keys)}
    outcomes = facts.ledger["outcome"].to_pylist()
    return [
        outcome == "failed" and last[key] == line and key not in here
        for line, (key, outcome) in enumerate(zip(keys, outcomes, strict=True))
    ]


def _failed(facts: StudyFacts) -> Iterator[Finding]:
    lines: dict[str, list[str]] = defaultdict(list)
    collections, ids = (facts.ledger[name].to_pylist() for name in ("collection", "obs_id"))
    for collection, obs_id, failed in zip(collections, ids, failed_now(facts), strict=True):
        if failed:
            lines[collection].append(obs_id)
    for collection, ids_of in lines.items():
        text = f"{_few(ids_of)}: the ledger says why"
        yield Finding("failed", collection, "", "", text, len(ids_of))


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _labels(labels: Volumes, images: list[Volumes]) -> Iterator[Finding]:
    """Label volumes beside each image collection on whose grids most of them lie; that there is none, too."""
    partnered = [(image, found) for image in images if (found := _partners(labels, image))]
    bases = [
        (image, found, off)
        for image, found in partnered
        if (off := _off_grid(labels, image, found)) is not None
    ]
    for image, found, off in bases:
        yield from told("grid", labels.name, labels.obs_ids, labels.subjects, off)
        yield from _alone(labels, image, set(found))
        yield from _alone(image, labels, {i for candidates in found.values() for i in candidates})
    if partnered and not bases:
        names = ", ".join(image.name for image, _ in partnered)
        text = f"most of its volumes lie on no grid of their partners in {names}"
        yield Finding("grid", labels.name, "", "", text, len(labels))


def _partners(ours: Volumes, theirs: Volumes) -> dict[int, list[int]]:
    """Rows of the other collection that may belong to each row: same subject, session, run, time.

    The rule of `model.partners.match`, but several readers' labels of one image, or several images of one
    visit, are no error here.
    """
    tables = (ours.partners, theirs.partners)
    used = [c for c in PARTNER_COLUMNS if all(t[c].null_count < t.num_rows for t in tables)]
    one, other = (zip(*(t[c].to_pylist() for c in ("obs_subject_id", *used)), strict=True) for t in tables)
    places: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for row, key in enumerate(other):
        places[key].append(row)
    return {row: places[key] for row, key in enumerate(one) if key in places}


def _off_grid(labels: Volumes, image: Volumes, partners: dict[int, list[int]]) -> dict[int, str] | None:
    """Why each label volume that lies on no partner's grid does not; None when most do not."""
    one, other = labels.geometry, image.geometry
    ours = np.repeat(list(partners), [len(rows) for rows in partners.values()])
    theirs = np.concatenate(list(partners.values()))
    apart = np.abs(one.corners[ours] - other.corners[theirs]).max(axis=(1, 2))
    resized = (one.shape[ours] != other.shape[theirs]).any(axis=1)
    off = resized | ~(apart <= other.tolerance[theirs])
    fitting = set(ours[~off].tolist())
    if len(fitting) < _MAJORITY * len(partners):
        return None
    messages: dict[int, str] = {}
    for n in np.flatnonzero(off).tolist():
        a, b = int(ours[n]), int(theirs[n])
        if a not in fitting and a not in messages:
            shapes = shape_text(one.shape[a]), shape_text(other.shape[b])
            how = (
                f"{shapes[0]} voxels, {shapes[1]} there" if resized[n] else f"corners {apart[n]:.3g} mm apart"
            )
            messages[a] = f"{how}: {image.obs_ids[b]} in {image.name}"
    return messages


def _alone(volumes: Volumes, others: Volumes, partnered: set[int]) -> list[Finding]:
    """Volumes without a partner, of subjects that have volumes on both sides, where most have one."""
    both = set(others.subjects)
    if len(partnered) < MOST_USUAL * len(volumes):
        return []
    messages = {
        row: f"no volume of the same session and run in {others.name}; "
        f"{share(len(partnered), len(volumes))} have one"
        for row, subject in enumerate(volumes.subjects)
        if row not in partnered and subject in both
    }
    return told("partner", volumes.name, volumes.obs_ids, volumes.subjects, messages)
