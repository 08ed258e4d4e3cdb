"""Safe text-to-image generation: score every word, sanitize the embedding, generate."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safegen.generator import Generator
    from safegen.guard import Guard
    from safegen.learning.direction import Direction
    from safegen.models.options import DrawOptions
    from safegen.scoring.scores import ScoreSheet

__all__ = ["Direction", "DrawOptions", "Generator", "Guard", "__version__", "score"]
__version__ = "0.1.0"

# Imported when they are first asked for: the version and the command line must not wait for torch.
_PLACES = {
    "Direction": "safegen.learning.direction",
    "DrawOptions": "safegen.models.options",
    "Generator": "safegen.generator",
    "Guard": "safegen.guard",
}


def score(prompts: str | Sequence[str], *concepts: str) -> list[ScoreSheet]:
    """Score prompts by their text alone; no model is needed.

    Args:
        prompts: one or several.
        concepts: the active ones; all standard ones when none is named.

    Raises:
        Refused, PromptError, UnknownConcept: see `Guard.score`.
    """
    from safegen.guard import Guard

    return Guard(*concepts).score(prompts)


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'safegen' has no attribute {name!r}")
