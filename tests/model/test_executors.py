"""Where functions run: threads, processes and a dask cluster give one answer, and say who failed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject, WriteConfig, configure
from radiobject.errors import ConfigError, TransformError, WorkerError
from radiobject.executor import run
from radiobject.location import Location, secrets_kept

SCALE = 3


@pytest.fixture(scope="module")
def client() -> Iterator[object]:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as made,
    ):
        yield made


@pytest.fixture(params=["serial", "threads", "processes", "dask"])
def executor(request: pytest.FixtureRequest) -> object:
    return request.getfixturevalue("client") if request.param == "dask" else request.param


class TwoArguments(Exception):
    """Cannot be unpickled: its constructor wants more than it keeps."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


not_in_memory = pytest.mark.gap(
    "memory",
    executor=("processes", "dask"),
    reason="what a worker process writes to its own memory is gone with it",
    raises=ConfigError,
)
few = pytest.mark.only("tensorstore", "tiledb", reason="every worker process takes a second to start")


@not_in_memory
def test_every_executor_writes_the_same_study(study, executor, tmp_path: Path) -> None:
    radi = study(None, {"obs_subject_id": ["sub-03", "sub-01", "sub-02"], "age": [70, 40, 55]})
    offset = 10  # closed over, as SCALE is a global of this module: both travel

    def scaled(volume, row):
        return volume * SCALE + offset, {"older": row["age"] + 1}

    made = radi.T1w.lazy().map(scaled).write(tmp_path / "out", executor=executor, workers=2)
    assert [int(v[0, 0, 0]) for v in made] == [19, 13, 16]
    assert made.obs.read()["older"].tolist() == [71, 41, 56]
    assert RadiObject(tmp_path / "out").validate("full").ok
    volumes = radi.T1w.lazy().map(scaled).iter_volumes(executor=executor, workers=2)
    assert [(v.obs_id, int(v[0, 0, 0])) for v in volumes] == [
        ("sub-03_T1w", 19), ("sub-01_T1w", 13), ("sub-02_T1w", 16),
    ]  # fmt: skip


@pytest.mark.only("tensorstore", reason="a failure of the caller's function, whatever was read")
def test_every_executor_names_the_volume_that_failed(study, executor) -> None:
    radi = study()

    def picky(volume, row):
        if row["obs_subject_id"] == "sub-01":
            raise TwoArguments("odd", "one")
        return volume

    with pytest.raises(TransformError, match=r"picky for 'sub-01_T1w'.*TwoArguments: odd") as caught:
        radi.T1w.map(picky, executor=executor, workers=2)
    assert caught.value.obs_ids == ("sub-01_T1w",)
    collected = radi.T1w.map(picky, executor=executor, workers=2, errors="collect")
    assert collected.obs_ids == ["sub-03_T1w", "sub-02_T1w"]


@not_in_memory
def test_ingest_and_copies_run_on_every_executor(study, executor, tmp_path: Path) -> None:
    radi = study(uri=tmp_path / "made", executor=executor, workers=2)
    assert [int(v[0, 0, 0]) for v in radi.T1w] == [3, 1, 2]
    copy = radi.write(tmp_path / "copy", executor=executor, workers=2)
    assert [int(v[0, 0, 0]) for v in copy.seg] == [13, 11, 12]
    assert copy.validate("full").ok


@few
def test_settings_hold_in_the_workers(study, tmp_path: Path) -> None:
    radi = study()
    with configure(write=WriteConfig.preset("none")):
        made = radi.T1w.lazy().map(lambda v, row: v).write(tmp_path / "out", executor="processes", workers=1)
    assert made.iloc[0]._handle.spec.codec.algorithm == "none"


