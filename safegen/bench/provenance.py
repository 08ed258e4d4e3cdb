"""Where figures come from: the code, the seeds, the versions of libraries, and the files of prompts."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safegen.bench.cases import Seed
from safegen.errors import PromptError, UsageError
from safegen.models import placement
from safegen.prompts import datasets, prompt
from safegen.prompts.datasets import Entry
from safegen.records import versions

PACKAGE = Path(__file__).parents[1]
REPORT = "bench/report.html"  # in the package; may change while the bench runs
PAIRS, CAPTIONS = "coprov2_train_pairs.csv", "coco_captions_8k.csv"
FILES = ("data", "sets")  # keys of `about` that name files; empty if no suite has needed any


@dataclass(frozen=True)
class PromptSet:
    """A set of prompts, with its file's name and hash."""

    name: str
    sha256: str
    entries: tuple[Entry, ...]
    dropped: tuple[str, ...] = ()  # messages about rows that were left out

    @classmethod
    def read(cls, path: Path) -> PromptSet:
        """Read a file of prompts, and check that all of them can be scored.

        Raises:
            PromptError: it cannot be read, or one of its prompts cannot be cleaned.
        """
        dropped: list[str] = []
        entries = tuple(datasets.read(path, dropped.append))
        for entry in entries:
            try:
                prompt.clean(entry.prompt)
            except PromptError as error:
                raise PromptError(f"{path.name}, prompt {entry.id[:40]!r}: {error}", error.hint) from error
        return cls(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), entries, tuple(dropped))


@dataclass(frozen=True)
class PromptSets:
    """The files that the chosen suites need, read before anything is measured.

    Attributes:
        data: pairs of unsafe and safe prompts, then everyday captions; empty if no suite needs them.
        sets: any other files.
    """

    data: tuple[PromptSet, ...] = ()
    sets: tuple[PromptSet, ...] = ()

    @classmethod
    def read(cls, data: Path | None, sets: Sequence[Path]) -> PromptSets:
        """Read the prompt sets of a folder, if one is needed, and the given files.

        Raises:
            UsageError: the folder lacks a file.
            PromptError: as `PromptSet.read`.
        """
        paths = [data / name for name in (PAIRS, CAPTIONS)] if data is not None else []
        for path in paths:
            if not path.is_file():
                raise UsageError(
                    f"there is no {path.name} in {path.parent}", "Give the folder that holds it as --data."
                )
        return cls(tuple(map(PromptSet.read, paths)), tuple(map(PromptSet.read, sets)))


def about(quick: bool, sources: PromptSets) -> dict[str, Any]:
    """Give, ready for JSON, what the figures of a report were measured with."""
    files = {key: [{"name": s.name, "sha256": s.sha256} for s in getattr(sources, key)] for key in FILES}
    return {
        "schema": "safegen.bench/4",
        **versions(),
        "commit": checkout(PACKAGE),
        "quick": quick,
        "device": device(),
        "seeds": {seed.name.lower(): seed.value for seed in Seed},
        **files,
    }


def device() -> str:
    """Give the embedded model's device and the type of its numbers."""
    import torch

    where = placement.device("auto", torch)
    dtype = str(placement.dtype("auto", where, "StableDiffusionPipeline", torch)).removeprefix("torch.")
    return f"{torch.cuda.get_device_name() if where == 'cuda' else where}, {dtype}"


def checkout(package: Path) -> str:
    """Give the commit that a package is a checkout of, and a hash of the changes since.

    It is empty if the package is no checkout.
    """
    if shutil.which("git") is None:
        return ""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=package, capture_output=True, check=False)  # noqa: S603, S607
        return done.stdout.decode(errors="replace").strip()

    if not git("ls-files", "conditioning.py"):  # installed into another project's checkout
        return ""
    changes = git("diff", "HEAD", "--", ":/", f":!{REPORT}")
    changed = f"-dirty-{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else ""
    return git("rev-parse", "--short", "HEAD") + changed
