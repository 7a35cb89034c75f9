"""Threads and forked children that read TileDB arrays: right voxels, and never a hang."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from radiobject.backends.tiledb import context
from radiobject.geometry.box import Box
from radiobject.location import Location
from radiobject.measuring import measure
from tests.backends.tiledb_ground import ARRAY, opened, right, write

tiledb = pytest.importorskip("tiledb")
ROOT = Path(__file__).resolve().parents[2]

FORK = """
import os, signal, sys, threading
from concurrent.futures import ThreadPoolExecutor
from tests.backends.tiledb_ground import SPEC, opened, right, write

folder, before, leave, children = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
handle = opened(folder)
done = threading.Event()
if before == "opened":
    handle.native()
elif before != "nothing":
    assert right(handle)

def read_on():
    while not done.is_set():
        assert right(handle)

readers = [threading.Thread(target=read_on) for _ in range(3 if before == "reading" else 0)]
for thread in readers:
    thread.start()
for number in range(children):
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)  # ends a child that hangs, whatever lock it waits for
        found = right(handle) and right(opened(folder))
        with ThreadPoolExecutor(4) as pool:
            found = found and all(pool.map(right, [handle] * 4))
        if number == 0:
            write(folder, "of-a-child")
        if leave == "at once":
            os._exit(0 if found else 9)
        done.set()
        sys.exit(0 if found else 9)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == 0, f"child {number} ended with {code}"
done.set()
for thread in readers:
    thread.join()
assert right(handle) and right(opened(folder, "of-a-child"))
print("right in all")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("leave", ["at once", "by exit"])
@pytest.mark.parametrize("before", ["nothing", "opened", "read", "reading"])
def test_forked_children_read_and_write(tmp_path, before, leave):
    if leave == "by exit" and not sys.platform.startswith("linux"):
        pytest.skip("only glibc can skip the destructors that wait for lost threads")
    write(tmp_path)
    children = "30" if leave == "at once" else "8"
    done = subprocess.run(
        # TileDB warns of forks, and from Python 3.12 on Python does; this test is about exactly that
        [sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path), before, leave, children],
        capture_output=True, text=True, timeout=240, cwd=ROOT,
    )  # fmt: skip
    assert (done.stdout.strip(), done.returncode) == ("right in all", 0), done.stderr


TEMPORARY = """
import os, sys
from radiobject.backends.base import Level
from radiobject.backends.tiledb import TileDBBackend
from radiobject.location import Location
from tests.backends.tiledb_ground import ARRAY, SPEC, opened, right

writer = TileDBBackend(Location(sys.argv[1])).create_volume("v", [Level("0", SPEC)], {}, {})
first, *rest = SPEC.shard_boxes()
writer.write(0, first, ARRAY[first.slices])
child = os.fork()
if child == 0:
    del writer
    sys.exit()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
for box in rest:
    writer.write(0, box, ARRAY[box.slices])
writer.finish()
assert right(opened(sys.argv[1]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="leaves a forked child by exit")
def test_a_child_leaves_the_files_of_its_writing_parent_alone(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", TEMPORARY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_eight_threads_share_a_handle_that_none_has_opened(tmp_path):
    write(tmp_path)
    handle = opened(tmp_path)
    rng = np.random.default_rng(0)
    starts = [tuple(int(n) for n in rng.integers(0, 24, 3)) for _ in range(400)]
    wanted = [Box(start, tuple(n + 16 for n in start)) for start in starts]
    with ThreadPoolExecutor(8) as pool:
        for box, block in zip(wanted, pool.map(handle.read, wanted), strict=True):
            np.testing.assert_array_equal(block, ARRAY[box.slices])


def test_volumes_are_opened_again_when_their_context_is_worn(tmp_path, monkeypatch):
    """libtiledb keeps something of every query in its context; a million patches would fill the memory."""
    monkeypatch.setattr(context, "LIFE", 20)
    for name in "ab":
        write(tmp_path, name)
    handles = [opened(tmp_path, name) for name in "ab"]
    before = handles[0].native().ctx
    box = Box((3, 4, 5), (4, 20, 30))
    with measure() as m, ThreadPoolExecutor(8) as pool:
        for block in pool.map(lambda n: handles[n % 2].read(box), range(200)):
            np.testing.assert_array_equal(block, ARRAY[box.slices])
    assert handles[0].native().ctx is not before
    assert m["bytes_read"] > 200 * 1000  # what worn contexts read is counted


def test_a_worn_context_is_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(context, "LIFE", 5)
    write(tmp_path)
    handle = opened(tmp_path)
    assert right(handle)
    kept, seen = len(context._contexts), set()
    for _ in range(60):
        assert right(handle)
        seen.add(id(handle.native().ctx))
        assert len(context._contexts) == kept
    assert len(seen) > 1


def test_a_pickle_holds_neither_context_nor_secrets(tmp_path):
    hint = write(tmp_path).hint
    handle = opened(Location(tmp_path, {"key": "sesame"}), "v", hint)
    assert right(handle)
    data = pickle.dumps(handle)
    assert b"sesame" not in data
    assert len(data) < 2000
    assert right(pickle.loads(data))


def test_threads_share_one_context(tmp_path):
    here = Location(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: id(context.context_for(here)), range(50)))
    assert len(set(found)) == 1
