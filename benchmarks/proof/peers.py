"""Who takes part: a name, the class that answers, and the environment that it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environments import PEERS, UPSTREAM, Environment

__all__ = ["OURS", "TABLE", "Served", "Who", "serving"]

SERVE = Path(__file__).resolve().parents[1] / "peers" / "serve.py"
OURS = "radiobject"
"""Whom the others are compared with."""


@dataclass(frozen=True)
class Who:
    """`code` is module:class in `benchmarks/peers`, `folder` a short name for files."""

    name: str
    code: str
    folder: str
    environment: Environment | None = None
    converts_only: bool = False
    whole: bool = False
    """Loads the whole volume for whatever is asked."""
    mapped: bool = False
    """Reads by a memory map, which no count of bytes shows."""


TABLE = (
    Who(OURS, "ours:Zarr", "zarr"),
    Who("radiobject, archive", "ours:Archive", "archive"),
    Who("radiobject, TileDB", "ours:TileDb", "tiledb"),
    Who("tensorstore", "arrays:TensorStore", "tensorstore"),
    Who("zarr-python", "arrays:ZarrPython", "zarr-python"),
    Who("radiobject 0.1.1, isotropic", "predecessor:Isotropic", "upstream-isotropic", UPSTREAM),
    Who("radiobject 0.1.1, axial", "predecessor:Axial", "upstream-axial", UPSTREAM),
    Who("HDF5, gzip", "arrays:Hdf5", "hdf5", PEERS),
    Who("blosc2, as nnU-Net", "arrays:Blosc", "blosc2", PEERS, mapped=True),
    Who("nibabel, .nii", "files:Plain", "nii", mapped=True),
    Who("nibabel, .nii.gz", "files:Compressed", "nii-gz"),
    Who("nibabel, indexed_gzip", "files:Indexed", "indexed", PEERS),
    Who("MONAI LoadImage", "frameworks:MonaiLoad", "monai", whole=True),
    Who("MONAI PersistentDataset", "frameworks:MonaiPersistent", "persistent", whole=True),
    Who("TorchIO", "frameworks:TorchIo", "torchio", whole=True),
    Who("ngff-zarr", "conversion:NgffZarr", "ngff-zarr", PEERS, converts_only=True),
)


class Served:
    """A peer in a process of its own."""

    def __init__(self, who: Who, work: Path) -> None:
        self.who = who
        place = work / who.folder
        place.mkdir(parents=True, exist_ok=True)
        python = who.environment.interpreter() if who.environment else Path(sys.executable)
        self._said = (work / f"{who.folder}.log").open("w+")  # some talk much on the way
        self._process = subprocess.Popen(
            [str(python), "-W", "ignore", str(SERVE), who.code, str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def ask(self, do: str, **question: Any) -> dict[str, Any]:
        """The answer to one question (`peers.serve.Service`)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **question}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._said.seek(0)
            raise SystemExit(f"{self._said.read()[-4000:]}\n{self.who.name} ended with code {code}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End its process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._said.close()


@contextmanager
def serving(
    whom: Sequence[Who], work: Path, files: Mapping[str, str]
) -> Iterator[tuple[list[Served], dict[str, dict[str, Any]]]]:
    """Each in its process, with the files stored; and what the storing took. All end with the block.

    The order of the table matters: some read what this package has stored.
    """
    with ExitStack() as ended:
        served, stored = [], {}
        for who in whom:
            peer = Served(who, work)
            ended.callback(peer.close)
            stored[who.name] = peer.ask("store", files=dict(files))
            served.append(peer)
        yield served, stored
