"""Ovis-Image: the last layer of a Qwen3, after a chat template whose beginning is cut off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from safegen.conditioning import Position, Token
from safegen.families.base import Values
from safegen.families.denoiser import Received
from safegen.families.outputs import EncoderOutput
from safegen.families.single import SingleFamily
from safegen.families.tokens import Text


class Ovis(SingleFamily):
    """Adapter around an `OvisImagePipeline`; pads are zeros, which the denoiser reads like all others."""

    pipelines: ClassVar[tuple[str, ...]] = ("OvisImagePipeline",)
    result: ClassVar[tuple[str, ...]] = ("prompt_embeds", "negative_prompt_embeds", "text_ids", "negative_text_ids")
    channel: ClassVar[str] = "qwen"
    blocks: ClassVar[tuple[str, ...]] = ("transformer_blocks", "single_transformer_blocks")
    passes_sigmas: ClassVar[bool] = True
    pad_position: ClassVar[Position] = Position.UNREAD
    patch = 2
    steps = 50
    guidance = 5.0

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Put the prompts into the chat template, after the system prompt."""
        *_, empty = self.pipe._get_messages([""])
        head = empty[: empty.find(self.pipe.system_prompt.strip()) + len(self.pipe.system_prompt)]
        wholes = self.pipe._get_messages(list(prompts))
        return [Text.inside(head, prompt, whole) for prompt, whole in zip(prompts, wholes, strict=True)]

    def max_length(self, output: EncoderOutput, request: Values) -> int:
        return super().max_length(output, request) + int(self.pipe.user_prompt_begin_id)

    def kept_tokens(self, row: tuple[Token, ...], request: Values) -> tuple[Token, ...]:
        """Cut off the template's beginning."""
        return row[self.pipe.user_prompt_begin_id :]

    def picture_tokens(self, received: Received) -> slice:
        """Give the last ones: the blocks of a single stream see the text before the picture."""
        return slice(-received.named["hidden_states"].shape[1], None)
