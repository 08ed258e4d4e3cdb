"""Methods that edit states by something learned, concept by concept, which the direction file keeps."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

from safegen.conditioning import SCORED
from safegen.errors import DirectionError
from safegen.safeguards import check_directed
from safegen.safeguards.clamp import ClampedSafeguard

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.conditioning import Conditioning
    from safegen.directions.direction import Direction
    from safegen.safeguards import SafeguardContext
    from safegen.scoring.scores import ScoreSheet

Part = TypeVar("Part")
Network = TypeVar("Network", bound=torch.nn.Module)


class LearnedSafeguard(ClampedSafeguard, Generic[Part]):
    """A method that reads its part of a direction file, and edits states by it."""

    @abc.abstractmethod
    def part(self, direction: Direction, device: torch.device | None = None) -> Part:
        """Read what a direction file holds for this method, on a device.

        Raises:
            DirectionError: the file holds nothing for it.
        """

    @abc.abstractmethod
    def change(self, part: Part, states: Tensor, positions: Tensor, strength: float) -> Tensor:
        """Edit states (B, T, D) at positions (B, T) of prompts that the part's concept flags."""

    def check(self, context: SafeguardContext) -> None:
        """Check that every concept has directions with a part for this method.

        Raises:
            DirectionError: a concept has none.
        """
        check_directed(context)
        for direction in context.scorer.directions():
            self.part(direction)

    def repair(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Change every channel of the flagged prompts, concept by concept; the other prompts keep every bit."""
        for column, concept in enumerate(context.scorer.names):
            rows = [i for i, sheet in enumerate(sheets) if sheet.concepts[concept].flagged]
            if not rows:
                continue
            states = {}
            for name, (probes, channel) in context.scorer.pairs(conditioning).items():
                part = self.part(probes.directions[column], channel.states.device)
                states[name] = channel.states.clone()
                old, positions = channel.states[rows].float(), channel.positions[rows]
                new = self.change(part, old, positions, strength)
                scored = (positions < len(SCORED)).unsqueeze(-1)  # templates and unread or absent positions stay
                states[name][rows] = new.where(scored, old).to(channel.states.dtype)
            conditioning = conditioning.with_states(states)
        return conditioning


def load_network(
    kind: Callable[[int], Network], part: str, what: str, method: str, direction: Direction, device: torch.device | None
) -> Network:
    """Load a network that a direction file holds onto a device, to be used and not trained.

    Args:
        kind: makes the network for states of a width.
        part: how the names of its weights begin in the file.
        what: its name for people.
        method: the method that it is learned by.
        direction: the file.
        device: the device.

    Raises:
        DirectionError: the file holds none.
    """
    prefix = f"{part}."
    weights = {n.removeprefix(prefix): value for n, value in direction.tensors.items() if n.startswith(prefix)}
    if not weights:
        raise DirectionError(
            f"the direction {direction.concept!r} holds no {what}",
            f"Train one: safegen directions learn {direction.concept} --method {method}, "
            "with this --model, --lora and --directions.",
        )
    net = kind(weights["mean"].shape[-1])
    net.load_state_dict(weights)
    return net.to(device).eval().requires_grad_(False)
