"""`radiobject ingest`: NIfTI and DICOM files become a study, in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiobject.cli.options import (
    AsJson,
    SourceRoot,
    StorageOptions,
    check_backend,
    open_study,
    storage_options,
)
from radiobject.cli.output import console, counted, print_json
from radiobject.cli.planning import planned, show_plan

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ingest"]


class Axis4(Enum):
    """What a fourth axis is."""

    auto = "auto"
    time = "time"
    channel = "channel"


class Errors(Enum):
    """What bad files do."""

    raise_ = "raise"
    collect = "collect"


class Irregular(Enum):
    """What slices that are missing or uneven do."""

    error = "error"
    keep = "keep"


class Kind(Enum):
    """What a folder's files follow."""

    auto = "auto"
    bids = "bids"
    msd = "msd"
    nnunet = "nnunet"
    dicom = "dicom"
    nifti = "nifti"


class OnConflict(Enum):
    """What becomes of a volume that is there already."""

    error = "error"
    skip = "skip"
    update = "update"
    replace = "replace"


class Pyramid(Enum):
    """Whether coarser levels are written."""

    auto = "auto"
    none = "none"


class Preset(Enum):
    """How voxels are compressed."""

    fast = "fast"
    archive = "archive"
    none = "none"


def ingest(
    uri: Annotated[
        str,
        typer.Argument(
            metavar="URI",
            help="Path or URL of the study: made if it is not there; FOLDER also adds to one that is.",
        ),
    ],
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="FOLDER",
            help="A folder of BIDS, MSD, nnU-Net, DICOM or NIfTI: which is found out. Or name sources below.",
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SOURCE",
            help="A collection and its files: a quoted glob, a folder or one file. Repeatable.",
        ),
    ] = None,
    dicom: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER",
            help="DICOM files, with all below them; modalities name the collections. Repeatable.",
        ),
    ] = None,
    obs_meta: Annotated[
        Path | None,
        typer.Option(help="Table of subjects (.csv, .tsv, .parquet) with a column obs_subject_id."),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(help="A collection of label maps. Repeatable. Else told by its name: seg, mask ..."),
    ] = None,
    axis4: Annotated[
        Axis4, typer.Option(help="What a fourth axis is; auto believes the header and refuses to guess.")
    ] = Axis4.auto,
    errors: Annotated[
        Errors,
        typer.Option(help="raise: one bad file and nothing is committed. collect: commit the good ones."),
    ] = Errors.raise_,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    deid_key: Annotated[
        Path | None,
        typer.Option(
            help="File with the secret that pseudonyms of DICOM are made with. Left out: "
            "$RADIOBJECT_DEID_KEY, then a key file in your configuration folder, made if need be."
        ),
    ] = None,
    deid_map: Annotated[
        Path | None, typer.Option(help="Table (.csv, .tsv) with columns patient_id and obs_subject_id.")
    ] = None,
    keep_phi: Annotated[
        list[str] | None,
        typer.Option(metavar="KEYWORD", help="A DICOM attribute to keep as it is: PatientSex. Repeatable."),
    ] = None,
    no_deidentify: Annotated[
        bool, typer.Option("--no-deidentify", help="Keep ids, UIDs and dates of DICOM as they are.")
    ] = False,
    irregular: Annotated[
        Irregular, typer.Option(help="DICOM volumes with missing or uneven slices: error, or keep them.")
    ] = Irregular.error,
    kind: Annotated[Kind, typer.Option(help="Layout of FOLDER; auto knows it by its files.")] = Kind.auto,
    rules: Annotated[
        Path | None,
        typer.Option(
            help="JSON list that sends rows of FOLDER to collections: "
            '[{"collection": "T1w", "SeriesDescription": "(?i)t1"}, ...].'
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(help="Save the plan of FOLDER here (.csv) with --dry-run; else take this one, edited."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what FOLDER would become, and stop.")
    ] = False,
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Convert a few volumes of FOLDER, say hours and size, and stop."),
    ] = False,
    on_conflict: Annotated[
        OnConflict, typer.Option(help="Volumes of FOLDER that the study at URI holds already.")
    ] = OnConflict.error,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Of FOLDER only what the study's ledger has as failed.")
    ] = False,
    preset: Annotated[
        Preset | None,
        typer.Option(help="Compression of all collections; left out: fast for images, archive for labels."),
    ] = None,
    pyramid: Annotated[
        Pyramid,
        typer.Option(help="auto: coarser levels too, of volumes of more than 256 voxels along an axis."),
    ] = Pyramid.none,
    backend: Annotated[
        str | None, typer.Option(help="How voxels are stored: zarr (the default) or tiledb.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Files read and written at once.")] = None,
    commit_every: Annotated[
        int | None,
        typer.Option(min=1, help="Make a version whenever so many volumes are there; left out: one."),
    ] = None,
    validate_alignment: Annotated[
        bool, typer.Option("--validate-alignment", help="Require the same subjects in every collection.")
    ] = False,
    message: Annotated[str, typer.Option(help="Note kept with the version.")] = "",
    no_copy: Annotated[
        bool, typer.Option("--no-copy", help="Leave voxels in their files: only headers are read.")
    ] = False,
    source_root: SourceRoot = None,
    as_json: AsJson = False,
    storage_option: StorageOptions = None,
) -> None:
    """Make a study of a folder, or add to it, in one commit: BIDS, MSD, nnU-Net, DICOM, NIfTI.

    NIfTI loses nothing. Of DICOM, names and dates of patients are left out or
    replaced. Subjects come from file names: sub-01_T1w.nii.gz is of sub-01;
    those of DICOM are pseudonyms of PatientID. --dry-run shows it first.

    \b
        radiobject ingest studies/cohort /data/bids --dry-run --plan plan.csv
        radiobject ingest studies/cohort /data/bids --plan plan.csv --workers 8
        radiobject ingest studies/clinic --dicom /data/pacs --deid-key my.key
        radiobject ingest archive/study archive/bids --no-copy
        radiobject ingest studies/glioma --images T1w='nifti/*_T1w.nii.gz' \\
            --images seg=masks --obs-meta subjects.csv
    """
    from radiobject import RadiObject, WriteConfig

    check_backend(backend, uri)
    if sum(given is not None for given in (source, images, dicom)) != 1:
        raise typer.BadParameter("give one of them", param_hint="FOLDER / --images / --dicom")
    if source is None and (dry_run or estimate or retry_failed or plan or rules):
        raise typer.BadParameter("they need FOLDER", param_hint="--dry-run and the like")
    write = WriteConfig() if preset is None else WriteConfig.preset(preset.value)
    private = _privacy(deid_key, deid_map, keep_phi, irregular, no_deidentify=no_deidentify)
    subjects = None if obs_meta is None else _table(obs_meta)
    run: Any = RadiObject.from_dicoms if images is None else RadiObject.from_images
    given: list[Any] = [uri, dicom if images is None else _images(images)]
    where = {"copy": not no_copy, "source_root": source_root}
    place = {"backend": backend, "storage_options": storage_options(storage_option)}
    options = {**private, **place, "labels": labels or None, "axis4": axis4.value}
    if source is not None:
        found = planned(source, kind.value, rules, plan, private, dry_run=dry_run)
        if dry_run or estimate:
            show_plan(found, plan if dry_run else None, estimate=estimate, workers=workers, as_json=as_json)
            return
        run, given, options = RadiObject.from_plan, [uri, found], {**place, "axis4": axis4.value}
        held = _held(uri, storage_option, source_root)
        if held is not None or retry_failed:
            radi = open_study(uri, None, storage_option, source_root) if held is None else held
            run, given = radi.ingest, [found]
            options = {"axis4": axis4.value, "retry_failed": retry_failed, "on_conflict": on_conflict.value}
    radi = run(
        *given,
        subjects,
        validate_alignment=validate_alignment,
        write=replace(write, pyramid=pyramid.value),
        errors=errors.value,
        resume=resume,
        workers=workers,
        commit_every=commit_every,
        message=message,
        **where,
        **options,
    )
    _show(radi, as_json=as_json)


