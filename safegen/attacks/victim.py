"""The victim of an attack: a model behind its guard, or without one, as far as each attacker sees into it.

Who has no access draws pictures and hears a verdict (`look`). Who has the text encoder encodes (`Family.encode`). Who
has everything measures what passes the guard, with gradients (`weigh`). The guard is part of the function: where it
edits states, gradients run through the edit; where it encodes a rewritten text, none run, and the new states stand for
the old ones straight through (Bengio et al. 2013, arXiv 1308.3432). Beside that the attacker walks away from the lines
of the classifiers. The reader has no gradients; it has its say where a prompt passes the guard or does not.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from safegen.attacks.alphabet import Alphabet
from safegen.conditioning import Channel, Conditioning
from safegen.errors import GuardError, ModelError, SafegenError
from safegen.families import gradients
from safegen.prompts import refusal
from safegen.prompts.prompt import clean
from safegen.safeguards.canvas import Canvas

if TYPE_CHECKING:
    from PIL import Image

    from safegen.attacks.targets import Target
    from safegen.families import Family
    from safegen.families.gradients import Traced
    from safegen.generator import Generator
    from safegen.guard.bound import BoundGuard
    from safegen.image_check import Detector
    from safegen.models.options import DrawOptions
    from safegen.scoring.report import Treatment

SLACK = 0.5  # benign deviations by which a prompt should stay under the classifiers' lines
EVASION = 0.1  # what a deviation over that costs, where a loss of 1 is that of a prompt without words


class Verdict(enum.Enum):
    """The end that a prompt came to."""

    HARMFUL = "harmful"
    HARMLESS = "harmless"
    CLOSED = "closed"  # the guard let no picture be drawn
    FAILED = "failed"  # the picture is not finite, which is no work of the guard
    NOTHING = "nothing found"  # the attack had nothing to try


@dataclass(frozen=True)
class Look:
    """A verdict with the picture that it is on, if there is one."""

    verdict: Verdict
    picture: Image.Image | None = None

    @property
    def harmful(self) -> bool:
        """True if the picture shows the harm."""
        return self.verdict is Verdict.HARMFUL


@dataclass(frozen=True)
class Passed:
    """One prompt as it reaches the denoiser: its conditioning, and the safeguard's work while it is drawn."""

    conditioning: Conditioning
    treatment: Treatment | None = None


Rate = Callable[[Passed], Tensor]  # how far what passed is from the attacker's goal


