"""nnU-Net's own data loader and trainer on our dataset, in an environment that has nnU-Net."""

from __future__ import annotations

import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from radiobject.errors import MissingDependencyError
from tests.ml.nnunet_env import wanted

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def test_nnunet_trains_from_a_study(tmp_path: Path) -> None:
    cases = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/ml/cases_nnunet.py"]
    ran = subprocess.run(
        [wanted(), *cases, "--basetemp", str(tmp_path / "cases")],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.skipif(find_spec("nnunetv2") is not None, reason="nnU-Net is installed here")
def test_without_nnunet_the_error_names_the_package() -> None:
    with pytest.raises(MissingDependencyError, match=r"radiobject-zarr\[nnunet\]"):
        import radiobject.ml.nnunet  # noqa: F401
