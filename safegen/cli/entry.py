"""The frame around every program: known errors become one line, a hint and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable

from safegen.errors import SafegenError


def run(program: Callable[[], None]) -> None:
    """Call `program`; if it raises a known error, end the process with that error's exit code."""
    try:
        program()
    except SafegenError as error:
        from safegen.cli import console

        console.show_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    except BrokenPipeError:
        if not _reader_is_gone():
            raise  # somebody else's pipe, such as one to a worker: that must not go by in silence
        # A flush at exit must not complain.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        sys.exit(1)


def _reader_is_gone() -> bool:
    """Tell whether nobody reads what this process prints: what could not be written is still to be flushed."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return True
    return False
