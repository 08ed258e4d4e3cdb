"""Tuning: a change of low rank to layers of a denoiser, learned step by step from pairs of its own pictures.

This is what `safegen-ccs`, `duo` and `shielddiff` have in common; each brings an `Objective`. The unguarded model draws
the pairs, from the recipe's harmful lines and from what is safe in their place, in the same sentence and from the same
seed. The papers take photographs from elsewhere, or edit harmful pictures until they are safe. They tune whole weights
or a LoRA; here it is always a change of low rank, whose second half begins at zero, learned by Adam with gradients of
at most unit length. No weight of the model is written, neither while learning nor afterwards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safegen.directions.edits import WeightEdit
from safegen.directions.latent import SAFE
from safegen.errors import DirectionError, UsageError
from safegen.families.edits import Delta
from safegen.learning.denoising import draw, frozen
from safegen.learning.lessons import Lesson, lessons
from safegen.learning.objective import NOBODY, Judge, Objective, Pairs, Plan, TunedModel
from safegen.learning.unfinished import MOMENTS, Unfinished
from safegen.progress import SILENT, Progress

if TYPE_CHECKING:
    from safegen.directions.recipes import Concept
    from safegen.families import Family

SAVED = 25  # steps after which a change in the making is saved
TURNS = 4  # times that the pairs kept apart are measured, each with other noise
LONGEST = 1.0  # norm of a gradient


def learn(
    concept: Concept,
    family: Family,
    objective: Objective,
    guidance: float,
    plan: Plan | None = None,
    judge: Judge | None = None,
    partial: Path | None = None,
    progress: Progress = SILENT,
) -> WeightEdit:
    """Tune a model's denoiser so that it draws a concept no more.

    Args:
        concept: the recipe.
        family: the model's family.
        objective: the method.
        guidance: with which pictures are drawn.
        plan: how much to learn from; the method's own by default.
        judge: of pictures, where the method needs one.
        partial: a file that keeps what is done, so that an interrupted run can go on; it is removed at the end.
        progress: told of every batch of pictures, and of every step.

    Raises:
        UsageError: the denoiser has no such layers, the method cannot work on the model, or it lacks a judge.
        ModelError: there is no denoiser, or it is compiled or streamed, or its layers are fused.
        DirectionError: what is learned is not finite.
    """
    place, plan = family.bottleneck, plan or objective.plan
    place.check()
    if objective.judged and judge is None:
        raise UsageError(f"{objective.name} learns from a judge, and nobody judges these pictures", "Give it a judge.")
    edit = begin(place.denoiser, objective.layers(place.denoiser), plan)
    model = TunedModel(family, guidance, edit, plan, judge or NOBODY)
    objective.check(model)
    own, held = lessons(concept, SAFE, plan.pictures, plan.held)
    facts = {
        **{"concept": concept.name, "method": objective.name, "denoiser": place.kind},
        **{"class": type(place.denoiser).__name__, "fingerprint": place.fingerprint, "recipe_sha256": concept.sha256},
        **{"guidance": guidance, "plan": asdict(plan)},
        "sources": {"pictures": "the model's own", "pairs": len(own), "held": len(held)}
        | ({"judge": model.judge.name} if objective.judged else {}),
    }
    identity = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    batches = [-(-len(some) // plan.batch) for some in (own, held)]
    total = sum(batches) + 2 * TURNS * batches[1] + plan.steps
    with progress.counting(f"{concept.name}: pictures and steps", total) as tick, frozen(place.denoiser):
        work = Work(model, objective, identity, partial, tick)
        taught, apart = work.draw(own, 0), work.draw(held, len(own))
        before = work.assess(apart)
        work.train(taught)
        figures = {**{f"{name}_before": value for name, value in before.items()}, **work.assess(apart)}
    if partial is not None:
        partial.unlink(missing_ok=True)
    return WeightEdit({name: half.detach() for name, half in named(model).items()}, {**facts, "held_out": figures})


def begin(denoiser: Any, layers: Sequence[str], plan: Plan) -> dict[str, Delta]:
    """Make changes of layers that change nothing yet."""
    modules, chance = dict(denoiser.named_modules()), torch.Generator().manual_seed(0)
    found = {}
    for name in layers:
        down = torch.randn(plan.rank, modules[name].in_features, generator=chance) / plan.rank
        up, device = torch.zeros(modules[name].out_features, plan.rank), denoiser.device
        found[name] = Delta(torch.nn.Parameter(up.to(device)), torch.nn.Parameter(down.to(device)))
    return found


def named(model: TunedModel) -> dict[str, Tensor]:
    """Give both halves of every layer's change, by their names in a file."""
    halves = {f"{name}.up": delta.up for name, delta in model.edit.items()}
    return halves | {f"{name}.down": delta.down for name, delta in model.edit.items()}


