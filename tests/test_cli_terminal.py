"""What stands in a study is text: the command line prints no control character that came from there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from radiobject import RadiObject
from radiobject.cli import main
from radiobject.cli.output import console, print_json, printable, table

ESCAPE, LINES, TURNED, C1 = "\x1b[31mred", "a\nb", "\u202eabc", "\x9b31mred"
HOSTILE = (ESCAPE, LINES, TURNED, C1)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_table_and_a_line_spell_control_characters_out(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    console().print(table(text, [text, "n"], [[text, "1"]], note="all"))
    console().print(f"<{text}>", markup=False, soft_wrap=True)
    out = capsys.readouterr().out
    assert not set(out) & {"\x1b", "\x9b", "\u202e"}
    assert out.count(printable(text)) >= 2
    row = next(line for line in out.splitlines() if line.endswith(" 1"))
    assert row.startswith(printable(text))


def test_text_that_people_write_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("Schädel 头 [1/2]\nzwei", markup=False)
    assert capsys.readouterr().out == "Schädel 头 [1/2]\nzwei\n"


@pytest.mark.parametrize("text", HOSTILE)
def test_json_says_the_same_without_them(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_json({text: [text, "é"]})
    out = capsys.readouterr().out
    assert not set(out) & {"\x1b", "\x9b", "\u202e"}
    assert "é" in out
    assert json.loads(out) == {text: [text, "é"]}


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    """A study whose ids and names are meant for the terminal."""
    scan = (np.zeros((5, 5, 5), "i2"), np.eye(4))  # constant, so that the report names it
    meta = pd.DataFrame({"obs_subject_id": list(HOSTILE), "note": list(HOSTILE)})
    images = {"T1w": [(scan, subject) for subject in HOSTILE]}
    return str(RadiObject.from_niftis(tmp_path / "study", images, meta, progress=False).uri)


@pytest.mark.parametrize("command", ["report", "info", "validate"])
def test_commands_obey_no_id(
    command: str,
    hostile: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main([command, hostile])
    text = "".join(capsys.readouterr())
    assert not set(text) & {"\x1b", "\x9b", "\u202e"}
    if command == "report":
        assert printable(ESCAPE) in text
        assert printable(LINES) in text
