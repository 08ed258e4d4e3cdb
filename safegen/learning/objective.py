"""Methods that tune a denoiser: each has a plan, the layers that it changes, and its loss.

The loop around it is in `tuning.py`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from safegen.families.calls import Call, tell
from safegen.families.edits import Edit, attached
from safegen.learning.denoising import noised
from safegen.learning.lessons import Lesson

if TYPE_CHECKING:
    from PIL import Image

    from safegen.families import Family


@dataclass(frozen=True)
class Plan:
    """The amounts and rates of one tuning.

    Attributes:
        pictures: pairs that are drawn to learn from.
        held: pairs that are drawn to measure with, of other lines of the recipe.
        batch: pairs of a step.
        draw_steps: denoising steps of a picture.
        steps: steps of learning.
        rate: Adam's.
        warm_up: steps in which the rate rises to that.
        rank: of every layer's change.
        side: of the pictures, in pixels; 0 is the model's own.
    """

    pictures: int
    held: int
    batch: int
    draw_steps: int
    steps: int
    rate: float
    warm_up: int
    rank: int
    side: int = 0


@dataclass(frozen=True)
class Judge:
    """Whoever says which pictures show the concept, and by what name records know it."""

    name: str
    sees: Callable[[Sequence[Image.Image]], list[bool]]


NOBODY = Judge("", lambda pictures: [False] * len(pictures))


@dataclass(frozen=True)
class Pairs:
    """B pairs of finished pictures, of which each has one seed and one sentence.

    Attributes:
        lessons: `told` is the harmful prompt of each, and `drawn` the safe one in its place.
        seeds: of each.
        harmful: latents (B, ...), drawn from the harmful prompts.
        safe: latents (B, ...), drawn from the safe ones.
        times: the scheduler's time at every step (S,), the noisiest first.
        inputs: the time that the denoiser is told at every step (S,).
    """

    lessons: Sequence[Lesson]
    seeds: Sequence[int]
    harmful: Tensor
    safe: Tensor
    times: Tensor
    inputs: Tensor


class TunedModel:
    """A model whose denoiser is being tuned.

    Args:
        family: the model's family.
        guidance: with which it draws.
        edit: the changes as far as they are learned.
        plan: of the tuning.
        judge: of its pictures.
    """

    def __init__(self, family: Family, guidance: float, edit: Edit, plan: Plan, judge: Judge) -> None:
        self.family, self.guidance, self.edit, self.plan, self.judge = family, guidance, edit, plan, judge
        self.denoiser = family.bottleneck.denoiser
        self.side = plan.side or family.size
        self._unprompted: dict[int, Call] = {}

    def tuned(self) -> AbstractContextManager[None]:
        """Let the edit work on all that the denoiser is called with; **changes the denoiser** meanwhile."""
        return attached(self.denoiser, self.edit)

    def predict(self, call: Call, latents: Tensor, inputs: Tensor) -> Tensor:
        """Give what the tuned denoiser puts out, see `Call.predict`; the call itself gives what it did before."""
        with self.tuned():
            return call.predict(latents, inputs)

    def unprompted(self, count: int) -> Call:
        """Record how the denoiser is told nothing, for so many pictures."""
        if count not in self._unprompted:
            self._unprompted[count] = tell(self.family, [""] * count, self.guidance, (self.side, self.side))
        return self._unprompted[count]

    def noised(self, latents: Tensor, noise: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Add noise to latents (N, ...) as at times (N,); also give what the denoiser should put out for them."""
        noisy, goal = noised(self.family.pipe.scheduler, latents, noise, times)
        device: Any = self.family.pipe._execution_device
        return noisy.to(device), (self.family.output_sign * goal).to(device)


class Objective(abc.ABC):
    """A method: what of a denoiser it changes, and what it minimises.

    Attributes:
        name: of the safeguard.
        plan: as published, where it is.
        judged: whether it learns from what a judge says of pictures.
    """

    name: ClassVar[str]
    plan: ClassVar[Plan]
    judged: ClassVar[bool] = False

    @abc.abstractmethod
    def layers(self, denoiser: Any) -> list[str]:
        """List the linear layers that are changed.

        Raises:
            UsageError: the denoiser has none of that kind.
        """

    def check(self, model: TunedModel) -> None:  # noqa: B027
        """Check, before anything is drawn, that the method can work on the model.

        Raises:
            UsageError: it cannot.
        """

    @abc.abstractmethod
    def losses(self, model: TunedModel, pairs: Pairs, chance: torch.Generator) -> dict[str, Tensor]:
        """Compute `loss`, which is minimised, and beside it what it is made of.

        Args:
            model: the model.
            pairs: a batch.
            chance: all chance comes from it.
        """

    def measure(self, model: TunedModel, pairs: Pairs, chance: torch.Generator) -> dict[str, float]:
        """Measure on pairs kept apart: `loss`, which should fall, and more."""
        with torch.no_grad():
            return {name: float(value) for name, value in self.losses(model, pairs, chance).items()}


def errors(predicted: Tensor, goal: Tensor) -> Tensor:
    """Give the mean square error (N,) of every row of predictions (N, ...)."""
    return (predicted - goal).square().flatten(1).mean(1)
