"""The command line as a process of its own: what `python -c` runs."""

from __future__ import annotations

ENTRY = "from safegen.cli import main; main()"
# A shell's background job is started with the signal ignored; a terminal's is not.
HANDLED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
