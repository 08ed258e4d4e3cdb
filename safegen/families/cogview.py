"""CogView 3+ and 4: an encoder that attends to pads, and a denoiser that reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from safegen.conditioning import Conditioning, Position
from safegen.families.single import SingleFamily


class CogView3(SingleFamily):
    """Adapter around a `CogView3PlusPipeline`: T5's states. An empty negative prompt is zeros."""

    pipelines: ClassVar[tuple[str, ...]] = ("CogView3PlusPipeline",)
    result: ClassVar[tuple[str, ...]] = ("prompt_embeds", "negative_prompt_embeds")
    channel: ClassVar[str] = "t5"
    layer: ClassVar[str] = "last unmasked"
    patch = 2
    steps = 50
    guidance = 5.0


class CogView4(SingleFamily):
    """Adapter around a `CogView4Pipeline`: the last layer but one of a GLM, after pads up to a multiple of 16 tokens.

    Pads change every state after them. So each prompt is encoded alone, or its picture would depend on its company.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("CogView4Pipeline", "CogView4ControlPipeline")
    result: ClassVar[tuple[str, ...]] = ("prompt_embeds", "negative_prompt_embeds")
    channel: ClassVar[str] = "glm"
    layer: ClassVar[str] = "hidden -2 unmasked"
    pad_position: ClassVar[Position] = Position.TEMPLATE  # before a causal model's prompt
    passes_sigmas: ClassVar[bool] = True
    patch = 2
    steps = 50
    guidance = 5.0

    @property
    def step(self) -> int:
        """The number of pixels that both sides are multiples of; the pipeline asks for 16 with any autoencoder."""
        return math.lcm(16, super().step)

    def encode(self, prompts: Sequence[str], **asked: Any) -> Conditioning:
        """Encode prompts, each as if it were the only one."""
        first, *rest = [super(CogView4, self).encode([prompt], **asked) for prompt in prompts]
        return first.joined(rest) if rest else first
