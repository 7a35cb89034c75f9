"""Hostile sources: TileDB volumes, foreground indexes, NIfTI, DICOM, plans, data sets, filters, names."""

# ruff: noqa: E501 (a table is read by its columns)
from __future__ import annotations

import gzip
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import nibabel
import pyarrow as pa

from tests.hostile.crafting import AFFINE, Case, column, edit, object_of, sealed, volume_folder, voxels_of

__all__ = ["CASES"]

DEEP = b"[" * 100_000 + b"]" * 100_000


def manifest(path: str, value: Any) -> Callable[[Path], None]:
    """A craft that sets one value of volume.json, sealed again and with its checksum in the row."""

    def craft(place: Path) -> None:
        body = json.loads((volume_folder(place / "study") / "volume.json").read_bytes())
        del body["self_sha256"]
        edit(body, path, value)
        object_of(
            place, "volume.json", sealed(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())
        )

    return craft


def manifest_bytes(data: bytes) -> Callable[[Path], None]:
    return lambda place: object_of(place, "volume.json", data)


def fragment(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def craft(place: Path) -> None:
        (path,) = (volume_folder(place / "study") / "0/__fragments").glob(f"*/{name}")
        path.unlink()
        make(path)

    return craft


def index(data: bytes) -> Callable[[Path], None]:
    """A craft that puts other bytes in place of the foreground index, with its checksum in the row."""

    def craft(place: Path) -> None:
        def stated(old: list[Any]) -> list[Any]:
            for said in old:
                (place / "study" / said["path"]).write_bytes(data)
                said |= {"bytes": len(data), "crc32c": google_crc32c.value(data)}
            return old

        column("_foreground", stated, collection="seg")(place)

    return craft


def arrow(**columns: Any) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table(columns)
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def nifti(**fields: tuple[int, str, Any]) -> bytes:
    """A NIfTI-1 file with values put into its header at offsets, as in the standard's nifti1.h."""
    data = bytearray(nibabel.Nifti1Image(voxels_of("sub-01_CT"), AFFINE).to_bytes())
    for at, kind, value in fields.values():
        struct.pack_into(kind, data, at, *(value if isinstance(value, tuple) else (value,)))
    return bytes(data)


def file(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda place: (place / name).write_bytes(data)


def dataset(**files: bytes) -> Callable[[Path], None]:
    """A craft of a folder of these files; `__` in a name is a slash, `_dot_` a dot."""

    def craft(place: Path) -> None:
        for name, data in files.items():
            path = place / "data" / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    return craft


def msd(**said: Any) -> Callable[[Path], None]:
    """An MSD task whose dataset.json says so; its only image is sound."""
    document = {
        "name": "t", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}, "numTraining": 1, "numTest": 0,
        "training": [{"image": "./imagesTr/a.nii", "label": "./labelsTr/a.nii"}], "test": [],
    }  # fmt: skip
    text = json.dumps(document | said).encode()
    return dataset(dataset_dot_json=text, imagesTr__a_dot_nii=nifti(), labelsTr__a_dot_nii=nifti())


def plan(root: str, layout: str = "auto", key: str = "") -> Callable[[Path], None]:
    """A craft of a saved plan of one row."""
    text = f"source,root,layout,deid_key_id,collection,obs_subject_id,obs_id\na.nii,{root},{layout},{key},CT,s,s\n"
    return lambda place: (place / "plan.csv").write_text(text)


def filter_text(text: str) -> Callable[[Path], None]:
    return lambda place: (place / "filter.json").write_text(json.dumps(text))


def dicom(data: bytes) -> Callable[[Path], None]:
    def craft(place: Path) -> None:
        (place / "dicom").mkdir()
        (place / "dicom/1.dcm").write_bytes(data)

    return craft


def upstream(place: Path) -> None:
    """A folder that says it is a group of TileDB's, whose members lie elsewhere."""
    (place / "upstream").mkdir()
    (place / "upstream/__tiledb_group.tdb").write_bytes(b"")
    (place / "upstream/obs_meta").symlink_to(place / "outside")


def cases() -> list[Case]:
    """Each with the door that must refuse it."""
    level = "levels__0__"
    said: dict[str, tuple[str, Any]] = {
        "shape-huge": (f"{level}shape", [2**40] * 3), "shape-other": (f"{level}shape", [16, 18, 40]), "shape-text": (f"{level}shape", "abc"),
        "shape-inf": (f"{level}shape", [float("inf")] * 3), "shape-null": (f"{level}shape", None), "chunks-zero": (f"{level}chunks", [0, 0, 0]),
        "shards-one": (f"{level}shards", [1, 1, 1]), "dtype-object": (f"{level}dtype", "O"), "dtype-other": (f"{level}dtype", "f8"),
        "dims": (f"{level}dims", ["a", "b", "c"]), "path": (f"{level}path", "../../../../../outside"), "path-absolute": (f"{level}path", "/etc"),
        "codec": (f"{level}codec", ["rm", 1, "x"]), "levels-none": ("levels", []), "levels-many": ("levels", lambda old: old * 1000),
        "levels-null": ("levels", None), "extras-path": ("extras", {"../../../../outside/secret": 15}), "extras-huge": ("extras", {"a": 2**62}),
        "files-none": ("files", {}), "files-text": ("files", "abc"), "files-null": ("files", None), "format": ("format", "tiledb-volume-9"),
        "attrs-text": ("attrs", "abc"),
    }  # fmt: skip
    found = [Case(f"tiledb-{name}", manifest(*of), "by_url", None, "tiledb") for name, of in said.items()]
    broken = {
        "deep": sealed(b'{"a":' + DEEP + b"}"), "empty": b"", "list": sealed(b"[1]}"), "noise": bytes(range(256)),
        "brackets": sealed(b'{"a":[' + b"[]," * 5_000_000 + b"0]}"),
    }  # fmt: skip
    found += [
        Case(f"tiledb-{n}", manifest_bytes(d), "by_url", ("read", "by_url", "validate"), "tiledb")
        for n, d in broken.items()
    ]
    for name in ("a0.tdb", "__fragment_metadata.tdb"):
        makes: dict[str, Callable[[Path], object]] = {
            "fifo": os.mkfifo, "gone": lambda path: None, "empty": lambda path: path.write_bytes(b""), "folder": os.mkdir,
            "link": lambda path: path.symlink_to("/etc/passwd"), "noise": lambda path: path.write_bytes(bytes(range(256)) * 40),
        }  # fmt: skip
        found += [
            Case(
                f"tiledb-{name}-{n}",
                fragment(name, make),
                "read",
                ("read", "by_url", "validate", "write"),
                "tiledb",
            )
            for n, make in makes.items()
        ]
    indexes = {
        "empty": b"", "noise": bytes(range(256)), "no-columns": arrow(a=[1]), "wrong-types": arrow(value=["a"], voxels=["b"], blocks=[1], block_voxels=[1], places=[1]),
        "no-metadata": arrow(value=[1], voxels=[1], blocks=[[1]], block_voxels=[[1]], places=[[1]]), "magic-only": b"ARROW1\0\0" + b"\xff" * 100 + b"ARROW1",
    }  # fmt: skip
    found += [Case(f"index-{n}", index(d), "foreground", ("foreground", "read")) for n, d in indexes.items()]
    good = nifti()
    headers = {
        "dim-negative": nifti(a=(40, "<8h", (3, -20, 18, 16, 1, 1, 1, 1))), "dim-zero": nifti(a=(40, "<8h", (3, 0, 18, 16, 1, 1, 1, 1))),
        "dim-huge": nifti(a=(40, "<8h", (7, *[32767] * 7))), "dim-count": nifti(a=(40, "<h", 30_000)), "dim-none": nifti(a=(40, "<h", 0)),
        "datatype": nifti(a=(70, "<h", 12345)), "datatype-complex": nifti(a=(70, "<2h", (1792, 128))),
        "offset-negative": nifti(a=(108, "<f", -1e9)), "offset-huge": nifti(a=(108, "<f", 1e30)), "offset-nan": nifti(a=(108, "<f", float("nan"))),
        "offset-inf": nifti(a=(108, "<f", float("inf"))), "affine-nan": nifti(a=(280, "<12f", (float("nan"),) * 12)),
        "affine-zero": nifti(a=(280, "<12f", (0.0,) * 12)), "short": good[:400], "header-only": good[:352], "empty": b"", "noise": bytes(range(256)) * 4,
        "magic": nifti(a=(344, "<4s", b"evil")),
    }  # fmt: skip
    for name, data in headers.items():
        found += [
            Case(f"nifti-{name}", file("file.nii", data), "ingest", ("from_nifti",)),
            Case(f"nifti-{name}-read", file("file.nii", data), "from_nifti", ("from_nifti",)),
        ]
    # what a datatype says already, and what nibabel takes for a file of another order of bytes
    ignored = {"bitpix": nifti(a=(72, "<h", 32000)), "sizeof": nifti(a=(0, "<i", 2**31 - 1))}
    found += [
        Case(f"nifti-{n}", file("file.nii", d), None, ("from_nifti", "ingest")) for n, d in ignored.items()
    ]
    bombs = {
        "bomb": gzip.compress(nifti(a=(40, "<8h", (3, 20000, 20000, 30, 1, 1, 1, 1))) + bytes(2**28), 1),
        "bomb-header": gzip.compress(nifti(a=(40, "<8h", (7, *[32767] * 7))), 9),
        "cut": gzip.compress(good)[:-500], "crc": gzip.compress(good)[:-8] + bytes(8), "noise": b"\x1f\x8b" + bytes(range(256)), "members": gzip.compress(b"") * 1000,
    }  # fmt: skip
    found += [Case(f"gz-{n}", file("file.nii.gz", d), "from_nifti", ("ingest",)) for n, d in bombs.items()]
    dicoms = {
        "empty": b"", "preamble": bytes(128) + b"DICM", "length": bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\xff\xff" + b"\xff" * 100,
        "sequences": bytes(128) + b"DICM" + b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000,
    }  # fmt: skip
    found += [Case(f"dicom-{n}", dicom(d), "from_dicom", ("from_dicom",)) for n, d in dicoms.items()]
    plans: dict[str, Callable[[Path], object]] = {
        "columns-none": file("plan.csv", b"a,b\n1,2\n"), "empty": file("plan.csv", b""), "noise": file("plan.csv", bytes(range(256)) * 9),
        "root-gone": plan("/nowhere"), "root-empty": plan(""), "root-outside": plan("../outside"),
        "root-device": plan("/dev/zero"), "layout": plan("../outside", "evil"), "key": plan("../outside", "auto", "x" * 10_000), "deep": plan("a/" * 5000),
    }  # fmt: skip
    plans["not-utf8"] = file("plan.csv", b"\xff\xfe\0")
    found += [Case(f"plan-{n}", craft, "plan", ("plan",)) for n, craft in plans.items()]
    tasks: dict[str, Callable[[Path], None]] = {
        "msd-image-outside": msd(training=[{"image": "../outside/secret", "label": "./labelsTr/a.nii"}]),
        "msd-image-absolute": msd(training=[{"image": "/etc/passwd", "label": "/etc/passwd"}]), "msd-image-number": msd(training=[{"image": 7, "label": 8}]),
        "msd-training-text": msd(training="abc"), "msd-labels-list": msd(labels=[[1]]), "msd-labels-huge": msd(labels={"9" * 5000: "a"}),
        "msd-modality": msd(modality=7), "msd-deep": dataset(dataset_dot_json=b'{"training":' + DEEP + b"}", imagesTr__a_dot_nii=good),
        "msd-empty": dataset(dataset_dot_json=b"", imagesTr__a_dot_nii=good), "msd-list": dataset(dataset_dot_json=b"[1]", imagesTr__a_dot_nii=good),
        "nnunet-channels": dataset(dataset_dot_json=b'{"channel_names":7,"labels":{"a":[[1]]},"file_ending":"../.nii"}', imagesTr__a_0000_dot_nii=good),
        "bids-sidecar-deep": dataset(dataset_description_dot_json=b'{"Name":"a","BIDSVersion":"1.8.0"}', **{"sub-01__anat__sub-01_T1w_dot_nii": good, "sub-01__anat__sub-01_T1w_dot_json": DEEP}),
        "bids-description-deep": dataset(dataset_description_dot_json=DEEP, **{"sub-01__anat__sub-01_T1w_dot_nii": b"x"}),
    }  # fmt: skip
    ignored_tasks = (
        "msd-labels-list",
        "msd-empty",
        "msd-list",
        "msd-deep",
    )  # images in a folder, whatever the text beside them says
    found += [
        Case(f"data-{n}", craft, None if n in ignored_tasks else "scan", ("scan",))
        for n, craft in tasks.items()
    ]
    filters = {
        "import": "__import__('os').system('touch owned')", "call": "open('/etc/passwd')", "attribute": "dim_x.__class__", "lambda": "(lambda: 1)()",
        "deep": "(" * 50_000 + "dim_x" + ")" * 50_000, "not-deep": "not " * 50_000 + "dim_x > 1", "power": "dim_x > 9**9**9**9", "long": "dim_x > 1 or " * 100_000 + "dim_x > 1",
        "nul": "dim_x > 1\0", "surrogate": "session == '\ud800'", "list": "[x for x in ()]", "walrus": "(a := 1)", "f-string": "f'{dim_x}' == 'a'",
        "number": "dim_x > " + "9" * 10_000, "empty": "", "internal": "_path == 'a'", "unknown": "nobody > 1",
    }  # fmt: skip
    found += [Case(f"filter-{n}", filter_text(t), "texts", ("texts",)) for n, t in filters.items()]
    found.append(Case("upstream-members-outside", upstream, "import", ("import",)))
    ids = (
        "../../x",
        "/etc/x",
        "..",
        ".",
        "a/b",
        "a\\b",
        "x\n",
        "~root",
        "CON",
        "a" * 500,
        "\u202eabc",
        "%2e%2e%2fx",
    )
    names = [(f"name-{n}", value) for n, value in enumerate(ids)]
    found += [
        Case(n, lambda place, v=v: (place / "name.json").write_text(json.dumps(v)), None, ("named",))
        for n, v in names
    ]
    return found


CASES = cases()
