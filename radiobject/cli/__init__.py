"""The command `radiobject`. Errors of ours become one block on stderr and an exit code, never a traceback.

Exit codes: 0 done, 1 an error, 2 the command line itself is wrong, 3 `validate` found problems.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from radiobject.errors import IngestError, RadiObjectError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; always leaves by SystemExit, except under `--debug`, where errors stay raised."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    from radiobject.cli.application import application

    debug = "--debug" in given[: _first_command(given)]
    try:
        application()(args=given, prog_name="radiobject")
    except RadiObjectError as error:
        if debug:
            raise
        _report(error, as_json="--json" in given)
    except OSError as error:
        if debug:
            raise
        _say(f"{type(error).__name__}: {error}")
    except Exception as error:
        if debug:
            raise
        _say(
            f"unexpected {type(error).__name__}: {error}\n"
            "This is a fault of radiobject. `radiobject --debug ...` shows where; please report it."
        )
    raise SystemExit(1)


def _first_command(given: Sequence[str]) -> int:
    return next((n for n, word in enumerate(given) if not word.startswith("-")), len(given))


def _report(error: RadiObjectError, *, as_json: bool) -> None:
    if as_json:
        from radiobject.cli.output import print_json

        document: dict[str, Any] = {
            "type": type(error).__name__,
            "message": str(error),
            "what": error.what,
            "expected": error.expected,
            "got": error.got,
            "hint": error.hint,
        }
        if isinstance(error, IngestError):
            document["report"] = error.report
        print_json({"error": document})
    _say(_block(error))


def _block(error: RadiObjectError) -> str:
    """What happened, then what to do, a line each; of an ingest every source that failed."""
    if isinstance(error, IngestError):
        # the message in `what` stops after ten of them
        lines = [error.what.split("\n")[0]]
        lines += [f"  {failure['error']}: {failure['message']}" for failure in error.report]
    else:
        lines = [error.what]
        parts = (("expected", error.expected), ("got", error.got))
        lines += [f"  {name}: {value}" for name, value in parts if value is not None]
    if error.hint is not None:
        lines.append(f"  hint: {error.hint}")
    return "\n".join(lines)


def _say(text: str) -> None:
    from rich.text import Text

    from radiobject.cli.output import console

    err = console(stderr=True)
    err.print(Text("error: ", style="bold red") + Text(text, style="default"), soft_wrap=True)
