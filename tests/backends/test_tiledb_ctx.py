"""A caller's `tiledb.Ctx`: what reads by it, for how long, and what other processes do without it."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject, Volume, get_tiledb_ctx, measure
from radiobject.backends.tiledb import context
from radiobject.errors import CapabilityError
from radiobject.location import secrets_kept

tiledb = pytest.importorskip("tiledb")
ROOT = Path(__file__).resolve().parents[2]
ARRAY = np.arange(40 * 33 * 9, dtype="i2").reshape(40, 33, 9)
IMAGES = {"T1w": [((ARRAY + n, np.eye(4)), f"sub-{n}") for n in range(2)]}


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(RadiObject.from_niftis(tmp_path / "study", IMAGES, backend="tiledb").uri)


def reader(volume: Volume) -> Any:
    """The context that reads a volume, which is checked to give the right voxels."""
    found = volume.to_numpy()
    np.testing.assert_array_equal(found - found[0, 0, 0], ARRAY)
    return volume._handle.native().ctx


def test_everything_that_is_made_from_a_handle_reads_by_its_context(uri: str) -> None:
    ctx = tiledb.Ctx()
    radi = RadiObject(uri, ctx=ctx)
    for volume in (
        radi.T1w[0],
        radi.head(1).T1w[0],
        radi.loc["sub-1"].T1w.iloc[0],
        radi.get_volume("sub-1_T1w"),
        next(radi.T1w.lazy().iter_volumes()),
        radi.T1w[0].reorient("LPS").reorient("RAS"),
    ):
        assert reader(volume) is ctx
    assert reader(RadiObject(uri).T1w[0]) is not ctx


def test_later_versions_read_by_it_too(uri: str) -> None:
    ctx = tiledb.Ctx()
    radi = RadiObject(uri, ctx=ctx)
    radi.append({"T1w": [((ARRAY, np.eye(4)), "sub-7")]}, {"obs_subject_id": ["sub-7"]})
    assert reader(radi.get_volume("sub-7_T1w")) is ctx
    radi.T1w.append([((ARRAY, np.eye(4)), "sub-8")])
    radi.rename_collection("T1w", "t1")
    radi.add_collection("half", radi.t1.lazy().map(lambda voxels, row: voxels))
    radi.obs_meta.add_column("age", fill=50)
    with radi.transaction() as block:
        block.delete(subjects="sub-0")
        assert reader(block.half[0]) is ctx
    assert reader(radi.half[0]) is ctx
    assert len(radi) == 3


def test_a_copy_elsewhere_is_another_study(uri: str, tmp_path: Path) -> None:
    ctx = tiledb.Ctx()
    assert reader(RadiObject(uri, ctx=ctx).write(tmp_path / "copy").T1w[0]) is not ctx


def test_a_context_keeps_its_arrays_open_however_long(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "LIFE", 5)
    volume = RadiObject(uri, ctx=tiledb.Ctx()).T1w[0]
    first = volume._handle.native()
    for _ in range(20):
        reader(volume)
    assert volume._handle.native() is first


def test_a_context_is_let_go_with_its_handles(uri: str) -> None:
    ctx = tiledb.Ctx()
    radi, gone = RadiObject(uri, ctx=ctx), weakref.ref(ctx)
    assert reader(radi.T1w[0]) is ctx
    del ctx, radi
    gc.collect()
    assert gone() is None


def cost(uri: str, ctx: Any, studies: int = 1, *, kept: bool = True) -> dict[str, int]:
    """What it costs to read a volume of as many handles by a context."""
    with measure() as counted:
        handles = [RadiObject(uri, ctx=ctx) for _ in range(studies)]
        for radi in handles:
            assert reader(radi.T1w[0]) is ctx
        if not kept:
            del radi, handles
            gc.collect()
    return {name: counted[name] for name in ("requests", "bytes_read")}


def test_what_is_read_by_a_context_is_counted_once_and_what_others_read_is_not(uri: str) -> None:
    cost(uri, tiledb.Ctx())  # from here on TileDB counts
    wanted, ctx = cost(uri, tiledb.Ctx()), tiledb.Ctx()
    with tiledb.open(RadiObject(uri).T1w[0].uri + "/0", ctx=ctx) as array:
        assert array[...].nbytes == ARRAY.nbytes
    assert cost(uri, ctx) == wanted
    assert cost(uri, tiledb.Ctx(), kept=False) == wanted
    assert cost(uri, tiledb.Ctx(), 2) == {name: 2 * n for name, n in wanted.items()}
    with measure() as own:
        reader(RadiObject(uri).T1w[0])
    assert own["bytes_read"] > wanted["bytes_read"] / 2


def test_a_pickle_leaves_the_context_behind(uri: str) -> None:
    ctx = tiledb.Ctx()
    radi = RadiObject(uri, ctx=ctx)
    alone = Volume(radi.T1w[0].uri, ctx=ctx)
    things = radi, radi.T1w, radi.T1w.lazy(), radi.T1w[0], alone
    assert reader(alone) is ctx
    whole, collection, query, volume, single = pickle.loads(pickle.dumps(things))
    for found in (whole.T1w[0], collection[0], next(query.iter_volumes()), volume, single):
        assert reader(found) is not ctx


def test_worker_processes_read_by_their_own(uri: str) -> None:
    radi = RadiObject(uri, ctx=tiledb.Ctx())
    found = radi.T1w.map(lambda voxels, row: int(voxels[0, 0, 0]), executor="processes", workers=1)
    assert list(found) == [0, 1]


FORK = """
import os, signal, sys, threading, traceback
import tiledb
from radiobject import RadiObject, get_tiledb_ctx
from radiobject.errors import ConfigError
from radiobject.parallel import ctx_for_process

