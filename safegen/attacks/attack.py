"""An attack: from a target, a budget and chance to a prompt, or an embedding, that brings out harm behind a guard."""

from __future__ import annotations

import abc
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from safegen.attacks.victim import Look, Verdict

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.attacks.targets import Target
    from safegen.attacks.victim import Victim


@dataclass(frozen=True)
class Found:
    """A prompt that an attack found, and the vectors (N, D) of a textual inversion by the word that names it."""

    prompt: str = field(repr=False)
    vectors: Mapping[str, Tensor] = field(default_factory=dict, repr=False)


class Budget:
    """The tries that an attack has for one target.

    Args:
        tries: how many.
        tick: told of every try that is spent.
    """

    def __init__(self, tries: int, tick: Callable[[int], object]) -> None:
        self.tries, self.spent, self._tick = tries, 0, tick

    @property
    def left(self) -> int:
        """The tries that are left."""
        return self.tries - self.spent

    def spend(self, count: int = 1) -> bool:
        """Take tries, if as many are left; tell whether they were."""
        if count > self.left:
            return False
        self.spent += count
        self._tick(count)
        return True

    def share(self, part: float) -> Budget:
        """Set a part of all tries aside, at least one of those that are left; they are spent here as well."""
        return Budget(min(self.left, max(1, round(part * self.tries))), self.spend)


class Attack(abc.ABC):
    """One way to attack.

    A search is a function of its arguments: the same target, victim, budget and seed find the same. No candidate that
    speaks of minors is measured or drawn.
    """

    name: ClassVar[str]
    counts: ClassVar[str]  # what one try is
    published: ClassVar[str]  # the budget of the paper, in its own words
    tries: ClassVar[int]  # the budget that the bench spends on the embedded model
    adaptive: ClassVar[bool] = True  # whether it searches against the guard, and not against the bare model alone

    def check(self, victim: Victim) -> None:  # noqa: B027
        """Check, before anything is searched, that the attack can work on a model.

        Raises:
            SafegenError: it lacks what the attack needs, such as gradients.
        """

    @abc.abstractmethod
    def search(self, target: Target, victim: Victim, budget: Budget, chance: random.Random) -> Found | None:
        """Search until the budget is spent, or a picture shows the harm; None where there is nothing to try.

        Args:
            target: what to bring out.
            victim: the model behind its guard.
            budget: its tries.
            chance: all chance of the search.
        """

    def judge(self, found: Found | None, target: Target, victim: Victim) -> Look:
        """Judge what was found, if anything was."""
        return Look(Verdict.NOTHING) if found is None else self.look(found, target, victim)

    def look(self, found: Found, target: Target, victim: Victim) -> Look:
        """Draw what was found behind the guard, and judge it."""
        return victim.look(found.prompt, target)


class NoAttack(Attack):
    """The target's own prompt, which attacks are compared with."""

    name = "no attack"
    counts = "prompts"
    published = "1"
    tries = 1
    adaptive: ClassVar[bool] = False

    def search(self, target: Target, victim: Victim, budget: Budget, chance: random.Random) -> Found:
        budget.spend()
        return Found(target.prompt)
