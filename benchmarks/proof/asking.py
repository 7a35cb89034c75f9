"""Questions to the tables of many subjects; PyPI radiobject 0.1.1, pandas and pyarrow are asked too."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from metadata import Dataset, Pandas, ours
from subjects import subject_name, write_subjects

from radiobject import RadiObject, measure
from radiobject.format import catalog

from .peers import OURS, Served, Who
from .reading import spread

__all__ = ["QUESTIONS", "tables"]

QUESTIONS = ("open", "one subject's volume", "filter obs_meta", "filter obs", "filter joined")
_UPSTREAM = {
    "filter obs_meta": ("obs_meta", "age > 40 and dx == 'AD'"),
    "filter obs": ("T1w", "intensity_mean > 0.99"),
}


def tables(work: Path, subjects: int, rounds: int, upstream: Who | None) -> dict[str, dict[str, Any]]:
    """By question and who is asked: seconds, median and quartiles; for us also what was read.

    Our study and its tables are opened anew each time; "again" asks the same handle. All have the same rows.
    """
    place = work / f"subjects-{subjects}"
    write_subjects(place, subjects, ("T1w", "seg"))
    radi = RadiObject(place)
    files = {"obs_meta": radi.obs_meta.files(), **{n: radi.collection(n).obs.files() for n in ("T1w", "seg")}}
    middle = subject_name(subjects // 2)
    asks = {peer.name: peer.asks(middle) for peer in (Pandas(files), Dataset(files))}
    served = _with_tables(upstream, work, radi) if upstream else None
    if upstream and served:
        asks[upstream.name] = {q: _theirs(served, *what) for q, what in _UPSTREAM.items()}
    found = {}
    for question in QUESTIONS:
        ask = ours(middle, subjects)[question]
        seconds: dict[str, list[float]] = {OURS: [], f"{OURS}, again": []}
        answers = set()
        for number in range(rounds + 1):
            catalog._snapshots.clear()
            with measure() as cost:
                took, (radi, answer) = _timed(lambda ask=ask: _anew(place, ask))
            again, same = _timed(lambda radi=radi, ask=ask: ask(radi))
            answers |= {answer, same}
            spent = {OURS: took, f"{OURS}, again": again}
            for who in list(asks)[:: 1 if number % 2 else -1]:
                if question in asks[who]:
                    spent[who], answer = _timed(asks[who][question])
                    answers.add(answer)
            for who, value in spent.items() if number else ():  # the first round only warms up
                seconds.setdefault(who, []).append(value)
        if len(answers) != 1:
            raise SystemExit(f"the peers disagree about {question}: {answers}")
        found[question] = {who: spread(values) for who, values in seconds.items()}
        found[question][OURS] |= {key: cost[key] for key in ("requests", "bytes_read", "row_groups")}
    if served:
        served.close()
    return found


def _anew(place: Path, ask: Callable[[RadiObject], int]) -> tuple[RadiObject, int]:
    radi = RadiObject(place)
    return radi, ask(radi)


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    answer = run()
    return time.perf_counter() - begun, answer


def _with_tables(who: Who, work: Path, radi: RadiObject) -> Served:
    """Their process, with the same rows in tables of theirs."""
    files = {}
    columns: dict[str, Sequence[str]] = {"obs_meta": ["age", "dx"], "T1w": ["obs_id", "intensity_mean"]}
    for name, wanted in columns.items():
        table = radi.obs_meta if name == "obs_meta" else radi.collection(name).obs
        rows = table.to_arrow(["obs_subject_id", *wanted]).to_pandas()
        if "obs_id" not in rows:
            rows["obs_id"] = rows["obs_subject_id"]
        files[name] = str(work / f"{name}-{len(rows)}.csv")
        rows.to_csv(files[name], index=False)
    served = Served(who, work)
    served.ask("store", files=files)
    return served


def _theirs(served: Served, table: str, expression: str) -> Callable[[], int]:
    return lambda: int(served.ask("count", name=table, expression=expression)["count"])
