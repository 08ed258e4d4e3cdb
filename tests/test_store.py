"""A batch into a folder behind a URL: the same records and the same resume, and a lock that others see."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from safegen import Generator
from safegen.batch import run_folder
from safegen.batch.interrupt import Watch
from safegen.batch.local import LocalEngine
from safegen.batch.readers import Source
from safegen.batch.remote import Remote
from safegen.batch.run import Summary, prepare_run
from safegen.batch.run_folder import at, open_run_folder, read_header
from safegen.batch.store import Local
from safegen.batch.worker import Worker
from safegen.errors import OutputError, UsageError
from tests.helpers.batches import PROMPTS, check, interrupted, options, pictures, records

URL = "memory://bucket/run"


@pytest.fixture(autouse=True)
def memory() -> Iterator[MemoryFileSystem]:
    """fsspec's store in memory, empty."""
    fs = fsspec.filesystem("memory")
    yield fs
    fs.rm("/", recursive=True)


def draw(generator: Generator, out: Any, watch: Watch | None = None, **changes: Any) -> Summary:
    source = Source("-", "txt", "\n".join(PROMPTS).encode())
    chosen = options(**changes)
    with prepare_run(source, chosen, out) as ready:
        return ready.run(LocalEngine(lambda: Worker(generator, chosen)), watch or Watch())


def fetched(fs: MemoryFileSystem, to: Path) -> Path:
    """The store's files as a folder of this machine."""
    to.mkdir()
    for path in fs.ls("/bucket/run", detail=False):
        (to / Path(path).name).write_bytes(fs.cat_file(path))
    return to


def _untimed(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in found]


@pytest.mark.slow
def test_it_is_the_run_of_a_local_folder(generator: Generator, memory: MemoryFileSystem, tmp_path: Path) -> None:
    summary = draw(generator, URL)
    assert (summary.folder, summary.left, summary.counts) == (URL, 0, {"ok": 4, "sanitized": 1})
    remote, local = fetched(memory, tmp_path / "remote"), tmp_path / "local"
    draw(generator, local)
    check(remote)
    assert pictures(remote) == pictures(local)
    assert _untimed(records(remote)) == _untimed(records(local))
    assert (remote / "batch.json").read_bytes() == (local / "batch.json").read_bytes()
    assert not (remote / ".batch.lock").exists()
    assert draw(generator, URL).drawn == 0
    with pytest.raises(UsageError, match="other settings"):
        draw(generator, URL, steps=3)


@pytest.mark.slow
def test_it_is_resumed_after_ctrl_c_and_after_a_crash(
    generator: Generator, memory: MemoryFileSystem, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        draw(generator, URL, interrupted())
    assert len(memory.glob("/bucket/run/*.png")) == 3
    # A crash: the lock of a dead process, a record that was never copied, a picture that is gone.
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lock = {"host": socket.gethostname(), "pid": dead.pid, "token": "x", "time": time.time()}
    memory.pipe_file("/bucket/run/.batch.lock", json.dumps(lock).encode())
    lines = memory.cat_file("/bucket/run/metadata.jsonl").splitlines(keepends=True)
    memory.pipe_file("/bucket/run/metadata.jsonl", b"".join(lines[:2]))
    memory.rm_file("/bucket/run/" + json.loads(lines[0])["file_name"])
    assert draw(generator, URL).drawn == 4
    draw(generator, tmp_path / "local")
    remote = fetched(memory, tmp_path / "remote")
    check(remote)
    assert pictures(remote) == pictures(tmp_path / "local")


@pytest.mark.slow
def test_records_are_copied_as_the_run_goes_on(
    generator: Generator, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "PUSH_SECONDS", 0)
    seen: list[int] = []

    def look(_: int) -> None:
        path = "/bucket/run/metadata.jsonl"
        seen.append(memory.cat_file(path).count(b"\n") if memory.exists(path) else 0)

    draw(generator, URL, Watch(on_landed=look), batch_size=1)
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("changes", "is_free"),
    [({}, False), ({"host": "elsewhere", "pid": 1}, False), ({"time": 0}, True), ({"pid": 2**22 + 1}, True)],
)
def test_the_lock(memory: MemoryFileSystem, changes: dict[str, Any], is_free: bool) -> None:
    lock = {"host": socket.gethostname(), "pid": os.getpid(), "token": "x", "time": time.time(), **changes}
    memory.pipe_file("/bucket/run/.batch.lock", json.dumps(lock).encode())
    if is_free:
        with open_run_folder(URL), pytest.raises(OutputError, match="another run"), open_run_folder(URL):
            pass
    else:
        with pytest.raises(OutputError, match="another run is writing to memory"), open_run_folder(URL):
            pass
        assert json.loads(memory.cat_file("/bucket/run/.batch.lock")) == lock


@pytest.mark.slow
def test_a_store_that_fails_loses_nothing(
    generator: Generator, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put = Remote.put
    count = 0

    def failing(self: Remote, name: str, content: bytes) -> None:
        nonlocal count
        count += name.endswith(".png")
        if count == 3:
            raise self._failed("write", name, RuntimeError("the store is down"))
        put(self, name, content)

    monkeypatch.setattr(Remote, "put", failing)
    with pytest.raises(OutputError, match="the store is down"):
        draw(generator, URL)
    monkeypatch.undo()
    assert draw(generator, URL).left == 0
    check(fetched(memory, tmp_path / "remote"))


def test_where_a_place_is(tmp_path: Path) -> None:
    assert at("out") == Local(Path("out").absolute(), "out")
    assert at(f"file://{tmp_path}") == Local(tmp_path, f"file://{tmp_path}")
    assert at(URL) == Remote(URL)
    with pytest.raises(UsageError, match="nonsense"):
        at("nonsense://bucket")
    assert read_header(at(URL)) is None


@pytest.mark.slow
def test_the_command(run: Any, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a cat\n")
    done = run("batch", "p.txt", "--out", f"file://{tmp_path}/run", "--steps", "1")
    assert (done.returncode, done.stdout.strip()) == (0, f"file://{tmp_path}/run")
    check(tmp_path / "run")
    assert run("batch", "--resume", f"file://{tmp_path}/run").returncode == 0
    bad = run("batch", "p.txt", "--out", "nonsense://bucket/run")
    assert (bad.returncode, "nonsense" in bad.stderr) == (2, True)


@pytest.mark.slow
def test_hugging_face_loads_a_finished_folder(generator: Generator, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    out = tmp_path / "run"
    draw(generator, out, on_flag="skip")
    draw(generator, tmp_path / "all")
    for place, count in ((out, 4), (tmp_path / "all", 5)):
        loaded = datasets.load_dataset("imagefolder", data_dir=str(place), split="train", cache_dir=str(tmp_path / "c"))
        assert loaded.num_rows == count
        assert {"image", "text", "id", "seed", "status", "guard"} <= set(loaded.column_names)
        found = {r["id"]: r for r in records(place)}
        for row in loaded:
            assert row["text"] == found[row["id"]]["text"]
            assert row["image"].size == (128, 128)
