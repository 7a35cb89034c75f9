"""The pictures of plots, and of the page that `show` makes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from browser import photograph, shrink

from radiobject.examples import study

__all__ = ["draw"]


def draw(folder: Path, spacing: float = 1.0) -> None:
    """Write demo.png, plot.png and show.png; the brains have voxels of `spacing` mm."""
    with tempfile.TemporaryDirectory() as place:
        radi = study(3, Path(place) / "study", spacing=spacing, progress=False)
        brain, labels = radi["sub-03"].T1w.iloc[0], radi["sub-03"].seg.iloc[0]
        radi.plot_subject("sub-01").savefig(folder / "demo.png")
        brain.plot(at=(24, -18, 10), overlay=labels, opacity=0.35).savefig(folder / "plot.png")
        brain.show(overlay=labels, at=(24, -18, 10), opacity=0.35).save(Path(place) / "page.html")
        photograph(Path(place) / "page.html", folder / "show.png", 1000, 720)
    for name in ("demo", "plot", "show"):
        shrink(folder / f"{name}.png")
