"""Words that run: Python blocks as files of their own, `radiobject` commands as a shell would have them.

A page with the comment "One session" is one file: its blocks in order, as a reader pastes them. An `output`
block is what the Python block before it prints. A page whose blocks run as they stand runs from top to bottom
in one folder, too.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.command import Outcome
from tests.ml.nnunet_env import wanted as nnunet

pytest.importorskip("nilearn")

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
SESSION = "<!-- One session"
AS_IT_STANDS = re.compile(r"\b(?:Every|This) block(?: on this\s+page)? runs\s+as it stands\b")
MAKES_STUDIES = re.compile(r"\$ radiobject |Writer\(\"|\bfrom_\w+\(\s*\"|\buri=\"")  # that may collide
BETWEEN = "\x1e"  # the ASCII record separator: what is printed between two blocks of a session


def fences(page: Path) -> list[tuple[int, str, str]]:
    """(line, language, text) of every fenced block."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, m.start()) + 1, m[1], m[2]) for m in FENCE.finditer(text)]


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """(line, text) of every fenced block in that language."""
    return [(line, text) for line, spoken, text in fences(page) if spoken == language]


def runnable(page: Path) -> list[tuple[int, str, str | None]]:
    """(line, text, what it prints or None) of every Python block."""
    pairs = pairwise([*fences(page), (0, "", "")])
    return [
        (line, text, after if following == "output" else None)
        for (line, language, text), (_, following, after) in pairs
        if language == "python"
    ]


def one_session(page: Path) -> bool:
    return SESSION in page.read_text(encoding="utf-8")


def commands_in(text: str) -> list[str]:
    """The commands of a console block that need only this environment, with lines joined at backslashes."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
    return [line for line in lines if line.startswith(("radiobject ", "python -c "))]


def commands(page: Path) -> list[str]:
    """Those of every console block."""
    return [command for _, text in blocks(page, "console") for command in commands_in(text)]


def run_command(command: str, folder: Path) -> None:
    ran = run(["bash", "-c", command], folder, environment(folder))
    assert ran.returncode == 0, f"{command}\n{ran.stderr}"
    assert ran.stdout or not command.startswith("radiobject ")


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
    pytest.param(text, printed, id=f"{name(page)}:{line}")
    for page in PAGES
    if not one_session(page)
    for line, text, printed in runnable(page)
]


def interpreter(text: str) -> str:
    """The one that runs a block: nnU-Net has an environment of its own."""
    return nnunet() if "nnunet" in text else sys.executable


def printed_by(script: str, folder: Path) -> str:
    """What the file prints; warnings are errors."""
    (folder / "block.py").write_text(script, encoding="utf-8")
    ran = run([interpreter(script), "-W", "error", "block.py"], folder, environment(folder))
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def same(printed: str, said: str) -> bool:
    """The page may have `...` for what differs between machines."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(said, printed, flags)


def run_commands(page: Path, folder: Path) -> None:
    for command in commands(page):
        run_command(command, folder)


@pytest.mark.slow
@pytest.mark.parametrize(("text", "said"), PYTHON)
def test_python_block_runs_as_a_file(text: str, said: str | None, tmp_path: Path) -> None:
    printed = printed_by(text, tmp_path)
    assert said is None or same(printed, said), printed


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if commands(p) and not one_session(p)], ids=name)
def test_commands_run_in_the_order_of_the_page(page: Path, tmp_path: Path) -> None:
    run_commands(page, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if one_session(p)], ids=name)
def test_a_session_prints_what_the_page_says_and_leaves_it_to_the_commands(
    page: Path, tmp_path: Path
) -> None:
    found = runnable(page)
    script = "".join(f"{text}\nprint({BETWEEN!r})\n" for _, text, _ in found)
    outputs = printed_by(script, tmp_path).split(f"{BETWEEN}\n")
    for (line, _, said), printed in zip(found, outputs[:-1], strict=True):
        assert said is None or same(printed, said), f"{name(page)}:{line} prints\n{printed}"
    run_commands(page, tmp_path)


def in_one_folder(page: Path) -> bool:
    text = page.read_text(encoding="utf-8")
    return bool(AS_IT_STANDS.search(text) and MAKES_STUDIES.search(text))


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if in_one_folder(p)], ids=name)
def test_a_page_whose_blocks_run_as_they_stand_runs_in_one_folder(
    page: Path, tmp_path: Path, cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, which has loaded everything: tests above run blocks and commands as a reader does."""
    folder, temporary = tmp_path / "folder", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    names: dict[str, object] = {"__name__": "__main__"}
    for line, language, text in fences(page):
        if language == "python":
            exec(compile(text, f"{name(page)}:{line}", "exec"), names)
        for command in commands_in(text) if language == "console" else []:
            if command.startswith("radiobject "):
                done = cli(*shlex.split(command)[1:])
                assert done.code == 0, f"{command}\n{done.err}"
            else:
                run_command(command, folder)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_output_follows_a_block_that_prints_it(page: Path) -> None:
    languages = [language for _, language, _ in fences(page)]
    assert all(before == "python" for before, this in pairwise(["", *languages]) if this == "output")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target


def test_the_readme_has_what_a_newcomer_needs() -> None:
    readme = ROOT / "README.md"
    assert len(runnable(readme)) >= 1
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
