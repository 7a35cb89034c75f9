"""Questions to the tables of 100,000 subjects in 4 collections, and changes of them; pandas and pyarrow too.

    python benchmarks/metadata.py                 # about a minute, 0.3 GB of temporary files
    python benchmarks/metadata.py --subjects 20000 --rounds 3 --appends 5

"First" is asked of a study opened anew in a warm process: everything is read again, from the page cache.
"Again" is the same question to the same handle. The peers read the same Parquet files, and must agree.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.dataset as ds
from machine import command_line, machine_line
from rich.console import Console
from rich.table import Table
from subjects import subject_name, tiny, write_subjects

from radiobject import RadiObject, measure
from radiobject.format import catalog

__all__: list[str] = []

PACKAGES = ("radiobject-zarr", "pyarrow", "pandas", "numpy")
NAMES = ("T1w", "FLAIR", "T2w", "seg")
ID = "obs_subject_id"

Files = Mapping[str, list[str]]
"""Parquet parts of each table."""


class Pandas:
    """Reads the columns that a question needs, then asks them."""

    name = "pandas"

    def __init__(self, files: Files) -> None:
        self._files = files

    def frame(self, table: str, *columns: str) -> pd.DataFrame:
        """Some columns of a table."""
        return pd.concat([pd.read_parquet(f, columns=list(columns)) for f in self._files[table]])

    def asks(self, middle: str) -> dict[str, Callable[[], int]]:
        """Each question, answered with a number."""

        def one() -> int:
            rows = [self.frame("obs_meta", ID, "age"), self.frame("T1w", ID, "obs_id", "_path")]
            people, volumes = (len(frame.query(f"{ID} == '{middle}'")) for frame in rows)
            return people * volumes

        def joined() -> int:
            people = self.frame("obs_meta", ID, "age").query("age > 40")
            bright = self.frame("T1w", ID, "intensity_mean").query("intensity_mean > 0.99")
            return len(bright.merge(people, on=ID))

        def having() -> int:
            ids = self.frame("obs_meta", ID)[ID]
            return int((ids.isin(self.frame("T1w", ID)[ID]) & ids.isin(self.frame("seg", ID)[ID])).sum())

        def pairs() -> int:
            return len(self.frame("T1w", ID, "obs_id").merge(self.frame("seg", ID, "obs_id"), on=ID))

        def found(table: str, text: str, *columns: str) -> Callable[[], int]:
            return lambda: len(self.frame(table, *columns).query(text))

        return {
            "one subject's volume": one,
            "filter obs_meta": found("obs_meta", "age > 40 and dx == 'AD'", "age", "dx"),
            "filter obs_meta, sorted column": found("obs_meta", "site == 'site-07'", "site"),
            "filter obs": found("T1w", "intensity_mean > 0.99", "intensity_mean"),
            "filter joined": joined,
            "having": having,
            "pairs": pairs,
        }


class Dataset:
    """pyarrow.dataset over the same files: filters are pushed down, joins are Acero's."""

    name = "pyarrow.dataset"

    def __init__(self, files: Files) -> None:
        self._files = files

    def table(self, name: str, columns: list[str], filter: Any = None) -> Any:
        """Some columns of the rows that fit."""
        return ds.dataset(self._files[name], format="parquet").to_table(columns=columns, filter=filter)

    def asks(self, middle: str) -> dict[str, Callable[[], int]]:
        """Each question, answered with a number."""
        age, dx, mean, who = (pc.field(n) for n in ("age", "dx", "intensity_mean", ID))

        def joined() -> int:
            rows = self.table("T1w", [ID], mean > 0.99)
            found: int = rows.join(self.table("obs_meta", [ID], age > 40), ID, join_type="inner").num_rows
            return found

        def having() -> int:
            ids = self.table("obs_meta", [ID])[ID]
            both = (pc.is_in(ids, value_set=self.table(n, [ID])[ID].combine_chunks()) for n in ("T1w", "seg"))
            return int(pc.sum(pc.and_(*both)).as_py())

        def pairs() -> int:
            left, right = (self.table(n, [ID, "obs_id"]) for n in ("T1w", "seg"))
            found: int = left.join(right, ID, join_type="inner", right_suffix="_seg").num_rows
            return found

        def one() -> int:
            people = self.table("obs_meta", ["age"], who == middle).num_rows
            return int(people * self.table("T1w", ["obs_id", "_path"], who == middle).num_rows)

        def found(table: str, column: str, filter: Any) -> Callable[[], int]:
            return lambda: self.table(table, [column], filter).num_rows

        return {
            "one subject's volume": one,
            "filter obs_meta": found("obs_meta", ID, (age > 40) & (dx == "AD")),
            "filter obs_meta, sorted column": found("obs_meta", ID, pc.field("site") == "site-07"),
            "filter obs": found("T1w", "obs_id", mean > 0.99),
            "filter joined": joined,
            "having": having,
            "pairs": pairs,
        }


