"""`ctx=` on every method that has it in the TileDB-based package: what reads by it, and who refuses it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from radiobject import (
    RadiObject,
    RadiObjectWriter,
    ReadConfig,
    S3Config,
    Volume,
    VolumeCollection,
    VolumeCollectionWriter,
    configure,
    get_tiledb_ctx,
)
from radiobject.errors import CapabilityError, ConfigError, MissingDependencyError
from radiobject.parallel import ctx_for_process, ctx_for_threads
from tests.upstream.cases_contexts import reader
from tests.upstream.ground import AFFINE, Ground, make_ground, voxels

tiledb = pytest.importorskip("tiledb")

SCAN = voxels("sub-01")
ENDINGS = {"zarr": "ome.zarr", "tiledb": "tdb"}


@dataclass(frozen=True)
class Given:
    """A study on a backend, a context, and a free place."""

    ground: Ground
    radi: RadiObject
    backend: str
    ctx: Any
    new: str

    @property
    def scan(self) -> str:
        """A free place of a volume."""
        return f"{self.new}.{ENDINGS[self.backend]}"

    @property
    def how(self) -> dict[str, Any]:
        """What a new study is made with."""
        return {"backend": self.backend, "ctx": self.ctx}


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("contexts")
    study, files = make_ground(root)
    RadiObject(study).write(root / "tiledb", backend="tiledb")
    return root, files


@pytest.fixture(params=["zarr", "tiledb"])
def given(request: Any, studies: tuple[Path, Path], tmp_path: Path) -> Callable[[Any], Given]:
    root, files = studies
    uri = root / ("study" if request.param == "zarr" else "tiledb")

    def make(ctx: Any) -> Given:
        ground = Ground(uri, files, tmp_path)
        return Given(ground, RadiObject(uri), request.param, ctx, ground.new())

    return make


def written(g: Given) -> VolumeCollection:
    with VolumeCollectionWriter(g.new, name="T1w", **g.how) as writer:
        writer.write_volume(SCAN, "sub-01_T1w", "sub-01")
    return writer.collection


def study_written(g: Given) -> VolumeCollection:
    with RadiObjectWriter(g.new, **g.how) as writer:
        writer.add_collection("T1w").write_volume(SCAN, "sub-01_T1w", "sub-01")
    return writer.finalize().T1w


def pairs(g: Given) -> list[tuple[str, str]]:
    return [(f"{g.ground.images}/sub-01.nii.gz", "sub-01")]


OPENS: dict[str, Callable[[Given], Any]] = {
    "RadiObject": lambda g: RadiObject(g.radi.uri, ctx=g.ctx).T1w,
    "VolumeCollection": lambda g: VolumeCollection(f"{g.radi.uri}#T1w", ctx=g.ctx),
    "Volume": lambda g: [Volume(g.radi.T1w[0].uri, ctx=g.ctx)],
}
WRITES: dict[str, Callable[[Given], Any]] = {
    "RadiObject.write": lambda g: g.radi.write(g.new, ctx=g.ctx).T1w,
    "RadiObject.to_radi_object": lambda g: g.radi.to_radi_object(g.new, ctx=g.ctx).T1w,
    "RadiObject.materialize": lambda g: g.radi.materialize(g.new, ctx=g.ctx).T1w,
    "RadiObject.from_images": lambda g: RadiObject.from_images(g.new, {"T1w": pairs(g)}, **g.how).T1w,
    "RadiObject.from_niftis": lambda g: RadiObject.from_niftis(g.new, {"T1w": pairs(g)}, **g.how).T1w,
    "RadiObject.from_collections": lambda g: (
        RadiObject.from_collections(g.new, {"T1w": g.radi.T1w}, ctx=g.ctx).T1w
    ),
    "RadiObject.from_volume_collections": lambda g: (
        RadiObject.from_volume_collections(g.new, {"T1w": g.radi.T1w}, ctx=g.ctx).T1w
    ),
    "VolumeCollection.write": lambda g: g.radi.T1w.write(g.new, ctx=g.ctx),
    "VolumeCollection.from_niftis": lambda g: VolumeCollection.from_niftis(g.new, pairs(g), **g.how),
    "VolumeCollection.from_volumes": lambda g: VolumeCollection.from_volumes(
        g.new, [("a", Volume.from_numpy(SCAN, AFFINE))], **g.how
    ),
    "Volume.from_numpy": lambda g: [Volume.from_numpy(g.scan, SCAN, ctx=g.ctx)],
    "Volume.from_nifti": lambda g: [Volume.from_nifti(g.scan, f"{g.ground.images}/sub-01.nii.gz", ctx=g.ctx)],
    "LazyQuery.write, copied": lambda g: g.radi.T1w.lazy().head(1).write(g.new, ctx=g.ctx),
    "LazyQuery.write, computed": lambda g: g.radi.T1w.lazy().map(lambda a, row: a).write(g.new, ctx=g.ctx),
    "EagerQuery.write": lambda g: g.radi.T1w.map(lambda a, row: a).write(g.new, ctx=g.ctx),
    "Query.materialize": lambda g: g.radi.lazy().head(1).materialize(g.new, ctx=g.ctx).T1w,
    "VolumeCollectionWriter": written,
    "RadiObjectWriter": study_written,
}
ALL = OPENS | WRITES


@pytest.mark.parametrize("name", ALL)
def test_a_context_reads_what_is_on_tiledb_and_changes_nothing_on_zarr(name: str, given: Any) -> None:
    g = given(ctx_for_process())
    volume = ALL[name](g)[0]
    assert volume.shape == SCAN.shape
    if g.backend == "tiledb":
        assert reader(volume) is g.ctx
    else:
        assert int(volume.to_numpy().min()) % 1000 == 0


@pytest.mark.parametrize("name", ALL)
def test_a_context_of_the_callers_is_refused_where_nothing_would_read_by_it(name: str, given: Any) -> None:
    g = given(tiledb.Ctx({"vfs.s3.region": "eu-west-1"}))
    if g.backend == "tiledb":
        assert reader(ALL[name](g)[0]) is g.ctx
        return
    with pytest.raises(ConfigError, match=r"volumes on zarr.*storage_options=, S3Config"):
        ALL[name](g)
    assert list(g.ground.folder.iterdir()) == []


@pytest.mark.parametrize("name", ALL)
def test_what_is_no_context_is_refused(name: str, given: Any) -> None:
    g = given({"vfs.s3.region": "eu-west-1"})
    with pytest.raises(ConfigError, match=r"expected a tiledb\.Ctx, got \{'vfs"):
        ALL[name](g)
    assert list(g.ground.folder.iterdir()) == []


@pytest.mark.parametrize("make", [get_tiledb_ctx, ctx_for_threads, ctx_for_process])
def test_contexts_of_this_package_are_taken_by_studies_on_zarr(make: Any, studies: tuple[Path, Path]) -> None:
    for ctx in (make(), ctx_for_process(make()), ctx_for_threads(make())):
        assert len(RadiObject(studies[0] / "study", ctx=ctx)) == 3


def test_a_context_made_from_another_ones_settings_is_the_callers_too(studies: tuple[Path, Path]) -> None:
    ctx = ctx_for_process(tiledb.Ctx({"vfs.s3.region": "eu-west-1"}))
    assert ctx.config()["vfs.s3.region"] == "eu-west-1"
    with pytest.raises(ConfigError, match="volumes on zarr"):
        RadiObject(studies[0] / "study", ctx=ctx)


def test_a_volume_in_memory_takes_a_context_that_means_nothing() -> None:
    assert Volume.from_numpy(SCAN, ctx=get_tiledb_ctx()).shape == SCAN.shape
    with pytest.raises(ConfigError, match="volumes on memory"):
        Volume.from_numpy(SCAN, ctx=tiledb.Ctx())


def test_each_setting_has_a_context_and_keeps_it() -> None:
    plain = get_tiledb_ctx()
    with configure(read=ReadConfig(memory_budget_mb=64)):
        small = get_tiledb_ctx()
        assert small.config()["sm.mem.total_budget"] == str(64 * 2**20)
        assert get_tiledb_ctx() is small
    assert get_tiledb_ctx() is plain is not small
    assert plain.config()["sm.mem.total_budget"] == str(1024 * 2**20)


def test_what_is_no_context_has_no_threads_and_no_settings() -> None:
    for function in (ctx_for_threads, ctx_for_process):
        with pytest.raises(ConfigError, match=r"expected a tiledb\.Ctx, got 'ctx'"):
            function("ctx")


def test_a_profile_is_named_to_tiledb_by_the_environment() -> None:
    with configure(s3=S3Config(profile="hospital")), pytest.raises(CapabilityError, match="AWS_PROFILE"):
        get_tiledb_ctx()


def test_without_tiledb_contexts_name_the_pip_line_and_are_refused(
    studies: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tiledb", None)
    with configure(read=ReadConfig(memory_budget_mb=77)):
        for function in (get_tiledb_ctx, ctx_for_threads, ctx_for_process):
            with pytest.raises(MissingDependencyError, match=r"radiobject-zarr\[tiledb\]"):
                function()
    assert len(RadiObject(studies[0] / "study", ctx=None)) == 3
    with pytest.raises(ConfigError, match=r"expected a tiledb\.Ctx"):
        RadiObject(studies[0] / "study", ctx=object())
