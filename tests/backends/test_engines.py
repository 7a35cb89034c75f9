"""The two Zarr engines: they read each other, refuse damage alike, and hand over in a forked child."""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import google_crc32c
import numpy as np
import pytest
import tensorstore as ts
import zarr

from radiobject.backends.base import Level, plan_array
from radiobject.backends.zarr import ZarrBackend
from radiobject.config import ReadConfig, TileConfig, configure
from radiobject.errors import (
    CapabilityError,
    ConfigError,
    CorruptObjectError,
    IntegrityError,
    MissingObjectError,
)
from radiobject.geometry.box import Box
from radiobject.location import Location
from radiobject.measuring import measure
from radiobject.testing import MUTANTS, voxels, without_inner_chunk

ENGINES = ("tensorstore", "zarr-python")
SPEC = plan_array((20, 17, 9), "i2", ("z", "y", "x"), TileConfig(chunks=(8, 8, 8)))
ARRAY = voxels(SPEC)


def write(folder, path="v", engine="auto", spec=SPEC, array=ARRAY):
    writer = ZarrBackend(Location(folder), engine).create_volume(path, [Level("0", spec)], {"n": 1}, {})
    for box in spec.shard_boxes():
        writer.write(0, box, array[box.slices])
    return writer.finish()


def shard_of(folder, path="v"):
    return folder / path / "0" / "c" / "0" / "0" / "0"


@pytest.mark.parametrize("reader", ENGINES)
@pytest.mark.parametrize("author", ENGINES)
def test_each_engine_reads_what_the_other_wrote(tmp_path, author, reader):
    spec = plan_array(
        (3, 40, 17, 9), "f4", ("t", "z", "y", "x"), TileConfig(chunks=(8, 8, 8), shards=(16, 8, 16))
    )
    array = voxels(spec)
    write(tmp_path, "v", author, spec, array)
    handle = ZarrBackend(Location(tmp_path), reader).open_volume("v")
    np.testing.assert_array_equal(handle.read(spec.box), array)


@pytest.mark.parametrize("author", ENGINES)
def test_other_libraries_open_the_volume(tmp_path, author):
    write(tmp_path, engine=author)
    group = zarr.open_group(tmp_path / "v", mode="r")
    assert [name for name, _ in group.members()] == ["0"]
    np.testing.assert_array_equal(group["0"][...], ARRAY)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{tmp_path}/v/0/"}}
    np.testing.assert_array_equal(ts.open(spec).result().read().result(), ARRAY)


