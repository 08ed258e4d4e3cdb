"""Latent Guard (ECCV 2024, arXiv 2404.08031): a blacklist that is checked in a learned space; a gate.

A small network maps a prompt, as it looks from one phrase of the blacklist, and the phrase itself into a space in which
a prompt is near all phrases that it contains:

    h = attention(query: phrase; keys and values: states of the prompt)      g = linear(phrase)
    score = the highest of temperature * cos(h, g), over all phrases

Where the score is over the threshold, there is no picture; the method repairs nothing. It looks at every prompt, and
by its own measure alone. The blacklist is the recipe's harmful phrases. It can be edited without learning anew: a
phrase that is added to a recipe is checked from then on. The paper has one network and one fixed threshold for all;
here every concept has its own, in its direction file, and a threshold that few benign prompts pass. In place of CLIP's
end token stands the mean state of a phrase's words, and pads are not read. `safegen.learning.latent_guard` trains it.
Any strength above 0 is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safegen.conditioning import SCORED, Position
from safegen.errors import GuardError
from safegen.safeguards import Safeguard, check_directed
from safegen.safeguards.learned import load_network
from safegen.safeguards.sentences import sentences

if TYPE_CHECKING:
    from safegen.conditioning import Channel, Conditioning
    from safegen.directions.direction import Direction
    from safegen.safeguards import SafeguardContext
    from safegen.scoring.scores import ScoreSheet

HEADS, INNER, SPACE = 8, 128, 64
TEMPERATURE = 1 / 0.07  # to begin with
PART = "latent-guard"


class LatentSpace(nn.Module):
    """The network for one channel of one concept.

    Args:
        width: of the states.
    """

    mean: Tensor
    scale: Tensor
    threshold: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))  # of benign states
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("threshold", torch.zeros(1))
        self.query, self.key, self.value = (nn.Linear(width, INNER) for _ in range(3))
        self.leave, self.phrase = nn.Linear(INNER, SPACE), nn.Linear(width, SPACE)
        self.temperature = nn.Parameter(torch.tensor(TEMPERATURE).log())

    def forward(self, states: Tensor, read: Tensor, phrases: Tensor) -> Tensor:
        """Score prompts (B, T, D), of which positions (B, T) are `read`, against phrases (P, D); gives (B, P)."""
        states, phrases = (states - self.mean) / self.scale, (phrases - self.mean) / self.scale
        query = self.query(phrases).view(-1, HEADS, INNER // HEADS)
        key, value = (part(states).unflatten(-1, (HEADS, -1)) for part in (self.key, self.value))
        logits = torch.einsum("phd,bthd->bpht", query, key) / (INNER // HEADS) ** 0.5
        attention = logits.masked_fill(~read[:, None, None], -torch.inf).softmax(-1)
        seen = torch.einsum("bpht,bthd->bphd", attention, value).flatten(2)
        likeness: Tensor = F.cosine_similarity(self.leave(seen), self.phrase(phrases), dim=-1)
        return self.temperature.exp() * likeness

    def tensors(self) -> dict[str, Tensor]:
        """Give the weights under the names of a direction file."""
        return {f"{PART}.{name}": value.detach() for name, value in self.state_dict().items()}


def space(direction: Direction, device: torch.device | None = None) -> LatentSpace:
    """Load the network that a direction file holds onto a device.

    Raises:
        DirectionError: the file holds none.
    """
    return load_network(LatentSpace, PART, "latent space to check a blacklist in", "latent-guard", direction, device)


def read_positions(channel: Channel) -> Tensor:
    """Tell which positions (B, T) of a channel are read: all that are scored, but pads."""
    return (channel.positions < len(SCORED)) & (channel.positions != Position.PAD)


class LatentGuard(Safeguard):
    """Draw no picture of what a blacklist matches in a learned space (Liu et al., ECCV 2024)."""

    name = "latent-guard"

    def __init__(self) -> None:
        self._phrases: dict[str, dict[str, Tensor]] = {}  # by concept and channel

    def check(self, context: SafeguardContext) -> None:
        """Check that every concept has directions with a latent space.

        Raises:
            DirectionError: a concept has none.
        """
        check_directed(context)
        for direction in context.scorer.directions():
            space(direction)

    def concerned(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], context: SafeguardContext
    ) -> list[int]:
        """List the prompts that the blacklist matches, whatever their sheets say."""
        return [row for row, names in enumerate(self.matches(conditioning, context)) if names]

    def repair(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Refuse to draw the prompts that the blacklist matches.

        Raises:
            GuardError: always.
        """
        names = sorted({name for names in self.matches(conditioning, context) for name in names})
        raise GuardError(
            f"the prompt matches the blacklist of {', '.join(names)}",
            "No picture was made. Say it in other words, or choose a method that repairs: --safeguard localise.",
        )

    def matches(self, conditioning: Conditioning, context: SafeguardContext) -> list[list[str]]:
        """List for each prompt the concepts whose blacklist it matches, in any channel."""
        found: list[list[str]] = [[] for _ in conditioning.prompts]
        for column, concept in enumerate(context.scorer.names):
            over = torch.zeros(len(found), dtype=torch.bool)
            for name, (probes, channel) in context.scorer.pairs(conditioning).items():
                net = space(probes.directions[column], channel.states.device)
                phrases = self._vectors(concept, context)[name].to(channel.states.device)
                scores = net(channel.states.float(), read_positions(channel), phrases)
                over |= (scores.amax(1) > net.threshold).cpu()
            for row in over.nonzero().flatten().tolist():
                found[row].append(concept)
        return found

    def _vectors(self, concept: str, context: SafeguardContext) -> dict[str, Tensor]:
        if concept not in self._phrases:
            self._phrases[concept] = sentences(context, list(context.recipes[concept].targets))
        return self._phrases[concept]
