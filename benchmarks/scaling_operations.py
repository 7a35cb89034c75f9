"""What is done to a study of many subjects, one operation a process: its work, time and peak memory."""

from __future__ import annotations

import contextlib
import functools
import gc
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from radiobject import RadiObject, measure
from radiobject.format import catalog
from radiobject.format.changes import CollectionEdit, Edit
from radiobject.format.transaction import Transaction

__all__ = [
    "AFTER_COMMITS",
    "NAMES",
    "OPERATIONS",
    "WORK",
    "Operation",
    "append_edit",
    "cost_of",
    "grow",
    "in_a_process",
]

NAMES = ("T1w", "FLAIR", "T2w", "seg")
ID = "obs_subject_id"
WORK = ("requests", "bytes_read", "bytes_written", "row_groups", "rows")

Ask = Callable[[RadiObject], Any]


@dataclass(frozen=True)
class Operation:
    """Something to be measured. `ready` is called before each round, untimed; `kind` groups it in a plot.

    `ask` gets a study opened anew, or what `ready` made of it. One that `looks` for the objects of volumes is
    asked where they are.
    """

    name: str
    kind: str
    ask: Callable[[Any], Any]
    ready: Callable[[RadiObject], Any] = lambda radi: radi
    rounds: int = 5
    looks: bool = False