class Work:
    """The work on one change, which may be interrupted and taken up again."""

    def __init__(
        self,
        model: TunedModel,
        objective: Objective,
        identity: str,
        partial: Path | None,
        tick: Callable[[int], Any],
    ) -> None:
        self.model, self.objective, self.plan, self.tick = model, objective, model.plan, tick
        self.identity, self.partial = identity, partial
        self.done = Unfinished.load(partial, identity)
        self.drawn = 0  # batches

    def draw(self, some: Sequence[Lesson], first: int) -> list[Pairs]:
        """Draw the pairs of lessons in batches, as far as they are not drawn yet; `first` is the first pair's seed."""
        found = []
        for start in range(0, len(some), self.plan.batch):
            part = some[start : start + self.plan.batch]
            seeds = list(range(first + start, first + start + len(part)))
            if len(self.done.pictures) == self.drawn:
                prompts = [*(lesson.told for lesson in part), *(lesson.drawn for lesson in part)]
                self.done.pictures.append(
                    draw(
                        self.model.family, prompts, "", self.model.guidance, self.plan.draw_steps, self.model.side,
                        [*seeds, *seeds],
                    )
                )  # fmt: skip
                self.done.save(self.partial, self.identity)
            both = self.done.pictures[self.drawn]
            harmful, safe = both.latents.cpu().chunk(2)
            found.append(Pairs(part, seeds, harmful, safe, both.times, both.inputs))
            self.drawn += 1
            self.tick(1)
        return found

    def train(self, batches: Sequence[Pairs]) -> None:
        """Learn the change from batches of pairs.

        Raises:
            DirectionError: it is not finite.
        """
        halves = named(self.model)
        optimizer = torch.optim.Adam(halves.values(), lr=self.plan.rate)
        self._take_up(halves, optimizer)
        self.tick(self.done.step)
        for step in range(self.done.step, self.plan.steps):
            optimizer.param_groups[0]["lr"] = self.plan.rate * min(1.0, (step + 1) / max(1, self.plan.warm_up))
            # All chance of a step comes from its number, so that an interrupted run ends where it would have ended.
            chance = torch.Generator().manual_seed(step)
            pairs = batches[int(torch.randint(len(batches), (1,), generator=chance))]
            loss = self.objective.losses(self.model, pairs, chance)["loss"]
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(halves.values(), LONGEST)
            optimizer.step()
            self.tick(1)
            if (step + 1) % SAVED == 0 and step + 1 < self.plan.steps:
                self._put_down(halves, optimizer, step + 1)
        if not all(bool(torch.isfinite(half).all()) for half in halves.values()):
            raise DirectionError("the tuned weights are not finite", "Learn them with another --dtype.")

    def assess(self, batches: Sequence[Pairs]) -> dict[str, float]:
        """Give the mean of what the method measures on pairs."""
        found: list[dict[str, float]] = []
        for number, pairs in enumerate(batches):
            for turn in range(TURNS):
                chance = torch.Generator().manual_seed(10**6 * (number + 1) + turn)
                found.append(self.objective.measure(self.model, pairs, chance))
                self.tick(1)
        return {name: float(f"{sum(one[name] for one in found) / len(found):.4g}") for name in found[0]}

    def _take_up(self, halves: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
        """Go on from what an interrupted run has learned."""
        for name, half in halves.items() if self.done.learned else ():
            half.data.copy_(self.done.learned[name])
            moments = {kind: self.done.learned[f"{kind}.{name}"].to(half) for kind in MOMENTS}
            optimizer.state[half] = {"step": torch.tensor(float(self.done.step)), **moments}

    def _put_down(self, halves: dict[str, Tensor], optimizer: torch.optim.Optimizer, step: int) -> None:
        """Keep what is learned for a run that goes on."""
        self.done.learned = {name: half.detach().clone() for name, half in halves.items()}
        for name, half in halves.items():
            self.done.learned |= {f"{kind}.{name}": optimizer.state[half][kind].clone() for kind in MOMENTS}
        self.done.step = step
        self.done.save(self.partial, self.identity)
