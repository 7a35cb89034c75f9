"""Brings pages that stand outside docs/ into the site: README as its start, examples, the format, changes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

__all__ = ["on_files", "on_page_markdown"]

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "schemas/README.md")


@event_priority(100)  # before the plugin that turns examples into pages looks for them
def on_files(files: Files, config: Any) -> Files:
    """Add them; their links, which are right in the repository, become those of the site."""
    files.append(File.generated(config, "index.md", content=_moved(ROOT / "README.md")))
    for name in OUTSIDE:
        files.append(File.generated(config, name, content=_moved(ROOT / name)))
    for script in sorted((ROOT / "examples").glob("*.py")):
        name = f"examples/{script.name}"
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links of pages in docs/ to those outside, which are one folder nearer on the site."""
    up = "../" * len(Path(page.file.src_uri).parts)
    for name in OUTSIDE:
        markdown = markdown.replace(f"]({up}{name}", f"]({up[3:]}{name}")
    return markdown


def _moved(page: Path) -> str:
    """The page with links into docs/ as they are from the root of the site."""
    up = "../" * (len(page.relative_to(ROOT).parts) - 1)
    text = page.read_text(encoding="utf-8")
    text = re.sub(rf"\]\({re.escape(up)}docs/", f"]({up}", text)
    return re.sub(r"\]\(README\.md", "](index.md", text)
