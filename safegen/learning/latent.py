"""Discovery of latent directions, after Li et al. (2024, arXiv 2311.17216).

Pictures are drawn with what the vector should come to mean. Noise is added to them; the frozen denoiser is told a
prompt that lacks it, and has to predict with the help of the vector, which is added at its bottleneck, what it predicts
where the prompt has it. So the vector learns to supply what the prompt lacks. It is the same at every step, and no
weight of the model changes. No label is needed: the pictures are the model's own.

In the paper the noise itself is predicted. The denoiser's own prediction is what that comes to on average, without the
noise's own spread, so a few hundred steps are enough. One vector for all steps is too weak as it is learned, and the
paper leaves its weight open: pictures kept apart tell it, see `strength`.

A concept is kept out in the published way, by the opposite: pictures drawn with the concept as the negative prompt, and
from the recipe's safe phrase in the harmful one's place; the denoiser is told the harmful prompt.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safegen.directions.attributes import Attribute
from safegen.directions.latent import LatentDirection
from safegen.directions.recipes import Concept
from safegen.errors import DirectionError
from safegen.families.calls import Call, tell
from safegen.families.denoiser import Received, watched
from safegen.families.pushes import spread
from safegen.learning import strength
from safegen.learning.denoising import draw, frozen, noised
from safegen.learning.lessons import Lesson, lessons
from safegen.learning.unfinished import MOMENTS, Unfinished
from safegen.progress import SILENT, Progress

if TYPE_CHECKING:
    from safegen.families import Family

BETAS = (0.9, 0.999)  # Adam's
SAVED = 25  # steps after which a vector in the making is saved


@dataclass(frozen=True)
class Plan:
    """How much a vector is learned from, and how.

    Attributes:
        pictures: drawn to learn from.
        held: drawn to measure with.
        batch: pictures of a step.
        draw_steps: denoising steps of a picture.
        steps: steps of learning.
        rate: Adam's, as a share of what the states at the bottleneck are like: these differ a hundredfold by model.
        side: of the pictures, in pixels; 0 is the model's own.
        placed: whether a UNet's vector has a part for every place, as published, or one for all.
    """

    pictures: int = 96
    held: int = 24
    batch: int = 8
    draw_steps: int = 20
    steps: int = 600
    rate: float = 0.05
    side: int = 0
    placed: bool = True

    @property
    def total(self) -> int:
        """The pieces of work: batches of pictures, steps, and batches of the vector's every weight."""
        held = -(-self.held // self.batch)
        return -(-self.pictures // self.batch) + held + self.steps + held * (1 + len(strength.WEIGHTS))


PLAN = Plan()


def learn(
    recipe: Attribute | Concept,
    meaning: str,
    family: Family,
    guidance: float,
    plan: Plan = PLAN,
    partial: Path | None = None,
    progress: Progress = SILENT,
) -> LatentDirection:
    """Learn the vector of one meaning for a model.

    Args:
        recipe: the attribute or the concept.
        meaning: a class of the attribute, or `safe`.
        family: the model's family.
        guidance: with which the pictures are drawn.
        plan: how much to learn from.
        partial: a file that keeps what is done, so that an interrupted run can go on; it is removed at the end.
        progress: told of every batch of pictures, and of every step.

    Raises:
        ModelError: the denoiser has no place for a vector, or is compiled or streamed.
    """
    place = family.bottleneck
    place.check()
    own, held = lessons(recipe, meaning, plan.pictures, plan.held)
    facts = {"recipe": recipe.sha256, "meaning": meaning, "denoiser": place.fingerprint, "guidance": guidance}
    identity = hashlib.sha256(json.dumps([facts, asdict(plan)], sort_keys=True).encode()).hexdigest()
    with progress.counting(f"{recipe.name}, {meaning}: pictures and steps", plan.total) as tick, frozen(place.denoiser):
        work = Work(family, guidance, plan, identity, partial, tick)
        vector = work.train(work.batches(own, 0), work.batches(held, len(own)))
        weight, far = work.weigh(vector)
        figures = {**work.assess(vector), "weight": weight, "way_gone": round(far, 4)}
    info = {
        **{"name": recipe.name, "meaning": meaning, "denoiser": place.kind, "block": place.name},
        **{"class": type(place.denoiser).__name__, "fingerprint": place.fingerprint, "recipe_sha256": recipe.sha256},
        **{"held_out": figures, "guidance": guidance, "plan": asdict(plan)},
        "sources": {"pictures": "the model's own", "lessons": len(own), "held": len(held)},
    }
    if partial is not None:
        partial.unlink(missing_ok=True)
    return LatentDirection(weight * vector, info)


class Work:
    """The work on one vector, which may be interrupted and taken up again."""

    def __init__(
        self,
        family: Family,
        guidance: float,
        plan: Plan,
        identity: str,
        partial: Path | None,
        tick: Callable[[int], Any],
    ) -> None:
        self.family, self.guidance, self.plan, self.tick = family, guidance, plan, tick
        self.identity, self.partial, self.side = identity, partial, plan.side or family.size
        self.done = Unfinished.load(partial, identity)
        self.lessons: list[list[Lesson]] = []
        self.seeds: list[list[int]] = []
        self.held_from = 0

    def batches(self, some: Sequence[Lesson], first: int) -> list[int]:
        """Draw the pictures of lessons, as far as they are not drawn yet; gives the numbers of their batches."""
        numbers = []
        for start in range(0, len(some), self.plan.batch):
            part = list(some[start : start + self.plan.batch])
            numbers.append(len(self.lessons))
            self.lessons.append(part)
            self.seeds.append(list(range(first + start, first + start + len(part))))
            if len(self.done.pictures) < len(self.lessons):
                negative = ", ".join(dict.fromkeys(lesson.negative for lesson in part if lesson.negative))
                drawn = [lesson.drawn for lesson in part]
                self.done.pictures.append(
                    draw(self.family, drawn, negative, self.guidance, self.plan.draw_steps, self.side, self.seeds[-1])
                )
                self.done.save(self.partial, self.identity)
            self.tick(1)
        return numbers

    def train(self, own: Sequence[int], held: Sequence[int]) -> Tensor:
        """Learn the vector from the batches with these numbers, and remember which are for measuring."""
        self.held_from = held[0]
        told, wanted = ([self._tell(i, which) for i in own] for which in ("told", "drawn"))
        zero, size = self._begin(told[0])
        vector = torch.nn.Parameter(self.done.learned.get("vector", zero))
        optimizer = torch.optim.Adam([vector], lr=self.plan.rate * size, betas=BETAS)
        if self.done.learned:
            count = torch.tensor(float(self.done.step))
            moments = {name: self.done.learned[name] for name in MOMENTS}
            optimizer.state[vector] = {"step": count, **moments}
        self.tick(self.done.step)
        rate = optimizer.param_groups[0]["lr"]
        for step in range(self.done.step, self.plan.steps):
            optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / self.plan.steps)) / 2
            # All chance of a step comes from its number, so that an interrupted run ends where it would have ended.
            chance = torch.Generator().manual_seed(step)
            number = int(torch.randint(len(own), (1,), generator=chance))
            latents, times, _ = self._moment(own[number], chance)
            with torch.no_grad():
                goal = wanted[number].predict(latents, times)
            loss = (self._with(vector, told[number], latents, times) - goal).square().mean()
            (vector.grad,) = torch.autograd.grad(loss, vector)
            optimizer.step()
            self.tick(1)
            if (step + 1) % SAVED == 0 and step + 1 < self.plan.steps:
                moments = {name: optimizer.state[vector][name].clone() for name in MOMENTS}
                self.done.learned, self.done.step = {"vector": vector.detach().clone(), **moments}, step + 1
                self.done.save(self.partial, self.identity)
        if not bool(torch.isfinite(vector).all()):
            raise DirectionError("the latent direction is not finite", "Learn it with another --dtype.")
        return vector.detach()

    def weigh(self, vector: Tensor) -> tuple[float, float]:
        """Find the weight by which the vector does most of what it means, on pictures kept apart; and how much."""
        held, plan = slice(self.held_from, None), self.plan
        return strength.strongest(
            self.family, vector, self.lessons[held], self.done.pictures[held], self.seeds[held],
            self.guidance, plan.draw_steps, self.side, self.tick,
        )  # fmt: skip

    def assess(self, vector: Tensor) -> dict[str, float]:
        """Measure how far the vector closes the gap between the two prompts' predictions, on pictures kept apart."""
        gap, left, before, after = 0.0, 0.0, 0.0, 0.0
        for number in range(self.held_from, len(self.lessons)):
            told, drawn = self._tell(number, "told"), self._tell(number, "drawn")
            for turn in range(4):
                chance = torch.Generator().manual_seed(10**6 * (number + 1) + turn)
                latents, times, goal = self._moment(number, chance)
                with torch.no_grad():
                    lacking, wanted = told.predict(latents, times), drawn.predict(latents, times)
                    pushed = self._with(vector, told, latents, times)
                gap += float((lacking - wanted).square().mean())
                left += float((pushed - wanted).square().mean())
                before += float((lacking - goal).square().mean())
                after += float((pushed - goal).square().mean())
        return {"gap_closed": round(1 - left / gap, 4) if gap else 0.0, "noise_error": round(after / before, 4)}

    def _tell(self, number: int, which: str) -> Call:
        """Record how the denoiser is told one of the two prompts of a batch's lessons."""
        prompts = [getattr(lesson, which) for lesson in self.lessons[number]]
        return tell(self.family, prompts, self.guidance, (self.side, self.side))

    def _begin(self, call: Call) -> tuple[Tensor, float]:
        """Give the vector before the first step, which is zero, and the root mean square of the bottleneck's states."""
        place, seen = self.family.bottleneck, list[Tensor]()

        def note(states: Tensor) -> Tensor:
            seen.append(states)
            return states

        latents, times, _ = self._moment(0, torch.Generator().manual_seed(0))
        with torch.no_grad(), place.changed(note):
            call.predict(latents, times)
        states = seen[0].float()
        whole = place.kind == "unet" and self.plan.placed
        return torch.zeros(states.shape[1:] if whole else place.width), float(states.square().mean().sqrt())

    def _moment(self, number: int, chance: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Give a batch's latents with noise, each at a time of its own, and what should be predicted for them."""
        pictures, device = self.done.pictures[number], self.family.pipe._execution_device
        at = torch.randint(len(pictures.times), (len(pictures.latents),), generator=chance)
        noise = torch.randn(pictures.latents.shape, generator=chance)
        latents, goal = noised(self.family.pipe.scheduler, pictures.latents.cpu(), noise, pictures.times[at])
        return latents.to(device), pictures.inputs[at].to(device), (self.family.output_sign * goal).to(device)

    def _with(self, vector: Tensor, call: Call, latents: Tensor, times: Tensor) -> Tensor:
        """Give the denoiser's output with the vector at its bottleneck."""
        received = [call.received]

        def receive(now: Received, _: bool) -> None:
            received[0] = now

        def push(states: Tensor) -> Tensor:
            more = spread(vector.to(states.device), states).to(states.dtype)
            if states.ndim == 4:
                return states + more
            mask = torch.zeros(states.shape[1], dtype=states.dtype, device=states.device)
            mask[self.family.picture_tokens(received[0])] = 1
            return states + mask[:, None] * more

        with watched(call.denoiser, receive), self.family.bottleneck.changed(push):
            return call.predict(latents, times)