@few
def test_processes_never_import_the_callers_script(study, tmp_path: Path) -> None:
    # pasted at the top level of a file: no "if __name__ == '__main__'", and it runs once
    radi = study()
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from radiobject import RadiObject
            open({str(tmp_path / "runs")!r}, "a").write("x")
            class Rule:
                factor = 2
            def fn(volume, row):
                return volume * Rule.factor
            radi = RadiObject({radi.uri!r})
            print([int(v[0, 0, 0]) for v in radi.T1w.map(fn, executor="processes", workers=2)])
            """
        )
    )
    ran = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, check=False)
    assert ran.stdout == "[6, 2, 4]\n", ran.stderr
    assert (tmp_path / "runs").read_text() == "x"


@pytest.mark.only("tensorstore", reason="a failure of the caller's function, whatever was read")
def test_a_dead_worker_is_an_error_that_names_the_volumes_at_work(study) -> None:
    def die(volume, row):
        os._exit(9)

    with pytest.raises(WorkerError, match="worker process") as caught:
        study().T1w.map(die, executor="processes", workers=1)
    assert "sub-03_T1w" in " ".join(caught.value.__notes__)


@pytest.mark.only("memory", "zarr-python on fsspec", reason="places in memory")
def test_memory_of_this_process_is_not_that_of_others(backend) -> None:
    images = {"T1w": [((np.zeros((2, 2, 2), "i2"), np.eye(4)), "a")]}
    radi = RadiObject.from_niftis(backend.uri(), images, backend=backend.backend)
    with pytest.raises(ConfigError, match=r"memory of this process"):
        radi.T1w.map(lambda v, row: v, executor="processes")


@pytest.mark.only("memory", reason="about volumes in memory of a study on a disk")
def test_volumes_in_memory_are_not_written_by_other_processes(study, tmp_path: Path) -> None:
    radi, place = study(), tmp_path / "out"
    for write in (
        lambda: study(uri=place, executor="processes"),
        lambda: radi.write(place, executor="processes"),
        lambda: radi.T1w.lazy().map(lambda v, row: v).write(place, executor="processes"),
    ):
        with pytest.raises(ConfigError, match="memory of this process"):
            write()
    assert not place.exists()


@pytest.mark.no_backend(reason="tasks without volumes")
def test_a_run_that_nobody_goes_on_with_can_be_closed_by_any_thread() -> None:
    """The garbage collector closes it, in the thread that happens to be collecting."""
    given_up, closed = threading.Event(), threading.Event()

    def task(n: int) -> None:
        if n and given_up.wait(60):
            results.close()
            closed.set()

    results = run(task, [0, 1], executor="threads", workers=2, ordered=True)
    assert next(results) == (0, None)
    given_up.set()
    assert closed.wait(60)


@pytest.mark.only("tensorstore", reason="threads of a query, whatever it reads")
@pytest.mark.parametrize("ask", ["iter_volumes", "to_numpy_stack", "write"])
def test_a_query_that_fails_leaves_no_thread_behind(study, ask, tmp_path: Path) -> None:
    query = study().T1w.lazy().map(lambda v, row: 1 / 0)
    how = {"uri": tmp_path / "out"} if ask == "write" else {}
    with pytest.raises(TransformError) as held:
        list(getattr(query, ask)(workers=2, **how))
    # the error is held, and with it all that its traceback names
    assert not [t.name for t in threading.enumerate() if t.name.startswith("radiobject")], held


@pytest.mark.no_backend(reason="tasks without volumes")
def test_secrets_travel_to_own_processes_and_nowhere_else() -> None:
    import pickle

    location = Location("s3://bucket/study", {"key": "me", "secret": "mine", "endpoint_url": "http://x"})
    with secrets_kept():
        assert pickle.loads(pickle.dumps(location)).options["secret"] == "mine"
    assert pickle.loads(pickle.dumps(location)).options == {"endpoint_url": "http://x"}
    assert list(run(lambda place: place.options["secret"], [location], executor="processes", workers=1)) == [
        (0, "mine")
    ]


@pytest.mark.no_backend(reason="tasks without volumes")
def test_ordered_results_come_in_order_and_bounded(executor) -> None:
    taken = []

    def items():
        for n in range(8):
            taken.append(n)
            yield n

    for position, result in run(lambda n: n * n, items(), executor=executor, workers=2, ordered=True):
        assert result == position**2
        assert len(taken) <= position + 3
    assert taken == list(range(8))
