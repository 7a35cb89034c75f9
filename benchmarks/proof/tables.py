"""The tables of a report, each by its name; pages hold them between markers of that name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .peers import OURS, TABLE
from .reading import KINDS
from .sheets import Sheet, milliseconds, number, times

__all__ = ["SHEETS", "Report", "ordered"]

Report = dict[str, Any]
Figures = dict[str, Any]

UNCOUNTED = {who.name for who in TABLE if who.mapped}


def ordered(found: dict[str, Any]) -> list[str]:
    """Peers of a figure in the order of the table; those beyond it after them."""
    known = [who.name for who in TABLE if who.name in found]
    return known + [who for who in found if who not in known]


def reads(report: Report) -> list[Sheet]:
    """One table an image: median ms, half the distance of the quartiles, times ours."""
    sheets = []
    for name, one in report["images"].items():
        kinds = [k for k in KINDS if k in one["reads"]]
        shape = " x ".join(map(str, one["image"]["shape"]))
        sheet = Sheet(f"{name}, {shape}", ["who", *kinds])
        for who in ordered(one["reads"][kinds[0]]):
            cells = []
            for kind in kinds:
                own, base = one["reads"][kind][who], one["reads"][kind][OURS]
                ratio = "" if who == OURS else f" ({times(own['median'] / base['median'])})"
                cells.append(f"{milliseconds(own['median'])} ±{_half(own)}{ratio}")
            sheet.rows.append([who, *cells])
        sheets.append(sheet)
    return sheets


def costs(report: Report) -> list[Sheet]:
    """One table an image: bytes read and memory at most of a plane and of a cube, and opening."""
    sheets = []
    for name, one in report["images"].items():
        columns = ["who", "open, ms", "axial: MB read", "64-cube: MB read", "axial: MB of memory",
                   "64-cube: MB of memory", "64-cube: ms of CPU"]  # fmt: skip
        sheet = Sheet(name, columns)
        for who in ordered(one["reads"]["64-cube"]):
            plane, cube = (one["reads"][kind][who] for kind in ("axial", "64-cube"))
            asked = ["mapped"] * 2 if who in UNCOUNTED else [_mega(f["bytes"]) for f in (plane, cube)]
            opened = one["reads"]["open"][who]["median"]
            memory = [_mega(f["memory"]) for f in (plane, cube)]
            sheet.rows.append([who, milliseconds(opened), *asked, *memory, milliseconds(cube["cpu"])])
        sheets.append(sheet)
    return sheets


def sizes(report: Report) -> list[Sheet]:
    """MB on disk of each image, and ours over gzip's."""
    images = report["images"]
    sheet = Sheet("", ["what", *images])
    for level in (1, 6):
        packed = [one["image"][f"bytes_level{level}"] for one in images.values()]
        sheet.rows.append([f".nii.gz, level {level}", *map(_mega, packed)])
    whom = ordered({who: 0 for one in images.values() for who in one["sizes"]})
    for who in (w for w in whom if w not in ("nibabel, .nii.gz", "nibabel, indexed_gzip")):
        cells = []
        for one in images.values():
            size, packed = one["sizes"][who], [one["image"][f"bytes_level{n}"] for n in (1, 6)]
            cells.append(f"{_mega(size)} ({size / packed[0]:.2f}, {size / packed[1]:.2f})")
        sheet.rows.append([who, *cells])
    return [sheet]


def ingest(report: Report) -> list[Sheet]:
    """A volume of many heads: seconds, memory, bytes."""
    many = report["many"]
    sheet = Sheet(
        "", ["who", "s a volume", "s of CPU", "MB of memory, all volumes", "MB a volume (of .nii.gz)"]
    )
    own = many["ingest"][OURS]["seconds"]
    for who in ordered(many["ingest"]):
        found = many["ingest"][who]
        if who in ("nibabel, .nii.gz", "nibabel, indexed_gzip", "nibabel, .nii"):
            continue
        ratio = "" if who == OURS else f" ({times(found['seconds'] / own)})"
        size = f"{_mega(found['bytes'])} ({found['bytes'] / many['nifti_bytes']:.2f})"
        sheet.rows.append(
            [who, number(found["seconds"]) + ratio, number(found["cpu"]), _mega(found["memory"]), size]
        )
    return [sheet]


def patches(report: Report) -> list[Sheet]:
    """Random 64-cubes over many heads: a second by the clock and of the processor."""
    found = report["many"]["patches"]
    sheet = Sheet("", ["who", "patches a second (least to most)", "times radiobject's", "for each s of CPU"])
    for who in ordered(found):
        rate = found[who]
        text = f"{number(rate['median'])} ({number(rate['low'])} to {number(rate['high'])})"
        ratio = times(rate["median"] / found[OURS]["median"])
        sheet.rows.append([who, text, ratio, number(rate["of_cpu"])])
    return [sheet]


