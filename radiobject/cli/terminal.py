"""Terminal: a console that prints no control character but its own."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from radiobject.cli.output import printable

__all__ = ["PlainConsole"]


class PlainConsole(Console):
    """rich's console, for text that comes from a study: a terminal would obey an escape in an id."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What rich writes, in pieces: its own controls are marked as such, others stand in the text."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text, keep="\n"), segment.style)
