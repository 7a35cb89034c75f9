"""What others do to an array: right voxels or an error, never other voxels."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from radiobject.backends.tiledb.failures import mapped
from radiobject.config import CompressionConfig
from radiobject.errors import (
    CapabilityError,
    CorruptObjectError,
    FormatError,
    IntegrityError,
    MissingObjectError,
    StorageReadOnlyError,
)
from radiobject.testing import voxels
from tests.backends.tiledb_ground import ARRAY, SPEC, opened, planned, right, write

tiledb = pytest.importorskip("tiledb")

ZEROS = np.zeros((16, 16, 16), "i2")


def uri(array: Path) -> str:
    return str(array)


def fragments(array: Path) -> list[Path]:
    return sorted((array / "__fragments").iterdir())


# -- what another TileDB writer does


def later_fragment(array):
    with tiledb.open(uri(array), "w") as opened_:
        opened_[0:16, 0:16, 0:16] = ZEROS


def fragment_of_an_old_time(array):
    with tiledb.open(uri(array), "w", timestamp=3) as opened_:
        opened_[0:16, 0:16, 0:16] = ZEROS


def added_attribute(array):
    evolution = tiledb.ArraySchemaEvolution()
    evolution.add_attribute(tiledb.Attr("more", dtype="i4"))
    evolution.array_evolve(uri(array))


def consolidated(array):
    tiledb.consolidate(uri(array), config=tiledb.Config({"sm.mem.total_budget": str(10**8)}))


def consolidated_and_vacuumed(array):
    consolidated(array)
    tiledb.vacuum(uri(array))


def consolidated_commits(array):
    tiledb.consolidate(uri(array), config=tiledb.Config({"sm.consolidation.mode": "commits"}))


def consolidated_and_vacuumed_commits(array):
    consolidated_commits(array)
    tiledb.vacuum(uri(array), config=tiledb.Config({"sm.vacuum.mode": "commits"}))


def consolidated_fragment_metadata(array):
    tiledb.consolidate(uri(array), config=tiledb.Config({"sm.consolidation.mode": "fragment_meta"}))


def deleted_fragments(array):
    tiledb.Array.delete_fragments(uri(array), 0, 3)


def deleted_array(array):
    tiledb.Array.delete_array(uri(array))


# -- what a file manager or a bad copy does


def removed_commit(array):
    next((array / "__commits").iterdir()).unlink()


def removed_commits(array):
    shutil.rmtree(array / "__commits")


def removed_fragment(array):
    shutil.rmtree(fragments(array)[0])


def removed_fragment_and_commit(array):
    name = fragments(array)[0].name
    removed_fragment(array)
    (array / "__commits" / f"{name}.wrt").unlink()


def removed_schema(array):
    shutil.rmtree(array / "__schema")


def removed_metadata(array):
    shutil.rmtree(array / "__meta")


def renamed_fragment(array):
    old = fragments(array)[2]
    new = old.name.replace("__3_3", "__9_9")
    old.rename(old.with_name(new))
    (array / "__commits" / f"{old.name}.wrt").rename(array / "__commits" / f"{new}.wrt")


def swapped_fragments(array):
    first, second = fragments(array)[:2]
    first.rename(array / "aside")
    second.rename(first)
    (array / "aside").rename(second)


def fragment_in_the_format_of_old(array):
    name = f"__20_20_{'f' * 32}_11"
    shutil.copytree(fragments(array)[1], array / name)
    (array / f"{name}.ok").touch()


def ignore_file(array):
    (array / "__commits" / f"__1_1_{'e' * 32}_22.ign").write_text(f"__fragments/{fragments(array)[0].name}\n")


def foreign_schema(array):
    other = planned((40, 40, 40), "i4")
    write(array.parents[1], "other", other, voxels(other))
    (file,) = (array.parents[1] / "other" / "0" / "__schema").iterdir()
    shutil.copy(file, array / "__schema" / f"__{10**14}_{10**14}_{'a' * 32}")


DAMAGE = {
    f.__name__: f
    for f in (
        later_fragment, fragment_of_an_old_time, added_attribute, consolidated, consolidated_and_vacuumed,
        consolidated_commits, consolidated_and_vacuumed_commits, consolidated_fragment_metadata,
        deleted_fragments, deleted_array, removed_commit, removed_commits, removed_fragment,
        removed_fragment_and_commit, removed_schema, removed_metadata, renamed_fragment, swapped_fragments,
        fragment_in_the_format_of_old, ignore_file, foreign_schema,
    )
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_changed_array_is_an_error(tmp_path, damage):
    hint = write(tmp_path, attrs={"n": 1}).hint
    damage(tmp_path / "v" / "0")
    for handle in (opened(tmp_path, "v", hint), opened(tmp_path)):
        with pytest.raises(IntegrityError, match=r"v/0.*(Restore|ingest)"):
            handle.read(SPEC.box)


@pytest.mark.parametrize("damage", [later_fragment, consolidated, added_attribute], ids=lambda f: f.__name__)
def test_an_open_volume_shows_what_it_was_opened_with(tmp_path, damage):
    write(tmp_path)
    handle = opened(tmp_path)
    assert right(handle)
    damage(tmp_path / "v" / "0")
    assert right(handle)


@pytest.mark.parametrize("damage", [consolidated_and_vacuumed, removed_fragment], ids=lambda f: f.__name__)
def test_an_open_volume_notices_that_its_files_are_gone(tmp_path, damage):
    write(tmp_path)
    handle = opened(tmp_path)
    assert right(handle)
    damage(tmp_path / "v" / "0")
    with pytest.raises(MissingObjectError, match="v/0"):
        handle.read(SPEC.box)


HARMLESS = (
    "README.txt", ".DS_Store", "0/.DS_Store", "0/notes/mine.txt", "0/__commits/.DS_Store",
    "0/__fragments/.DS_Store", "extras/more", "1/__schema/x",
)  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_files_that_tiledb_does_not_read_are_harmless(tmp_path, name):
    write(tmp_path)
    file = tmp_path / "v" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("x")
    assert right(opened(tmp_path))


def test_a_fragment_that_nobody_committed_is_harmless(tmp_path):
    write(tmp_path)
    array = tmp_path / "v" / "0"
    shutil.copytree(fragments(array)[1], array / "__fragments" / f"__20_20_{'f' * 32}_22")
    assert right(opened(tmp_path))


def test_metadata_that_somebody_adds_changes_neither_voxels_nor_attrs(tmp_path):
    write(tmp_path, attrs={"n": 1})
    with tiledb.open(str(tmp_path / "v" / "0"), "w") as array:
        array.meta["n"] = "2"
    handle = opened(tmp_path)
    assert right(handle)
    assert handle.attrs == {"n": 1}


# -- single bits

# In the head of a tile stand the number and the sizes of its parts. Low bits of sizes only: with others
# libtiledb may ask for gigabytes before it gives up.
HEAD_BITS = [8 * byte + bit for byte in (8, 12, 16) for bit in range(8)]


@pytest.mark.parametrize("preset", ["fast", "archive", "none"])
def test_a_flipped_bit_anywhere_is_an_error_or_nothing(tmp_path, preset):
    spec = planned((12, 12, 12), codec=CompressionConfig.preset(preset))
    array = (np.arange(12**3).reshape(12, 12, 12) % 97).astype("i2")
    stored = write(tmp_path, "v", spec, array, {"n": 1}, {"nifti": b"header"})
    rng = np.random.default_rng(0)
    caught = tried = 0
    for obj in stored.objects:
        file = tmp_path / "v" / obj.path
        data = file.read_bytes()
        bits = sorted({int(b) for b in rng.integers(8 * 24, max(8 * len(data), 8 * 24 + 1), 60)})
        for bit in [b for b in (*HEAD_BITS, *bits) if b < 8 * len(data)]:
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            file.write_bytes(changed)
            tried += 1
            try:
                handle = opened(tmp_path, "v", stored.hint)
                found, extra = handle.read(spec.box), handle.extra("nifti")
            except (IntegrityError, FormatError):
                caught += 1
            else:
                np.testing.assert_array_equal(found, array)
                assert extra == b"header"
        file.write_bytes(data)
    assert caught >= 0.95 * tried > 200


# -- the manifest


def rewritten(file: Path, change) -> None:
    """Change the manifest and seal it again, as a hostile writer could."""
    body = json.loads(file.read_bytes())
    body.pop("self_sha256")
    change(body)
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    file.write_text(f'{text[:-1]},"self_sha256":"{hashlib.sha256(text.encode()).hexdigest()}"}}')


CHANGES = {
    "no files": lambda b: b.pop("files"),
    "a fragment unnamed": lambda b: b["files"].pop(next(n for n in b["files"] if "a0.tdb" in n)),
    "a commit unnamed": lambda b: b["files"].pop(next(n for n in b["files"] if ".wrt" in n)),
    "a commit too many": lambda b: b["files"].update({"0/__commits/__9_9_" + "0" * 32 + "_22.wrt": [0, 0]}),
    "two schemas": lambda b: b["files"].update({"0/__schema/more": [1, 1]}),
    "an extra unnamed": lambda b: b["files"].pop("extras/nifti"),
    "an extra of another size": lambda b: b["extras"].update(nifti=1),
    "another format": lambda b: b.update(format="tiledb-volume-2"),
    "no levels": lambda b: b.update(levels=[]),
    "a path that leaves": lambda b: b["levels"][0].update(path="../other"),
    "a size that is text": lambda b: b["files"].update({"extras/nifti": ["many", "x"]}),
    "attributes that are a list": lambda b: b.update(attrs=[1]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_manifest_that_is_not_whole_is_refused(tmp_path, change):
    write(tmp_path, extras={"nifti": b"header"})
    file = tmp_path / "v" / "volume.json"
    rewritten(file, lambda body: None)
    assert right(opened(tmp_path))
    rewritten(file, change)
    with pytest.raises(FormatError, match=r"v/volume\.json"):
        opened(tmp_path)


def test_a_manifest_of_another_volume_is_not_taken(tmp_path):
    hint = write(tmp_path).hint
    other = planned((40, 40, 40), chunks=(16, 16, 16))
    write(tmp_path, "other", other, ARRAY)
    shutil.rmtree(tmp_path / "v")
    (tmp_path / "other").rename(tmp_path / "v")
    with pytest.raises(CorruptObjectError, match="row"):
        opened(tmp_path, "v", hint).read(SPEC.box)


@pytest.mark.parametrize("hint", ["", "[]", "{}", '{"format": "tiledb-volume-1", "levels": 3, "extras": {}}'])
def test_a_hint_of_something_else_is_refused(tmp_path, hint):
    with pytest.raises(FormatError, match="hint"):
        opened(tmp_path, "v", hint)


# -- what is no damage


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_rights_is_no_damage(tmp_path):
    write(tmp_path)
    file = next((tmp_path / "v").rglob("a0.tdb"))
    file.chmod(0)
    with pytest.raises(StorageReadOnlyError, match="rights"):
        opened(tmp_path).read(SPEC.box)


def test_a_volume_of_a_newer_tiledb_says_to_update(tmp_path):
    said = "[TileDB::ArraySchema] Error: Array format version (99) is newer than library format version (22)"
    with (
        pytest.raises(CapabilityError, match="pip install -U tiledb"),
        mapped("v", local=True),
    ):
        raise tiledb.TileDBError(said)
