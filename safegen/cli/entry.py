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
        # The reader of the pipe is gone; a flush at exit must not complain about that.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        sys.exit(1)
