"""`radiobject export`: volumes back as NIfTI files, a file each."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from radiobject.cli.options import (
    AsJson,
    SourceRoot,
    StorageOptions,
    Uri,
    Version,
    open_study,
)
from radiobject.cli.output import console, counted, human, print_json

if TYPE_CHECKING:
    from radiobject import RadiObject, Volume

__all__ = ["export"]


class Layout(Enum):
    """How files lie in the folder."""

    plain = "plain"
    bids = "bids"
    msd = "msd"


def export(
    uri: Uri,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files go; made when missing.")],
    collection: Annotated[list[str] | None, typer.Option(help="Only this collection. Repeatable.")] = None,
    subject: Annotated[list[str] | None, typer.Option(help="Only this subject. Repeatable.")] = None,
    version: Version = None,
    layout: Annotated[
        Layout,
        typer.Option(
            help="plain: DIR/<collection>/<obs_id>.nii.gz; bids: a BIDS data set; msd: an MSD task."
        ),
    ] = Layout.plain,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Files written at once.")] = None,
    as_json: AsJson = False,
    storage_option: StorageOptions = None,
    source_root: SourceRoot = None,
) -> None:
    """Write volumes as NIfTI files, plainly or as a BIDS data set or MSD task.

    What came from NIfTI unchanged goes back exactly: stored integers, scaling,
    both transforms, every header field and extension.

    \b
        radiobject export studies/glioma nifti
        radiobject export studies/glioma masks --collection seg --subject sub-01
        radiobject export studies/glioma bids --layout bids
    """
    from radiobject.executor import progress_bar, run

    radi = open_study(uri, version, storage_option, source_root)
    if collection:
        radi = radi.select_collections(collection)
    if subject:
        radi = radi.loc[subject]
    if layout is not Layout.plain:
        count = radi.export(folder, layout.value, workers=workers)
        if as_json:
            print_json({"uri": uri, "version": radi.version, "layout": layout.value, "written": count})
        else:
            console().print(
                f"{count} written to {folder}, layout {layout.value}", markup=False, soft_wrap=True
            )
        return
    plan = list(_plan(radi, folder))
    _refuse_existing([path for _, path in plan], overwrite=overwrite)

    def write(job: tuple[Volume, Path]) -> int:
        volume, path = job
        path.parent.mkdir(parents=True, exist_ok=True)
        volume.to_nifti(path)
        return path.stat().st_size

    total = 0
    with progress_bar("export", len(plan), None) as tell:
        for done, (_, outcome) in enumerate(run(write, plan, workers=workers), start=1):
            if isinstance(outcome, Exception):
                raise outcome
            total += outcome
            tell(done, len(plan))
    if as_json:
        files = [{"obs_id": volume.obs_id, "path": str(path)} for volume, path in plan]
        print_json({"uri": uri, "version": radi.version, "files": files, "bytes": total})
    else:
        said = f"{counted(len(plan), 'files')}, {human(total)}, in {folder}"
        console().print(said, markup=False, soft_wrap=True)


def _plan(radi: RadiObject, folder: Path) -> Iterator[tuple[Volume, Path]]:
    for name in radi.collection_names:
        for volume in radi.collection(name):
            yield volume, folder / _file_name(name) / f"{_file_name(volume.obs_id)}.nii.gz"


def _file_name(text: str) -> str:
    """An id as part of a path: nothing in it may lead out of the folder or hide the file.

    >>> _file_name("sub-01_T1w"), _file_name("../a b")
    ('sub-01_T1w', '%2E.%2Fa%20b')
    """
    safe = quote(text, safe="")
    return f"%2E{safe[1:]}" if safe.startswith(".") else safe


def _refuse_existing(paths: list[Path], *, overwrite: bool) -> None:
    from radiobject.errors import StorageError

    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise StorageError(
            f"{there[0]}{more}",
            expected="no file there",
            got="one that exists; nothing was written",
            hint="Choose another folder, or pass --overwrite.",
        )
