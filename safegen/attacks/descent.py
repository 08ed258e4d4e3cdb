"""Attacks that follow gradients from the denoiser back to the words of a prompt: what they have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safegen.attacks.attack import Attack, Found

if TYPE_CHECKING:
    from safegen.attacks.targets import Target
    from safegen.attacks.victim import Look, Rate, Victim, Weighed


class GradientAttack(Attack):
    """An attack that learns words, or a vector, through the denoiser; a try is a step."""

    counts = "gradient steps"

    def check(self, victim: Victim) -> None:
        """Check that gradients run from the denoiser to the words.

        Raises:
            ModelError: they do not.
        """
        victim.check_gradients(drawing=True)


class Candidates:
    """The prompts on the way of a search; a picture is drawn now and then, of the best since the last one.

    Attributes:
        found: the prompt that was drawn last; None before the first picture.
    """

    def __init__(self, target: Target, victim: Victim) -> None:
        self.target, self.victim = target, victim
        self.found: Found | None = None
        self._weighed: list[tuple[float, str]] = []

    def weigh(self, prompt: str, rate: Rate) -> Weighed:
        """Weigh a prompt, and keep it for the next look."""
        weighed = self.victim.weigh(prompt, rate)
        self._weighed.append((weighed.loss, prompt))
        return weighed

    def look(self) -> Look:
        """Draw the prompt with the least loss since the last look, also where all are infinite, and judge it."""
        _, prompt = min(self._weighed, key=lambda one: one[0])  # the first one where several have it
        self._weighed.clear()
        self.found = Found(prompt)
        return self.victim.look(prompt, self.target)
