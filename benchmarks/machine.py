"""The line that stands above every figure: what ran it, where, when."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["command_line", "machine_line"]


def machine_line(*packages: str) -> str:
    """Date, processor, cores, memory, system, load, Python and the versions of `packages`."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    parts = [
        f"{datetime.now(UTC):%Y-%m-%d}",
        _processor(),
        f"{len(os.sched_getaffinity(0))} cores",
        f"{pages:.0f} GiB",
        f"{platform.system()} {platform.release()}",
        f"load {os.getloadavg()[0]:.1f}",
        f"Python {platform.python_version()}",
    ]
    return ", ".join(parts + [f"{name} {importlib.metadata.version(name)}" for name in packages])


def command_line() -> str:
    """How this run was started."""
    return shlex.join(["python", *(os.path.relpath(a) if Path(a).exists() else a for a in sys.argv)])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
