"""Learning a safe region (`safegen.safeguards.region`) for one concept, in two forms.

Half-spaces need the text encoder alone. The differences between the states of target prompts and those of
their anchors are clustered. Every cluster is a side of the concept and gets a border: Fisher's discriminant
between its harmful states and benign ones. The moves bring the harmful states as near as possible to their
anchors' and leave benign ones where they are (ridge regression).

The learned form then finds better moves through the denoiser, after Li et al. (2025, arXiv 2505.15427).
The classifier implicit in a denoiser (Ho & Salimans 2022, arXiv 2207.12598) says how harmful a noisy
latent is: g = out(x, harmful) - out(x, safe), for any output that is linear in the noise. The constrained
embedding of a harmful prompt should predict out(x, harmful) - g, which is what its anchor predicts. That
of a benign prompt should predict what it predicted before. Borders and moves are a low-rank adapter of the
embedding (LoRA, Hu et al. 2021, arXiv 2106.09685): the change that is learned to the moves starts at zero.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from safegen.conditioning import SCORED, Position
from safegen.errors import UsageError
from safegen.learning.corpus import Corpus, benign_prompts
from safegen.learning.effort import PLAIN_SIGHT
from safegen.learning.es import Pairs, benign_pairs, pairs
from safegen.learning.held import kind, split_held_out
from safegen.learning.linear import varies, whitening
from safegen.safeguards.region import HalfSpaces, constrain

if TYPE_CHECKING:
    from safegen.directions.direction import Direction
    from safegen.directions.recipes import Concept
    from safegen.families import Family

SIDES = 96  # borders of a class, at most; fewer where there are few states
PER_SIDE = 4  # harmful states that a border needs
BORDER = 0.02  # share of benign states beyond a border
RIDGE = 1e-3  # share of the mean square excess
CHANGED = 0.5  # a token's share of the harm from which it counts as harmful
STATES = 12000  # states of a class that a fit uses, at most
KEPT, HELD = 600, 10  # benign prompts of each kind; one recipe line in this many is kept out of the assessed fit
PROMPTS, STEPS, BATCH, RATE = 48, 120, 8, 1e-3
NOISE_STEPS, GUIDANCE = 6, 3.0  # settings of the sampling that noisy latents are taken from


@dataclass(frozen=True)
class Moments:
    """N noisy latents, their conditioning, and what the denoiser should predict for them."""

    latents: Tensor  # (N, C, H, W)
    times: Tensor  # (N,)
    states: Tensor  # (N, T, D)
    positions: Tensor  # (N, T)
    goals: Tensor  # (N, C, H, W)

    def drawn(self, count: int, rng: random.Random) -> Moments:
        rows = [rng.randrange(len(self.times)) for _ in range(count)]
        return Moments(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def joined(self, other: Moments) -> Moments:
        return Moments(
            *(torch.cat([getattr(part, name) for part in (self, other)]) for name in self.__dataclass_fields__)
        )


def learn(
    concept: Concept,
    family: Family,
    directions: Mapping[str, Direction],
    tick: Callable[[int], None] | None = None,
    *,
    denoiser: bool = True,
) -> dict[str, Direction]:
    """Add a safe region to each direction, with its held-out figures.

    Args:
        concept: the recipe of `directions`.
        family: the model to learn for.
        directions: the concept's directions by channel; what else they hold is kept.
        tick: told of every step.
        denoiser: learn the moves through the denoiser, too.

    Raises:
        UsageError: the pipeline has no UNet to learn through, or one that is given more than one channel.
    """
    if denoiser and not (hasattr(family.pipe, "unet") and len(directions) == 1):
        raise UsageError(
            f"a {type(family.pipe).__name__} has no UNet with a single channel to learn a region through",
            "Use --method half-spaces, which needs the text encoders alone.",
        )
    corpus = Corpus.of(concept, PLAIN_SIGHT)
    return {channel: _learn(corpus, family, channel, d, tick, denoiser) for channel, d in directions.items()}


def learn_half_spaces(
    concept: Concept,
    family: Family,
    directions: Mapping[str, Direction],
    tick: Callable[[int], None] | None = None,
) -> dict[str, Direction]:
    """Learn the regions from the text encoders alone; for the arguments see `learn`."""
    return learn(concept, family, directions, tick, denoiser=False)


def _learn(
    corpus: Corpus,
    family: Family,
    channel: str,
    direction: Direction,
    tick: Callable[[int], None] | None,
    denoiser: bool,
) -> Direction:
    calm = [*corpus.hard[:: max(1, len(corpus.hard) // KEPT)][:KEPT], *benign_prompts()[:KEPT]]
    harmful, benign = (
        pairs(corpus, family, channel, range(len(corpus.targets))),
        benign_pairs(family, channel, calm),
    )
    held = split_held_out(corpus.groups, HELD)
    figures = assess(fit(harmful.where(~held), benign), harmful.where(held))
    spaces = fit(harmful, benign)
    if denoiser:
        spaces, error = discover(spaces, corpus, calm, family, tick or (lambda _: None))
        figures |= {"goal_error": error}
    tensors = {k: v for p, space in spaces.items() for k, v in space.tensors(p.name.lower()).items()}
    return direction.extended("region", tensors, figures, kind(corpus.groups, HELD))


def fit(harmful: Pairs, benign: Pairs) -> dict[Position, HalfSpaces]:
    """Fit half-spaces for every position class, from the encodings alone."""
    spaces = {}
    for position in SCORED:
        chosen = harmful.positions == position
        if position is Position.TOKEN:
            chosen &= harmful.labels > CHANGED
        states, goals = (_some(part[chosen].float()) for part in (harmful.states, harmful.goals))
        safe = torch.cat([_some(benign.states[benign.positions == position].float()), goals])
        if len(states) >= 2 * PER_SIDE and varies(safe):
            spaces[position] = around(states, goals, safe)
    return spaces


def around(harmful: Tensor, goals: Tensor, safe: Tensor) -> HalfSpaces:
    """Put borders around the safe states (M, D), and fit moves from the harmful (N, D) to their goals (N, D)."""
    mean, white, _ = whitening(safe)
    sides = clusters((harmful - goals) @ white, min(SIDES, len(harmful) // PER_SIDE))
    normals = []
    for side in range(int(sides.max()) + 1):
        if int((sides == side).sum()) >= PER_SIDE:
            away = harmful[sides == side].mean(0) - mean
            normal = white @ white @ away
            normals.append(normal / (away @ normal))  # one unit from the benign mean to the side's
    rows = torch.stack(normals)
    borders = ((safe - mean) @ rows.T).quantile(1 - BORDER, dim=0)
    spaces = HalfSpaces(mean, rows, borders, torch.zeros_like(rows))
    beyond = torch.cat([spaces.excess(harmful), spaces.excess(safe)])
    wanted = torch.cat([harmful - goals, torch.zeros_like(safe)])
    square = beyond.T @ beyond
    square += RIDGE * square.diagonal().mean() * torch.eye(len(square))
    return HalfSpaces(mean, rows, borders, torch.linalg.solve(square, beyond.T @ wanted))


def clusters(points: Tensor, count: int, rounds: int = 20) -> Tensor:
    """Find the cluster (N,) of every point (N, D), by k-means from a fixed start."""
    draw = torch.Generator().manual_seed(0)
    centres = points[torch.randperm(len(points), generator=draw)[:count]]
    for _ in range(rounds):
        nearest = torch.cdist(points, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add(0, nearest, points)
        sizes = torch.bincount(nearest, minlength=count).unsqueeze(1)
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
    return nearest


def _some(states: Tensor) -> Tensor:
    """Choose at most `STATES` of many; the same ones from tensors of the same length."""
    return states[torch.randperm(len(states), generator=torch.Generator().manual_seed(1))[:STATES]]


def assess(spaces: dict[Position, HalfSpaces], held: Pairs) -> dict[str, float]:
    """Measure the share of the way to the anchor that is covered, on held-out recipe lines."""
    states, goals = held.states.float(), held.goals.float()
    left = (constrain(states, held.positions, spaces, 1.0) - goals).square().mean()
    return {"erased": round(1 - float(left / (states - goals).square().mean()), 4)}


def discover(
    spaces: dict[Position, HalfSpaces],
    corpus: Corpus,
    calm: Sequence[str],
    family: Family,
    tick: Callable[[int], None],
) -> tuple[dict[Position, HalfSpaces], float]:
    """Learn better moves through the denoiser; gives the half-spaces and the error left on other prompts.

    The error is the mean squared distance from the goals, as a share of what it is without the region. It is
    measured on harmful prompts that nothing was learned from here.
    """
    pipe, rng = family.pipe, random.Random("region")
    pipe.unet.requires_grad_(False)
    count = min(PROMPTS + PROMPTS // 4, len(corpus.targets))
    rows = rng.sample(range(len(corpus.targets)), count)
    others = max(1, count // 5)
    bad, held = (
        moments(family, [corpus.targets[i] for i in part], [corpus.anchors[i] for i in part], seed)
        for seed, part in enumerate((rows[:-others], rows[-others:]))
    )
    kept = rng.sample(list(calm), PROMPTS // 2)
    good = moments(family, kept, kept, seed=2)
    changes = {position: nn.Parameter(torch.zeros_like(space.moves)) for position, space in spaces.items()}

    def moved() -> dict[Position, HalfSpaces]:
        return {p: HalfSpaces(s.mean, s.normals, s.borders, s.moves + changes[p]) for p, s in spaces.items()}

    optimizer = torch.optim.Adam(changes.values(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = miss(pipe, bad.drawn(BATCH, rng).joined(good.drawn(BATCH // 2, rng)), moved())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        tick(1)
    with torch.no_grad():
        error = float(miss(pipe, held, moved()) / miss(pipe, held, {}))
    return {p: HalfSpaces(s.mean, s.normals, s.borders, s.moves.detach()) for p, s in moved().items()}, round(error, 4)


def miss(pipe: Any, part: Moments, spaces: dict[Position, HalfSpaces]) -> Tensor:
    """Measure the mean squared distance of the denoiser's predictions, under the constrained embedding, from goals."""
    states = constrain(part.states, part.positions, spaces, 1.0)
    return (predict_noise(pipe, part.latents, part.times, states) - part.goals).square().mean()


