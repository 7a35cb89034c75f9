"""The figures of scaling.py as two pictures: cost against the number of subjects, on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scaling_operations import OPERATIONS

__all__ = ["draw", "spread"]

PANELS = (
    ("look", "one subject, or one change: ms of CPU"),
    ("read", "questions to tables: ms of CPU"),
    ("write", "commits: ms of CPU"),
    ("check", "checks and clean-up of every object: ms of CPU"),
)
WORK = (
    ("requests", 1, "requests"),
    ("bytes_read", 1e-6, "MB read from tables and documents"),
    ("bytes_written", 1e-6, "MB written by commits"),
    ("peak_bytes", 1e-6, "MB of memory, at most, beyond the start"),
)
SHOWN = (
    "open", "loc, a subject's volume", "filter: number, most", "pairs", "append 1", "append 100",
    "update 1 of obs_meta", "update 1 of obs", "delete 1", "compact all", "validate quick", "cleanup",
)  # fmt: skip
"""Operations in the picture of work; the others lie on these."""

LEAST = 1e-2
"""What is less, in the unit of a panel, is nothing."""

COLOURS = ("#2f6f9f", "#c1622d", "#4f8a4c", "#8a5a9e", "#b08a1e", "#3f8f8a", "#a34a5e", "#6b6b6b")
INK = "#333333"
TEXT_HEIGHT = 0.055
"""What a label takes of a panel's height."""


def draw(report: Mapping[str, Any], folder: Path) -> None:
    """Write scaling-time.png, CPU by kind of operation, and scaling-work.png: requests, bytes, memory."""
    sizes = report["sizes"]
    kinds = {operation.name: operation.kind for operation in OPERATIONS}
    milliseconds = [
        (title, lambda row: row["cpu"] * 1e3, [n for n in kinds if kinds[n] == kind])
        for kind, title in PANELS
    ]
    _figure(folder / "scaling-time.png", sizes, milliseconds)
    work = [
        (title, lambda row, m=measure, f=factor: row[m] * f, list(SHOWN)) for measure, factor, title in WORK
    ]
    _figure(folder / "scaling-work.png", sizes, work)


def _figure(
    path: Path,
    sizes: Mapping[str, Any],
    panels: Sequence[tuple[str, Callable[[Mapping[str, float]], float], list[str]]],
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    plain = {"font.size": 8.5, "axes.edgecolor": INK, "text.color": INK, "axes.labelcolor": INK}
    with pyplot.rc_context({**plain, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = pyplot.subplots(2, 2, figsize=(10.8, 8.4), layout="constrained")
        for axis, (title, of, names) in zip(axes.flat, panels, strict=True):
            _panel(axis, title, {name: _line(sizes, name, of) for name in names})
        figure.savefig(path, dpi=92)
        pyplot.close(figure)


def _line(
    sizes: Mapping[str, Any], name: str, of: Callable[[Mapping[str, float]], float]
) -> list[tuple[float, float]]:
    """Subjects and value, where the operation was measured and cost anything."""
    points = [(float(n), of(s["operations"][name])) for n, s in sizes.items() if name in s["operations"]]
    return [(n, value) for n, value in points if value > LEAST]


def _panel(axis: Any, title: str, lines: Mapping[str, list[tuple[float, float]]]) -> None:
    lines = dict(sorted(((k, v) for k, v in lines.items() if v), key=lambda line: line[1][-1][1]))
    values = [value for line in lines.values() for _, value in line]
    counts = [n for line in lines.values() for n, _ in line]
    low, high = math.log10(min(values)) - 0.15, math.log10(max(values)) + 0.15
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(10**low, 10**high)
    axis.set_xlim(min(counts) / 1.3, max(counts) * 1.3)
    _proportional(axis, min(counts), max(counts), low, high)
    ends = [(math.log10(line[-1][1]) - low) / (high - low) for line in lines.values()]
    for number, ((name, line), end) in enumerate(zip(lines.items(), spread(ends, TEXT_HEIGHT), strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        axis.plot(*zip(*line, strict=True), color=colour, marker="o", markersize=3.5, linewidth=1.4)
        axis.annotate(
            name, line[-1], (1.06, end), textcoords="axes fraction", color=colour, va="center", ha="left",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axis.grid(color="#eeeeee")
    axis.set_axisbelow(True)
    axis.tick_params(length=0, which="both")
    axis.set_xlabel("subjects")
    axis.set_title(title, loc="left", fontsize=9.5)


def _proportional(axis: Any, first: float, last: float, low: float, high: float) -> None:
    """A dashed line of exponent 1 through the middle of the panel, as far as it shows."""
    middle = (math.log10(first) + math.log10(last)) / 2, (low + high) / 2
    reach = min((math.log10(last) - math.log10(first)) / 2, (high - low) / 2)
    ends = [(10 ** (middle[0] + d), 10 ** (middle[1] + d)) for d in (-reach, reach)]
    axis.plot(*zip(*ends, strict=True), color="#bbbbbb", linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axis.annotate(
        "in proportion", ends[0], (14, 2), textcoords="offset points", color="#999999", fontsize=7.5
    )


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Ascending `places` moved as little as it takes for neighbours to lie at least `gap` apart."""
    groups: list[list[float]] = []
    for place in places:
        groups.append([place])
        while len(groups) > 1 and _begin(groups[-1], gap) < _begin(groups[-2], gap) + gap * len(groups[-2]):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_begin(group, gap) + gap * n for group in groups for n in range(len(group))]


def _begin(group: Sequence[float], gap: float) -> float:
    """Where the lowest label of a group lies that is centred on what it labels."""
    return sum(group) / len(group) - gap * (len(group) - 1) / 2
