"""Hostile documents: version documents, hints, tags and the study's own `zarr.json`."""

# ruff: noqa: E501 (a table is read by its columns)
from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from radiobject.format.commit import canonical
from tests.hostile.crafting import COMMIT, Case, commit_bytes, edit_commit, sealed, write_commit

__all__ = ["CASES"]

DEEP = b"[" * 100_000 + b"]" * 100_000
HUGE = 10**400
PART = "collections__0__tables__obs__0__"
AWAY = ("../outside/secret", "/etc/passwd", "file:///etc/passwd", "s3://bucket/key", "tables\\a", "a\0b",
        "tables/../../outside/secret", "", ".", "tables//a", "~/secret")  # fmt: skip


def body(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """A craft that changes the text of the commit; it is sealed again."""

    def craft(place: Path) -> None:
        study = place / "study"
        write_commit(study, change(canonical(commit_bytes(study))))

    return craft


def set_key(text: bytes) -> Callable[[Path], None]:
    """A craft that puts one more key, as raw JSON, at the end of the commit."""
    return body(lambda data: data[:-1] + b"," + text + b"}")


def many_parts(place: Path) -> None:
    """A million parts: 400 MB of objects from a document of a megabyte would be; this one has 100,000."""
    study = place / "study"
    document = commit_bytes(study)
    part = document["collections"][0]["tables"]["obs"][0]
    document["collections"][0]["tables"]["obs"] = [part] * 400_000
    write_commit(study, canonical(document))


def many_versions(place: Path) -> None:
    """A hint that names a version which only the last of dense numbers could have."""
    hint = {"latest": 10**12, "oldest": 1, "sha256": "0" * 64}
    (place / "study/hint.json").write_bytes(sealed(canonical(hint)))
    (place / "study" / COMMIT).unlink()


def change_list(data: bytes) -> Callable[[Path], None]:
    """A craft that names these bytes, by their right size and hash, as the list of what the commit changed."""

    def craft(place: Path) -> None:
        key, digest = "versions/change-a.parquet", hashlib.sha256(data).hexdigest()
        (place / "study" / key).write_bytes(data)
        edit_commit(change=None, change_list={"path": key, "bytes": len(data), "sha256": digest})(place)

    return craft


def list_of_nulls(rows: int) -> bytes:
    """A list of changes that costs no bytes in the file: the same word, and no ids."""
    word = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, "i4")), pa.array(["volumes_added"]))
    sink = io.BytesIO()
    pq.write_table(pa.table({"change": word, "id": pa.nulls(rows, pa.string())}), sink, store_schema=False)
    return sink.getvalue()


def journal(name: str, data: bytes) -> Callable[[Path], None]:
    """A craft that leaves an object in the journal of a write that seems to be running."""

    def craft(place: Path) -> None:
        folder = place / "study/transactions" / ("a" * 32)
        folder.mkdir(parents=True)
        (folder / "begin.json").write_bytes(b'{"operation":"append","plan":null}')
        (folder / name).write_bytes(data)

    return craft


