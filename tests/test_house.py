"""The house rules that a machine can hold: which way imports run, file lengths, the public list."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import radiobject

ROOT = Path(radiobject.__file__).parent

# One line a storey: a module may import from storeys below it, and from those before it in its own line.
STOREYS = [
    ["errors", "conflict", "moved", "frozen", "s3", "forking", "key_locks", "config", "measuring", "location",
     "workers", "executor", "local_disk", "failures", "remote", "storage", "strict"],
    ["geometry", "geometry.box", "geometry.affine", "geometry.planes", "geometry.resample",
     "geometry.blocks", "geometry.pyramid", "geometry.coordinates", "geometry.corners"],
    ["backends.base", "backends.documents", "backends.memory", "backends.zarr", "backends.tiledb",
     "backends.files", "backends"],
    ["format", "format.meta", "format.layout", "format.ome", "format.schema",
     "format.pruning", "format.part_file", "format.tables", "format.objects", "format.foreground",
     "format.commit", "format.pin", "format.traces", "format.exclusive", "format.tags",
     "format.catalog", "format.change_list", "format.rows",
        "format.difference", "format.restore",
        "format.volume_ids", "format.erasure", "format.changes",
        "format.rebase", "format.journal", "format.transaction",
     "format.needed", "format.claims", "format.integrity", "format.cleanup", "format.holders",
     "format.purge"],
    ["writing", "writing.compression", "writing.statistics", "writing.thumbnail", "writing.loaded",
     "writing.integers", "writing.foreground", "writing.objects", "writing.frames", "writing.columns",
     "writing.fitting", "writing.finished",
     "writing.pyramid", "writing.volume"],
    ["model", "model.index", "model.expression_syntax", "model.expression_values", "model.expression",
        "model.aliases", "model.table_changes", "model.dataframe",
        "model.slicing", "model.anatomy", "model.orientation",
        "model.voxels", "model.levels", "model.resampling", "model.summary", "model.held", "model.context",
        "model.dtypes",
        "model.single",
        "model.doors", "model.volume",
        "model.study", "model.names", "model.provenance", "model.pieces", "model.stages", "model.staging",
        "model.joined", "model.partners", "model.storing", "model.volume_copy", "model.copying",
        "model.execution", "model.foreground", "model.materialize",
        "model.naming", "model.made_rows", "model.deriving",
        "model.collection_view", "model.moments", "model.label_statistics",
        "model.query", "model.eager", "model.collection",
        "model.adding", "model.removal", "model.view", "model.study_query", "model.history", "model.creating",
        "model.radi_object",
        "model.collection_writer", "model.writers"],
    ["ingest", "export", "lazy", "show", "ml", "testing", "examples", "example_series"],
    ["writers", "", "exceptions", "imaging_metadata", "orientation", "parallel", "streaming", "cli"],
]  # fmt: skip
DOORS = {"ingest", "export", "lazy", "show", "ml", "testing", "examples"}

# A method that is only a front for a later room imports it inside the method; examples makes files first.
FRONTS = {
    ("config", "backends"),
    ("backends.files", "backends"),
    ("backends.files", "ingest"),
    ("model.doors", "export"),
    ("model.doors", "lazy"),
    ("model.doors", "ml"),
    ("model.doors", "show"),
    ("model.volume", "ingest"),
    ("model.creating", "ingest"),
    ("model.radi_object", "ingest"),
    ("model.collection_writer", "ingest"),
    ("model.collection", "ingest"),
    ("model.collection", "model.writers"),
    ("examples", "ingest"),
    ("examples", "export"),
    ("examples", ""),
}

THIRD_PARTY = {
    "torch": {"ml"},
    "monai": {"ml.monai"},
    "torchio": {"ml.torchio"},
    "xarray": {"lazy"},
    "dask": {"lazy"},
    "distributed": {"workers"},
    "loky": {"workers"},
    "cloudpickle": {"workers", "model.provenance"},
    "nibabel": {
        "ingest.nifti",
        "ingest.axes",
        "ingest.caret",
        "ingest.dicom.mosaic",
        "ingest.upstream",
        "export.nifti",
        "cli.peer",
    },
    "SimpleITK": {"export.sitk"},
    "matplotlib": {"show"},
    "neuroglancer": {"show.viewer"},
    "tornado": {"show.viewer"},
    "jinja2": {"show.report"},
    "pydicom": {"ingest.dicom", "ingest.deidentify", "example_series"},
    "zarr": {"backends.zarr"},
    "tensorstore": {"backends.zarr"},
    "tiledb": {"backends.tiledb", "ingest.upstream"},
    "fsspec": {"location"},
    "nnunetv2": {"ml.nnunet"},
    "bids2table": {"ingest.scanning.bids_files"},
    "pathspec": {"ingest.scanning.bids_files"},
}


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found.append((name.removesuffix("__init__").removesuffix("."), path))
    return found


def place(module: str) -> tuple[int, int]:
    """Storey and position in it; the longest named room that the module lies in."""
    best = None
    for storey, rooms in enumerate(STOREYS):
        for number, room in enumerate(rooms):
            inside = module == room or (room and module.startswith(room + "."))
            if inside and (best is None or len(room) > len(STOREYS[best[0]][best[1]])):
                best = (storey, number)
    assert best is not None, f"{module} has no room: name it in STOREYS and in docs/architecture.md"
    return best


def imports(path: Path) -> list[tuple[str, bool, int]]:
    """(module, at the top level, line) of every import."""
    tree = ast.parse(path.read_text())
    deep = {
        id(n)
        for f in ast.walk(tree)
        if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef)
        for n in ast.walk(f)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(a.name, id(node) not in deep, node.lineno) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = [f"{node.module}.{a.name}" for a in node.names]
            known = {f"radiobject.{m}" for m, _ in modules()}
            found += [
                (n if n in known else str(node.module), id(node) not in deep, node.lineno) for n in names
            ]
    return found


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda v: v if isinstance(v, str) else "")
def test_imports_run_only_downwards(name: str, path: Path) -> None:
    mine = place(name)
    for target, top, line in imports(path):
        if target.split(".")[0] != "radiobject":
            continue
        other = target.removeprefix("radiobject").removeprefix(".")
        theirs = place(other)
        same_room = STOREYS[mine[0]][mine[1]] == STOREYS[theirs[0]][theirs[1]]
        room = STOREYS[theirs[0]][theirs[1]]
        room = room if room.startswith("model") else room.split(".")[0]
        front = not top and any(name.startswith(a) and room == b for a, b in FRONTS)
        sideways = (
            mine[0] == theirs[0] and not same_room and {name.split(".")[0], other.split(".")[0]} <= DOORS
        )
        assert same_room or front or (theirs < mine and not sideways), f"{path.name}:{line} imports {target}"


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda v: v if isinstance(v, str) else "")
def test_third_party_doors(name: str, path: Path) -> None:
    for target, _, line in imports(path):
        rooms = THIRD_PARTY.get(target.split(".")[0])
        allowed = rooms is None or any(name == r or name.startswith(r + ".") for r in rooms)
        assert allowed, f"{path.name}:{line}: {target} belongs in {rooms}"


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda v: v if isinstance(v, str) else "")
def test_files_are_short_and_list_their_names(name: str, path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400, f"{name} is too long: split it by concern"
    if text.count("\n") > 3 and not name.endswith("__main__"):
        assert "__all__" in text, f"{name} has no __all__"


def test_the_public_names_are_these() -> None:
    assert sorted(radiobject.__all__) == [
        "CompressionConfig",
        "Dataframe",
        "Index",
        "OrientationConfig",
        "Plan",
        "RadiObject",
        "RadiObjectWriter",
        "ReadConfig",
        "S3Config",
        "SliceOrientation",
        "TileConfig",
        "Volume",
        "VolumeCollection",
        "VolumeCollectionWriter",
        "WriteConfig",
        "align",
        "configure",
        "measure",
        "pseudonym",
        "scan",
    ]
    assert all(hasattr(radiobject, name) for name in radiobject.__all__)


def test_importing_the_package_loads_no_engine() -> None:
    code = (
        "import sys, radiobject; "
        "print([m for m in ('tensorstore', 'zarr', 'nibabel', 'numpy', 'pandas', 'pyarrow', 'fsspec') "
        "if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_every_error_is_ours_and_a_builtin() -> None:
    from radiobject import errors

    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, errors.RadiObjectError)
        if kind is not errors.RadiObjectError:
            builtins = [b for b in kind.__mro__ if b.__module__ == "builtins"]
            assert builtins[0] is not Exception, f"{name} is no builtin error"
