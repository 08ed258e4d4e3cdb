"""Paths as you type them, in flags, settings and the environment: `~` is your home folder."""

from __future__ import annotations

from pathlib import Path

from safegen.files import as_path, home


def path(text: str) -> Path:
    """Read a path."""
    return as_path(text)


def text(text: str) -> str:
    """Read what may be a path: a model, a LoRA with its scale, a URL."""
    return home(text)
