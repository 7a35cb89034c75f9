"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from radiobject import RadiObject
from radiobject.cli import main
from radiobject.examples import Cohort, cohort, study
from tests.command import Outcome

pytest.importorskip("nilearn")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return cohort(tmp_path_factory.mktemp("nifti"), 2, spacing=8.0)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(study(3, tmp_path_factory.mktemp("cli") / "study", spacing=8.0).uri)


def sources(files: Cohort) -> list[str]:
    return ["--images", f"T1w={files.folder}/T1w/*.nii.gz", "--images", f"seg={files.folder}/seg"]


def test_ingest_takes_every_option(cli: Callable[..., Outcome], files: Cohort, tmp_path: Path) -> None:
    files.obs_meta.to_csv(tmp_path / "subjects.tsv", sep="\t", index=False)
    done = cli(
        "ingest", tmp_path / "study", *sources(files), "--obs-meta", tmp_path / "subjects.tsv",
        "--labels", "seg", "--axis4", "time", "--errors", "collect", "--resume", "--preset", "archive",
        "--workers", "2", "--validate-alignment", "--message", "by hand",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert "6 volumes of 2 subjects, version 1" in done.out
    radi = RadiObject(tmp_path / "study")
    assert list(radi.obs_meta.read()["age"]) == list(files.obs_meta["age"])
    assert (radi.seg.kind, radi.T1w.kind) == ("label", "image")
    assert radi.versions()[0]["message"] == "by hand"


def test_ingest_writes_coarser_levels_when_asked(
    cli: Callable[..., Outcome], tmp_path: Path, make_nifti: Callable[..., bytes]
) -> None:
    (tmp_path / "sub-1_CT.nii").write_bytes(make_nifti(np.zeros((300, 4, 4), "i2"), affine=np.eye(4)))
    found = {}
    for value in ("auto", "none"):
        words = ["ingest", tmp_path / value, "--images", f"CT={tmp_path}/*.nii", "--pyramid", value]
        assert cli(*words, "--preset", "archive").code == 0
        volume = RadiObject(tmp_path / value).CT.iloc[0]
        found[value] = [level.shape[0] for level in volume.levels]
        assert "zstd" in next((tmp_path / value).rglob("0/zarr.json")).read_text()
    assert found == {"auto": [300, 150, 75, 38], "none": [300]}


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_subject_ids_of_a_table_stay_text(
    cli: Callable[..., Outcome], files: Cohort, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "T1w"
    folder.mkdir()
    shutil.copy(files.images["T1w"][0][0], folder / "007.nii.gz")
    table, path = pd.DataFrame({"obs_subject_id": ["007"], "age": [41]}), tmp_path / f"subjects.{kind}"
    if kind == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, sep="\t" if kind == "tsv" else ",", index=False)
    done = cli("ingest", tmp_path / "study", "--images", f"T1w={folder}", "--obs-meta", path, "--json")
    assert done.code == 0
    assert RadiObject(tmp_path / "study").obs_subject_ids == ["007"]
    assert done.json()["collections"][0]["volumes"] == 1


def test_ingest_of_a_bad_file_lists_it_and_commits_nothing(
    cli: Callable[..., Outcome], files: Cohort, tmp_path: Path
) -> None:
    folder = tmp_path / "T1w"
    shutil.copytree(files.folder / "T1w", folder)
    for number in range(12):
        (folder / f"bad-{number:02d}_T1w.nii.gz").write_bytes(b"<html>404</html>")
    words = ["ingest", tmp_path / "study", "--images", f"T1w={folder}"]
    failed = cli(*words)
    assert (failed.code, failed.out) == (1, "")
    assert failed.err.startswith("error: ")
    assert all(f"bad-{number:02d}_T1w.nii.gz" in failed.err for number in range(12))
    assert "Traceback" not in failed.err
    assert "hint: " in failed.err
    assert cli("info", tmp_path / "study").code == 1

    told = cli(*words, "--json")
    assert told.code == 1
    assert {row["error"] for row in told.json()["error"]["report"]} == {"SourceCorruptError"}

    collected = cli(*words, "--errors", "collect", "--json")
    assert collected.code == 0
    assert len(collected.json()["failed"]) == 12
    assert collected.json()["collections"][0]["volumes"] == len(files.images["T1w"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ingest", "study"], "--images"),
        (["ingest", "study", "--images", "T1w"], "NAME=SOURCE"),
        (["ingest", "study", "--images", "T1w=a", "--images", "T1w=b"], "given twice"),
        (["info", "study", "--storage-option", "anon"], "KEY=VALUE"),
        (["info", "study", "--nonsense"], "--nonsense"),
        (["validate", "study", "--level", "deep"], "deep"),
        (["nothing"], "nothing"),
    ],
)
def test_a_wrong_command_line_exits_with_2(cli: Callable[..., Outcome], words: list[str], said: str) -> None:
    refused = cli(*words)
    assert (refused.code, refused.out) == (2, "")
    assert said in refused.err


def test_info_shows_collections_subjects_and_versions(cli: Callable[..., Outcome], uri: str) -> None:
    shown = cli("info", uri)
    assert (shown.code, shown.err) == (0, "")
    for text in (
        uri,
        "version 1",
        "T1w",
        "seg",
        "label",
        "int16",
        "uint8",
        "8x8x8",
        "sub-01",
        "patient",
        "create",
    ):
        assert text in shown.out


def test_info_as_json_agrees_with_the_study(cli: Callable[..., Outcome], uri: str) -> None:
    document, radi = cli("info", uri, "--json", "--version", "1").json(), RadiObject(uri)
    image, label = document["collections"]
    assert [image["name"], label["name"]] == ["T1w", "seg"]
    assert image["volumes"] == len(radi.T1w) == 4
    assert image["shapes"] == {"x".join(map(str, radi.T1w.shape or ())): 4}
    assert image["voxel_bytes"] == sum(v[:].nbytes for v in radi.T1w)
    folder = Path(uri) / "collections" / "T1w"
    on_disk = sum(p.stat().st_size for p in folder.glob("*/*.ome.zarr/**/*") if p.is_file())
    assert image["stored_bytes"] == on_disk
    assert [row["obs_subject_id"] for row in document["first_subjects"]] == ["sub-01", "sub-02", "sub-03"]
    assert document["versions"][0]["version"] == document["version"] == 1


def test_our_errors_are_one_block_on_stderr(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    failed = cli("info", tmp_path / "nowhere")
    assert (failed.code, failed.out) == (1, "")
    assert failed.err.splitlines()[0] == f"error: {tmp_path / 'nowhere'}"
    assert "  expected: " in failed.err
    assert "  hint: " in failed.err
    assert "Traceback" not in failed.err
    told = cli("info", tmp_path / "nowhere", "--json")
    assert told.json()["error"]["type"] == "StudyNotFoundError"


def test_debug_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        main(["--debug", "info", str(tmp_path / "nowhere")])


def test_validate_exits_with_3_when_something_is_wrong(
    cli: Callable[..., Outcome], uri: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(uri, copy)
    assert cli("validate", copy, "--level", "full").code == 0
    shard = next(copy.glob("collections/T1w/*/*.ome.zarr/0/c/0/0/0"))
    damaged = bytearray(shard.read_bytes())
    damaged[10] ^= 1
    shard.write_bytes(damaged)
    assert cli("validate", copy).code == 0  # quick looks at sizes
    found = cli("validate", copy, "--level", "full")
    assert found.code == 3
    assert shard.relative_to(copy).as_posix() in found.out
    report = cli("validate", copy, "--level", "full", "--json")
    assert report.code == 3
    assert [p["where"] for p in report.json()["problems"]] == [shard.relative_to(copy).as_posix()]


def test_export_gives_the_files_back(cli: Callable[..., Outcome], files: Cohort, tmp_path: Path) -> None:
    assert cli("ingest", tmp_path / "study", *sources(files)).code == 0
    done = cli("export", tmp_path / "study", tmp_path / "out", "--collection", "T1w", "--subject", "sub-01")
    assert done.code == 0
    (made,) = (p for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert made == tmp_path / "out" / "T1w" / "sub-01_T1w.nii.gz"
    assert gzip.decompress(made.read_bytes()) == gzip.decompress(Path(files.images["T1w"][0][0]).read_bytes())

    again = ["export", tmp_path / "study", tmp_path / "out"]
    refused = cli(*again)
    assert refused.code == 1
    assert str(made) in refused.err
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == [made]
    assert len(cli(*again, "--overwrite", "--json").json()["files"]) == 6


def test_export_stays_inside_its_folder(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    image = (np.zeros((3, 4, 5), np.int16), np.eye(4))
    RadiObject.from_images(tmp_path / "study", {"T1w": [(image, "../../away")]})
    assert cli("export", tmp_path / "study", tmp_path / "deep" / "out").code == 0
    (made,) = tmp_path.rglob("*.nii.gz")
    assert made.parent == tmp_path / "deep" / "out" / "T1w"


def test_demo_draws_and_tells_what_to_paste(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = cli("demo", "--n", "2", "--spacing", "8", "--out", out)
    assert (done.code, done.err) == (0, "")
    assert "All voxels compared: equal" in done.out
    assert "bytes_read=" in done.out
    assert str(out / "planes.png") in done.out
    assert (out / "planes.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    pasted = done.out.strip().splitlines()[-5:]
    assert pasted[0] == "from radiobject import RadiObject"
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(pasted)], capture_output=True, text=True, check=True
    )
    assert "white matter" in ran.stdout
    assert cli("demo", "--n", "1", "--spacing", "8", "--out", out).code == 0
    assert len(RadiObject(out / "study")) == 1


def test_demo_leaves_foreign_folders_alone(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thesis.txt").write_text("years of work")
    refused = cli("demo", "--n", "1", "--spacing", "8", "--out", tmp_path)
    assert refused.code == 1
    assert "--out" in refused.err
    assert (tmp_path / "study" / "thesis.txt").read_text() == "years of work"


def test_copy_swaps_the_backend_and_back(cli: Callable[..., Outcome], uri: str, tmp_path: Path) -> None:
    pytest.importorskip("tiledb")
    done = cli("copy", uri, tmp_path / "there", "--backend", "tiledb", "--message", "to compare")
    assert (done.code, done.err) == (0, "")
    assert "8 volumes of 3 subjects" in done.out
    assert "(tiledb), version 1" in done.out
    there = RadiObject(tmp_path / "there")
    assert there.versions()[0]["message"] == "to compare"
    back = cli("copy", tmp_path / "there", tmp_path / "back", "--backend", "zarr", "--json").json()
    assert [c["backend"] for c in back["collections"]] == ["zarr", "zarr"]
    for one, other in zip(RadiObject(uri).T1w, RadiObject(tmp_path / "back").T1w, strict=True):
        np.testing.assert_array_equal(one[:], other[:])


def test_copy_takes_a_part(cli: Callable[..., Outcome], uri: str, tmp_path: Path) -> None:
    narrow = [
        "--collection",
        "T1w",
        "--subject",
        "sub-01",
        "--subject",
        "sub-02",
        "--filter",
        "dx == 'patient'",
    ]
    made = cli("copy", uri, tmp_path / "part", *narrow, "--workers", "1", "--version", "1", "--json").json()
    (of_t1w,) = made["collections"]
    kept = RadiObject(uri).loc[["sub-01", "sub-02"]].filter("dx == 'patient'")
    assert 0 < len(kept) < 2
    assert made["subjects"] == len(kept)
    assert of_t1w["volumes"] == len(kept.T1w)
    taken = cli("copy", uri, tmp_path / "part")
    assert taken.code == 1
    assert str(tmp_path / "part") in taken.err


def test_an_unknown_backend_is_told_with_those_there_are(
    cli: Callable[..., Outcome], uri: str, files: Cohort, tmp_path: Path
) -> None:
    for words in (["copy", uri, tmp_path / "x"], ["ingest", tmp_path / "x", *sources(files)]):
        refused = cli(*words, "--backend", "hdf5")
        assert refused.code == 1
        assert "memory, tiledb, zarr" in refused.err
        assert cli("info", tmp_path / "x").code == 1


@pytest.mark.parametrize(
    "command", ["ingest", "copy", "info", "validate", "report", "export", "view", "index", "demo"]
)
def test_help_has_an_example(cli: Callable[..., Outcome], command: str) -> None:
    shown = cli(command, "--help")
    assert shown.code == 0
    assert f"radiobject {command} " in shown.out.split("Usage:")[1].split("\n", 1)[1]


def test_the_installed_command_is_light_and_says_its_version() -> None:
    code = (
        "import sys; from radiobject.cli import main\n"
        "try: main(['--version'])\n"
        "except SystemExit as left: print(left.code or 0)\n"
        "print([m for m in ('pandas', 'pyarrow', 'tensorstore', 'numpy') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, left, heavy = ran.stdout.splitlines()
    assert first.startswith("radiobject-zarr ")
    assert (left, heavy) == ("0", "[]")
