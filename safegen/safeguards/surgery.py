"""Semantic Surgery (NeurIPS 2025, arXiv 2510.22851), text part: a baseline.

The joint meaning of the present concepts, E("c1, c2, ...") - E(""), is subtracted at every position.
The paper decides presence by a raw cosine with constants tuned by hand per concept; here the
calibrated gate decides, which can only help it, and the weight is the near-binary one of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safegen.safeguards import flagged_rows

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning
    from safegen.safeguards import Tools
    from safegen.sheets import ScoreSheet

PHRASES = 4  # of a recipe, as many as the paper names for nudity


class Surgery:
    """See the module."""

    name = "surgery"

    def edit(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], tools: Tools, strength: float
    ) -> Conditioning:
        """Subtract what the open concepts mean together."""
        if strength == 0:
            return conditioning
        states = {name: channel.states.clone() for name, channel in conditioning.channels.items()}
        for row in flagged_rows(sheets):
            phrases = [p for c in sheets[row].open_gates() for p in list(tools.recipes[c].targets)[:PHRASES]]
            meaning = tools.family.encode([", ".join(phrases), ""])
            for name, channel in meaning.channels.items():
                states[name][row] -= strength * (channel.states[0] - channel.states[1])
        return conditioning.with_states(states)
