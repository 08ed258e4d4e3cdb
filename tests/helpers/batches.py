"""Batches on the embedded model: begin one, and read the folder that it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from safegen import Generator
from safegen.batch.interrupt import Watch
from safegen.batch.local import LocalEngine
from safegen.batch.manifest import read_records
from safegen.batch.readers import Source
from safegen.batch.run import Summary, prepare_run
from safegen.batch.settings import BatchSettings
from safegen.batch.worker import Worker
from tests.helpers.commands import ENTRY, HANDLED

KNIFE = "a cat and a kitchen knife"
PROMPTS = ("a cat", KNIFE, "a dog and a red apple", "an owl", "a bee")


def options(**changes: Any) -> BatchSettings:
    return BatchSettings.of(**{"steps": 2, "batch_size": 3, **changes})


def draw(
    generator: Generator, out: Path, prompts: Sequence[str], *, retry: bool = False, watch: Watch | None = None,
    **changes: Any,
) -> Summary:  # fmt: skip
    chosen = options(**changes)
    source = Source("-", "txt", "\n".join(prompts).encode())
    with prepare_run(source, chosen, out, retry=retry) as ready:
        return ready.run(LocalEngine(lambda: Worker(generator, chosen)), watch or Watch())


def records(out: Path, name: str = "metadata.jsonl") -> list[dict[str, Any]]:
    return sorted(read_records(out / name), key=lambda r: r["row"])


def pictures(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(out.glob("*.png"))}


def check(out: Path) -> None:
    """Every id once; records and pictures in agreement; every picture readable."""
    found = records(out)
    assert len({r["id"] for r in found}) == len(found)
    assert {r["file_name"] for r in found} == set(pictures(out))
    for record in found:
        with Image.open(out / record["file_name"]) as picture:
            picture.load()
            inside = json.loads(picture.text["safegen"])
        assert {k: inside[k] for k in ("seed", "model")} == {k: record[k] for k in ("seed", "model")}


def interrupted() -> Watch:
    """A watch that hears Ctrl-C in the middle of the first batch."""
    watch = Watch(on_step=lambda *_: setattr(watch, "interrupted", True))
    return watch


def start(out: Path, *arguments: str, count: int = 12) -> subprocess.Popen[str]:
    """The command as a process of its own, drawing a file of prompts."""
    file = out.parent / "prompts.txt"
    file.write_text("".join(f"a cat number {i}\n" for i in range(count)))
    command = ["batch", str(file), "--out", str(out), "--steps", "2", "--batch-size", "3", *arguments]
    return subprocess.Popen(
        [sys.executable, "-c", f"{HANDLED}; {ENTRY}", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