def training(report: Report) -> list[Sheet]:
    """Three whole volumes an epoch."""
    found = report["training"]
    sheet = Sheet("", ["three volumes an epoch", "first epoch, ms", "next epochs, ms"])
    named = {"0": "no worker process: threads", "1": "1 worker process", "2": "2 worker processes"}
    rows = [(named[n], v) for n, v in found["workers"].items()]
    rows += [(f"kept: {n}", v) for n, v in found["kept"].items()]
    sheet.rows = [[name, milliseconds(v["first"]), milliseconds(v["next"])] for name, v in rows]
    return [sheet]


def questions(report: Report) -> list[Sheet]:
    """One table a number of subjects."""
    sheets = []
    for n, found in report["tables"].items():
        whom = ordered({who: 0 for answers in found.values() for who in answers})
        sheet = Sheet(f"{int(n):,} subjects", ["ms", *whom, "kB read"])
        for question, answers in found.items():
            base = answers[OURS]["median"]
            cells = []
            for who in whom:
                value = answers.get(who)
                ratio = "" if who == OURS or not value else f" ({times(value['median'] / base)})"
                cells.append(f"{milliseconds(value['median'])}{ratio}" if value else "")
            sheet.rows.append([question, *cells, number(answers[OURS]["bytes_read"] / 1e3)])
        sheets.append(sheet)
    return sheets


def distance(report: Report) -> list[Sheet]:
    """One table a kind of read on S3: ms by latency."""
    sheets = []
    for kind, found in report["s3"]["reads"].items():
        delays = list(next(iter(found.values())))
        sheet = Sheet(kind, ["who", *[f"{d} ms" for d in delays], "rounds", "requests"])
        for who, by_delay in found.items():
            last = by_delay[delays[-1]]
            cells = [number(by_delay[d]["ms"]) for d in delays]
            sheet.rows.append([who, *cells, str(last["rounds"]), str(last["requests"])])
        sheets.append(sheet)
    return sheets


def limits(report: Report) -> list[Sheet]:
    """What each read comes to beside what the machine can do, and the rates of the machine."""
    sheets = []
    for name, one in report["images"].items():
        sheet = Sheet(
            name, ["read", "radiobject, ms", "of CPU", "decode, one thread", "copy alone", "tensorstore"]
        )
        for kind in one["limits"]["copy"]:
            own = one["reads"][kind][OURS]
            other = one["reads"][kind].get("tensorstore")
            cells = [own["median"], own["cpu"], one["limits"]["decode"][kind], one["limits"]["copy"][kind]]
            last = milliseconds(other["median"]) if other else ""
            sheet.rows.append([kind, *map(milliseconds, cells), last])
        rates = {k: f"{v / 1e9:.2f}" for k, v in one["limits"]["rates"].items()}
        sheet.note = (
            f"GB/s of one thread: copy {rates['copy']}, reading a file from the page cache {rates['read']},"
            f" CRC-32C {rates['crc32c']}, inflating this .nii.gz {rates['zlib']} (zlib) and"
            f" {rates['isal']} (isal)."
        )
        sheets.append(sheet)
    return sheets


def overhead(report: Report) -> list[Sheet]:
    """This package over tensorstore, case by case."""
    sheet = Sheet(
        "", ["64-cube", "radiobject, ms", "tensorstore, ms", "ratio (rounds: least to greatest)", "added, µs"]
    )
    for case in report["overhead"]["cases"]:
        ratio = f"{case['ratio']:.3f} ({case['low']:.3f} to {case['high']:.3f})"
        own, raw = milliseconds(case["ours"]), milliseconds(case["raw"])
        sheet.rows.append([case["what"], own, raw, ratio, f"{case['added'] * 1e6:.0f}"])
    opening = milliseconds(report["overhead"]["first_opening"])
    sheet.note = (
        f"The first opening of a study in a fresh process takes {opening} ms, mostly what Python and the"
        " libraries load at first use; it is in neither column."
    )
    return [sheet]


def contents(report: Report) -> list[Sheet]:
    """Sizes over .nii.gz of level 1 / level 6."""
    rows = report["contents"]
    sheet = Sheet("", list(rows[0]))
    for row in rows:
        sheet.rows.append(
            [f"{v[0]:.2f} / {v[1]:.2f}" if isinstance(v, list) else str(v) for v in row.values()]
        )
    return [sheet]


def _half(found: Figures) -> str:
    return milliseconds((found["high"] - found["low"]) / 2)


def _mega(value: float) -> str:
    return number(value / 1e6)


SHEETS: dict[str, Callable[[Report], list[Sheet]]] = {
    "reads": reads,
    "costs": costs,
    "sizes": sizes,
    "ingest": ingest,
    "patches": patches,
    "training": training,
    "tables": questions,
    "s3": distance,
    "limits": limits,
    "overhead": overhead,
    "contents": contents,
}