def parquet(columns: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def hint(**said: Any) -> Callable[[Path], None]:
    def craft(place: Path) -> None:
        held = {"latest": 1, "oldest": 1, "sha256": "0" * 64} | said
        (place / "study/hint.json").write_bytes(sealed(json.dumps(held).encode()))

    return craft


def hint_bytes(data: bytes) -> Callable[[Path], None]:
    return lambda place: (place / "study/hint.json").write_bytes(data)


def tag(data: bytes) -> Callable[[Path], None]:
    def craft(place: Path) -> None:
        (place / "study/tags").mkdir()
        (place / "study/tags/release.json").write_bytes(data)

    return craft


def tag_of(**said: Any) -> Callable[[Path], None]:
    return tag(sealed(json.dumps({"name": "release", "version": 1, "sha256": "0" * 64} | said).encode()))


def root(data: bytes) -> Callable[[Path], None]:
    return lambda place: (place / "study/zarr.json").write_bytes(data)


def instead(key: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """A craft that puts something that is no file in the place of one."""

    def craft(place: Path) -> None:
        (place / "study" / key).unlink()
        make(place / "study" / key)

    return craft


def cases() -> list[Case]:
    """Each with the door that must refuse it."""
    found = [
        Case(f"commit-part-path-{number}", edit_commit(**{f"{PART}path": path}), "obs")
        for number, path in enumerate(AWAY)
    ]
    found += [
        Case(f"commit-collection-path-{number}", edit_commit(collections__0__path=path), "open")
        for number, path in enumerate(AWAY)
    ]
    wrong: list[tuple[str, str, Any]] = [
        ("part-path-number", f"{PART}path", 7), ("part-path-null", f"{PART}path", None),
        ("part-path-list", f"{PART}path", ["tables", "a"]), ("part-path-long", f"{PART}path", "a/" * 10**6 + "b"),
        ("part-rows-text", f"{PART}rows", "2"), ("part-rows-null", f"{PART}rows", None),
        ("part-rows-negative", f"{PART}rows", -1), ("part-rows-float", f"{PART}rows", 2.5),
        ("part-rows-huge", f"{PART}rows", 10**15), ("part-rows-beyond", f"{PART}rows", HUGE),
        ("part-rows-true", f"{PART}rows", True),
        ("part-bytes-text", f"{PART}bytes", "12"), ("part-bytes-negative", f"{PART}bytes", -5),
        ("part-bytes-huge", f"{PART}bytes", 2**62), ("part-bytes-beyond", f"{PART}bytes", HUGE),
        ("part-footer-text", f"{PART}footer_bytes", "x"), ("part-sha-number", f"{PART}footer_sha256", 5),
        ("part-missing-key", f"{PART}path", ...),
        ("part-is-text", "collections__0__tables__obs__0", "tables/a.parquet"),
        ("parts-are-text", "collections__0__tables__obs", "abc"),
        ("parts-are-an-object", "collections__0__tables__obs", {"a": 1}),
        ("parts-null", "collections__0__tables__obs", None),
        ("tables-list", "collections__0__tables", []), ("tables-text", "tables", "obs"),
        ("tables-null", "tables", None), ("collections-null", "collections", None),
        ("collections-text", "collections", "CT"), ("collections-object", "collections", {"CT": {}}),
        ("collections-of-null", "collections", [None]), ("collection-no-name", "collections__0__name", ...),
        ("collection-name-null", "collections__0__name", None), ("collection-name-list", "collections__0__name", ["CT"]),
        ("collection-name-empty", "collections__0__name", ""), ("collection-name-hidden", "collections__0__name", "_study"),
        ("collection-name-twice", "collections__1__name", "CT"),
        ("collection-path-twice", "collections__1__path", lambda _: "collections/CT"),
        ("collection-path-tables", "collections__0__path", "tables/CT"),
        ("collection-kind", "collections__0__kind", "video"), ("collection-kind-null", "collections__0__kind", None),
        ("collection-shape-text", "collections__0__shape", "20x18x16"),
        ("collection-shape-short", "collections__0__shape", [20]), ("collection-shape-long", "collections__0__shape", [1, 2, 3, 4]),
        ("collection-shape-negative", "collections__0__shape", [-20, 18, 16]),
        ("collection-shape-huge", "collections__0__shape", [2**70, 1, 1]),
        ("collection-shape-nan", "collections__0__shape", [float("nan"), 1, 1]),
        ("collection-shape-inf", "collections__0__shape", [float("inf"), 1, 1]),
        ("collection-shape-float", "collections__0__shape", [1.5, 1, 1]),
        ("version-null", "version", None), ("version-text", "version", "one"), ("version-lies", "version", 2),
        ("version-float", "version", 1.9), ("version-infinite", "version", float("inf")), ("version-nan", "version", float("nan")),
        ("version-beyond", "version", HUGE), ("oldest-infinite", "oldest", float("inf")),
        ("oldest-text", "oldest", "x"), ("oldest-negative", "oldest", -(10**9)), ("oldest-zero", "oldest", 0),
        ("oldest-beyond-version", "oldest", 10**9), ("parent-text", "parent", "../x"), ("parent-itself", "parent", 1),
        ("parent-later", "parent", 5), ("parent-negative", "parent", -3), ("parent-huge", "parent", 10**30),
        ("parent-list", "parent", [1]), ("parent-float", "parent", 0.5), ("parent-without-hash", "parent", 0),
        ("study-null", "study", None), ("study-list", "study", [1]),
        ("txn-null", "txn_id", None), ("message-object", "message", {"a": 1}), ("created-number", "created", 5),
        ("features-text", "features", "abc"), ("features-unknown", "features", ["encrypted"]),
        ("features-numbers", "features", [1, 2]), ("features-nested", "features", [["a"]]),
        ("features-null", "features", None), ("format-next", "format", "2.0"), ("format-null", "format", None),
        ("format-list", "format", ["1.0"]), ("type-tag", "type", "tag"), ("type-list", "type", ["commit"]),
        ("change-text", "change", "all"), ("change-list-of-lists", "change", {"volumes_added": [["a"]]}),
        ("change-objects", "change", {"volumes_added": [{"a": 1}]}), ("change-numbers", "change", {"volumes_added": [1, 2]}),
        ("change-a-text", "change", {"volumes_added": "abc"}), ("change-number", "change", {"volumes_added": 7}),
        ("change-none-and-no-list", "change", None), ("change-list-text", "change_list", "x"),
        ("min-id-number", f"{PART}min_id", 3),
    ]  # fmt: skip
    found += [Case(f"commit-{name}", edit_commit(**{path: value}), "open") for name, path, value in wrong]
    found += [
        Case(f"commit-{name}", edit_commit(**{path: value}), "obs")
        for name, path, value in (
            ("part-rows-lie", f"{PART}rows", 3), ("part-footer-huge", f"{PART}footer_bytes", 2**40),
            ("part-footer-zero", f"{PART}footer_bytes", 0), ("part-sha-lie", f"{PART}footer_sha256", "0" * 64),
        )
    ]  # fmt: skip
    # read as text and as a truth value, and never made into a path
    found += [
        Case("commit-txn-path", edit_commit(txn_id="../../outside"), None),
        Case("commit-partial-text", edit_commit(partial="no"), None),
    ]
    found += [
        Case(f"commit-change-list-{number}", edit_commit(change=None, change_list=said), "history")
        for number, said in enumerate(
            (
                {"path": "../outside/secret", "bytes": 4, "sha256": "0" * 64},
                {"path": "/etc/passwd", "bytes": 4, "sha256": "0" * 64},
                {"path": "/dev/zero", "bytes": 4, "sha256": "0" * 64},
                {"path": 7, "bytes": 4, "sha256": "0" * 64},
                {"bytes": 4},
                ["versions/change-a.parquet"],
                {"path": "hint.json", "bytes": "x", "sha256": None},
            )
        )
    ]
    found += [
        Case(f"commit-change-list-{name}", change_list(data), "validate")
        for name, data in (("noise", b"noise"), ("empty", b""), ("many-nulls", list_of_nulls(10**7)))
    ]
    journals: dict[str, tuple[str, bytes]] = {
        "begin-deep": ("begin.json", DEEP), "begin-list": ("begin.json", b"[1]"), "begin-number": ("begin.json", b"7"),
        "begin-plan": ("begin.json", b'{"plan":[1]}'), "begin-huge": ("begin.json", b'{"plan":"' + b"a" * 100 * 2**20 + b'"}'),
        "rows-other-columns": ("000001.parquet", parquet({"a": [1]})),
        "rows-path-number": ("000001.parquet", parquet({"obs_id": ["a"], "_path": [7], "_objects": [7]})),
        "rows-objects-text": ("000001.parquet", parquet({"_path": ["collections/CT"], "_objects": ["x"]})),
        "rows-path-null": ("000001.parquet", parquet({"_path": pa.array([None], pa.string()), "_objects": [None]})),
    }  # fmt: skip
    found += [
        Case(f"journal-{name}", journal(*of), None, ("cleanup", "purge", "append", "validate", "read"))
        for name, of in journals.items()
    ]
    found += [
        Case(f"commit-backend-{number}", edit_commit(collections__0__backend=name), door)
        for number, (name, door) in enumerate(
            [
                ("../x", "read"), ("os:system", "read"), ("memory", "read"), ("", "read"), ("zarr\0", "read"),
                ("a" * 10**6, "read"), (None, "open"), (["zarr"], "open"), ("tiledb", "read"),
            ]
        )
    ]  # fmt: skip
    found += [
        Case("commit-deep", body(lambda _: b'{"a":' + DEEP + b"}"), "open"),
        Case("commit-deep-part", set_key(b'"more":' + DEEP), "open"),
        Case("commit-is-a-list", body(lambda _: b"[1,2,3]}"), "open"),
        Case("commit-is-a-number", body(lambda _: b"7}"), "open"),
        Case("commit-is-empty-object", body(lambda _: b"{}"), "open"),
        Case("commit-is-no-json", body(lambda _: b"{nonsense}"), "open"),
        Case("commit-not-utf8", body(lambda data: data.replace(b'"message":""', b'"message":"\xff\xfe"')), "open"),
        Case("commit-lone-surrogate", body(lambda data: data.replace(b'"message":""', b'"message":"\\ud800"')), "open"),
        Case("commit-twice-the-same-key", set_key(b'"version":1,"collections":[]'), "open"),
        Case("commit-number-of-a-million-digits", set_key(b'"more":' + b"9" * 10**6), "open"),
        Case("commit-nan", set_key(b'"more":NaN'), "open"),
        Case("commit-too-many-parts", many_parts, "open"),
        Case("commit-of-100-megabytes", set_key(b'"more":"' + b"a" * 100 * 2**20 + b'"'), "open"),
        Case("commit-empty", lambda place: (place / "study" / COMMIT).write_bytes(b""), "open"),
        Case("commit-fifo", instead(COMMIT, os.mkfifo), "open"),
        Case("commit-folder", instead(COMMIT, os.mkdir), "open"),
        Case("commit-device", instead(COMMIT, lambda path: path.symlink_to("/dev/zero")), "open"),
        Case("commit-link-outside", instead(COMMIT, lambda path: path.symlink_to("../../outside/commit")), "open"),
        Case("commit-link-to-itself", instead(COMMIT, lambda path: path.symlink_to(path.name)), "open"),
        Case("hint-latest-huge", many_versions, "open"),
        Case("hint-beyond", hint(latest=HUGE), None), Case("hint-negative", hint(latest=-5), None),
        Case("hint-infinite", hint(latest=float("inf")), None), Case("hint-text", hint(latest="x"), None),
        Case("hint-list", hint(latest=[1]), None), Case("hint-sha-null", hint(sha256=None), None),
        Case("hint-deep", hint_bytes(sealed(b'{"a":' + DEEP + b"}")), None),
        Case("hint-is-a-list", hint_bytes(sealed(b"[1]}")), None), Case("hint-empty", hint_bytes(b""), None),
        Case("hint-noise", hint_bytes(bytes(range(256)) * 4), None),
        Case("hint-fifo", instead("hint.json", os.mkfifo), "open"),
        Case("hint-folder", instead("hint.json", os.mkdir), "open"),
        Case("hint-device", instead("hint.json", lambda path: path.symlink_to("/dev/zero")), "open"),
    ]  # fmt: skip
    tags = {
        "another-commit": tag_of(), "version-text": tag_of(version="x"), "version-huge": tag_of(version=HUGE),
        "version-infinite": tag_of(version=float("inf")), "version-zero": tag_of(version=0),
        "version-list": tag_of(version=[1]), "version-negative": tag_of(version=-1), "is-a-list": tag(sealed(b"[1]}")),
        "deep": tag(sealed(b'{"a":' + DEEP + b"}")), "empty": tag(b""), "noise": tag(b"\0" * 500),
        "name-null": tag_of(name=None, version=None),
    }  # fmt: skip
    found += [Case(f"tag-{name}", craft, "tag", ("tag", "read", "cleanup")) for name, craft in tags.items()]
    roots = {
        "deep": b'{"a":' + DEEP + b"}", "deep-inside": b'{"attributes":{"radiobject":{"type":"study","a":' + DEEP + b"}}}",
        "list": b"[1]", "empty": b"", "noise": bytes(range(256)), "uuid-list": b'{"attributes":{"radiobject":{"type":"study","format":"1.0","uuid":[1]}}}',
        "next-format": b'{"attributes":{"radiobject":{"type":"study","format":"2.0","uuid":"a"}}}',
        "attributes-null": b'{"attributes":null}', "huge-number": b'{"attributes":{"radiobject":' + b"9" * 10**5 + b"}}",
    }  # fmt: skip
    found += [Case(f"root-{name}", root(data), "validate") for name, data in roots.items()]
    found.append(Case("root-fifo", instead("zarr.json", os.mkfifo), "validate"))
    return found


CASES = cases()