def predict_noise(pipe: Any, latents: Tensor, times: Tensor, states: Tensor) -> Tensor:
    """Give the denoiser's raw output, (B, C, H, W)."""
    output: Tensor = pipe.unet(latents, times, encoder_hidden_states=states).sample
    return output


@torch.no_grad()
def moments(family: Family, prompts: Sequence[str], safe: Sequence[str], seed: int) -> Moments:
    """Collect latents along one short sampling of every prompt; their goals are its safe counterpart's predictions."""
    pipe = family.pipe
    found, goal, nothing = (next(iter(family.encode(texts).channels.values())) for texts in (prompts, safe, [""]))
    kept: list[tuple[Tensor, Tensor]] = []

    def keep(_pipe: Any, step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step + 1 < len(pipe.scheduler.timesteps):
            kept.append((tensors["latents"].clone(), pipe.scheduler.timesteps[step + 1]))
        return tensors

    pipe(
        prompt_embeds=found.states,
        negative_prompt_embeds=nothing.states.expand_as(found.states),
        num_inference_steps=NOISE_STEPS,
        guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(seed),
        callback_on_step_end=keep,
        output_type="latent",
    )
    return Moments(
        torch.cat([latents for latents, _ in kept]),
        torch.cat([time.repeat(len(prompts)) for _, time in kept]),
        found.states.repeat(len(kept), 1, 1),
        found.positions.repeat(len(kept), 1),
        torch.cat([predict_noise(pipe, latents, time, goal.states) for latents, time in kept]),
    )
