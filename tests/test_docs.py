"""Words that run: Python blocks as files of their own, `radiobject` commands as a shell would have them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.ml.nnunet_env import wanted as nnunet

pytest.importorskip("nilearn")

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """(line, text) of every fenced block in that language."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [(text.count("\n", 0, m.start()) + 1, m[1]) for m in found]


def commands(page: Path) -> list[str]:
    """The commands of console blocks that need only this environment, with lines joined at backslashes."""
    joined = [re.sub(r"\\\n\s*", "", text) for _, text in blocks(page, "console")]
    lines = [line[2:] for text in joined for line in text.splitlines() if line.startswith("$ ")]
    return [line for line in lines if line.startswith(("radiobject ", "python -c "))]


def environment(folder: Path) -> dict[str, str]:
    """This interpreter's commands first; temporary studies stay where the test is cleaned up."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    short = folder.parent / "t"  # sockets of worker processes lie there, and their paths may have 107 letters
    short.mkdir(exist_ok=True)
    return {**os.environ, "PATH": path, "TMPDIR": str(short)}


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def run(words: list[str], folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)


PYTHON = [
    pytest.param(text, id=f"{name(page)}:{line}") for page in PAGES for line, text in blocks(page, "python")
]


def interpreter(text: str) -> str:
    """The one that runs a block: nnU-Net has an environment of its own."""
    return nnunet() if "nnunet" in text else sys.executable


@pytest.mark.parametrize("text", PYTHON)
def test_python_block_runs_as_a_file(text: str, tmp_path: Path) -> None:
    script = tmp_path / "block.py"
    script.write_text(text, encoding="utf-8")
    ran = run([interpreter(text), "-W", "error", script.name], tmp_path, environment(tmp_path))
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=name)
def test_commands_run_in_the_order_of_the_page(page: Path, tmp_path: Path) -> None:
    with_commands = environment(tmp_path)
    for command in commands(page):
        ran = run(["bash", "-c", command], tmp_path, with_commands)
        assert ran.returncode == 0, f"{command}\n{ran.stderr}"
        assert ran.stdout or not command.startswith("radiobject ")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target


def test_the_readme_has_what_a_newcomer_needs() -> None:
    readme = ROOT / "README.md"
    assert len(blocks(readme, "python")) >= 2
    assert len(commands(readme)) >= 5
    text = readme.read_text(encoding="utf-8")
    assert "make demo" in text
    assert "make test" in text
    # the picture is shown by every page that lists the project: it must stay small
    assert (ROOT / "docs/images/demo.png").stat().st_size < 300_000


def test_the_plan_of_the_house_names_every_file() -> None:
    plan = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    package = ROOT / "radiobject"
    described = {"backends/zarr", "backends/tiledb", "cli", "testing"}  # named as one room each
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        room = relative.parent.as_posix()
        if room in described or relative.name == "__init__.py":
            continue
        assert relative.name in plan, f"{relative} is not in docs/architecture.md"


def test_the_change_log_names_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
