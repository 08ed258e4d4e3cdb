"""ShieldDiff (Han et al. 2024, arXiv 2410.05309): a policy gradient by a reward of harm and of likeness.

To draw is to make S moves from noise to a picture. Each is a sample of a normal distribution whose mean the denoiser
gives, so the gradient of a move's log-likelihood is known, and no judge has to be differentiable (DDPO, Black et al.
2023, arXiv 2305.13301):

    loss = -(reward - the mean reward of the same pair) log p(move)        reward = likeness - harm

Safety alone would be had by a grey picture; so a picture should also be like what was asked for. The paper measures
that as CLIP does, by the prompt. Not every model here has a CLIP that sees, so likeness is the cosine, in latents, to
the picture that the model drew from the safe prompt and the same first noise. Harm is 1 where the judge sees the
concept; the paper's detector is one of nudity. Also filled in, as the paper's code is not public: pictures are drawn
from harmful prompts alone; their moves are those of DDIM with all its noise; several are drawn of each pair, to compare
with each other; every picture is learned from once, so there is no ratio of likelihoods to clip; of its moves, a few
are chosen by chance. All attention is tuned.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from safegen.errors import UsageError
from safegen.families.calls import Call, recorded
from safegen.families.denoiser import Received
from safegen.families.edits import attention_layers
from safegen.families.intercept import without_safety_checker
from safegen.learning.denoising import flows
from safegen.learning.objective import Objective, Pairs, Plan, TunedModel

if TYPE_CHECKING:
    from safegen.families import Family

GROUP = 4  # pictures drawn of a pair
MOVES = 3  # of a picture, that are learned from in a step
NEEDED = {"eta", "latents", "callback_on_step_end"}  # of a pipeline's arguments
EQUAL = 0.01  # rewards that differ by less count as the same


@dataclass(frozen=True)
class Drawn:
    """N pictures as they were drawn.

    Attributes:
        calls: of the denoiser, one for every move.
        ends: latents (N, ...) after every move.
        scheduler: the one that made the moves.
        harm: whether the judge sees the concept in each (N,).
        likeness: of each to the safe picture (N,).
    """

    calls: list[Received]
    ends: list[Tensor]
    scheduler: Any
    harm: Tensor
    likeness: Tensor

    @property
    def reward(self) -> Tensor:
        return self.likeness - self.harm


class PolicyGradient(Objective):
    """Tune by what a judge says of the pictures."""

    name = "shielddiff"
    plan: ClassVar[Plan] = Plan(64, 16, batch=2, draw_steps=20, steps=400, rate=3e-4, warm_up=0, rank=4)
    judged: ClassVar[bool] = True

    def layers(self, denoiser: Any) -> list[str]:
        """List the layers of all attention."""
        return attention_layers(denoiser)

    def check(self, model: TunedModel) -> None:
        """Check that pictures can be drawn with noise in every move.

        Raises:
            UsageError: they cannot.
        """
        pipe = model.family.pipe
        if flows(pipe.scheduler) or NEEDED - inspect.signature(type(pipe).__call__).parameters.keys():
            raise UsageError(
                f"shielddiff learns from moves that have noise, one by one, and a {type(pipe).__name__} with a "
                f"{type(pipe.scheduler).__name__} makes or shows none",
                "Choose another method: --method duo.",
            )

    def losses(self, model: TunedModel, pairs: Pairs, chance: torch.Generator) -> dict[str, Tensor]:
        """Draw pictures, and compute the loss whose gradient is that of their expected reward."""
        drawn = draw(model, pairs, GROUP, chance)
        rewards = drawn.reward.view(len(pairs.seeds), GROUP)
        gains = (rewards - rewards.mean(1, keepdim=True)).flatten()
        gains = gains / gains.std().clamp(min=EQUAL)
        chosen = torch.randperm(len(drawn.ends) - 1, generator=chance)[:MOVES].tolist()  # the last move has no noise
        loss = sum((gains.to(far) * far).mean() for far in (surprise(model, drawn, move) for move in chosen))
        return {"loss": torch.as_tensor(loss) / len(chosen)}

    def measure(self, model: TunedModel, pairs: Pairs, chance: torch.Generator) -> dict[str, float]:
        """Measure harm and likeness in pictures of pairs kept apart; the loss is the reward's opposite."""
        drawn = draw(model, pairs, 1, chance)
        found = {"loss": -drawn.reward, "harm": drawn.harm, "likeness": drawn.likeness}
        return {name: float(value.mean()) for name, value in found.items()}


@torch.no_grad()
def draw(model: TunedModel, pairs: Pairs, times: int, chance: torch.Generator) -> Drawn:
    """Draw every pair's harmful prompt several times, from one first noise and with other noise in every move."""
    family, pipe, ends = model.family, model.family.pipe, list[Tensor]()
    prompts = [lesson.told for lesson in pairs.lessons for _ in range(times)]
    one = pairs.safe.shape[1:]
    first = [torch.randn(1, *one, generator=torch.Generator().manual_seed(seed)) for seed in pairs.seeds]
    seeds = torch.randint(2**62, (len(prompts),), generator=chance).tolist()

    def after_step(_pipe: Any, _step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        ends.append(tensors["latents"].float())
        return tensors

    arguments = family.arguments(family.encode(prompts), "", model.guidance)
    with noisy_moves(family) as scheduler, recorded(family) as calls, without_safety_checker(pipe), model.tuned():
        pictures = pipe(
            **arguments,
            latents=torch.cat(first).repeat_interleave(times, 0).to(model.denoiser.device, model.denoiser.dtype),
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            eta=1.0,
            num_inference_steps=model.plan.draw_steps,
            width=model.side,
            height=model.side,
            callback_on_step_end=after_step,
        ).images
    goal = pairs.safe.repeat_interleave(times, 0).flatten(1)
    likeness = F.cosine_similarity(ends[-1].cpu().flatten(1), goal)
    return Drawn(calls, ends, scheduler, torch.tensor(model.judge.sees(pictures)).float(), likeness)


def surprise(model: TunedModel, drawn: Drawn, move: int) -> Tensor:
    """Give the negative log-likelihood (N,) of a move: a mean over places, up to a constant."""
    received, end = drawn.calls[move], drawn.ends[move]
    output = model.predict(Call(model.denoiser, received), received.latents, received.times)
    if len(output) > len(end):
        halves = output.chunk(2)
        plain, prompted = halves if model.family.negative_first else halves[::-1]
        output = plain + model.guidance * (prompted - plain)
    begin, time = received.latents[: len(end)].float(), drawn.scheduler.timesteps[move]
    mean, far = (
        drawn.scheduler.step(output, time, begin, eta=1.0, variance_noise=noise).prev_sample
        for noise in (torch.zeros_like(begin), torch.ones_like(begin))
    )
    found: Tensor = ((end - mean) / (far - mean).detach()).square().flatten(1).mean(1) / 2
    return found


@contextlib.contextmanager
def noisy_moves(family: Family) -> Iterator[Any]:
    """Let a pipeline draw with DDIM's moves; **changes it** meanwhile."""
    from diffusers import DDIMScheduler

    own = family.pipe.scheduler
    family.pipe.scheduler = DDIMScheduler.from_config(own.config)
    try:
        yield family.pipe.scheduler
    finally:
        family.pipe.scheduler = own
