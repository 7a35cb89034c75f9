"""TileDB: what stands on disk, and what whoever opens it without us finds."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from radiobject.backends.base import DTYPES, Level
from radiobject.backends.tiledb import TileDBBackend
from radiobject.config import CompressionConfig, SliceOrientation
from radiobject.errors import (
    CapabilityError,
    FormatError,
    MissingDependencyError,
    MissingObjectError,
    StorageError,
)
from radiobject.location import Location
from radiobject.testing import voxels
from tests.backends.tiledb_ground import ARRAY, SPEC, opened, planned, right, write

tiledb = pytest.importorskip("tiledb")
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("dtype", DTYPES)
def test_tiledb_alone_reads_voxels_and_metadata(tmp_path, dtype):
    spec = planned((20, 17, 9), dtype, chunks=(8, 8, 8), shards=(16, 16, 16))
    array = voxels(spec)
    write(tmp_path, "v", spec, array, {"radiobject": {"affine": [[2.0]]}, "ome": {"name": "Schädel"}})
    with tiledb.open(str(tmp_path / "v" / "0")) as found:
        np.testing.assert_array_equal(found[...], array)
        assert found[...].dtype == np.dtype(dtype)
        assert {key: json.loads(value) for key, value in found.meta.items()} == {
            "radiobject": {"affine": [[2.0]]},
            "ome": {"name": "Schädel"},
        }
        assert [d.name for d in found.schema.domain] == ["z", "y", "x"]


def test_nobody_opens_half_an_array(tmp_path):
    writer = TileDBBackend(Location(tmp_path)).create_volume("v", [Level("0", SPEC)], {}, {})
    first, *rest = SPEC.shard_boxes()
    writer.write(0, first, ARRAY[first.slices])
    assert tiledb.object_type(str(tmp_path / "v" / "0")) is None
    for box in rest:
        writer.write(0, box, ARRAY[box.slices])
    assert tiledb.object_type(str(tmp_path / "v" / "0")) is None
    writer.finish()
    assert tiledb.object_type(str(tmp_path / "v" / "0")) == "array"


def test_each_shard_is_a_fragment_named_by_its_number(tmp_path):
    stored = write(tmp_path)
    wanted = [f"__{n}_{n}_{n:032x}_" for n in range(1, 9)]
    fragments = sorted(p.name for p in (tmp_path / "v" / "0" / "__fragments").iterdir())
    assert [name.rsplit("_", 1)[0] + "_" for name in fragments] == wanted
    commits = [o.path for o in stored.objects if "__commits" in o.path]
    assert commits == [f"0/__commits/{name}.wrt" for name in fragments]
    assert stored.objects[-1].path == "volume.json"
    infos = tiledb.FragmentInfoList(str(tmp_path / "v" / "0"))
    assert [info.timestamp_range for info in infos] == [(n, n) for n in range(1, 9)]


@pytest.mark.parametrize(
    ("tile", "expected"),
    [
        ({}, (32, 32, 32)),
        ({"chunks": (8, 16, 4)}, (4, 16, 8)),
        ({"orientation": SliceOrientation.AXIAL}, (1, 33, 40)),
        ({"orientation": SliceOrientation.SAGITTAL}, (35, 33, 1)),
    ],
    ids=["default", "chunks", "axial", "sagittal"],
)
def test_chunks_are_the_tiles_of_the_schema(tmp_path, tile, expected):
    spec = planned((35, 33, 40), **tile)
    write(tmp_path, "v", spec, voxels(spec))
    domain = tiledb.ArraySchema.load(str(tmp_path / "v" / "0")).domain
    assert tuple(int(d.tile) for d in domain) == expected == spec.chunks


@pytest.mark.parametrize(
    ("codec", "filters"),
    [
        (CompressionConfig("lz4hc", 9, "shuffle"), ["ByteShuffleFilter", "LZ4Filter"]),
        (CompressionConfig("lz4", 1, "bitshuffle"), ["BitShuffleFilter", "LZ4Filter"]),
        (CompressionConfig("zstd", 7, "noshuffle"), ["ZstdFilter"]),
        (CompressionConfig("none", 0, "shuffle"), []),
    ],
    ids=lambda value: value.algorithm if isinstance(value, CompressionConfig) else "",
)
def test_a_codec_becomes_filters_that_end_in_a_checksum(tmp_path, codec, filters):
    spec = planned((40, 40, 40), codec=codec)
    write(tmp_path, "v", spec, ARRAY)
    chain = tiledb.ArraySchema.load(str(tmp_path / "v" / "0")).attr(0).filters
    assert [type(f).__name__ for f in chain] == [*filters, "ChecksumSHA256Filter"]
    if codec.algorithm == "zstd":
        assert chain[0].level == 7
    assert right(opened(tmp_path))


def test_the_level_of_lz4_changes_nothing(tmp_path):
    """TileDB has the fast variant alone; when that changes, docs/benchmarks.md is to be measured again."""
    ramp = (np.arange(40**3).reshape(40, 40, 40) // 7).astype("i2")
    sizes = set()
    for algorithm, level in (("lz4", 1), ("lz4hc", 1), ("lz4hc", 9)):
        spec = planned((40, 40, 40), codec=CompressionConfig(algorithm, level, "shuffle"))
        stored = write(tmp_path, f"{algorithm}{level}", spec, ramp)
        sizes.add(next(o.bytes for o in stored.objects if o.path.endswith("a0.tdb")))
    assert len(sizes) == 1


@pytest.mark.parametrize("paths", [["0", "0/1"], ["0", "0"], ["extras"], ["extras/0"], ["a", "../b"]])
def test_levels_need_folders_of_their_own(tmp_path, paths):
    spec = planned((4, 4, 4))
    with pytest.raises((CapabilityError, FormatError)):
        TileDBBackend(Location(tmp_path)).create_volume("v", [Level(p, spec) for p in paths], {}, {})
    assert list(tmp_path.iterdir()) == []


def test_no_temporary_file_stays(tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    write(tmp_path)
    for end in ("abort", "forget"):
        writer = TileDBBackend(Location(tmp_path)).create_volume(end, [Level("0", SPEC)], {}, {})
        first = SPEC.shard_boxes()[0]
        writer.write(0, first, ARRAY[first.slices])
        assert len(list(temporary.iterdir())) == 1
        if end == "abort":
            writer.abort()
        del writer
        gc.collect()  # Python 3.13 keeps the frames of an error that was caught in a circle
    assert list(temporary.iterdir()) == []


def test_a_shard_may_be_written_again_after_it_failed(tmp_path, monkeypatch):
    backend = TileDBBackend(Location(tmp_path))
    writer = backend.create_volume("v", [Level("0", SPEC)], {}, {})
    first, *rest = SPEC.shard_boxes()
    (tmp_path / "v" / "0").mkdir(parents=True)
    (tmp_path / "v" / "0" / "__fragments").write_bytes(b"in the way")
    with pytest.raises(StorageError):
        writer.write(0, first, ARRAY[first.slices])
    (tmp_path / "v" / "0" / "__fragments").unlink()
    for box in (first, *rest):
        writer.write(0, box, ARRAY[box.slices])
    stored = writer.finish()
    assert len({o.path for o in stored.objects}) == len(stored.objects)
    assert right(opened(tmp_path))


FULL = """
import resource, sys
from radiobject.errors import StorageError
from tests.backends.tiledb_ground import write
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    write(sys.argv[1])
except StorageError as error:
    assert "TMPDIR" in str(error), error
    print(type(error).__name__)
