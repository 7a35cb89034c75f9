"""What was promised and what was found: the description's own table, the targets, the README's rows."""

from __future__ import annotations

from typing import Any

from .peers import OURS
from .sheets import Sheet, milliseconds, number, times

__all__ = ["figures", "headline", "targets"]

Report = dict[str, Any]

HEAD, CT = "head, int16", "CT-like, int16"
ISOTROPIC, AXIAL = "radiobject 0.1.1, isotropic", "radiobject 0.1.1, axial"
ARCHIVE = "radiobject, archive"
MONAI, TORCHIO, GZ = "MONAI LoadImage", "TorchIO", "nibabel, .nii.gz"


def headline(report: Report) -> list[Sheet]:
    """The table of the description, row by row: what it says, and the same on this machine."""
    reads = report["images"][CT]["reads"]
    sheet = Sheet("", ["operation", "the description says: local, S3, MONAI, TorchIO", "radiobject, local",
                       "radiobject, S3 (100 ms a request)", "0.1.1, isotropic", "0.1.1, axial", "MONAI",
                       "TorchIO"])  # fmt: skip
    said = {
        "axial": ("2D axial slice", "3.4, 152, 1,053, 731 ms", "slice"),
        "64-cube": ("64-cube", "1.6, 151, 1,022, 722 ms", "first 64-cube"),
        "whole": ("full volume", "525, 7,135, 1,244, 756 ms", "whole"),
    }
    whom = (ISOTROPIC, AXIAL, MONAI, TORCHIO)
    for kind, (name, claim, far) in said.items():
        found = reads[kind]
        there = report["s3"]["reads"][far][OURS]
        cells = [f"{milliseconds(found[who]['median'])} ms" for who in whom]
        sheet.rows.append(
            [
                name,
                claim,
                f"{milliseconds(found[OURS]['median'])} ms",
                f"{number(there['100']['ms'])} ms",
                *cells,
            ]
        )
    memory = [f"{number(reads['axial'][who]['memory'] / 1e6)} MB" for who in (OURS, *whom)]
    sheet.rows.append(["memory of a slice", "1, 1, 912, 304 MB", memory[0], "", *memory[1:]])
    shape = " x ".join(map(str, report["images"][CT]["image"]["shape"]))
    sheet.note = (
        f"Local reads and memory: {CT}, {shape}. S3: the head of 240 x 240 x 155 on Ceph's radosgw on this"
        " machine, through a proxy that makes each request late; the cube is the first read of a volume, the"
        " slice comes after it."
    )
    return [sheet, _disk(report), _loading(report)]


def _disk(report: Report) -> Sheet:
    sheet = Sheet(
        "",
        ["format", "the description says: size of 20 subjects, whole volume", "size, MB", "whole volume, ms"],
    )
    one = report["images"][CT]
    whole = {who: milliseconds(found["median"]) for who, found in one["reads"]["whole"].items()}
    sizes = {who: number(size / 1e6) for who, size in one["sizes"].items()}
    for name, claim, who in (
        (".nii.gz", "2.1 GB, 457 ms", GZ),
        ("radiobject", "5.7 GB, 120 ms (isotropic)", OURS),
        ("radiobject, archive", "", "radiobject, archive"),
        ("radiobject 0.1.1, isotropic", "", ISOTROPIC),
        (".nii", "6.7 GB, 38 ms", "nibabel, .nii"),
    ):
        sheet.rows.append([name, claim, sizes[who], whole[who]])
    return sheet


def _loading(report: Report) -> Sheet:
    found, tables = report["training"], report["tables"]["10000"]
    sheet = Sheet("", ["loading and tables", "the description says", "radiobject"])
    says = {"0": "0.16 s", "1": "6.06 s", "2": "11.14 s"}
    for n, claim in says.items():
        own = found["workers"][n]
        text = f"{milliseconds(own['first'])} ms the first epoch, {milliseconds(own['next'])} ms the next"
        processes = "process" if n == "1" else "processes"
        sheet.rows.append([f"three volumes, {n} worker {processes}", claim, text])
    for kept, claim in (
        ("nothing", "0.226 s"),
        ("InMemory", "< 0.001 s"),
        ("Scratch", "about 0.02 s (DiskCache)"),
    ):
        sheet.rows.append(
            [f"three volumes again, kept: {kept}", claim, f"{milliseconds(found['kept'][kept]['next'])} ms"]
        )
    sheet.rows.append(
        [
            "open at 10,000 subjects",
            "0.3 s (S3)",
            f"{milliseconds(tables['open'][OURS]['median'])} ms (local)",
        ]
    )
    first = milliseconds(tables["one subject's volume"][OURS]["median"])
    again = milliseconds(tables["one subject's volume"][f"{OURS}, again"]["median"])
    sheet.rows.append(
        ["`loc[id]` at 10,000 subjects", "< 1 ms", f"{first} ms the first time, {again} ms again"]
    )
    query = milliseconds(tables["filter obs_meta"][f"{OURS}, again"]["median"])
    sheet.rows.append(["query of obs_meta at 10,000 subjects", "< 10 ms", f"{query} ms"])
    return sheet


