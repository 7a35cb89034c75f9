"""Any request to S3 may fail: a change is done and right, or an error of ours and the study as before.

An ordinary run lets one request in eight of each change fail, CI each of them once, `make chaos` each in
every way; the patient client, which waits for seconds, meets fewer. The seed is printed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.backends.zarr import ZarrBackend, tensorstore_engine
from radiobject.errors import RadiObjectError
from radiobject.format import exclusive
from radiobject.location import Location
from tests.faults.ground import (
    CHANGES,
    CHAOS,
    EVERY,
    assert_done_or_undone,
    build,
    dice,
    fresh,
    seed,
    state,
)
from tests.faults.proxy import KINDS, Proxy, fault_proxy
from tests.servers.s3 import KEYS, s3_server

pytestmark = pytest.mark.slow

s3fs = pytest.importorskip("s3fs")
pytest.importorskip("moto")

STRIDE = {"impatient": 1 if EVERY else 8, "patient": 1 if CHAOS else 6 if EVERY else 40}
"""Of so many requests one fails. The patient client waits for seconds before it tries again."""
FAULTED = ("create", "append", "delete", "tag", "restore", "cleanup")


DECIDES = r"^PUT .*/(versions|tags)/"
DECISIVE = ("lost reply", "500 after", "412", "409")


@dataclass
class Client:
    """What a client of S3 is told, and one in how many of its requests shall fail."""

    options: dict[str, Any]
    stride: int
    decisive: tuple[str, ...]


@dataclass
class Server:
    """moto, and the proxy before it."""

    options: dict[str, Any]
    direct: dict[str, Any]
    proxy: Proxy

    def put(self, uri: str, objects: dict[str, bytes]) -> None:
        """The objects of a study at another place, past the proxy."""
        fs, root = Location(uri, self.direct).filesystem()
        if objects:
            fs.pipe({f"{root}/{key}": data for key, data in objects.items()})

    def objects(self, uri: str) -> dict[str, bytes]:
        """All that stands below a place."""
        fs, root = Location(uri, self.direct).filesystem()
        return {path.removeprefix(f"{root}/"): fs.cat_file(path) for path in fs.find(root)}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with s3_server("bucket") as direct, fault_proxy(direct["endpoint_url"]) as (url, proxy):
        yield Server({**direct, "endpoint_url": url}, direct, proxy)


@pytest.fixture(params=["patient", "impatient"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client that tries again, as they come, and one whose every failure reaches us."""
    if request.param == "patient":
        return Client({}, STRIDE["patient"], ("lost reply",))
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    return Client({"config_kwargs": {"retries": {"max_attempts": 0}}}, STRIDE["impatient"], DECISIVE)


def requests_of(server: Server, base: dict[str, bytes], name: str, uri: str) -> list[str]:
    """The requests of one change when nothing fails."""
    server.put(uri, base)
    exclusive._probed.clear()
    server.proxy.arm()
    CHANGES[name][1](uri, server.options)
    return server.proxy.disarm()[0]


def decisive(requests: list[str]) -> list[int]:
    """Which of them create a version or a tag."""
    return [n for n, one in enumerate(requests, 1) if re.search(DECIDES, one)]


