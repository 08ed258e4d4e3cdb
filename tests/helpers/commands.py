"""The command line as a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

ENTRY = "from safegen.cli import main; main()"  # what `python -c` runs
# A shell's background job is started with the signal ignored; a terminal's is not.
HANDLED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
# Libraries take seconds to import, of every command's time. A server that has imported them is forked for each.
LIBRARIES = ("torch", "diffusers.pipelines.stable_diffusion", "transformers.models.clip.modeling_clip", "onnxruntime")
# What the libraries read when they are imported, as `safegen.models.loading` has it for a new process.
READ_ON_IMPORT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "critical",
}
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload([*LIBRARIES])


def run_forked(
    arguments: Sequence[str], folder: Path, stdin: bytes, timeout: float, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a fork of a process that has imported the libraries, and nothing of ours."""
    with tempfile.TemporaryDirectory() as place:
        given, out, err = (Path(place) / name for name in ("in", "out", "err"))
        given.write_bytes(stdin)
        process = FORKED.Process(target=_become, args=(arguments, folder, environment, given, out, err))
        with pytest.MonkeyPatch.context() as patch:
            for name, value in READ_ON_IMPORT.items():
                patch.setenv(name, value)
            process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired([*arguments], timeout, out.read_bytes(), err.read_bytes())
        assert process.exitcode is not None
        return subprocess.CompletedProcess([*arguments], process.exitcode, out.read_text(), err.read_text())


def _become(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], given: Path, out: Path, err: Path
) -> None:
    """Be the command: its streams, its environment, its folder."""
    writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, (path, how) in enumerate(((given, os.O_RDONLY), (out, writing), (err, writing))):
        os.dup2(os.open(path, how, 0o600), number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in enumerate("rww"))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["safegen", *arguments]
    from safegen.cli import main

    main()
