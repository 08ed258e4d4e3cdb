"""Every test: an empty home, no network, no colour, no GPU; the embedded model is loaded once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safegen.cli import main
from safegen.generator import Generator
from tests.helpers.commands import ENTRY, run_forked

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what is compared to the bit was computed on a processor
os.environ["SOURCE_DATE_EPOCH"] = "1767225600"  # files that are compared say that they were made at the same time
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # workers that share cores between them wait for each other otherwise


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, so that no worker is left with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def empty_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with nothing in it, and no settings from the environment."""
    home = tmp_path_factory.mktemp("home")
    for name in [n for n in os.environ if n.startswith("SAFEGEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    return home


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches beyond this machine fails."""
    connect = socket.socket.connect

    def here_only(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
            raise OSError("the network is off in tests")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", here_only)


@pytest.fixture(scope="session")
def generator() -> Generator:
    """The embedded model behind its default guard; tests must not change it."""
    return Generator.load(offline=True)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the command line in this process, where a test can change what it meets; its exit code."""

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["safegen", *arguments])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


@pytest.fixture
def run(tmp_path: Path):
    """Run the command line as a process of its own, in an empty folder."""

    def call(
        *arguments: str, stdin: bytes = b"", timeout: float = 240, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        around = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
        if not environment:
            return run_forked(arguments, tmp_path, stdin, timeout, around)
        done = subprocess.run(  # what the environment says may be read by the interpreter
            [sys.executable, "-c", ENTRY, *arguments],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env=around,
            timeout=timeout,
            check=False,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return call