def assert_whole(uri: str, server: Server) -> None:
    report = fresh(uri, server.direct).validate("full")
    assert [p for p in report.problems if p.kind != "hint"] == []


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FAULTED)
def test_a_failing_request_leaves_a_change_done_or_undone(
    name: str, server: Server, client: Client, capsys: pytest.CaptureFixture[str], request: Any
) -> None:
    number = seed()
    roll = dice(number)
    change, root = CHANGES[name][1], f"s3://bucket/{request.node.callspec.id}"
    build(f"{root}/base", server.direct, name)
    base = server.objects(f"{root}/base") if CHANGES[name][0] else {}
    before = state(f"{root}/base", server.direct) if base else None
    requests = requests_of(server, base, name, f"{root}/whole")
    total = len(requests)
    after = state(f"{root}/whole", server.direct)
    assert name == "cleanup" or after != before
    outcomes: Counter[str] = Counter()
    options = {**server.options, **client.options}
    some = range(1 + roll.randrange(min(client.stride, total)), total + 1, client.stride)
    trials = [
        (n, kind) for n in some for kind in (KINDS if CHAOS and client.options else [roll.choice(KINDS)])
    ]
    # the request that decides, always; and every answer to it that is not the truth
    trials += [(0, kind) for kind in client.decisive if decisive(requests)]
    for index, kind in trials:
        trial = f"seed {number}: {kind} at {index} of {total}"
        uri = f"{root}/{index}-{kind.replace(' ', '-')}"
        server.put(uri, base)
        exclusive._probed.clear()  # a process that begins asks again whether two writers are told apart
        if index:
            server.proxy.arm(kind, index)
        else:
            server.proxy.arm(kind, 1, match=DECIDES)
        error = None
        try:
            change(uri, options)
        except RadiObjectError as found_out:
            error = found_out
        failed = server.proxy.disarm()[1]
        found = state(uri, server.direct)
        # what this process has fetched of another study may save requests, so that the last ones do not come
        assert failed == 1 or index > total // 2, trial
        assert_done_or_undone(name, error, found, before, after, trial)
        outcomes["an error" if error else "done"] += 1
        if found != after or name == "cleanup":
            change(uri, server.direct)
            assert state(uri, server.direct)["volumes"] == after["volumes"], trial
        if error is not None:
            assert_whole(uri, server)
    with capsys.disabled():
        print(
            f" [seed {number}: {sum(outcomes.values())} faults at {total} requests, {dict(outcomes)}]", end=""
        )


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["append", "delete", "restore"] if EVERY else ["append"])
def test_a_server_that_stays_away_leaves_a_change_done_or_undone(
    name: str, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number = seed()
    roll = dice(number)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    monkeypatch.setattr(exclusive, "_LONGEST_PAUSE", 0.01)
    options = {**server.options, "config_kwargs": {"retries": {"max_attempts": 0}}}
    change, root = CHANGES[name][1], f"s3://bucket/away-{name}"
    build(f"{root}/base", server.direct, name)
    base = server.objects(f"{root}/base")
    before = state(f"{root}/base", server.direct)
    seen = requests_of(server, base, name, f"{root}/whole")
    after = state(f"{root}/whole", server.direct)
    assert after is not None
    (commit,) = decisive(seen)
    some = roll.sample(range(1, commit), commit - 1 if CHAOS else 2)
    for index in [*sorted(some), commit, *range(commit + 1, len(seen) + 1)]:
        for kind in KINDS if CHAOS else [roll.choice(KINDS)]:
            uri, trial = f"{root}/{index}-{kind.replace(' ', '-')}", f"seed {number}: {kind} from {index}"
            server.put(uri, base)
            exclusive._probed.clear()
            server.proxy.arm(kind, index, "from")
            error = None
            try:
                change(uri, options)
            except RadiObjectError as found:
                error = found
            server.proxy.disarm()
            now = state(uri, server.direct)
            if error is None:
                assert now == after, trial
                assert index > commit, trial
            elif now == after:
                # the one thing that nobody can know: the commit arrived, and no answer ever came
                assert index == commit, trial
                assert "outcome is unknown" in str(error), trial
            else:
                assert now == before, trial
                assert index <= commit, trial
                change(uri, server.direct)
                again = state(uri, server.direct)
                assert again is not None
                assert again["volumes"] == after["volumes"], trial
            assert_whole(uri, server)
    with capsys.disabled():
        print(
            f" [seed {number}: {name}, server away from {len(some)} + {len(seen) - commit + 1} requests on]",
            end="",
        )


@pytest.mark.parametrize("engine", ["tensorstore", "zarr-python"])
def test_a_failing_read_is_right_or_an_error_of_ours(
    engine: str, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number = seed()
    roll = dice(number)
    monkeypatch.setattr(ZarrBackend.__init__, "__defaults__", (engine,))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["secret"])
    plain = {name: value for name, value in server.options.items() if name not in KEYS}
    voxels = np.random.default_rng(0).integers(-1000, 1000, (70, 50, 40), dtype=np.int16)
    uri = f"s3://bucket/read-{engine}"
    RadiObject.from_niftis(
        uri, {"T1w": [((voxels, np.eye(4)), "a")]}, executor="serial", storage_options=server.direct
    )

    def read() -> tuple[Any, Any]:
        # another cache for each read, so that none is served from what the last one fetched
        tensorstore_engine._context.cache_clear()
        volume = fresh(uri, plain).T1w.iloc[0]
        return volume[:], volume[30:40, 10:20, 5:15]

    server.proxy.arm()
    read()
    total = len(server.proxy.disarm()[0])
    outcomes: Counter[str] = Counter()
    for index in range(1, total + 1):
        for kind in KINDS if EVERY else roll.sample(KINDS, 2):
            trial = f"seed {number}: {kind} at {index} of {total}"
            server.proxy.arm(kind, index)
            try:
                whole, part = read()
            except RadiObjectError:
                outcomes["an error"] += 1
            else:
                np.testing.assert_array_equal(whole, voxels, err_msg=trial)
                np.testing.assert_array_equal(part, voxels[30:40, 10:20, 5:15], err_msg=trial)
                outcomes["right"] += 1
            assert server.proxy.disarm()[1] == 1, trial
    whole, _ = read()
    np.testing.assert_array_equal(whole, voxels)
    with capsys.disabled():
        print(f" [seed {number}: {engine}, {total} requests, {dict(outcomes)}]", end="")