@pytest.mark.parametrize("engine", ENGINES)
def test_native_is_the_engines_object_and_misses_nothing_silently(tmp_path, engine):
    write(tmp_path)
    kind = {"tensorstore": ts.TensorStore, "zarr-python": zarr.Array}[engine]
    handle = ZarrBackend(Location(tmp_path), engine).open_volume("v")
    assert isinstance(handle.native(), kind)
    shard_of(tmp_path).unlink()
    with pytest.raises((ValueError, OSError)):
        np.asarray(handle.native()[...])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_chunk_without_index_entry_is_missing_where_it_is_touched(tmp_path, engine):
    write(tmp_path)
    file = shard_of(tmp_path)
    file.write_bytes(without_inner_chunk(file.read_bytes(), SPEC, 0))
    handle = ZarrBackend(Location(tmp_path), engine).open_volume("v")
    with pytest.raises(MissingObjectError, match=r"v/0"):
        handle.read(Box((0, 0, 0), (1, 1, 1)))
    with pytest.raises(MissingObjectError):
        handle.read(SPEC.box)
    untouched = Box((8, 0, 0), (20, 17, 9))
    np.testing.assert_array_equal(handle.read(untouched), ARRAY[untouched.slices])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "entry", [(0, 0), (2**63, 2**63), (10**6, 50), (0, 2**64 - 2)], ids=["empty", "wraps", "beyond", "long"]
)
def test_an_index_entry_that_points_nowhere_is_an_error(tmp_path, engine, entry):
    write(tmp_path)
    file = shard_of(tmp_path)
    data = file.read_bytes()
    length = 16 * math.prod(s // c for s, c in zip(SPEC.shards, SPEC.chunks, strict=True))
    index = bytearray(data[-length - 4 : -4])
    index[:16] = struct.pack("<QQ", *entry)
    file.write_bytes(
        data[: -length - 4] + bytes(index) + struct.pack("<I", google_crc32c.value(bytes(index)))
    )
    for box in (SPEC.box, Box((0, 0, 0), (1, 1, 1))):
        with pytest.raises(IntegrityError):
            ZarrBackend(Location(tmp_path), engine).open_volume("v").read(box)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_changed_shard_index_is_named(tmp_path, engine):
    write(tmp_path)
    file = shard_of(tmp_path)
    data = bytearray(file.read_bytes())
    data[-12] ^= 1
    file.write_bytes(data)
    with pytest.raises(CorruptObjectError, match="shard index"):
        ZarrBackend(Location(tmp_path), engine).open_volume("v").read(Box((0, 0, 0), (1, 1, 1)))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("mutant", MUTANTS[2:], ids=lambda mutant: mutant.name)
def test_damage_anywhere_in_a_shard_is_an_error(tmp_path, engine, mutant):
    write(tmp_path)
    data = shard_of(tmp_path).read_bytes()
    for salt in range(40):
        hint = write(tmp_path, f"m{salt}").hint
        shard_of(tmp_path, f"m{salt}").write_bytes(mutant.damage(data, salt) or b"")
        with pytest.raises(IntegrityError):
            ZarrBackend(Location(tmp_path), engine).open_volume(f"m{salt}", hint).read(SPEC.box)


@pytest.mark.parametrize("way", ["by tensorstore's memory", "by NumPy's"])
def test_large_blocks_are_read_alike_and_refuse_damage_alike(tmp_path, monkeypatch, way):
    monkeypatch.setattr("radiobject.backends.zarr.tensorstore_engine._LARGE", 1 if "NumPy" in way else 2**62)
    write(tmp_path)
    handle = ZarrBackend(Location(tmp_path), "tensorstore").open_volume("v")
    for box in (SPEC.box, Box((3, 5, 2), (19, 16, 9))):
        found = handle.read(box)
        np.testing.assert_array_equal(found, ARRAY[box.slices])
        assert (found.dtype, found.flags["C_CONTIGUOUS"], found.flags["WRITEABLE"]) == (
            SPEC.dtype,
            True,
            True,
        )
    data = bytearray(shard_of(tmp_path).read_bytes())
    data[20] ^= 1
    shard_of(tmp_path).write_bytes(data)
    with (
        configure(read=ReadConfig(cache_bytes=0)),
        pytest.raises(CorruptObjectError, match=r"[Dd]igest|checksum"),
    ):
        ZarrBackend(Location(tmp_path), "tensorstore").open_volume("v").read(SPEC.box)
    shard_of(tmp_path).unlink()
    with configure(read=ReadConfig(cache_bytes=0)), pytest.raises(MissingObjectError):
        ZarrBackend(Location(tmp_path), "tensorstore").open_volume("v").read(SPEC.box)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_small_box_does_not_read_the_whole_shard(tmp_path, engine):
    spec = plan_array((64, 64, 64), "i2", ("z", "y", "x"), TileConfig(chunks=(16, 16, 16)))
    hint = write(tmp_path, spec=spec, array=voxels(spec)).hint
    handle = ZarrBackend(Location(tmp_path), engine).open_volume("v", hint)
    with measure() as m:
        handle.read(Box((0, 0, 0), (16, 16, 16)))
    assert 0 < m["bytes_read"] < spec.nbytes / 8
    assert (m["chunks_decoded"], m["bytes_used"], m["volumes_opened"]) == (1, 16**3 * 2, 1)
    assert m["requests"] >= 1


def test_concurrency_is_taken_from_the_configuration(tmp_path):
    write(tmp_path)
    with configure(read=ReadConfig(concurrency=1, cache_bytes=0)):
        handle = ZarrBackend(Location(tmp_path)).open_volume("v")
        np.testing.assert_array_equal(handle.read(SPEC.box), ARRAY)
        context = handle.native().spec(retain_context=True).to_json()["context"]
        assert context["data_copy_concurrency"] == {"limit": 1}
        assert context["cache_pool"] in ({}, {"total_bytes_limit": 0})


def test_an_unknown_engine_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="tensorstore"):
        ZarrBackend(Location(tmp_path), "netcdf")


def test_tensorstore_by_name_is_refused_where_it_cannot_go():
    backend = ZarrBackend(Location("memory://nowhere-for-tensorstore"), "tensorstore")
    backend.create_volume("v", [Level("0", SPEC)], {}, {}).write(0, SPEC.box, ARRAY)
    hint = json.dumps({"0": json.loads(_hint_of())["0"]})
    with pytest.raises(CapabilityError, match="memory"):
        backend.open_volume("v", hint).read(SPEC.box)
    backend.delete_volume("v")


def _hint_of():
    from radiobject.backends.zarr import metadata

    return metadata.compact(metadata.member_documents([Level("0", SPEC)], {}), "test")


