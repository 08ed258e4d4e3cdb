"""Safe text-to-image generation: score every word, sanitize the embedding, generate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safegen.generator import Generator
    from safegen.guard import Guard

__all__ = ["Generator", "Guard", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Guard":
        from safegen.guard import Guard

        return Guard
    if name == "Generator":
        from safegen.generator import Generator

        return Generator
    raise AttributeError(f"module 'safegen' has no attribute {name!r}")
