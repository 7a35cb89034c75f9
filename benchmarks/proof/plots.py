"""Pictures of a report: who takes how long for a read, and who hands out how many patches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .headline import CT, HEAD
from .peers import OURS
from .sheets import milliseconds, number
from .tables import ordered

__all__ = ["draw"]

matplotlib.use("Agg")

FAMILY = {
    "radiobject": "#1f5a99",
    "tensorstore": "#7a9cc0",
    "zarr": "#7a9cc0",
    "radiobject 0.1.1": "#c2702e",
}
PLAIN = "#9a9a9a"


def draw(report: dict[str, Any], folder: Path) -> None:
    """`bench-reads.png`: planes, cubes and whole volumes; `bench-patches.png`: random patches."""
    names = [name for name in (HEAD, CT) if name in report["images"]]
    kinds = ("axial", "sagittal", "64-cube", "whole")
    figure = Figure(figsize=(13, 4.3 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(kinds), sharey=True, squeeze=False)
    for row, name in zip(axes, names, strict=True):
        one = report["images"][name]
        shape = " x ".join(map(str, one["image"]["shape"]))
        for ax, kind in zip(row, kinds, strict=True):
            found = one["reads"][kind]
            whom = ordered(found)
            _bars(
                ax,
                whom,
                [found[w]["median"] * 1e3 for w in whom],
                [milliseconds(found[w]["median"]) for w in whom],
            )
            ax.set_title(f"{kind}, ms", fontsize=10)
        row[0].set_ylabel(f"{name}\n{shape}", fontsize=10)
    figure.savefig(folder / "bench-reads.png", dpi=100)
    rates = report["many"]["patches"]
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    ax = figure.subplots()
    whom = ordered(rates)
    _bars(ax, whom, [rates[w]["median"] for w in whom], [number(rates[w]["median"]) for w in whom])
    ax.set_title(
        f"random 64-cubes a second over {report['many']['volumes']} heads, one thread asks", fontsize=10
    )
    figure.savefig(folder / "bench-patches.png", dpi=100)


def _bars(ax: Axes, whom: list[str], values: list[float], texts: list[str]) -> None:
    """Horizontal bars on a logarithmic scale, the first peer on top, figures at their ends."""
    places = range(len(whom))
    ax.barh(places, values, color=[_colour(who) for who in whom], height=0.72)
    ax.set_yticks(places, whom, fontsize=8)
    ax.set_ylim(len(whom) - 0.5, -0.5)
    ax.set_xscale("log")
    ax.set_xlim(min(values) / 2, ax.get_xlim()[1] * 4)
    for place, value, text in zip(places, values, texts, strict=True):
        bold = "bold" if whom[place] == OURS else "normal"
        ax.text(value * 1.08, place, text, va="center", fontsize=8, fontweight=bold)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(axis="x", labelsize=8)


def _colour(who: str) -> str:
    for family in sorted(FAMILY, key=len, reverse=True):
        if who.startswith(family):
            return FAMILY[family]
    return PLAIN
