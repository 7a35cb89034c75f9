"""`radiobject info`: what a study holds, from its commit and tables; no voxel is read."""

from __future__ import annotations

from typing import Any

from radiobject.cli.options import (
    AsJson,
    SourceRoot,
    StorageOptions,
    Uri,
    Version,
    open_study,
)
from radiobject.cli.output import console, print_json, table

__all__ = ["info"]

_HEAD = 5
_VERSIONS = 10


def info(
    uri: Uri,
    version: Version = None,
    as_json: AsJson = False,
    storage_option: StorageOptions = None,
    source_root: SourceRoot = None,
) -> None:
    """Show what a study holds: collections, shapes, sizes on disk, subjects, versions.

    No voxels are read.

    \b
        radiobject info studies/glioma
        radiobject info s3://bucket/glioma --version 3 --json
    """
    from radiobject.cli.summary import summary

    radi = open_study(uri, version, storage_option, source_root)
    document = summary(radi)
    document["subject_columns"] = radi.obs_meta.dtypes
    document["first_subjects"] = radi.head(_HEAD).obs_meta.to_arrow().to_pylist()
    document["versions"] = radi.versions()
    if as_json:
        print_json(document)
    else:
        _show(document)


def _show(document: dict[str, Any]) -> None:
    from rich.text import Text

    from radiobject.cli.summary import collection_table

    out = console()
    heading = Text(f"{document['uri']}", style="bold") + Text(f"  version {document['version']}", style="dim")
    out.print(heading, soft_wrap=True)
    out.print()
    out.print(collection_table(document["collections"]))
    columns = list(document["subject_columns"])
    rows = [["" if row[c] is None else str(row[c]) for c in columns] for row in document["first_subjects"]]
    shown = f"the first {len(rows)} of {document['subjects']}" if document["subjects"] > _HEAD else "all"
    out.print(table(f"Subjects ({shown})", columns, rows))
    versions = document["versions"]
    lines = [
        [str(v["version"]), str(v["created"]), v["operation"], v["message"]] for v in versions[-_VERSIONS:]
    ]
    shown = f"the last {_VERSIONS} of {len(versions)}" if len(versions) > _VERSIONS else "all that are kept"
    columns = ["version", "created", "operation", "message"]
    out.print(table(f"Versions ({shown})", columns, lines, right=["version"]))
