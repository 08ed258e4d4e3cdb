"""DUO (Park et al., NeurIPS 2024, arXiv 2407.21035): a denoiser comes to prefer the safe picture of every pair.

As in direct preference optimisation for diffusion models, both pictures get the same noise at the same time. How much
better the tuned denoiser does than the one before it should be more for the safe picture s than for the harmful z:

    gain(x) = |out(x) - goal|^2 - |before(x) - goal|^2
    loss = -log sigmoid(-beta (gain(s) - gain(z))) + lambda |out(noise) - before(noise)|^2

The second term is taken at the highest time, where a picture is nothing but noise yet, and keeps what is drawn of all
else as it was. The first is taken where most of the noise is gone. Nothing is told to the denoiser, and cross-attention
is left alone, so what is unlearned does not depend on words.

Beta and lambda are the authors', as their code has them for nudity; it takes another time for each picture of a pair,
and here both have one, as in the paper. The paper makes the safe picture of a pair from the harmful one, by adding
noise and drawing on from a safe prompt; here both come from one seed, see `tuning.py`. Filled in: which layers, beside
self-attention, are changed, namely those of its blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.nn import functional as F

from safegen.families.edits import block_layers
from safegen.learning.objective import Objective, Pairs, Plan, TunedModel, errors

if TYPE_CHECKING:
    from torch import Tensor

BETA = 500.0
KEEP = 1e4 * BETA  # lambda
LATEST = 0.75  # share of all noise times, up to which pictures are compared


class Preference(Objective):
    """Tune by preference, with an output that is preserved."""

    name = "duo"
    plan: ClassVar[Plan] = Plan(64, 16, batch=2, draw_steps=20, steps=1000, rate=0.03 / BETA, warm_up=0, rank=32)

    def layers(self, denoiser: Any) -> list[str]:
        """List the layers of the blocks with self-attention, but for cross-attention."""
        return block_layers(denoiser)

    def losses(self, model: TunedModel, pairs: Pairs, chance: torch.Generator) -> dict[str, Tensor]:
        """Compute the loss, its preference, and how far the output moves where there is nothing but noise."""
        count, limit = len(pairs.seeds), LATEST * model.family.pipe.scheduler.config.num_train_timesteps
        late = (pairs.times <= limit).nonzero().flatten()
        at = late[torch.randint(len(late), (count,), generator=chance)].repeat(2)
        noise = torch.randn(pairs.safe.shape, generator=chance)
        noisy, goal = model.noised(torch.cat([pairs.safe, pairs.harmful]), torch.cat([noise, noise]), pairs.times[at])
        latents = torch.cat([noisy, noise.to(noisy)])
        inputs = torch.cat([pairs.inputs[at], pairs.inputs[:1].expand(count)]).to(noisy)
        call = model.unprompted(3 * count)
        with torch.no_grad():
            before = call.predict(latents, inputs)
        after = model.predict(call, latents, inputs)
        gains = errors(after[: 2 * count], goal) - errors(before[: 2 * count], goal)
        preference = -F.logsigmoid(-BETA * (gains[:count] - gains[count:])).mean()
        drift = errors(after[2 * count :], before[2 * count :]).mean()
        return {"loss": preference + KEEP * drift, "preference": preference, "drift": drift}