def _privacy(
    key: Path | None,
    crosswalk: Path | None,
    keep: list[str] | None,
    irregular: Irregular,
    *,
    no_deidentify: bool,
) -> dict[str, Any]:
    """Those options of DICOM that are given: with NIfTI alone any of them is an error."""
    said = {
        "deid_key": None if key is None else str(key.expanduser()),
        "deid_map": None if crosswalk is None else str(crosswalk.expanduser()),
        "keep_phi": keep,
        "irregular": None if irregular is Irregular.error else irregular.value,
        "deidentify": False if no_deidentify else None,
    }
    return {name: value for name, value in said.items() if value is not None}


def _held(uri: str, storage_option: list[str] | None, source_root: str | None) -> Any:
    """The study at a place, None where there is none yet."""
    from radiobject.errors import StudyNotFoundError

    try:
        return open_study(uri, None, storage_option, source_root)
    except StudyNotFoundError:
        return None


def _images(pairs: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, source = pair.partition("=")
        if not (name and equals and source):
            raise typer.BadParameter(f"expected NAME=SOURCE, got {pair!r}", param_hint="--images")
        if name in found:
            raise typer.BadParameter(
                f"{name} is given twice; one glob or folder can hold all its files", param_hint="--images"
            )
        found[name] = source
    return found


def _table(path: Path) -> pd.DataFrame:
    """The subject table; ids stay text, so that 007 is not 7."""
    import pandas as pd

    from radiobject.errors import MetadataError

    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv", ".parquet"):
        raise MetadataError(f"--obs-meta {path}", expected="a .csv, .tsv or .parquet file", got=repr(kind))
    try:
        if kind == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, sep="\t" if kind == ".tsv" else ",", dtype={"obs_subject_id": str})
    except (OSError, ValueError) as error:
        raise MetadataError(
            f"--obs-meta {path}", expected=f"a readable {kind} table", got=str(error)
        ) from error


def _show(radi: Any, *, as_json: bool) -> None:
    from radiobject.cli.summary import collection_table, summary

    document = summary(radi)
    failed = [row for row in radi.ledger.to_arrow().to_pylist() if row["outcome"] == "failed"]
    document["failed"] = failed
    if as_json:
        print_json(document)
        return
    out = console()
    volumes = sum(c["volumes"] for c in document["collections"])
    out.print(
        f"{document['uri']}: {counted(volumes, 'volumes')} of {counted(document['subjects'], 'subjects')}, "
        f"version {document['version']}",
        markup=False,
        soft_wrap=True,
    )
    out.print()
    out.print(collection_table(document["collections"]))
    for row in failed:
        console(stderr=True).print(f"failed: {row['error']}: {row['message']}", markup=False, soft_wrap=True)