def targets(report: Report) -> list[Sheet]:
    """Each target on each of the two made volumes: met or missed, and by what."""
    sheet = Sheet("", ["target", HEAD, CT])
    images = [report["images"][name] for name in (HEAD, CT) if name in report["images"]]
    if any(
        ISOTROPIC not in one["reads"]["64-cube"] or MONAI not in one["reads"]["64-cube"] for one in images
    ):
        return []  # a run of some peers only

    def ratio(kind: str, who: str) -> list[float]:
        return [one["reads"][kind][who]["median"] / one["reads"][kind][OURS]["median"] for one in images]

    def size(who: str, level: int) -> list[float]:
        return [one["sizes"][who] / one["image"][f"bytes_level{level}"] for one in images]

    of_plain = [one["reads"]["whole"][OURS]["median"] / one["limits"]["read_plain"] for one in images]
    memory = [one["reads"]["axial"][OURS]["memory"] / 1e6 for one in images]
    rows: list[tuple[str, list[float], list[float], bool]] = [
        ("64-cube: at least 5 x 0.1.1, isotropic", ratio("64-cube", ISOTROPIC), [5, 5], True),
        ("64-cube: at least 100 x MONAI", ratio("64-cube", MONAI), [100, 100], True),
        ("64-cube: at least 100 x TorchIO", ratio("64-cube", TORCHIO), [100, 100], True),
        ("axial slice: at least 2 x 0.1.1, axial", ratio("axial", AXIAL), [2, 2], True),
        ("axial slice: at least 8 x 0.1.1, isotropic", ratio("axial", ISOTROPIC), [8, 8], True),
        ("whole volume: at least 5 x nibabel on .nii.gz", ratio("whole", GZ), [5, 5], True),
        ("whole volume: at most 2.5 x reading a raw .nii", of_plain, [2.5, 2.5], False),
        ("size, fast: at most 0.92 of .nii.gz, level 1", size(OURS, 1), [0.92, 0.92], False),
        ("size, fast: at most 0.92 of .nii.gz, level 6", size(OURS, 6), [0.92, 0.92], False),
        ("size, archive: at most 0.82 of .nii.gz, level 1", size(ARCHIVE, 1), [0.82, 0.82], False),
        ("size, archive: at most 0.82 of .nii.gz, level 6", size(ARCHIVE, 6), [0.82, 0.82], False),
        ("memory of a slice: at most 2 MB (head), 12 MB (512 x 512)", memory, [2, 12], False),
    ]  # fmt: skip
    for name, found, bounds, least in rows:
        cells = []
        for value, bound in zip(found, bounds, strict=False):
            met = value >= bound if least else value <= bound
            cells.append(f"{'met' if met else 'MISSED'}: {times(value)}")
        sheet.rows.append([name, *cells, *[""] * (2 - len(cells))])
    return [sheet]


def figures(report: Report) -> list[Sheet]:
    """The README's few rows."""
    one, many = report["images"][CT], report["many"]
    reads = one["reads"]
    sheet = Sheet(
        "", ["512 x 512 x 300, int16", "radiobject", "PyPI radiobject 0.1.1", "nibabel, .nii.gz", "MONAI"]
    )
    for kind, name in (
        ("64-cube", "a 64-cube"),
        ("axial", "an axial slice"),
        ("sagittal", "a sagittal slice"),
        ("whole", "the whole volume"),
    ):
        cells = [f"{milliseconds(reads[kind][who]['median'])} ms" for who in (OURS, ISOTROPIC, GZ, MONAI)]
        sheet.rows.append([name, *cells])
    memory = [f"{number(reads['axial'][who]['memory'] / 1e6)} MB" for who in (OURS, ISOTROPIC, GZ, MONAI)]
    sheet.rows.append(["memory that a slice takes", *memory])
    sizes = [f"{number(one['sizes'][who] / 1e6)} MB" for who in (OURS, ISOTROPIC, GZ)]
    sheet.rows.append(["on disk", *sizes, ""])
    rates = [f"{number(many['patches'][who]['median'])} a second" for who in (OURS, ISOTROPIC, GZ, MONAI)]
    sheet.rows.append([f"random 64-cubes over {many['volumes']} heads, one thread", *rates])
    return [sheet]
