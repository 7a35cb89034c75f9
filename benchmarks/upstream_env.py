"""PyPI radiobject 0.1.1 in an environment of its own, for benchmarks and for the tests of its studies.

    python benchmarks/upstream_env.py     # makes .venv-upstream once, in less than a minute

Two distributions of one import name cannot share an environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["ENVIRONMENT", "UPSTREAM", "interpreter", "made"]

UPSTREAM = "radiobject==0.1.1"
ENVIRONMENT = Path(__file__).resolve().parents[1] / ".venv-upstream"


def made(environment: Path = ENVIRONMENT) -> Path | None:
    """Its interpreter, None when the environment is not there or not finished."""
    done = environment / ".installed"
    if not done.is_file() or done.read_text() != UPSTREAM:
        return None
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def interpreter(environment: Path = ENVIRONMENT) -> Path:
    """Its interpreter; makes the environment where it is missing."""
    if made(environment) is None:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
        python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", UPSTREAM]
        subprocess.run([str(python), *install], check=True)
        (environment / ".installed").write_text(UPSTREAM)
    found = made(environment)
    assert found is not None
    return found


if __name__ == "__main__":
    print(interpreter())
