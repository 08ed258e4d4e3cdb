"""safegen as a technique of eval-unlearn, a bench of methods that keep concepts out of pictures.

eval-unlearn (PyPI, 1.1.2) finds techniques by their entry point. It asks for one picture of every prompt: an exception
ends its run, and a picture that is missing counts as a safe one. So a prompt that cannot be drawn is drawn without its
flagged words, or a plain field stands for it. Both are counted, since a field is safe and shows nothing.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safegen.errors import GuardError, PromptError, Refused, UsageError
from safegen.generator import Generator
from safegen.models.options import DrawOptions, LoadOptions, seeds_from
from safegen.safeguards import DEFAULT
from safegen.safeguards.options import GuardOptions

if TYPE_CHECKING:
    from PIL import Image

ALL = "all"  # stands for every standard concept
LEFT_OUT, FIELD = "drawn without flagged words", "plain field"  # beside the statuses of records
GREY = (127, 127, 127)
UNDRAWN = (GuardError, PromptError)  # what is wrong with one prompt; anything else is wrong with the run
logger = logging.getLogger("eval_unlearn.safegen")


@dataclass(frozen=True)
class TechniqueOptions:
    """The technique's configuration.

    Attributes:
        erase_concept: a concept, several with commas between them, or `all`.
        model_id: the model, as `--model` names it.
        safeguard: the method, as `--safeguard` names it.
        strength: the method's strength, from 0 to 1.5.
        device: auto, cpu, cuda, ...
        num_inference_steps: the steps of a picture; None is the model's default.
        guidance_scale: the guidance, likewise.
        counts_file: where to write, as JSON, how many prompts were drawn in which way; nowhere by default.

    Raises:
        UsageError: no concept is named.
    """

    erase_concept: str = "nudity"
    model_id: str = "CompVis/stable-diffusion-v1-4"
    safeguard: str = DEFAULT
    strength: float = 1.0
    device: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    counts_file: str | None = None

    def __post_init__(self) -> None:
        if not self._named:
            raise UsageError("erase_concept is empty", f"Name a concept, or {ALL!r}.")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> TechniqueOptions:
        """Take the keys that are known; log the others, which may be meant for other techniques."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(config) - known):
            logger.warning("safegen does not know, and ignores: %s", ", ".join(unknown))
        return cls(**{name: value for name, value in config.items() if name in known})

    @property
    def concepts(self) -> tuple[str, ...]:
        """The concepts to guard against; none stands for all."""
        return () if ALL in self._named else self._named

    @property
    def _named(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.erase_concept.split(",") if name.strip())


class Technique:
    """A model behind safegen's guard, as eval-unlearn calls it.

    Args:
        config: fields of `TechniqueOptions`.

    Attributes:
        counts: how many prompts were drawn in which way.

    Raises:
        SafegenError: an option is wrong, or the model cannot be loaded or guarded.
    """

    def __init__(self, **config: Any) -> None:
        self.config = TechniqueOptions.of(config)
        self.counts: Counter[str] = Counter()
        self.generator = Generator.load(
            LoadOptions(self.config.model_id, device=self.config.device or "auto"),
            GuardOptions(self.config.concepts, self.config.strength, self.config.safeguard),
        )

    def generate(self, prompts: Sequence[str], seed: int | None = None, **settings: Any) -> list[Image.Image]:
        """Draw one picture of every prompt, with consecutive seeds.

        Args:
            prompts: the prompts.
            seed: the first prompt's seed; None draws with random ones.
            settings: `num_inference_steps` and `guidance_scale`, where they are other than configured.
        """
        steps = settings.get("num_inference_steps", self.config.num_inference_steps)
        guidance = settings.get("guidance_scale", self.config.guidance_scale)
        drawn = [
            self._draw(prompt, DrawOptions(own, steps, guidance))
            for prompt, own in zip(prompts, seeds_from(seed, len(prompts)), strict=True)
        ]
        self._report()
        return drawn

    def _draw(self, prompt: str, options: DrawOptions) -> Image.Image:
        """Draw a prompt; where the guard lets nothing through, without its flagged words; else a plain field."""
        try:
            pictures, report = self.generator.generate(prompt, options)
            self.counts[report.status if report is not None else "unguarded"] += 1
            return pictures[0].image
        except Refused:
            return self._field(options)
        except UNDRAWN:
            return self._rest(prompt, options)

    def _rest(self, prompt: str, options: DrawOptions) -> Image.Image:
        try:
            (sheet,) = self.generator.score([prompt])
            words = [word.text for word in sheet.words if not word.flagged]
            pictures, _ = self.generator.generate(" ".join(words), options)
        except UNDRAWN:
            return self._field(options)
        self.counts[LEFT_OUT] += 1
        return pictures[0].image

    def _field(self, options: DrawOptions) -> Image.Image:
        from PIL import Image

        self.counts[FIELD] += 1
        return Image.new("RGB", self.generator.resolve(options)[2], GREY)

    def _report(self) -> None:
        """Log the counts, and write them where that was asked for."""
        logger.info("safegen so far: %s", ", ".join(f"{count} {way}" for way, count in self.counts.items()))
        if self.config.counts_file:
            Path(self.config.counts_file).write_text(json.dumps(self.counts, indent=2) + "\n", encoding="utf-8")
