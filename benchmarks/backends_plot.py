"""The figures of backends.py as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["draw"]

TIMES = (
    ("open", "open + first voxel"), ("axial", "axial plane"), ("coronal", "coronal plane"),
    ("sagittal", "sagittal plane"), ("64-cube", "64-cube"), ("whole", "whole volume"),
)  # fmt: skip
COLOURS = ("#2f6f9f", "#c1622d", "#8a8a8a")
INK = "#333333"


def draw(report: dict[str, Any], path: Path) -> None:
    """Write a PNG: read times on a logarithmic axis, and bars of ingest, size and patches, a row a kind."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    plain = {"font.size": 9, "axes.edgecolor": INK, "text.color": INK, "axes.labelcolor": INK}
    with pyplot.rc_context({**plain, "axes.spines.top": False, "axes.spines.right": False}):
        kinds, stores = report["kinds"], report["stores"]
        figure, axes = pyplot.subplots(
            len(kinds), 4, figsize=(10, 2.9 * len(kinds)), squeeze=False, width_ratios=[3.2, 1, 1, 1],
            layout="constrained",
        )  # fmt: skip
        for row in axes[1:]:
            row[0].sharex(axes[0][0])
        for row, (kind, found) in zip(axes, kinds.items(), strict=True):
            _times(row[0], kind, found, stores)
            volumes = report["volumes"]
            sizes = {s: found["bytes"][s] / volumes / 1e6 for s in stores}
            _bars(row[1], "ingest, s a volume", found["ingest"], stores)
            _bars(row[2], "size, MB a volume", sizes, stores)
            _bars(row[3], f"{report['patches']:,} patches, s", found["patches"], stores)
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(stores), frameon=False)
        figure.savefig(path, dpi=110)
        pyplot.close(figure)


def _times(axis: Any, kind: str, found: dict[str, Any], stores: list[str]) -> None:
    from matplotlib.ticker import LogLocator

    places = range(len(TIMES))
    for place, (name, _) in enumerate(TIMES):
        spread = [found[name][s] * 1e3 for s in stores]
        axis.plot([min(spread), max(spread)], [place, place], color="#dddddd", linewidth=3, zorder=1)
    for colour, store in zip(COLOURS, stores, strict=False):
        values = [found[name][store] * 1e3 for name, _ in TIMES]
        axis.scatter(values, places, color=colour, s=46, label=store, zorder=2)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_yticks(places, [label for _, label in TIMES])
    axis.invert_yaxis()
    axis.grid(axis="x", color="#eeeeee")
    axis.set_axisbelow(True)
    axis.tick_params(length=0)
    side = " x ".join(map(str, found["shape"]))
    axis.set_title(f"{kind}, {side}: milliseconds (logarithmic), less is better", loc="left", fontsize=9)


def _bars(axis: Any, title: str, values: dict[str, float], stores: list[str]) -> None:
    heights = [values[s] for s in stores]
    bars = axis.bar(range(len(stores)), heights, color=COLOURS[: len(stores)], width=0.7)
    axis.bar_label(bars, [f"{h:.2f}" if h < 10 else f"{h:.1f}" for h in heights], fontsize=8, padding=2)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.margins(y=0.15)
    axis.set_title(title, loc="left", fontsize=9)
