"""The versions of a study on the command line: list, compare, name, pin, go back, clean up, purge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject
from tests.command import Outcome


@pytest.fixture
def uri(tmp_path: Path) -> str:
    def scan(value: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full((5, 4, 3), value, "i2"), np.eye(4)

    place = str(tmp_path / "study")
    images = {"T1w": [(scan(n), f"sub-0{n}") for n in (1, 2, 3)]}
    radi = RadiObject.from_niftis(place, images, progress=False, message="first")
    radi.append({"T1w": [(scan(9), "sub-02")]}, on_conflict="replace", progress=False)
    radi.delete(subjects="sub-03", message="withdrew")
    return place


def test_history_lists_versions_with_tags_and_hashes(cli: Callable[..., Outcome], uri: str) -> None:
    assert cli("tag", uri, "baseline", "--version", 1).out == f"{uri}: version 1 is baseline\n"
    shown = cli("history", uri)
    assert (shown.code, shown.err) == (0, "")
    lines = [line for line in shown.out.splitlines() if line.strip()[:1].isdigit()]
    versions = RadiObject(uri).versions()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert [v["sha256"][:16] in line for v, line in zip(versions, lines, strict=True)] == [True] * 3
    assert "baseline" in lines[0]
    assert lines[2].rstrip().endswith("withdrew")
    assert cli("history", uri, "--json").json() == {"uri": uri, "versions": versions}


def test_a_tag_that_is_taken_is_an_error(cli: Callable[..., Outcome], uri: str) -> None:
    cli("tag", uri, "baseline", "--version", 1)
    done = cli("tag", uri, "baseline")
    assert (done.code, done.out) == (1, "")
    assert "the name of version 1" in done.err


def test_diff_shows_and_lists_and_is_json(cli: Callable[..., Outcome], uri: str) -> None:
    cli("tag", uri, "baseline", "--version", 1)
    shown = cli("diff", uri, "baseline")
    assert shown.out.splitlines() == [
        f"diff of {uri}, version 1 to 3:",
        "  subjects: -1 (sub-03)",
        "  T1w: -1 volumes (sub-03_T1w), 1 replaced (sub-02_T1w)",
    ]
    rows = cli("diff", uri, 1, 2, "--rows").out.splitlines()
    assert [r.split() for r in rows if "sub-" in r] == [["volume", "replaced", "T1w", "sub-02_T1w"]]
    assert cli("diff", uri, 1, 2, "--json").json()["volumes"] == {"T1w": {"replaced": ["sub-02_T1w"]}}
    assert "nothing changed" in cli("diff", uri, 3, "--rows").out


def test_a_pin_is_a_uri_for_every_command(cli: Callable[..., Outcome], uri: str) -> None:
    pin = cli("pin", uri, "--version", 2).out.strip()
    assert pin == RadiObject(uri, version=2).pin()
    assert cli("info", pin, "--json").json()["version"] == 2
    wrong = cli("info", pin.replace("@2#", "@1#"))
    assert wrong.code == 1
    assert pin[-16:] in wrong.err


def test_restore_goes_back_by_number_and_tag(cli: Callable[..., Outcome], uri: str) -> None:
    assert cli("restore", uri, 1).out == f"{uri}: version 4, back to version 1\n"
    assert len(RadiObject(uri)) == 3
    cli("tag", uri, "without", "--version", 3)
    assert cli("restore", uri, "without", "--message", "after all").out == f"{uri}: version 5, after all\n"
    assert len(RadiObject(uri)) == 2


def test_cleanup_says_what_would_go_and_then_does_it(cli: Callable[..., Outcome], uri: str) -> None:
    words = ("cleanup", uri, "--keep", 1, "--older-than", "0s", "--force")
    planned, done = cli(*words, "--dry-run", "--json").json(), None
    assert len(RadiObject(uri).versions()) == 3
    done = cli(*words)
    assert "dry run" not in done.out
    assert f"{planned['objects']}" in done.out.splitlines()[-1]
    assert planned["expired"] == [1, 2]
    assert [v["version"] for v in RadiObject(uri).versions()] == [3, 4]
    refused = cli("cleanup", uri, "--keep", 1, "--older-than", "1 hour")
    assert refused.code == 1
    assert "force" in refused.err


def test_purge_asks_for_yes_and_then_leaves_nothing(cli: Callable[..., Outcome], uri: str) -> None:
    words = ("purge", uri, "--subject", "sub-03", "--reason", "withdrew consent")
    planned = cli(*words)
    assert planned.code == 0
    assert "dry run" in planned.out
    assert "--yes" in planned.err
    assert len(RadiObject(uri).versions()) == 3
    done = cli(*words, "--yes", "--json").json()
    assert (done["subjects"], done["volumes"], done["expired"]) == (1, 1, [1, 2, 3])
    assert done["dry_run"] is False
    files = [path for path in Path(uri).rglob("*") if path.is_file()]
    assert not [p for p in files if b"sub-03" in p.read_bytes() or "sub-03" in str(p.relative_to(uri))]
    assert "have expired" in cli("history", uri).out


def test_purge_of_a_tagged_version_says_which_option(cli: Callable[..., Outcome], uri: str) -> None:
    cli("tag", uri, "baseline", "--version", 1)
    words = ("purge", uri, "--subject", "sub-03", "--reason", "withdrew consent", "--yes")
    refused = cli(*words)
    assert refused.code == 1
    assert "baseline" in refused.err
    assert "--tags" in refused.err
    assert cli(*words, "--tags").code == 0


@pytest.mark.parametrize("command", ["history", "diff", "pin", "tag", "restore", "cleanup", "purge"])
def test_every_help_has_an_example(command: str, cli: Callable[..., Outcome]) -> None:
    shown = cli(command, "--help")
    assert shown.code == 0
    assert f"radiobject {command} " in shown.out.split("Usage")[1].partition("\n")[2]
