"""The Ray engine on two local workers: Ctrl-C into a folder behind a URL, and one killed in the run after it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import miniatures
from tests.helpers.batches import check, pictures, records, start

pytest.importorskip("ray")
pytestmark = pytest.mark.timeout(600)  # Ray alone takes a minute to begin on a busy machine
COUNT = 18
HOW = ("--steps", "10", "--batch-size", "2")
RAY = (*HOW, "--engine", "ray", "--workers", "2")
# A file system as another package would bring it: processes that have its folder in their path know it.
SHARED = """
from fsspec.implementations.local import LocalFileSystem
class Shared(LocalFileSystem):
    protocol = "shared"
    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("shared://"))
"""


def workers_of(parent: int) -> list[int]:
    """Ray's actors below a process that this test started."""
    found, parents = [], {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            parents[int(status.parent.name)] = int(fields["PPid"])
            if b"MapWorker" in (status.parent / "cmdline").read_bytes():
                found.append(int(status.parent.name))
        except (OSError, KeyError):
            continue  # it has ended meanwhile

    def below(pid: int) -> bool:
        return pid == parent or (pid in parents and below(parents[pid]))

    return [pid for pid in found if below(pid)]


def wait_for(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    while len(list(out.glob("*.png"))) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run on the local engine, with as many threads as Ray gives an actor of one CPU."""
    out = tmp_path_factory.mktemp("local") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        start(out, *HOW, count=COUNT).communicate(timeout=240)
    return out


@pytest.mark.slow
def test_a_worker_is_killed_the_run_interrupted_and_the_next_one_ends_it(
    tmp_path: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row is lost, and none done twice: after Ctrl-C and after a worker's death, in a folder behind a URL."""
    package = tmp_path / "package"
    (package / "shared-0.dist-info").mkdir(parents=True)
    (package / "shared.py").write_text(SHARED)
    (package / "shared-0.dist-info" / "METADATA").write_text("Name: shared\nVersion: 0\n")
    (package / "shared-0.dist-info" / "entry_points.txt").write_text("[fsspec.specs]\nshared = shared:Shared\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH")))))
    out = tmp_path / "ray"
    arguments = (*RAY, "--out", f"shared://{out}")
    process = start(out, *arguments, count=COUNT)
    wait_for(out, 1, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert "finishing the pictures in flight" in err
    assert "Traceback" not in err
    check(out)  # of every picture that was finished there is a record
    done = len(records(out))
    assert 1 <= done < COUNT
    assert not (out / ".batch.lock").exists()
    again = start(out, *arguments, count=COUNT)
    wait_for(out, done + 1, again)
    workers = workers_of(again.pid)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    printed, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    assert printed.strip() == f"shared://{out}"
    check_equal(out, local)


def check_equal(out: Path, local: Path) -> None:
    check(out)
    assert len(records(out)) == COUNT
    assert pictures(out) == pictures(local)
    assert _untimed(records(out)) == _untimed(records(local))


def _untimed(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in found]


@pytest.mark.slow
def test_what_is_noted_here_is_noted_there(
    tmp_path: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """What a model says on loading, of weights, defaults and sizes, and what other tools' syntax means."""
    miniatures.stable_diffusion_3().save_pretrained(tmp_path / "mine")
    (tmp_path / "prompts.jsonl").write_text(
        '{"prompt": "a (red:1.3) cat BREAK a dog"}\n{"prompt": "a cat", "width": 4096, "height": 64, "steps": 1}\n'
    )
    how = ("batch", "prompts.jsonl", "--model", "mine", "--steps", "1", "--on-flag", "skip", "--max-errors", "0")
    here = run(*how, "--dry-run")
    there = run(*how, "--engine", "ray", "--workers", "1", timeout=400)
    words = ("BREAK is a word", "knows no weights", "nothing in mine says", "4096x64 is far beyond", "no directions")
    for done in (here, there):
        said = " ".join(done.stderr.split())
        assert [said.count(some) for some in words] == [1] * len(words), said
