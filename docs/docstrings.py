"""Docstrings as the reference shows them: examples fenced as code, public names as links."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import griffe

__all__ = ["Docstrings"]

ROOT = Path(__file__).resolve().parents[1]
_EXAMPLE = re.compile(r"(?:^>>> .*\n(?:.+\n)*)+", re.MULTILINE)  # up to an empty line, as doctest has it
_LITERAL = re.compile(r"^::\n\n", re.MULTILINE)  # reStructuredText's sign before an indented block
_AXES = re.compile(r"\]\[(?=, )")  # the optional axes of "x, y, z[, t][, c]" are no link
_NAME = re.compile(r"(?<![\[`])`(\w+)`(?![`\]])")


class Docstrings(griffe.Extension):
    """Docstrings are Markdown here, but for two things that Markdown takes for something else."""

    def __init__(self) -> None:
        self.places = _public()

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of one object after it has been read from its source."""
        if obj.docstring is None:
            return
        parts = re.split(f"({_EXAMPLE.pattern})", f"{_LITERAL.sub('', obj.docstring.value)}\n", flags=re.M)
        prose = [self._linked(part, obj.name) for part in parts[::2]]
        examples = [f"```pycon\n{part}```\n" for part in parts[1::2]]
        obj.docstring.value = "".join(a + b for a, b in zip(prose, [*examples, ""], strict=True))

    def _linked(self, text: str, own: str) -> str:
        def link(found: re.Match[str]) -> str:
            place = self.places.get(found[1])
            return found[0] if place is None or found[1] == own else f"[`{found[1]}`][{place}]"

        return _NAME.sub(link, _AXES.sub(r"]\\[", text))


def _public() -> dict[str, str]:
    """Name to path of all that the package and its errors announce in `__all__`."""
    places = {}
    for module in ("radiobject.errors", "radiobject.ml", "radiobject"):
        path = ROOT.joinpath(*module.split("."))
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for node in ast.parse(source.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__":
                places |= {name: f"{module}.{name}" for name in ast.literal_eval(node.value)}
    return places
