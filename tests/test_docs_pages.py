"""Pages that are found: the site has all of them, the reference all names, a question leads to its page."""

from __future__ import annotations

import ast
import importlib.util
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import radiobject
import radiobject.ml
from radiobject import errors

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"\]\(([^)#:]+\.(?:md|py))[^)]*\)")
OUTSIDE = {"index.md", "CHANGELOG.md", "CONTRIBUTING.md", "schemas/README.md"}  # docs/site.py brings them in


def nav() -> list[str]:
    """Pages of mkdocs.yml's nav, in order."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    return re.findall(r"(\S+\.(?:md|py))$", text, re.MULTILINE)


def pages(folder: Path = DOCS) -> set[str]:
    return {path.relative_to(DOCS).as_posix() for path in folder.rglob("*.md")}


def links(page: Path) -> set[str]:
    """Pages below docs/ that a page links."""
    found = (page.parent / target for target in LINK.findall(page.read_text(encoding="utf-8")))
    inside = (path.resolve() for path in found)
    return {path.relative_to(DOCS).as_posix() for path in inside if path.is_relative_to(DOCS)}


def identifiers() -> list[str]:
    """What the pages of the reference ask mkdocstrings for."""
    texts = (path.read_text(encoding="utf-8") for path in sorted((DOCS / "reference").glob("*.md")))
    return [name for text in texts for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE)]


def hook(name: str) -> ModuleType:
    """A module of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_site_leads_to_every_page_and_to_none_twice() -> None:
    listed = nav()
    assert len(listed) == len(set(listed))
    here = {name for name in listed if name.endswith(".md")} - OUTSIDE
    assert here == pages()
    assert {name for name in listed if name.endswith(".py")} == {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").glob("*.py")
    }


def test_every_how_to_page_is_linked_from_the_start_and_from_the_questions() -> None:
    how_to = pages(DOCS / "how-to")
    assert how_to <= links(ROOT / "README.md")
    assert how_to - {"how-to/index.md"} <= links(DOCS / "how-to/index.md")


def test_every_page_is_linked_from_another() -> None:
    linked = links(ROOT / "README.md").union(*(links(path) for path in DOCS.rglob("*.md")))
    assert pages() <= linked


@pytest.mark.parametrize("package", [radiobject, radiobject.ml], ids=lambda package: package.__name__)
def test_the_reference_has_every_public_name(package: ModuleType) -> None:
    assert {f"{package.__name__}.{name}" for name in package.__all__} <= set(identifiers())


def test_the_reference_has_every_error_by_the_module_that_lists_them() -> None:
    assert "radiobject.errors" in identifiers()
    undocumented = [name for name in errors.__all__ if not getattr(errors, name).__doc__]
    assert not undocumented  # the reference leaves out what has no docstring


def test_every_name_of_the_reference_exists_and_stands_once() -> None:
    names = identifiers()
    assert len(names) == len(set(names))
    for name in names:
        if name == "radiobject.ml.nnunet":  # needs an environment of its own
            assert (ROOT / "radiobject/ml/nnunet.py").is_file()
        else:
            assert found(name) is not None, name


def found(name: str) -> object:
    """The module of that name, or what a module has by it."""
    place = ROOT.joinpath(*name.split("."))
    if place.with_suffix(".py").exists() or (place / "__init__.py").exists():
        return import_module(name)
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute, None)


def test_the_page_of_the_command_line_has_every_command_and_option() -> None:
    text = hook("commands").commands()
    sources = (ROOT / "radiobject/cli/application.py").read_text(encoding="utf-8")
    listed = next(n for n in ast.walk(ast.parse(sources)) if isinstance(n, ast.Tuple) and len(n.elts) > 10)
    for element in listed.elts:
        assert isinstance(element, ast.Name)
        assert f"## `radiobject {element.id.replace('_', '-')}`" in text
    assert "`--resume`" in text
    assert "\b" not in text


def test_the_readme_says_which_command_makes_its_figures() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    figures = text.partition("\n## Figures\n")[2].partition("\n## ")[0]
    target = re.search(r"`make (\S+)` makes this table", figures)
    assert target is not None
    assert f"\n{target[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
