"""`radiobject demo`: from NIfTI files to a picture, timed against nibabel on the same files."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiobject.cli.output import console, human, table
from radiobject.errors import IntegrityError, StorageError

if TYPE_CHECKING:
    from rich.console import Console, Group

    from radiobject import RadiObject, Volume
    from radiobject.examples import Cohort

__all__ = ["demo"]

_MARKER = ".radiobject-demo"
"""Says that a folder is the demo's own and may be made anew."""

_TIMED_SCANS = 7
_CUBE = 64

Key = tuple[slice | int, ...]


def demo(
    n: Annotated[int, typer.Option("--n", min=1, help="Number of subjects.")] = 12,
    spacing: Annotated[float, typer.Option(min=1, max=16, help="Voxel size in mm; 4 is quick.")] = 1.0,
    out: Annotated[Path, typer.Option(help="Folder for files, study and picture; made anew.")] = Path(
        "demo-out"
    ),
) -> None:
    """Make a cohort of brains, ingest it, time reads against nibabel, draw a picture. Needs no network.

    \b
        radiobject demo
        radiobject demo --n 3 --spacing 4 --out quick
    """
    from radiobject import RadiObject, ReadConfig, configure, measure
    from radiobject.examples import LABELS, cohort
    from radiobject.show.plot import plot_subject  # here, so that nothing is begun without matplotlib

    _fresh(out)
    say = console()
    begun = time.perf_counter()
    files = cohort(out / "nifti", n, spacing=spacing)
    files.obs_meta.to_csv(out / "nifti" / "subjects.csv", index=False)
    scans = len(files.images["T1w"])
    _step(say, f"Wrote {2 * scans} NIfTI files: {scans} brains of {n} subjects, and their labels", begun)

    begun = time.perf_counter()
    study = out / "study"
    RadiObject.from_niftis(study, files.images, files.obs_meta, labels={"seg": LABELS}, message="demo")
    _step(say, f"Ingested them into {study.as_posix()} in one commit", begun)

    radi = RadiObject(study)
    say.print()
    say.print(_sizes(radi, files))
    brain = radi.T1w.iloc[0]
    # no cache of ours: nibabel has none either, and the same scans are read three times
    with configure(read=ReadConfig(cache_bytes=0)):
        say.print(_times(radi, files))
        with measure() as counts:
            brain[_cube(brain)]
    say.print(f"What reading one {_CUBE}-cube took, by radiobject.measure()", style="bold")
    say.print(f"  {counts}", markup=False, soft_wrap=True)

    picture = out / "planes.png"
    plot_subject(radi, brain.obs_subject_id).savefig(picture, pil_kwargs={"optimize": True})
    say.print("\nPicture", style="bold")
    say.print(f"  {picture}", markup=False, soft_wrap=True)
    say.print("\nPaste these five lines into python next", style="bold")
    # a copy of the terminal's text must run: no indent, no wrapping
    say.print(_next(study), markup=False, soft_wrap=True)


def _fresh(out: Path) -> None:
    """An empty folder, made anew when an earlier demo left it; never one with anything else in it."""
    marker = out / _MARKER
    if out.exists() and not marker.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StorageError(
            str(out),
            expected="a new or empty folder, or one that an earlier demo made",
            got="other content",
            hint="Name another folder with --out; nothing was changed.",
        )
    for name in ("nifti", "study"):
        if (out / name).exists():
            shutil.rmtree(out / name)
    out.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _step(say: Console, text: str, begun: float) -> None:
    say.print(f"{text} ({time.perf_counter() - begun:.1f} s)", markup=False, soft_wrap=True)


def _sizes(radi: RadiObject, files: Cohort) -> Group:
    from radiobject.cli.summary import summary

    rows = []
    for found in summary(radi)["collections"]:
        source = sum(Path(path).stat().st_size for path, _ in files.images[found["name"]])
        stored, raw = found["stored_bytes"], found["voxel_bytes"]
        rows.append(
            [
                found["name"],
                str(found["volumes"]),
                *map(human, (raw, source, stored)),
                f"{stored / source:.2f}",
            ]
        )
    columns = ["collection", "volumes", "voxels", ".nii.gz", "study", "study / .nii.gz"]
    return table("Sizes on disk", columns, rows, right=columns[1:])


def _cube(volume: Volume) -> Key:
    """The cube in the middle, or as much of it as there is."""
    starts = [max(0, (size - _CUBE) // 2) for size in volume.shape[:3]]
    return tuple(slice(start, start + _CUBE) for start in starts)


def _times(radi: RadiObject, files: Cohort) -> Group:
    """Medians over several scans; every read opens its volume, or its file, anew."""
    from radiobject.cli import peer

    regions: dict[str, Callable[[Volume], Key]] = {
        "one axial slice": lambda v: (slice(None), slice(None), v.shape[2] // 2),
        f"a {_CUBE}-cube": _cube,
        "the whole volume": lambda _: (slice(None),) * 3,
    }
    rows = []
    count = min(_TIMED_SCANS, len(radi.T1w))
    for name, region in regions.items():
        ours, theirs = [], []
        for number in range(count):
            path, key = files.images["T1w"][number][0], region(radi.T1w.iloc[number])
            mine, seconds = _timed(partial(_read, radi, number, key))
            ours.append(seconds)
            other, seconds = _timed(partial(peer.read_region, path, key))
            theirs.append(seconds)
            if mine.shape != other.shape or not (mine == other).all():
                raise IntegrityError(path, expected="the same voxels from the study", got="other ones")
        a, b = statistics.median(theirs), statistics.median(ours)
        rows.append([name, f"{a * 1e3:.1f} ms", f"{b * 1e3:.1f} ms", f"{a / b:.1f}"])
    columns = ["", f"nibabel {peer.version()}", "radiobject", "ratio"]
    return table(
        "Time to open and read: .nii.gz by nibabel, study by radiobject",
        columns,
        rows,
        right=columns[1:],
        note=f"Medians over {count} T1w scans in the system's file cache. All voxels compared: equal.",
    )


def _read(radi: RadiObject, number: int, key: Key) -> Any:
    return radi.T1w.iloc[number][key]


def _timed(read: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    found = read()
    return found, time.perf_counter() - begun


def _next(study: Path) -> str:
    return "\n".join(
        [
            "from radiobject import RadiObject",
            f"radi = RadiObject({study.as_posix()!r})",
            "print(radi.obs_meta.read())",
            "brain, seg = radi['sub-01'].T1w.iloc[0], radi['sub-01'].seg.iloc[0]",
            "print(brain, brain.axial(mm=20).shape, 'white matter:', brain[:][seg[:] == 2].mean())",
        ]
    )