uri, leave = sys.argv[1], sys.argv[2]
theirs, shared, own = tiledb.Ctx(), get_tiledb_ctx(), ctx_for_process()
studies = [RadiObject(uri, ctx=c) for c in (theirs, shared, own)]
unused = [ctx_for_process(), RadiObject(uri, ctx=tiledb.Ctx())]
done = threading.Event()

def right(radi, ctx=None):
    volume = radi.T1w[0]
    found = volume.to_numpy()
    return int(found[0, 0, 9 - 1]) == 8 and (ctx is None or volume._handle.native().ctx is ctx)

def read_on():
    while not done.is_set():
        assert all(right(radi) for radi in studies)

assert all(right(radi, ctx) for radi, ctx in zip(studies, (theirs, shared, own)))
volumes = [radi.T1w[0] for radi in studies]
assert all(volume.to_numpy().any() for volume in volumes)
readers = [threading.Thread(target=read_on) for _ in range(3)]
for thread in readers:
    thread.start()

def child():
    global theirs, shared, own, studies, volumes, unused
    assert all(v.to_numpy().any() and v._handle.native().ctx not in (theirs, shared, own) for v in volumes)
    assert all(right(radi) for radi in studies)
    assert get_tiledb_ctx() is not shared
    assert right(RadiObject(uri, ctx=shared)) and right(RadiObject(uri, ctx=own))
    try:
        RadiObject(uri, ctx=theirs)
    except ConfigError as error:
        assert "ctx_for_process" in str(error)
    else:
        raise AssertionError("took a context of the parent's")
    for base in (theirs, shared, own, None):
        made = ctx_for_process(base)
        assert right(RadiObject(uri, ctx=made), made)
    del theirs, shared, own, studies, volumes, unused

try:
    for number in range(20 if leave == "at once" else 5):
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)  # ends a child that hangs, whatever lock it waits for
            code = 9
            try:
                child()
                code = 0
            except BaseException:
                traceback.print_exc()
            if code or leave == "at once":
                os._exit(code)
            sys.exit()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code == 0, f"child {number} ended with {code}"
finally:
    done.set()
for thread in readers:
    thread.join()
assert all(right(radi, ctx) for radi, ctx in zip(studies, (theirs, shared, own)))
print("right in all")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("leave", ["at once", "by exit"])
def test_forked_children_leave_the_contexts_of_their_parent_alone(uri: str, leave: str) -> None:
    if leave == "by exit" and not sys.platform.startswith("linux"):
        pytest.skip("only glibc can skip the destructors that wait for lost threads")
    done = subprocess.run(
        # TileDB warns of forks, and from Python 3.12 on Python does; this test is about exactly that
        [sys.executable, "-W", "ignore", "-c", FORK, uri, leave],
        capture_output=True, text=True, timeout=240, cwd=ROOT,
    )  # fmt: skip
    assert (done.stdout.strip(), done.returncode) == ("right in all", 0), done.stderr


@pytest.fixture
def server() -> Iterator[dict[str, Any]]:
    for package in ("s3fs", "moto"):
        pytest.importorskip(package)
    from tests.servers.s3 import s3_server

    with s3_server("bucket") as options:
        yield options


def test_a_context_reads_an_s3_study_whose_options_tiledb_has_not(server: dict[str, Any]) -> None:
    uri = "s3://bucket/study"
    RadiObject.from_niftis(uri, IMAGES, backend="tiledb", storage_options=server)
    plain = {k: v for k, v in server.items() if k != "endpoint_url"}
    options = {**plain, "client_kwargs": {"endpoint_url": server["endpoint_url"]}}
    with pytest.raises(CapabilityError, match="client_kwargs"):
        RadiObject(uri, storage_options=options).T1w[0]
    ctx = tiledb.Ctx(
        {
            "vfs.s3.scheme": "http",
            "vfs.s3.endpoint_override": server["endpoint_url"].removeprefix("http://"),
            "vfs.s3.use_virtual_addressing": "false",
            "vfs.s3.aws_access_key_id": server["key"],
            "vfs.s3.aws_secret_access_key": server["secret"],
            "vfs.s3.region": "us-east-1",
        }
    )
    radi = RadiObject(uri, ctx=ctx, storage_options=options)
    assert reader(radi.T1w[0]) is ctx
    with secrets_kept():
        pickled = pickle.dumps(radi)
    with pytest.raises(CapabilityError, match="client_kwargs"):
        pickle.loads(pickled).T1w[0]


def test_the_shared_context_is_not_one_that_wears_out(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "LIFE", 5)
    shared = get_tiledb_ctx()
    volume = RadiObject(uri).T1w[0]
    assert all(reader(volume) is not shared for _ in range(20))
    assert get_tiledb_ctx() is shared


def test_counters_of_a_context_that_has_read_nothing_are_zero() -> None:
    with measure():
        pass  # from here on TileDB counts
    fresh = context.of_caller(tiledb.Ctx())
    assert fresh.totals() == {"requests": 0, "bytes_read": 0}
