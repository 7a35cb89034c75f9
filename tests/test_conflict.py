"""Beside the other distribution of this name the import is refused: files of one overwrite the other's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import radiobject

HOME = Path(radiobject.__file__).parents[1]


def import_beside(folder: Path, statement: str = "import radiobject") -> subprocess.CompletedProcess[str]:
    """Import in a fresh process that sees the distributions in `folder` too."""
    code = f"import sys; sys.path[:0] = [{str(HOME)!r}, {str(folder)!r}]; {statement}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def install(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_the_other_distribution_is_refused_with_two_pip_lines(tmp_path: Path) -> None:
    install(tmp_path, "radiobject", "0.1.1")
    ran = import_beside(tmp_path)
    assert ran.returncode != 0
    assert "ImportError" in ran.stderr
    assert "'radiobject' 0.1.1" in ran.stderr
    assert "    pip uninstall -y radiobject radiobject-zarr\n    pip install radiobject-zarr" in ran.stderr


def test_rooms_are_refused_too(tmp_path: Path) -> None:
    install(tmp_path, "radiobject", "0.1.1")
    assert "two packages named radiobject" in import_beside(tmp_path, "import radiobject.cli").stderr


def test_names_that_only_begin_so_do_not_matter(tmp_path: Path) -> None:
    install(tmp_path, "radiobject-tools", "0.1.1")
    assert import_beside(tmp_path).returncode == 0
