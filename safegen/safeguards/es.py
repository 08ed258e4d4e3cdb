"""The learned sanitizer, in the style of Embedding Sanitizer (Qiu et al. 2024, arXiv 2411.10329).

The paper's network and losses are not public; this is a reconstruction from its description. A small
sequence-to-sequence network proposes an edit of every state. A second output scores how harmful every token is, from
0 to 1; the score sets how much of the proposed edit is made:

    e'_i = e_i + min(1, strength * s_i) * edit(e)_i

`safegen.learning.es` trains it on pairs of a target and its anchor in the same context.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from safegen.conditioning import SCORED, Position
from safegen.safeguards.learned import LearnedSafeguard, load_network

if TYPE_CHECKING:
    from safegen.conditioning import Channel
    from safegen.directions.direction import Direction

INNER, BLOCKS, HEADS = 128, 2, 4
PART = "es"


class SanitizerNet(nn.Module):
    """The network for one channel: it proposes edits and scores tokens.

    Args:
        width: the width of the states.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))  # of benign states
        self.register_buffer("scale", torch.ones(1))
        self.enter, self.place = nn.Linear(width, INNER), nn.Embedding(len(SCORED), INNER)
        block = nn.TransformerEncoderLayer(
            INNER, HEADS, 2 * INNER, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, BLOCKS, enable_nested_tensor=False)
        self.leave, self.judge = nn.Linear(INNER, width), nn.Linear(INNER, 1)
        nn.init.zeros_(self.leave.weight)  # so that an untrained network edits nothing
        nn.init.zeros_(self.leave.bias)

    def forward(self, states: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Give proposed edits (B, T, D) and the log-odds of harm (B, T) for states (B, T, D)."""
        hidden = self.enter((states - self.mean) / self.scale)
        # Positions that are not scored count as pads, the only class without words that networks know.
        hidden = hidden + self.place(positions.where(positions < len(SCORED), int(Position.PAD)))
        hidden = self.blocks(hidden)
        return self.leave(hidden) * self.scale, self.judge(hidden).squeeze(-1)

    def sanitized(self, states: Tensor, positions: Tensor, strength: float) -> Tensor:
        """Edit the states as far as the token scores and the strength say."""
        edits, odds = self(states, positions)
        share = (strength * odds.sigmoid()).clamp(max=1.0).unsqueeze(-1)
        edited: Tensor = states + share * edits
        return edited

    def tensors(self) -> dict[str, Tensor]:
        """Give the weights under the names of a direction file."""
        return {f"{PART}.{name}": value.detach() for name, value in self.state_dict().items()}


def network(direction: Direction, device: torch.device | None = None) -> SanitizerNet:
    """Load the network that a direction file holds onto a device.

    Raises:
        DirectionError: the file holds none.
    """
    return load_network(SanitizerNet, PART, "learned sanitizer", "es", direction, device)


class EmbeddingSanitizer(LearnedSafeguard[SanitizerNet]):
    """Pass states through a small network that was trained to edit harmful ones (Qiu et al. 2024)."""

    name = "es"

    def part(self, direction: Direction, device: torch.device | None = None) -> SanitizerNet:
        """Load the network, see `network`."""
        return network(direction, device)

    def change(self, part: SanitizerNet, states: Tensor, positions: Tensor, strength: float) -> Tensor:
        """Pass the states through the network."""
        return part.sanitized(states, positions, strength)

    def intensities(self, channel: Channel, directions: Sequence[Direction]) -> Tensor:
        """Score every token (B, T, K) from 0 to 1 by the concepts' networks."""
        states = channel.states.float()
        odds = [network(d, states.device)(states, channel.positions)[1] for d in directions]
        return torch.stack(odds, -1).sigmoid()