"""


def test_a_temporary_folder_without_room_is_no_damage(tmp_path):
    pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert (done.stdout.strip(), done.returncode) == ("StorageError", 0), done.stderr
    assert not (tmp_path / "v" / "volume.json").exists()


def test_a_temporary_folder_that_is_not_there_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(StorageError, match="TMPDIR"):
        write(tmp_path)


def test_without_the_package_the_pip_line_is_named(tmp_path, monkeypatch):
    hint = write(tmp_path).hint
    handle = opened(tmp_path, "v", hint)
    monkeypatch.setitem(sys.modules, "tiledb", None)
    assert handle.spec == SPEC
    with pytest.raises(MissingDependencyError, match=r"radiobject-zarr\[tiledb\]"):
        handle.read(SPEC.box)


def test_importing_and_opening_load_no_engine(tmp_path):
    hint = write(tmp_path).hint
    code = (
        "import sys; from radiobject.backends import get_backend; from radiobject.location import Location; "
        "get_backend('tiledb', Location(sys.argv[1])).open_volume('v', sys.argv[2]).spec; "
        "assert 'tiledb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path), hint], check=True, timeout=60)


@pytest.mark.parametrize(
    "name", ["with space", "Schädel", "a#b?c", "100%25", "memory budget", "HTTP 403 does not exist"]
)
def test_any_name_may_stand_in_the_path(tmp_path, name):
    write(tmp_path / name, "collections/T1w")
    assert right(opened(tmp_path / name, "collections/T1w"))
    os.remove(next((tmp_path / name).rglob("*.wrt")))
    with pytest.raises(MissingObjectError, match="commits"):
        opened(tmp_path / name, "collections/T1w").read(SPEC.box)


def test_a_temporary_folder_that_was_purged_says_so(tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    writer = TileDBBackend(Location(tmp_path)).create_volume("v", [Level("0", SPEC)], {}, {})
    for box in SPEC.shard_boxes():
        writer.write(0, box, ARRAY[box.slices])
    for folder in temporary.iterdir():
        shutil.rmtree(folder)
    with pytest.raises(StorageError, match="TMPDIR"):
        writer.finish()
    assert not (tmp_path / "v" / "volume.json").exists()


def test_an_array_that_a_caller_closed_is_opened_again(tmp_path):
    write(tmp_path)
    handle = opened(tmp_path)
    with handle.native() as array:
        assert array.isopen
    assert right(handle)
    assert handle.native().isopen