def ours(middle: str, n: int) -> dict[str, Callable[[RadiObject], int]]:
    """Each question to a study, answered with a number."""
    some = [subject_name(i) for i in range(0, n, max(n // 1000, 1))]
    return {
        "open": lambda radi: radi.version,
        "one subject's volume": lambda radi: len(radi.loc[middle]) * len(radi.loc[middle].T1w),
        "iloc, and open the volume": lambda radi: radi.iloc[n // 2].T1w.iloc[0].shape[0],
        "loc of 1,000 subjects": lambda radi: len(radi.loc[some].T1w),
        "sel by subject": lambda radi: radi.T1w.sel(subject=middle).shape[0],
        "sel by column": lambda radi: len(radi.sel(dx="AD")),
        "filter obs_meta": lambda radi: len(radi.filter("age > 40 and dx == 'AD'")),
        "filter obs_meta, sorted column": lambda radi: len(radi.filter("site == 'site-07'")),
        "filter obs": lambda radi: len(radi.T1w.filter("intensity_mean > 0.99")),
        "filter obs, ids": lambda radi: len(radi.T1w.filter(f"obs_id < '{subject_name(n // 100)}'")),
        "filter obs, alias": lambda radi: len(radi.T1w.filter("dimensions == '(8, 8, 8)'")),
        "filter joined": lambda radi: len(radi.T1w.filter("age > 40 and intensity_mean > 0.99")),
        "having": lambda radi: len(radi.having("T1w", "seg")),
        "pairs": lambda radi: len(radi.pairs("T1w", "seg")),
        "describe": lambda radi: len(radi.describe()),
    }


def main() -> None:
    """Run, print, and write the figures as JSON when asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for the temporary files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--subjects", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7, help="rounds in which the peers take turns")
    parser.add_argument("--appends", type=int, default=40, help="more than 32, so that parts are folded")
    options = parser.parse_args()
    console = Console(width=None if Console().is_terminal else 150)
    console.print(f"[bold]{machine_line(*PACKAGES)}[/]\n$ {command_line()}", highlight=False)
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        place = Path(work) / "study"
        write_subjects(place, options.subjects, NAMES)
        report = {"reads": _reads(place, options), "writes": _writes(place, options)}
    _print(console, report)
    if options.json:
        report |= {"machine": machine_line(*PACKAGES), "command": command_line()}
        options.json.write_text(json.dumps(report, indent=1))


def _reads(place: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    middle = subject_name(options.subjects // 2)
    radi = RadiObject(place)
    files = {"obs_meta": radi.obs_meta.files(), **{n: radi.collection(n).obs.files() for n in NAMES}}
    peers = {peer.name: peer.asks(middle) for peer in (Pandas(files), Dataset(files))}
    rows = {}
    for name, ask in ours(middle, options.subjects).items():
        answers: set[int] = set()
        seconds: dict[str, list[float]] = {
            "first": [],
            "again": [],
            **{p: [] for p in peers if name in peers[p]},
        }
        for number in range(options.rounds + 1):
            catalog._snapshots.clear()
            with measure() as cost:
                begun = time.perf_counter()
                radi = RadiObject(place)
                answers.add(ask(radi))
                spent = {"first": time.perf_counter() - begun}
            spent["again"], answer = _timed(lambda radi=radi, ask=ask: ask(radi))
            answers.add(answer)
            for peer in [p for p in peers if name in peers[p]][:: 1 if number % 2 else -1]:
                spent[peer], answer = _timed(peers[peer][name])
                answers.add(answer)
            for who, value in spent.items() if number else ():  # the first round only warms up
                seconds[who].append(value)
        if len(answers) != 1:
            raise SystemExit(f"the peers disagree about {name}: {answers}")
        work = {c: cost[c] for c in ("requests", "bytes_read", "row_groups")}
        rows[name] = {who: float(np.median(values)) for who, values in seconds.items()} | work
    return rows


def _timed(ask: Callable[[], int]) -> tuple[float, int]:
    begun = time.perf_counter()
    answer = ask()
    return time.perf_counter() - begun, answer


def _writes(place: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Appends of one subject with a volume in every collection, and updates of one row of obs_meta."""

    def append(number: int) -> None:
        subject = f"new-{number:04d}"
        row = {ID: [subject], "age": [50], "weight": [70.0], "dx": ["AD"], "site": ["site-99"]}
        RadiObject(place).append({name: [(tiny(), subject)] for name in NAMES}, row, progress=False)

    def update(number: int) -> None:
        RadiObject(place).obs_meta.update(
            pd.DataFrame({ID: [subject_name(options.subjects // 2)], "age": [number]})
        )

    found = {}
    for name, change, times in (
        ("append", append, options.appends),
        ("obs_meta.update", update, options.rounds),
    ):
        costs = []
        for number in range(times + 1):
            catalog._snapshots.clear()
            before = _tables(place)
            with measure() as cost:
                begun = time.perf_counter()
                change(number)
                spent = time.perf_counter() - begun
            new = [size for path, size in _tables(place).items() if path not in before]
            costs.append(
                (spent, cost["requests"], cost["bytes_read"], cost["row_groups"], sum(new), len(new))
            )
        every = np.array(costs[1:])
        for kind, values in (("median", np.median(every, axis=0)), ("greatest", every.max(axis=0))):
            names = ("seconds", "requests", "bytes_read", "row_groups", "bytes_written", "parts_written")
            found[f"{name}, {kind} of {times}"] = dict(zip(names, values.tolist(), strict=True))
    return found


def _tables(place: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in (place / "tables").rglob("*.parquet")}


def _print(console: Console, report: dict[str, Any]) -> None:
    table = Table(title="questions: median ms (times radiobject's first), and the work of radiobject's first")
    titles = ("", "first", "again", Pandas.name, Dataset.name, "requests", "kB read", "row groups")
    for title in titles:
        table.add_column(title, justify="right" if title else "left")
    for name, row in report["reads"].items():
        peers = [f"{row[p] * 1e3:.1f} ({row[p] / row['first']:.1f})" if p in row else "" for p in titles[3:5]]
        work = (f"{row['requests']}", f"{row['bytes_read'] / 1e3:,.0f}", f"{row['row_groups']}")
        table.add_row(name, f"{row['first'] * 1e3:.1f}", f"{row['again'] * 1e3:.1f}", *peers, *work)
    console.print(table, highlight=False)
    table = Table(title="changes, each on a study opened anew")
    for title in ("", "ms", "requests", "kB read", "row groups", "kB of tables written", "parts written"):
        table.add_column(title, justify="right" if title else "left")
    for name, row in report["writes"].items():
        kilo = {
            k: v / 1e3 if k.startswith("bytes") else v * 1e3 if k == "seconds" else v for k, v in row.items()
        }
        table.add_row(name, *[f"{v:,.0f}" for v in kilo.values()])
    console.print(table, highlight=False)


if __name__ == "__main__":
    main()
