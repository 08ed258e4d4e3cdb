"""The Ray engine on two local workers, one of them killed in mid-run."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.test_batch import check, pictures, records, start

pytest.importorskip("ray")
COUNT = 18


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


@pytest.mark.slow
def test_a_killed_worker_loses_no_row_and_duplicates_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as Ray gives an actor of one CPU
    ray, local = tmp_path / "ray", tmp_path / "local"
    process = start(ray, "--engine", "ray", "--workers", "2", "--steps", "20", count=COUNT)
    while len(list(ray.glob("*.png"))) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    workers = workers_of(process.pid)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert out.strip() == str(ray)
    check(ray)
    assert len(records(ray)) == COUNT
    other = start(local, "--steps", "20", count=COUNT)
    other.communicate(timeout=240)
    assert pictures(ray) == pictures(local)
    assert _untimed(records(ray)) == _untimed(records(local))


def _untimed(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in found]
