"""Example series: the same again where they were made, and nobody else's files written over."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pydicom")
pytest.importorskip("nilearn")
pytest.importorskip("scipy")

from radiobject.errors import ConfigError
from radiobject.example_series import dicom_series


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return contents(dicom_series(tmp_path_factory.mktemp("once"), n=1, spacing=16.0))


def test_a_second_call_makes_the_same_files_again(tmp_path: Path, once: dict[str, bytes]) -> None:
    folder = dicom_series(tmp_path / "export", n=1, spacing=8.0)  # more slices: the later ones have to go
    (folder / "Adler/1/IM0003").unlink()
    (folder / "notes.txt").write_text("mine")
    dicom_series(folder, n=1, spacing=16.0)
    assert contents(folder) == {**once, "notes.txt": b"mine"}


@pytest.mark.parametrize("name", ["IM0001", "IM0500", "readme.txt"])
def test_a_file_of_somebody_else_stays_and_so_do_all_others(
    name: str, tmp_path: Path, once: dict[str, bytes]
) -> None:
    folder = dicom_series(tmp_path / "export", n=1, spacing=16.0)
    theirs = once["Adler/1/IM0002"].replace(b"10.999.1.1", b"10.999.1.7")  # a series of its own
    (folder / "Adler/1" / name).write_bytes(theirs)
    before = contents(folder)
    with pytest.raises(ConfigError, match=name):
        dicom_series(folder, n=1, spacing=16.0)
    assert contents(folder) == before


def test_a_folder_in_a_series_and_a_file_in_the_way_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one/Adler/1/IM0001").mkdir(parents=True)
    with pytest.raises(ConfigError, match="IM0001"):
        dicom_series(tmp_path / "one", n=1, spacing=16.0)
    (tmp_path / "two").write_text("mine")
    with pytest.raises(ConfigError, match="a file on the way"):
        dicom_series(tmp_path / "two", n=1, spacing=16.0)


def test_more_people_than_it_has_names_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 to 8"):
        dicom_series(tmp_path, n=9)
