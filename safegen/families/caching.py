"""Denoisers that reuse what they computed for an earlier step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from safegen.families.denoiser import find_denoiser


def caches(denoiser: Any) -> bool:
    """Tell whether a denoiser reuses anything from step to step."""
    return bool(getattr(denoiser, "is_cache_enabled", False))


@contextlib.contextmanager
def begun_afresh(pipe: Any) -> Iterator[None]:
    """Let a denoiser that caches begin with nothing; a drawing that was broken off leaves its states behind.

    Some pipelines, those that begin from a picture among them, do not name the half of guidance that they ask for, and
    the hooks of a cache fail without a name. They ask for one half alone, which is the conditional one.
    """
    denoiser = find_denoiser(pipe)
    if not caches(denoiser):
        yield
        return
    denoiser._reset_stateful_cache()
    with denoiser.cache_context("cond"):
        yield