FORK = """
import os, sys
import numpy as np
from radiobject.backends.base import Level
from radiobject.backends.zarr import ZarrBackend
from radiobject.errors import CapabilityError
from radiobject.location import Location
from radiobject.measuring import measure
from radiobject.testing import voxels

folder = sys.argv[1]
handle = ZarrBackend(Location(folder)).open_volume("v")
spec, expected = handle.spec, voxels(handle.spec)
fixed = ZarrBackend(Location(folder), "tensorstore").open_volume("v")
for used in (handle, fixed):
    np.testing.assert_array_equal(used.read(spec.box), expected)
assert "TensorStore" in type(handle.native()).__name__
child = os.fork()
if child == 0:
    np.testing.assert_array_equal(handle.read(spec.box), expected)
    assert "TensorStore" not in type(handle.native()).__name__
    with measure() as m:
        handle.read(spec.box)
    assert m["requests"] == 1, m  # the handle stayed open, with its index
    writer = ZarrBackend(Location(folder)).create_volume("child", [Level("0", spec)], {}, {})
    writer.write(0, spec.box, expected)
    writer.finish()
    try:
        fixed.read(spec.box)
    except CapabilityError:
        os._exit(0)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
np.testing.assert_array_equal(ZarrBackend(Location(folder)).open_volume("child").read(spec.box), expected)
np.testing.assert_array_equal(handle.read(spec.box), expected)
print("right in both")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_reads_and_writes_without_tensorstore(tmp_path):
    write(tmp_path)
    done = subprocess.run(
        # from Python 3.12 on a fork beside threads warns; this test is about exactly that
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "right in both"


def test_importing_and_opening_load_no_engine(tmp_path):
    hint = write(tmp_path).hint
    script = textwrap.dedent("""
        import sys
        from radiobject.backends import get_backend
        from radiobject.location import Location
        get_backend("zarr", Location(sys.argv[1])).open_volume("v", sys.argv[2]).spec
        assert not {"zarr", "tensorstore"} & set(sys.modules)
    """)
    subprocess.run([sys.executable, "-c", script, str(tmp_path), hint], check=True, timeout=60)


class _Server(BaseHTTPRequestHandler):
    """Serves files with ranges, and refuses tensorstore when told to."""

    def do_GET(self):
        server = self.server
        agent = self.headers.get("User-Agent", "")
        server.agents.append(agent)
        file = server.folder / self.path.lstrip("/")
        if server.refuse and "tensorstore" in agent:
            return self._answer(403, b"")
        if not file.is_file():
            return self._answer(404, b"")
        data = file.read_bytes()
        asked = self.headers.get("Range", "")
        if not asked.startswith("bytes="):
            return self._answer(200, data)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start = int(first) if first else len(data) - int(last)
        stop = min(int(last) + 1, len(data)) if first and last else len(data)
        if start >= len(data):
            return self._answer(416, b"")
        return self._answer(206, data[start:stop], f"bytes {start}-{stop - 1}/{len(data)}")

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def _answer(self, code, data, content_range=None):
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Accept-Ranges", "bytes")
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *args):
        """Quiet."""


@pytest.fixture
def server(tmp_path):
    serving = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    serving.folder, serving.refuse, serving.agents = tmp_path, False, []
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield serving
    serving.shutdown()
    serving.server_close()
    thread.join()


@pytest.mark.parametrize("engine", ["auto", *ENGINES])
def test_volumes_are_read_over_http(tmp_path, server, engine):
    hint = write(tmp_path).hint
    backend = ZarrBackend(Location(f"http://127.0.0.1:{server.server_port}"), engine)
    box = Box((3, 3, 3), (12, 9, 9))
    for handle in (backend.open_volume("v"), backend.open_volume("v", hint)):
        np.testing.assert_array_equal(handle.read(box), ARRAY[box.slices])
        np.testing.assert_array_equal(handle.read(SPEC.box), ARRAY)
    assert any("tensorstore" in agent for agent in server.agents) == (engine != "zarr-python")


def test_what_is_refused_to_tensorstore_is_read_by_zarr_python_with_one_line_logged(tmp_path, server, caplog):
    hint = write(tmp_path).hint
    server.refuse = True
    place = Location(f"http://127.0.0.1:{server.server_port}")
    handle = ZarrBackend(place).open_volume("v", hint)
    for _ in range(2):
        np.testing.assert_array_equal(handle.read(SPEC.box), ARRAY)
    assert len([record for record in caplog.records if "zarr-python" in record.getMessage()]) == 1
    with pytest.raises(OSError, match=r"403|denied|PERMISSION"):
        ZarrBackend(place, "tensorstore").open_volume("v", hint).read(SPEC.box)
