"""Safeguards: one file per method, one protocol, imported when used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from safegen.errors import UsageError

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning
    from safegen.directions import Direction
    from safegen.scoring import ScoreSheet

REGISTRY: Mapping[str, str] = {"clamp": "safegen.safeguards.clamp:Clamp"}
DEFAULT = "clamp"


class Safeguard(Protocol):
    """A method that edits conditioning before denoising."""

    name: str

    def edit(
        self,
        conditioning: Conditioning,
        sheets: Sequence[ScoreSheet],
        directions: Sequence[Direction],
        strength: float,
    ) -> Conditioning:
        """Conditioning with the flagged prompts repaired; pure, and the identity at strength 0.

        Prompts without an open gate keep their states bit for bit.
        """
        ...


def create(name: str) -> Safeguard:
    """A safeguard by name.

    Raises:
        UsageError: no safeguard has this name.
    """
    if name not in REGISTRY:
        raise UsageError(f"unknown safeguard {name!r}", f"Known: {', '.join(sorted(REGISTRY))}.")
    module, attribute = REGISTRY[name].split(":")
    safeguard: Safeguard = getattr(importlib.import_module(module), attribute)()
    return safeguard
