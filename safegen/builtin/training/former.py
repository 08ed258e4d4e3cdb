"""The former edition of the embedded model, whose encoder, all-MiniLM-L6-v2, teaches this edition's.

It is in the repository's history: ``git worktree add former 7bc2908`` and ``export SAFEGEN_FORMER=former``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from safegen.families import Family, family_of


def checkout() -> Path:
    """Find the checkout named by ``SAFEGEN_FORMER``."""
    if not (named := os.environ.get("SAFEGEN_FORMER")):
        raise SystemExit("set SAFEGEN_FORMER to a checkout of 7bc2908: git worktree add former 7bc2908")
    return Path(named)


def part(name: str) -> Path:
    """Give the folder of one part of the former pipeline."""
    return checkout() / "safegen" / "builtin" / "weights" / "pipeline" / name


def family() -> Family:
    """Load the former pipeline as a family."""
    import diffusers

    pipe: Any = diffusers.StableDiffusionPipeline.from_pretrained(part(""), torch_dtype=None)
    return family_of(pipe)
