"""The command line keeps what it writes, or refuses; and hands options to the store that they are for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.cli import main
from radiobject.cli.options import for_source

SCAN = (np.arange(60, dtype="i2").reshape(3, 4, 5), np.eye(4))


def made(place: Path, **options: Any) -> RadiObject:
    return RadiObject.from_niftis(place, {"T1w": [(SCAN, "sub-1"), (SCAN, "sub-2")]}, **options)


@pytest.mark.parametrize("command", ["copy", "ingest", "import-upstream"])
@pytest.mark.parametrize("where", ["disk", "memory"])
def test_volumes_that_would_end_with_the_command_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, where: str
) -> None:
    source = made(tmp_path / "source").uri
    place = str(tmp_path / "made") if where == "disk" else f"memory://{tmp_path.name}/made"
    images = ["--images", f"T1w={tmp_path}/*.nii"]
    words = [command, place, *images] if command == "ingest" else [command, str(source), place]
    with pytest.raises(SystemExit) as left:
        main([*words, *(["--backend", "memory"] if where == "disk" else [])])
    said = " ".join(capsys.readouterr().err.split())
    assert left.value.code == 1
    assert "whose volumes last" in said
    assert "Leave --backend out" in said
    assert not (tmp_path / "made").exists()


def test_validate_misses_volumes_that_ended_with_their_process(tmp_path: Path) -> None:
    here = made(tmp_path / "study", backend="memory")
    assert here.validate("full").ok
    code = "import sys; from radiobject import RadiObject; print(RadiObject(sys.argv[1]).validate())"
    done = subprocess.run(
        [sys.executable, "-c", code, str(here.uri)], capture_output=True, text=True, check=True
    )
    assert "2 problems" in done.stdout
    assert "memory of this process" in done.stdout


def test_options_go_to_the_source_where_it_is_the_same_kind_of_store() -> None:
    shared, own = ["anon=true"], ["profile=lab"]
    assert for_source("s3://a/study", "s3://b/study", None, shared) == shared
    assert for_source("s3://a/study", "s3://b/study", own, shared) == own
    assert for_source("old/study", "s3://b/study", None, shared) is None
    assert for_source("s3://a/study", "studies/b", None, shared) is None
    assert for_source("s3://a/study", "studies/b", own, shared) == own
