"""What zarr.json says, ours and others': accepted exactly, refused by name."""

from __future__ import annotations

import copy
import json
import shutil

import numpy as np
import pytest
import zarr
from hypothesis import given, settings

from radiobject.backends import get_backend
from radiobject.backends.base import Level, plan_array
from radiobject.backends.zarr import ZarrBackend, metadata
from radiobject.config import TileConfig
from radiobject.errors import (
    CapabilityError,
    CorruptObjectError,
    FormatError,
    MissingObjectError,
    RadiObjectError,
)
from radiobject.location import Location
from radiobject.testing import array_specs, voxels

SPEC = plan_array((20, 17, 9), "i2", ("z", "y", "x"), TileConfig(chunks=(8, 8, 8)))
DOCUMENT = metadata.array_document(SPEC)


@settings(max_examples=60, deadline=None)
@given(spec=array_specs())
def test_a_document_gives_its_spec_back(spec):
    assert metadata.spec_of(json.loads(json.dumps(metadata.array_document(spec))), "a") == spec


def changed(*keys_and_value):
    *keys, last, value = keys_and_value
    document = copy.deepcopy(DOCUMENT)
    place = document
    for key in keys:
        place = place[key]
    place[last] = value
    return document


INNER = ("codecs", 0, "configuration", "codecs")
HOSTILE = {
    "zarr 2": changed("zarr_format", 2),
    "a group": changed("node_type", "group"),
    "a key to understand": changed("something", {"must_understand": True}),
    "storage transformers": changed("storage_transformers", [{"name": "x"}]),
    "complex voxels": changed("data_type", "complex64"),
    "structured voxels": changed("data_type", {"name": "struct"}),
    "a negative size": changed("shape", [-1, 17, 9]),
    "a bool size": changed("shape", [True, 17, 9]),
    "a text size": changed("shape", "20"),
    "too many axes": changed("shape", [1] * 6),
    "an absurd size": changed("shape", [2**30] * 3),
    "another grid": changed("chunk_grid", "name", "rectangular"),
    "ranks that differ": changed("chunk_grid", "configuration", "chunk_shape", [24, 24]),
    "chunks that do not divide": changed("codecs", 0, "configuration", "chunk_shape", [7, 7, 7]),
    "a bomb": changed("codecs", 0, "configuration", "chunk_shape", [2048, 2048, 2048]),
    "a huge index": changed("chunk_grid", "configuration", "chunk_shape", [8 * 2**12] * 3),
    "zero chunks": changed("codecs", 0, "configuration", "chunk_shape", [0, 8, 8]),
    "dotted keys": changed("chunk_key_encoding", "configuration", "separator", "."),
    "v2 keys": changed("chunk_key_encoding", "name", "v2"),
    "no codecs": changed("codecs", []),
    "codecs as text": changed("codecs", "blosc"),
    "a pickle": changed(*INNER, 1, {"name": "numcodecs.pickle", "configuration": {}}),
    "vlen": changed(*INNER, 0, {"name": "vlen-bytes"}),
    "big endian": changed(*INNER, 0, {"name": "bytes", "configuration": {"endian": "big"}}),
    "bytes after": changed(*INNER, 1, {"name": "bytes"}),
    "a wrong blosc": changed(*INNER, 1, "configuration", "cname", ["lz4"]),
    "a wrong level": changed(*INNER, 1, "configuration", "clevel", 99),
    "a wrong transpose": changed(*INNER, 0, {"name": "transpose", "configuration": {"order": [0, 0, 1]}}),
    "a shard in a shard": changed(*INNER, [DOCUMENT["codecs"][0]]),
    "a compressed index": changed("codecs", 0, "configuration", "index_codecs", [{"name": "gzip"}]),
    "an index elsewhere": changed("codecs", 0, "configuration", "index_location", "middle"),
    "a codec after the shard": changed("codecs", [DOCUMENT["codecs"][0], {"name": "crc32c"}]),
    "a fill value": changed("fill_value", {"a": 1}),
    "no axes": changed("dimension_names", None),
    "unknown axes": changed("dimension_names", ["a", "b", "c"]),
    "axes in another order": changed("dimension_names", ["x", "y", "z"]),
    "no document": None,
    "a list": [],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_metadata_is_refused_by_name(name):
    with pytest.raises(FormatError, match="the array"):
        metadata.spec_of(HOSTILE[name], "the array")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_hint_is_refused(tmp_path, name):
    with pytest.raises(FormatError):
        ZarrBackend(Location(tmp_path)).open_volume("v", json.dumps({"0": HOSTILE[name]}))


@pytest.mark.parametrize("hint", ["", "{", "[]", "{}", "[" * 10**6, '{"../x": {}}', "\ud800"])
def test_a_hint_that_is_no_hint_is_refused(tmp_path, hint):
    with pytest.raises(FormatError):
        ZarrBackend(Location(tmp_path)).open_volume("v", hint)


@pytest.mark.parametrize("path", ["../0", "/0", "a//b", "a/..", "a\\b", "s3://x", "", "a?b", "a%2fb", "a\0"])
def test_a_member_outside_the_volume_is_refused(path):
    with pytest.raises(FormatError, match="relative path"):
        metadata.members_of({path: DOCUMENT}, "v")


def foreign(folder, **settings):
    """An OME-Zarr image written by zarr-python, plain chunks unless said."""
    array = voxels(plan_array((10, 12, 14), "u2", ("z", "y", "x")))
    group = zarr.create_group(folder / "f", zarr_format=3)
    for name, data in (("s0", array), ("s1", array[::2, ::2, ::2])):
        group.create_array(
            name,
            data=data,
            dimension_names=["z", "y", "x"],
            config={"write_empty_chunks": True},
            **{"chunks": (5, 4, 7), **settings},
        )
    datasets = [{"path": "s0"}, {"path": "s1"}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": [], "datasets": datasets}]}
    return array


FOREIGN = {
    "plain": {},
    "sharded": {"chunks": (5, 3, 7), "shards": (10, 6, 14)},
    "gzip": {"compressors": zarr.codecs.GzipCodec()},
    "transposed": {"filters": zarr.codecs.TransposeCodec(order=(2, 0, 1))},
    "uncompressed": {"compressors": None},
}


@pytest.mark.parametrize("engine", ["tensorstore", "zarr-python"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_image_is_read(tmp_path, engine, kind):
    array = foreign(tmp_path, **FOREIGN[kind])
    handle = ZarrBackend(Location(tmp_path), engine).open_volume("f")
    assert [level.path for level in handle.levels] == ["s0", "s1"]
    for level, expected in enumerate((array, array[::2, ::2, ::2])):
        block = handle.read(handle.levels[level].spec.box, level)
        np.testing.assert_array_equal(block, expected)
        assert block.flags.c_contiguous
    assert handle.attrs["ome"]["version"] == "0.5"


@pytest.mark.parametrize("engine", ["tensorstore", "zarr-python"])
def test_a_missing_or_empty_chunk_of_a_foreign_image_is_an_error(tmp_path, engine):
    foreign(tmp_path, compressors=None)
    chunk = tmp_path / "f" / "s0" / "c" / "1" / "1" / "1"
    chunk.write_bytes(b"")
    handle = ZarrBackend(Location(tmp_path), engine).open_volume("f")
    with pytest.raises(CorruptObjectError, match="f/s0"):
        handle.read(handle.spec.box)
    chunk.unlink()
    with pytest.raises(MissingObjectError, match="f/s0"):
        handle.read(handle.spec.box)


@pytest.mark.parametrize(
    "datasets", [[], [{"path": "../f/s0"}], [{"path": 3}], [{}], {"path": "s0"}, [{"path": "s9"}]]
)
def test_datasets_that_name_nothing_are_refused(tmp_path, datasets):
    foreign(tmp_path)
    document = json.loads((tmp_path / "f" / "zarr.json").read_text())
    document["attributes"]["ome"]["multiscales"][0]["datasets"] = datasets
    (tmp_path / "f" / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(RadiObjectError, match="f"):
        ZarrBackend(Location(tmp_path)).open_volume("f")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"zarr_format": 2}', '{"zarr_format":3,"node_type":"array"}']
)
def test_a_group_document_that_is_none_is_refused(tmp_path, text):
    foreign(tmp_path)
    (tmp_path / "f" / "zarr.json").write_text(text)
    with pytest.raises(FormatError, match=r"zarr\.json"):
        ZarrBackend(Location(tmp_path)).open_volume("f")


def test_the_volume_is_a_tree_that_zarr_walks(tmp_path):
    levels = [Level("0", SPEC), Level("pyramid/1", SPEC)]
    writer = ZarrBackend(Location(tmp_path)).create_volume("v", levels, {"a": 1}, {"nifti": b"abc"})
    for level in range(2):
        writer.write(level, SPEC.box, voxels(SPEC, level))
    writer.finish()
    group = zarr.open_consolidated(tmp_path / "v", mode="r")
    assert {name for name, _ in group.members(max_depth=None)} == {"0", "nifti", "pyramid", "pyramid/1"}
    assert bytes(group["nifti"][:]) == b"abc"
    # the documents beside the arrays say the same as the consolidated ones
    shutil.copytree(tmp_path / "v" / "pyramid" / "1", tmp_path / "alone")
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "alone", mode="r")[...], voxels(SPEC, 1))


@pytest.mark.parametrize(
    ("levels", "extras"),
    [(["0", "0"], []), (["0", "0/1"], []), (["0"], ["0"]), (["0", "p/1"], ["p"]), (["0"], ["zarr.json"])],
)
def test_members_that_share_a_name_are_refused(tmp_path, levels, extras):
    with pytest.raises(CapabilityError, match="names of their own"):
        ZarrBackend(Location(tmp_path)).create_volume(
            "v", [Level(name, SPEC) for name in levels], {}, dict.fromkeys(extras, b"x")
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", ["zarr", "tiledb"])
def test_attributes_that_could_not_be_read_back_are_refused_before_a_byte_is_written(tmp_path, engine):
    backend = get_backend(engine, Location(tmp_path))
    with pytest.raises(FormatError, match="bytes"):
        backend.create_volume("v", [Level("0", SPEC)], {"much": "x" * 17 * 2**20}, {})
    assert not list(tmp_path.iterdir())
