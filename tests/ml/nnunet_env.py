"""nnU-Net in an environment of its own, which sees all packages of this one.

    python tests/ml/nnunet_env.py     # makes .venv-nnunet once, in some ten seconds, 200 MB

nnU-Net brings torchvision, and the one of PyPI does not load beside a torch that was built for the CPU alone:
whatever then looks for torchvision (torchmetrics, and so Lightning) fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import distributions
from pathlib import Path

__all__ = ["ENVIRONMENT", "NNUNET", "interpreter", "made", "wanted"]

NNUNET = "nnunetv2==2.8.1"
ENVIRONMENT = Path(__file__).resolve().parents[2] / ".venv-nnunet"


def made(environment: Path = ENVIRONMENT) -> Path | None:
    """Its interpreter, None when the environment is not there or not finished."""
    done = environment / ".installed"
    if not done.is_file() or done.read_text() != NNUNET:
        return None
    return _python(environment)


def wanted() -> str:
    """Its interpreter, for a test; without it the test is skipped, except under CI."""
    import pytest

    python = made()
    if python is None:
        reason = "no .venv-nnunet: `python tests/ml/nnunet_env.py` makes it, and so does `make test-slow`"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(reason)
        pytest.skip(reason)
    return str(python)


def interpreter(environment: Path = ENVIRONMENT) -> Path:
    """Its interpreter; makes the environment where it is missing."""
    if made(environment) is None:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
        ours = sysconfig.get_path("purelib")
        theirs = sysconfig.get_path("purelib", vars={"base": str(environment)})
        # a line that begins with import is run, and addsitedir finds editable installations too
        (Path(theirs) / "_radiobject.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
        with tempfile.TemporaryDirectory() as folder:
            # nothing that is here comes a second time in another version
            pins = Path(folder) / "constraints.txt"
            pins.write_text("\n".join(sorted(_pinned())))
            install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", NNUNET]
            subprocess.run([str(_python(environment)), *install, "-c", str(pins)], check=True)
        (environment / ".installed").write_text(NNUNET)
    found = made(environment)
    assert found is not None
    return found


def _pinned() -> set[str]:
    found = {(d.name, d.version.partition("+")[0]) for d in distributions() if d.name != "radiobject-zarr"}
    return {f"{name}=={version}" for name, version in found}


def _python(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


if __name__ == "__main__":
    print(interpreter())
