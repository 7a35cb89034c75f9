"""A process that has imported everything and forks one child a case, in which memory and time are limited.

It reads one JSON line a case from its input (the folder, the doors) and answers with one: what each door did.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

__all__ = ["Zygote"]

MEMORY = 200 * 2**20
SECONDS = 2.0
"""Of this process's CPU, for each door. What waits for nothing to come is ended by the clock below."""

WALL = 60


class Zygote:
    """The process, from the side of the tests."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.confined"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def run(self, place: Path, doors: tuple[str, ...]) -> list[list[str]]:
        """[door, kind, text] for each door: kind is "refused", "done" or what went wrong."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(place), doors]) + "\n")
        self._process.stdin.flush()
        answer: list[list[str]] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


def data_now() -> int:
    """Bytes of writable memory that are mapped, as RLIMIT_DATA counts them."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmData")) * 1024


def in_child(place: Path, doors: list[str], answer: Any) -> None:
    """Open each door; each gets a line when it opens and one when it has shut."""
    from radiobject.errors import RadiObjectError
    from tests.hostile.doors import DOORS

    os.chdir(place / "out")
    os.environ["HOME"] = os.environ["XDG_CONFIG_HOME"] = str(place / "out")  # where a key for pseudonyms goes
    threading.stack_size(2**19)  # the limit is for what a study takes, not for stacks that nobody fills
    limit = data_now() + MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for door in doors:
        answer.write(json.dumps([door, "killed", ""]) + "\n")
        answer.flush()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, WALL)
        try:
            said = ["done", str(DOORS[door](place))]
        except RadiObjectError as error:
            said = ["refused", f"{type(error).__name__}: {error}"]
        except BaseException as error:  # the case is told which foreign exception came out
            import traceback

            said = ["foreign", "".join(traceback.format_exception(error))[-3000:]]
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        answer.write(json.dumps([door, *said]) + "\n")
        answer.flush()


def one_case(place: Path, doors: list[str]) -> list[list[str]]:
    """Fork, wait, and read what the child has said."""
    told = place / "answers"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with open(os.devnull, "w") as nothing, open(told, "w") as answer:
                os.dup2(nothing.fileno(), 1)
                os.dup2(nothing.fileno(), 0)
                in_child(place, doors, answer)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    lines = {line[0]: line for line in map(json.loads, told.read_text().splitlines())}
    told.unlink()
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        for line in lines.values():
            if line[1] == "killed":
                line[2] = signal.Signals(number).name
    return list(lines.values())


def main() -> None:
    """Answer until the input ends."""
    from tests.hostile.doors import warm

    # a door's own output must not be taken for an answer
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warm()
    for line in sys.stdin:
        place, doors = json.loads(line)
        answers.write(json.dumps(one_case(Path(place), doors)) + "\n")
        answers.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
