"""MSD: a study as a folder of the Medical Segmentation Decathlon: images, label maps, dataset.json."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from radiobject.errors import AlignmentError, ConfigError, MetadataError
from radiobject.executor import Executor, Progress
from radiobject.export.folders import each, empty_folder, write_json
from radiobject.export.nifti import NiftiContent, nifti_bytes, write_nifti
from radiobject.format.layout import to_disk
from radiobject.format.meta import SourceInfo, VolumeMeta
from radiobject.model.partners import GRID_COLUMNS, corners_apart, tolerance

if TYPE_CHECKING:
    from radiobject.model.view import StudyView

__all__ = ["export_msd"]


@dataclass(frozen=True)
class _Case:
    """One case: obs_ids of its images in the order of the collections, and of its label map."""

    name: str
    images: tuple[str, ...]
    label: str | None
    train: bool


def export_msd(
    radi: StudyView,
    folder: str | os.PathLike[str],
    *,
    images: str | Sequence[str] | None = None,
    labels: str | None = None,
    stack: bool = False,
    on: Sequence[str] | None = None,
    name: str = "radiobject study",
    progress: bool | Progress | None = None,
    executor: Executor = "threads",
    workers: int | None = None,
) -> int:
    """Write a study or a view of it as an MSD task into an empty folder, and give the number of cases.

    A case is a volume of the first of `images` (by default all collections of images) with its partner in
    `labels` (by default the one collection of labels), as `radi.pairs` finds it by `on`. It is named by its
    subject, and by session and run where a subject has several. Several collections of images need
    `stack=True`: partners on one grid become one 4D file, the channels along the fourth axis.

    Cases whose column `split` (of obs, else of obs_meta) is "test", and those without a label map, go to
    imagesTs, all others to imagesTr and labelsTr. NIfTI that was stored unchanged is written byte for byte,
    unless it is stacked; the files themselves are gzip. The labels of dataset.json are those of all label
    maps; a value that no map names is called by its number.

    Raises `ConfigError` for a folder that is not empty and for several collections without `stack`,
    `AlignmentError` for partners that are missing, ambiguous, or on another grid than the first image (label
    maps too), `MetadataError` for label maps that name one value differently, and what reading raises.
    Nothing is written where partners or names do not fit.
    """
    names = _images(radi, images, stack)
    seg = _labels(radi, labels)
    cases = _cases(radi, names, seg, on)
    _check_grids(radi, cases, names, seg)
    named = _label_names(radi, cases, seg, executor, workers)
    root = empty_folder(folder)

    def work(case: _Case) -> list[int]:
        return _write(radi, root, case, names, seg)

    present = each(work, cases, progress=progress, executor=executor, workers=workers)
    found = {value: str(value) for values in present for value in values} | {0: "background"} | named
    train = [case for case in cases if case.train]
    write_json(
        os.path.join(root, "dataset.json"),
        {
            "name": name,
            "description": "exported from a radiobject study",
            "tensorImageSize": "4D" if len(names) > 1 else "3D",
            "modality": {str(number): collection for number, collection in enumerate(names)},
            "labels": {str(value): found[value] for value in sorted(found)},
            "numTraining": len(train),
            "numTest": len(cases) - len(train),
            "training": [_entry(case) for case in train],
            "test": [
                _entry(case) if case.label else _entry(case)["image"] for case in cases if not case.train
            ],
        },
    )
    return len(cases)


def _images(radi: StudyView, chosen: str | Sequence[str] | None, stack: bool) -> list[str]:
    names = [chosen] if isinstance(chosen, str) else list(chosen or ())
    names = names or [n for n in radi.collection_names if radi.collection(n).kind == "image"]
    if not names:
        raise ConfigError("images=", expected="at least one collection of images", got="none in this study")
    if len(names) > 1 and not stack:
        raise ConfigError(
            "stack=False", expected="one collection of images", got=str(names),
            hint="Name one with images=, or pass stack=True to make them channels of one file.",
        )  # fmt: skip
    return names


def _labels(radi: StudyView, chosen: str | None) -> str | None:
    names = [n for n in radi.collection_names if radi.collection(n).kind == "label"]
    if chosen is None and len(names) > 1:
        raise ConfigError("labels=", expected="one collection of label maps", got=f"{names} in this study")
    if chosen is not None and chosen not in names:
        raise ConfigError("labels=", expected=f"a collection of label maps: {names}", got=repr(chosen))
    return chosen or next(iter(names), None)


def _cases(radi: StudyView, names: Sequence[str], seg: str | None, on: Sequence[str] | None) -> list[_Case]:
    first = radi.collection(names[0]).obs
    own = ["obs_subject_id", "obs_id", "session", "run"]
    rows = first.to_arrow([*own, *(["split"] if "split" in first.columns else [])]).to_pylist()
    partners: list[dict[str, str]] = []
    for other in names[1:]:
        paired = radi.pairs(names[0], other, on=on)
        partners.append(dict(zip(paired[names[0]], paired[other], strict=True)))
    labelled: dict[str, str] = {}
    if seg is not None:
        paired = radi.pairs(names[0], seg, on=on, missing="drop")
        labelled = dict(zip(paired[names[0]], paired[seg], strict=True))
    splits: dict[str, Any] = {}
    if "split" in radi.obs_meta.columns:
        table = radi.obs_meta.to_arrow(["obs_subject_id", "split"])
        splits = dict(zip(*(column.to_pylist() for column in table.columns), strict=True))
    counts = Counter(row["obs_subject_id"] for row in rows)
    taken = set[str]()
    cases = []
    for row in rows:
        subject, obs_id = row["obs_subject_id"], row["obs_id"]
        said = [subject]
        if counts[subject] > 1:
            said += [
                f"{key}-{row[n]}" for key, n in (("ses", "session"), ("run", "run")) if row[n] is not None
            ]
        stem = re.sub(r"[^\w.+-]", "_", "_".join(said)).lstrip(".")
        number = 1
        while (case := stem if number == 1 else f"{stem}_{number}") in taken:
            number += 1
        taken.add(case)
        label = labelled.get(obs_id)
        train = label is not None and (row.get("split") or splits.get(subject)) != "test"
        cases.append(_Case(case, (obs_id, *(of[obs_id] for of in partners)), label, train))
    return cases


def _check_grids(radi: StudyView, cases: Sequence[_Case], names: Sequence[str], seg: str | None) -> None:
    """Every partner of a case has to be on the grid of its first image."""
    columns = ["obs_id", *GRID_COLUMNS]
    grids = pa.concat_tables(
        [radi.collection(n).obs.to_arrow(columns) for n in [*names, *([seg] if seg else [])]]
    )
    places = {obs_id: place for place, obs_id in enumerate(grids["obs_id"].to_pylist())}
    for case in cases:
        ids = [*case.images, *([case.label] if case.label else [])]
        rows = grids.take(pa.array([places[obs_id] for obs_id in ids]))
        for row, apart, near in zip(rows.to_pylist(), corners_apart(rows), tolerance(rows), strict=True):
            if apart > near:
                shape = tuple(row[f"dim_{axis}"] for axis in "xyz")
                moved = f", its corners up to {apart:.3g} mm away" if np.isfinite(apart) else ""
                raise AlignmentError(
                    f"case {case.name}, {row['obs_id']!r}",
                    expected=f"the grid of {ids[0]!r}",
                    got=f"shape {shape}{moved}",
                    hint="Resample it first: vol.resample(like=...).",
                )


def _label_names(
    radi: StudyView, cases: Sequence[_Case], seg: str | None, executor: Executor, workers: int | None
) -> dict[int, str]:
    """Names of values, from all label maps of these cases. A number for a name is none."""
    ids = [case.label for case in cases if case.label is not None]
    if seg is None or not ids:
        return {}
    maps = radi.collection(seg)

    def work(obs_id: str) -> dict[int, str]:
        return {x.value: x.name for x in maps.loc[obs_id].meta.labels if x.name != str(x.value)}

    found: dict[int, tuple[str, str]] = {}
    said = each(work, ids, progress=False, executor=executor, workers=workers)
    for obs_id, names in zip(ids, said, strict=True):
        for value, name in names.items():
            first, known = found.setdefault(value, (obs_id, name))
            if name != known:
                raise MetadataError(
                    f"labels of {first!r} and {obs_id!r}",
                    expected=f"one name for {value}, {known!r} as {first!r} has it",
                    got=f"{name!r} in {obs_id!r}",
                    hint="dataset.json has one name for all maps: export them apart, or name them alike.",
                )
    return {value: name for value, (_, name) in found.items()}


def _entry(case: _Case) -> dict[str, str]:
    place = "Tr" if case.train else "Ts"
    entry = {"image": f"./images{place}/{case.name}.nii.gz"}
    return {**entry, "label": f"./labels{place}/{case.name}.nii.gz"} if case.label else entry


def _write(radi: StudyView, root: str, case: _Case, names: Sequence[str], seg: str | None) -> list[int]:
    """Write the files of a case, and give the values that its label map has."""
    files = {key: os.path.join(root, *place[2:].split("/")) for key, place in _entry(case).items()}
    for path in files.values():
        os.makedirs(os.path.dirname(path), exist_ok=True)
    volumes = [radi.collection(n).loc[i] for n, i in zip(names, case.images, strict=True)]
    if len(volumes) == 1:
        volumes[0].to_nifti(files["image"])
    else:
        write_nifti(files["image"], _stacked(case.name, volumes))
    if case.label is None or seg is None:
        return []
    label = radi.collection(seg).loc[case.label]
    label.to_nifti(files["label"])
    named = [x.value for x in label.meta.labels]
    return [*named, *(int(value) for value in np.unique(label.to_numpy()))]


def _stacked(case: str, volumes: Sequence[Any]) -> NiftiContent:
    """One file of several volumes: x, y, z, channel. Stored values where all are scaled alike."""
    for volume in volumes:
        if volume.ndim != 3:
            raise AlignmentError(
                f"case {case}, {volume.obs_id!r}",
                expected="three axes, where channels are to be the fourth",
                got=f"shape {volume.shape}",
                hint="Export such a collection alone: images=...",
            )
    said = [None if s is None or s.is_cast else s for s in (volume.meta.scaling for volume in volumes)]
    alike = len({None if scaling is None else (scaling.slope, scaling.inter) for scaling in said}) == 1
    raw = alike and said[0] is not None
    parts = [to_disk(volume.to_numpy(raw=raw), ("z", "y", "x")) for volume in volumes]
    meta = VolumeMeta(
        volumes[0].meta.affine,
        ("c", "z", "y", "x"),
        scaling=said[0] if alike else None,
        space_unit=volumes[0].meta.space_unit,
        source=SourceInfo(file_axes=("x", "y", "z", "c")),
    )
    return nifti_bytes(meta, np.stack(parts))
