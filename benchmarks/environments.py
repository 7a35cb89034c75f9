"""Environments of their own for packages that cannot live in this one; benchmarks and tests start them.

    python benchmarks/environments.py upstream     # makes .venv-upstream once, in less than a minute
    python benchmarks/environments.py peers        # .venv-peers: h5py, blosc2, indexed_gzip, ngff-zarr

Two distributions of one import name (ours, and PyPI `radiobject`) cannot share an environment, and nibabel
reads otherwise wherever indexed_gzip is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PEERS", "UPSTREAM", "Environment"]

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Environment:
    """A folder with an interpreter that sees these packages and no others."""

    folder: Path
    requirements: tuple[str, ...]

    def made(self) -> Path | None:
        """Its interpreter, None when the environment is not there or not finished."""
        done = self.folder / ".installed"
        if not done.is_file() or done.read_text() != " ".join(self.requirements):
            return None
        return self._python()

    def interpreter(self) -> Path:
        """Its interpreter; makes the environment where it is missing."""
        if self.made() is None:
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(self.folder)], check=True)
            install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *self.requirements]
            subprocess.run([str(self._python()), *install], check=True)
            (self.folder / ".installed").write_text(" ".join(self.requirements))
        return self._python()

    def _python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


UPSTREAM = Environment(ROOT / ".venv-upstream", ("radiobject==0.1.1",))
PEERS = Environment(
    ROOT / ".venv-peers",
    ("nibabel==5.4.2", "indexed_gzip==1.10.3", "h5py==3.16.0", "blosc2==4.14.1", "ngff-zarr==0.50.0"),
)

if __name__ == "__main__":
    for name in sys.argv[1:]:
        print({"upstream": UPSTREAM, "peers": PEERS}[name].interpreter())
