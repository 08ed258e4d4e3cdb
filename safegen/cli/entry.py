"""The frame around every program: known errors become one line, a hint and an exit code."""

from __future__ import annotations

import select
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
    """Tell whether nobody reads what this process prints."""
    try:
        sys.stdout.flush()
        wire = select.poll()
        wire.register(sys.stdout.fileno(), select.POLLERR)
        return any(event & select.POLLERR for _, event in wire.poll(0))
    except BrokenPipeError:
        return True
    except (AttributeError, OSError, ValueError):  # no poll on this system, or no output that can be asked
        return False
