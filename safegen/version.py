"""The version, and those of what pictures depend on; nothing heavy is imported with it."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Mapping

__version__ = "0.1.0"
LIBRARIES = ("torch", "diffusers", "transformers")


@functools.cache
def versions() -> Mapping[str, str]:
    """Of safegen, the libraries and Python, by name."""
    found = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"safegen": __version__, **found, "python": platform.python_version()}