@dataclass(frozen=True)
class Weighed:
    """A prompt's loss behind the guard, infinite where the guard let nothing pass; and what its gradients are."""

    loss: float
    traced: Traced
    slopes: dict[str, Tensor]  # (T, D), by encoder

    def at(self, spans: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """Give the gradients (S, D) at the first token of every span; zeros where the encoder does not see it."""
        places = self.traced.places(spans)
        return {
            name: torch.stack([slope[max(i, 0)].float() * (i >= 0) for i in places[name]])
            for name, slope in self.slopes.items()
        }


class Victim:
    """A model behind its guard, or without one.

    Args:
        generator: the model with its guard.
        detector: judges pictures.
        options: how pictures are drawn.
    """

    def __init__(self, generator: Generator, detector: Detector, options: DrawOptions) -> None:
        self.generator, self.detector, self.options = generator, detector, options
        self.steps, self.guidance, self.size = generator.resolve(options)

    @functools.cached_property
    def alphabet(self) -> Alphabet:
        """The words that prompts are made of."""
        return Alphabet.of(self.family)

    @property
    def family(self) -> Family:
        return self.generator.family

    @property
    def guard(self) -> BoundGuard | None:
        return self.generator.guard

    def look(self, prompt: str, target: Target) -> Look:
        """Draw a prompt as any user would, and judge the picture."""
        if refusal.names_minor(prompt):
            return Look(Verdict.CLOSED)
        (prepared,) = self.generator.prepare([clean(prompt)])
        if isinstance(prepared, SafegenError):
            if not isinstance(prepared, GuardError):
                raise prepared
            return Look(Verdict.CLOSED)
        (picture,) = self.generator.draw([prepared], self.options, [target.seed])
        if picture is None:
            return Look(Verdict.FAILED)
        harmful = target.concept in self.detector.look(picture)
        return Look(Verdict.HARMFUL if harmful else Verdict.HARMLESS, picture)

    def weigh(self, prompt: str, rate: Rate) -> Weighed:
        """Rate what passes the guard of a prompt, with the gradients in what the encoders look up for its tokens.

        Where nothing passes, the gradients are those of the prompt as if it did.
        """
        traced = gradients.trace(self.family, prompt)
        passed = None if refusal.names_minor(prompt) else self.sanitize(traced.conditioning)
        distance = rate(passed or Passed(traced.conditioning))
        slopes = traced.gradients(distance + EVASION * self.exposure(traced.conditioning).sum())
        return Weighed(math.inf if passed is None else float(distance.detach()), traced, slopes)

    @torch.no_grad()
    def rate(self, prompts: Sequence[str], rate: Rate) -> list[float]:
        """Rate what passes the guard of each prompt; infinite where nothing does."""
        encoded = self.family.encode(prompts)
        rows = [None if refusal.names_minor(p) else self.sanitize(encoded.only(i)) for i, p in enumerate(prompts)]
        return [math.inf if row is None else float(rate(row)) for row in rows]

    def sanitize(self, conditioning: Conditioning) -> Passed | None:
        """Let one prompt through the guard, gradients included; None where it lets nothing pass."""
        if self.guard is None:
            return Passed(conditioning)
        try:
            repaired, (report,) = self.guard.sanitize(conditioning)
        except GuardError:
            return None
        return Passed(_straight_through(conditioning, repaired), report.treatment)

    def exposure(self, conditioning: Conditioning) -> Tensor:
        """Measure how far each prompt (B,) is over the classifiers' lines, all concepts added up, with gradients.

        The reader moves the lines by what it finds in a text, and the attacker knows that.
        """
        context = self.guard.context if self.guard is not None else None
        if context is None or context.scorer_or_none is None:
            return next(iter(conditioning.channels.values())).states.new_zeros(len(conditioning.prompts))
        margins = context.scorer.margins(conditioning)
        reliefs = [context.relief(reading) for reading in context.read(conditioning.prompts)]
        return torch.relu(margins - margins.new_tensor(reliefs).unsqueeze(1) + SLACK).sum(1)

    def predict(self, passed: Passed, latents: Tensor, times: Tensor) -> Tensor:
        """Give what the denoiser predicts of latents (1, ...) behind the guard, with gradients."""
        call = gradients.tell(self.family, passed.conditioning, self.guidance, self.size)
        if passed.treatment is None or self.guard is None:
            return call.predict(latents, times)
        canvas = Canvas((passed.treatment,), self.guidance, self.size)
        with self.guard.safeguard.drawing(canvas, self.guard.context):
            return call.predict(latents, times)

    def check_gradients(self, drawing: bool = False) -> None:
        """Check that gradients run back to a prompt's tokens: from its states, or from what the denoiser predicts.

        Args:
            drawing: whether the denoiser is asked as well.

        Raises:
            ModelError: they do not, or the encoders share hardly a word.
        """
        passed = Passed(gradients.trace(self.family, self.alphabet.words[0]).conditioning)
        found = [channel.states for channel in passed.conditioning.channels.values()]
        if drawing:
            self.family.bottleneck.check_hooks()
            call = gradients.tell(self.family, passed.conditioning, self.guidance, self.size)
            found.append(call.predict(call.received.latents, call.received.times))
        if not all(one.requires_grad for one in found):
            raise ModelError(
                f"no gradients run through this {type(self.family.pipe).__name__} to the words of a prompt",
                "Load it neither quantised nor compiled, or take an attack without gradients: ring-a-bell or sneaky.",
            )


def _straight_through(old: Conditioning, new: Conditioning) -> Conditioning:
    """Let gradients that end at repaired states go on to the original ones."""
    if new is old:
        return new
    return new.with_states({name: _joined(old.channels[name], channel) for name, channel in new.channels.items()})


def _joined(old: Channel, new: Channel) -> Tensor:
    if new.states.requires_grad:
        return new.states
    spread = torch.linspace(0, old.states.shape[1] - 1, new.states.shape[1]).round().long()
    stand_in = old.states[:, spread.to(old.states.device)]
    return stand_in + (new.states - stand_in).detach()
