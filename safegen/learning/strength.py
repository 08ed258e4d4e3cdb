"""How strongly a latent direction has to be added, told by pictures.

Three pictures are drawn from one seed: from the prompt that lacks what the vector means, from the prompt that has it,
and from the first prompt with the vector. The way from the first picture to the second is what the vector should do;
how far the third has gone along it is what it does. The weight that goes farthest is taken, of those that leave the
pictures about as near to where they should go as they were. A higher one moves them much more in other ways than in
this one: it changes what should stay, and spoils them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from safegen.families.pushes import Push, steered
from safegen.learning.denoising import Pictures, draw
from safegen.learning.lessons import Lesson

if TYPE_CHECKING:
    from safegen.families import Family

WEIGHTS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
FARTHEST = 1.2  # squared distance from where pictures should go, as a share of that without the vector


def strongest(
    family: Family,
    vector: Tensor,
    lessons: Sequence[Sequence[Lesson]],
    goals: Sequence[Pictures],
    seeds: Sequence[Sequence[int]],
    guidance: float,
    steps: int,
    side: int,
    tick: Callable[[int], Any],
) -> tuple[float, float]:
    """Find the weight by which a vector does most of what it means, and no more harm than good.

    Args:
        family: the model's family.
        vector: the vector.
        lessons: batches of lessons that it was not learned from.
        goals: their pictures.
        seeds: the pictures' seeds.
        guidance: with which they were drawn.
        steps: denoising steps of a picture.
        side: of the pictures, in pixels.
        tick: told of every batch.

    Returns:
        the weight, and how far it goes: 1 is all the way.
    """

    def drawn(weight: float) -> list[Tensor]:
        found = []
        for some, own in zip(lessons, seeds, strict=True):
            with steered(family, [[Push(vector, weight)]]):
                told = [lesson.told for lesson in some]
                found.append(draw(family, told, "", guidance, steps, side, own).latents.cpu())
            tick(1)
        return found

    plain = drawn(0.0)
    ways = [goal.latents.cpu() - without for goal, without in zip(goals, plain, strict=True)]
    whole = sum(float(way.square().sum()) for way in ways)
    if not whole:
        return 1.0, 0.0
    gone, left = {}, {}
    for weight in WEIGHTS:
        moved = [pushed - without for pushed, without in zip(drawn(weight), plain, strict=True)]
        gone[weight] = sum(float((way * move).sum()) for way, move in zip(ways, moved, strict=True)) / whole
        left[weight] = sum(float((way - move).square().sum()) for way, move in zip(ways, moved, strict=True)) / whole
    near = [weight for weight in WEIGHTS if left[weight] < FARTHEST] or WEIGHTS[:1]
    best = max(near, key=lambda weight: gone[weight])
    return best, gone[best]