def _middle(radi: RadiObject) -> str:
    subject: str = radi.iloc[len(radi) // 2].obs_subject_ids[0]
    return subject


def _opened(uri: str) -> RadiObject:
    """A study opened as by a process that has not seen it."""
    catalog._snapshots.clear()
    return RadiObject(uri)


def _of_middle(radi: RadiObject) -> tuple[RadiObject, str]:
    """A handle that has read nothing, and the subject in the middle."""
    return _opened(str(radi.uri)), _middle(radi)


def append_edit(radi: RadiObject, subjects: list[str]) -> Edit:
    """A row in every table for each new subject: those of the first one under other ids."""
    held = radi._study.snapshot
    zeros = pa.array([0] * len(subjects))

    def like(table: pa.Table, **values: Any) -> pa.Table:
        rows = table.slice(0, 1).take(zeros)
        for name, value in {ID: subjects, **values}.items():
            at = rows.schema.get_field_index(name)
            rows = rows.set_column(at, rows.schema.field(at), pa.array(value, rows.schema.field(at).type))
        return rows

    first = [0]
    meta, ledger = (held.table(n) for n in ("obs_meta", "ledger"))
    edit = Edit(subjects=like(meta.rows(first, meta.schema.names)))
    edit.ledger = like(ledger.rows(first, ledger.schema.names), obs_id=[f"{s}_{NAMES[0]}" for s in subjects])
    for name in NAMES:
        entry, added = radi._study.entry(name), {}
        for kind in ("obs", "thumbnails"):
            table = held.table(kind, name)
            added[kind] = like(
                table.rows(first, table.schema.names), obs_id=[f"{s}_{name}" for s in subjects]
            )
        edit.collections[name] = CollectionEdit(entry.kind, entry.backend, added=added)
    return edit


def _to_append(many: int) -> Callable[[RadiObject], tuple[RadiObject, Edit]]:
    """What makes an append of some subjects ready."""

    def ready(radi: RadiObject) -> tuple[RadiObject, Edit]:
        edit = append_edit(radi, [f"new-{radi.version:06d}-{i:03d}" for i in range(many)])
        return _opened(str(radi.uri)), edit

    return ready


def commit(what: tuple[RadiObject, Edit]) -> int:
    """Commit an edit to the version that a handle shows."""
    radi, edit = what
    snapshot = radi._study.snapshot
    return Transaction(snapshot.storage, snapshot, "append").commit(edit).version


def _to_race(radi: RadiObject) -> tuple[RadiObject, Edit]:
    """An append whose base is no longer the newest version when it commits."""
    mine = _to_append(1)(radi)
    commit((_opened(str(radi.uri)), append_edit(radi, [f"other-{radi.version:06d}"])))
    return mine


def _to_fold(radi: RadiObject) -> tuple[RadiObject, Edit]:
    """An append that leaves tables with one part more than they may have."""
    for _ in range(100):
        parts = radi._study.snapshot.commit.tables["obs_meta"]
        if len(parts) == 32:
            break
        commit(_to_append(1)(radi))
        radi = _opened(str(radi.uri))
    return _to_append(1)(radi)


def _to_compact(radi: RadiObject) -> tuple[RadiObject, Edit]:
    commit(_to_append(1)(radi))  # so that there is something to fold
    return _opened(str(radi.uri)), Edit(compact=True)


def _set_age(what: tuple[RadiObject, str]) -> None:
    radi, subject = what
    radi.obs_meta.update({ID: [subject], "age": [radi.version]})


def _set_reviewed(what: tuple[RadiObject, str]) -> None:
    radi, subject = what
    radi.T1w.obs.update({"obs_id": [f"{subject}_T1w"], "reviewed": [radi.version]})


def _to_set_reviewed(radi: RadiObject) -> tuple[RadiObject, str]:
    if "reviewed" not in radi.T1w.obs.columns:
        radi.T1w.obs.add_column("reviewed", fill=0)
    return _of_middle(_opened(str(radi.uri)))


def _delete(what: tuple[RadiObject, str]) -> None:
    radi, subject = what
    radi.delete(subjects=subject)


def _to_clean(radi: RadiObject) -> RadiObject:
    """Leaves old versions to expire: an append and an update of one subject."""
    commit(_to_append(1)(radi))
    _set_age(_of_middle(_opened(str(radi.uri))))
    return _opened(str(radi.uri))


def _clean(radi: RadiObject, *, dry_run: bool) -> None:
    radi.cleanup(keep=1, older_than=0, force=True, dry_run=dry_run)


def _to_diff(change: Callable[[RadiObject], Any]) -> Ask:
    def ready(radi: RadiObject) -> tuple[RadiObject, int]:
        before = radi.version
        change(radi)
        return _opened(str(radi.uri)), before

    return ready


def _diff(what: tuple[RadiObject, int]) -> Any:
    radi, before = what
    return radi.diff(before)


def _sized(ask: Ask) -> Ask:
    return lambda radi: len(ask(radi))


OPERATIONS = (
    Operation("open", "look", lambda uri: RadiObject(uri), lambda radi: _forget(str(radi.uri)), 15),
    Operation("read obs_meta", "read", lambda radi: radi.obs_meta.read()),
    Operation("loc, a subject's volume", "look", lambda w: w[0].loc[w[1]].T1w.iloc[0].shape, _of_middle),
    Operation("sel, a subject's volume", "look", lambda w: w[0].T1w.sel(subject=w[1]).shape, _of_middle),
    Operation("loc again, same handle", "look", lambda w: w[0].loc[w[1]].T1w.iloc[0].shape,
              lambda radi: (radi, (radi.loc[_middle(radi)].T1w.obs_ids, _middle(radi))[1])),
    Operation("filter: number, few", "read", _sized(lambda radi: radi.filter("weight > 115"))),
    Operation("filter: number, most", "read", _sized(lambda radi: radi.filter("age >= 20"))),
    Operation("filter: text, sorted", "read", _sized(lambda radi: radi.filter("site == 'site-07'"))),
    Operation("filter: text, most", "read", _sized(lambda radi: radi.filter("dx != 'AD'"))),
    Operation("filter volumes, few", "read", _sized(lambda radi: radi.T1w.filter("intensity_mean > 0.999"))),
    Operation("pairs", "read", _sized(lambda radi: radi.pairs("T1w", "seg"))),
    Operation("to_xarray", "read", lambda radi: radi.T1w.to_xarray()),
    Operation("append 1", "write", commit, _to_append(1)),
    Operation("append 1, race lost", "write", commit, _to_race),
    Operation("append 100", "write", commit, _to_append(100)),
    Operation("append 1, folds parts", "write", commit, _to_fold, 2),
    Operation("compact all", "write", commit, _to_compact, 2),
    Operation("diff of an append", "look", _diff, _to_diff(lambda radi: commit(_to_append(1)(radi))), 3),
    Operation("update 1 of obs_meta", "write", _set_age, _of_middle, 3),
    Operation("diff of an update", "read", _diff, _to_diff(lambda radi: _set_age(_of_middle(radi))), 3),
    Operation("update 1 of obs", "write", _set_reviewed, _to_set_reviewed, 3),
    Operation("delete 1", "write", _delete, _of_middle, 3),
    Operation("cleanup, dry run", "check", lambda radi: _clean(radi, dry_run=True), _to_clean, 1, looks=True),
    Operation("cleanup", "check", lambda radi: _clean(radi, dry_run=False), _to_clean, 1, looks=True),
    Operation("validate quick", "check", lambda radi: radi.validate("quick", strict=True),
              rounds=1, looks=True),
    Operation("validate standard", "check", lambda radi: radi.validate("standard", strict=True),
              rounds=1, looks=True),
)  # fmt: skip
"""In this order, on one study: what reads comes before what changes; after the appends, parts are folded."""


def _forget(uri: str) -> str:
    catalog._snapshots.clear()
    return uri


def grow(uri: str, commits: int) -> None:
    """Many small commits, each with a line for the ledger."""
    radi = RadiObject(uri)
    table = radi._study.snapshot.table("ledger")
    line = table.rows([0], table.schema.names)
    snapshot = radi._study.snapshot
    for _ in range(commits):
        snapshot = Transaction(snapshot.storage, snapshot, "append").commit(Edit(ledger=line))


def _without_hint(radi: RadiObject) -> str:
    Path(str(radi.uri), "hint.json").unlink(missing_ok=True)
    return _forget(str(radi.uri))


AFTER_COMMITS = (
    Operation("open", "look", lambda uri: RadiObject(uri), lambda radi: _forget(str(radi.uri)), 15),
    Operation("versions()", "read", lambda radi: len(radi.versions()), rounds=3),
    Operation("validate quick", "check", lambda radi: radi.validate("quick", strict=True),
              rounds=1, looks=True),
    Operation("cleanup, keeps all, dry run", "check",
              lambda radi: radi.cleanup(keep=radi.version, older_than=0, force=True, dry_run=True),
              rounds=1, looks=True),
    Operation("open, hint lost", "look", lambda uri: RadiObject(uri), _without_hint, 5),
)  # fmt: skip
"""What is asked once more of a study that has seen many commits."""


def cost_of(uri: str, operation: Operation) -> dict[str, float]:
    """Median and least seconds, CPU seconds of all threads; work and peak memory of the first round."""
    seconds, cpu, found = [], [], dict[str, float]()
    for number in range(operation.rounds):
        what = operation.ready(_opened(uri))
        gc.collect()
        before = _peak(reset=True)
        begun = time.perf_counter(), time.process_time()
        if number:
            operation.ask(what)
        else:
            with measure() as cost, _Rows() as rows:
                operation.ask(what)
            found = {name: float(cost[name]) for name in WORK[:-1]} | {"rows": float(rows.count)}
        seconds.append(time.perf_counter() - begun[0])
        cpu.append(time.process_time() - begun[1])
        if not number:
            found["peak_bytes"] = float(max(_peak() - before, 0))
        del what
    later = slice(1 if len(seconds) > 2 else 0, None)  # the first one warms up, where there are others
    times = {
        "seconds": statistics.median(seconds[later]),
        "least": min(seconds),
        "cpu": statistics.median(cpu[later]),
    }
    return found | times


class _Rows:
    """Counts the rows that tables hand out; `radiobject.measure` counts row groups."""

    def __enter__(self) -> _Rows:
        from radiobject.format.tables import Table

        self.count, self._read = 0, Table._read

        @functools.wraps(Table._read)
        def counted(table: Table, *args: Any) -> pa.Table:
            rows = self._read(table, *args)
            self.count += rows.num_rows
            return rows

        Table._read = counted  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        from radiobject.format.tables import Table

        Table._read = self._read  # type: ignore[method-assign]


def _peak(*, reset: bool = False) -> int:
    """The most memory that this process has had in RAM since the last reset (Linux), in bytes."""
    if reset:
        # where it cannot be reset, it is the peak since the process began, which is the operation's own
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _by_name(table: str, name: str) -> Operation:
    return next(o for o in {"sizes": OPERATIONS, "commits": AFTER_COMMITS}[table] if o.name == name)


def _child(pipe: Any, uri: str, table: str, name: str) -> None:
    pipe.send(cost_of(uri, _by_name(table, name)))


def in_a_process(uri: str, table: str, name: str) -> dict[str, float]:
    """`cost_of` in a process that has done nothing else: its memory is the operation's."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(theirs, uri, table, name))
    child.start()
    theirs.close()
    try:
        found: dict[str, float] = mine.recv()
    except EOFError:
        raise SystemExit(f"{name} on {uri} failed; its error is above") from None
    finally:
        child.join()
    return found
