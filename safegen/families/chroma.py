"""Chroma: T5's states under a mask that lets the denoiser read one pad."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from safegen.conditioning import Channel, Position, Token
from safegen.families.base import Values
from safegen.families.single import SingleFamily

if TYPE_CHECKING:
    from torch import Tensor


class Chroma(SingleFamily):
    """Adapter around a `ChromaPipeline` and its relatives."""

    pipelines: ClassVar[tuple[str, ...]] = ("ChromaPipeline", "ChromaImg2ImgPipeline", "ChromaInpaintPipeline")
    result: ClassVar[tuple[str, ...]] = (
        *("prompt_embeds", "text_ids", "prompt_attention_mask"),
        *("negative_prompt_embeds", "negative_text_ids", "negative_prompt_attention_mask"),
    )
    channel: ClassVar[str] = "t5"
    mask: ClassVar[str] = "prompt_attention_mask"
    passes_sigmas: ClassVar[bool] = True
    patch = 2
    steps = 35
    guidance = 5.0
    pad_position: ClassVar[Position] = Position.UNREAD
    read_pads: ClassVar[int] = 1

    def kept_tokens(self, row: tuple[Token, ...], request: Values) -> tuple[Token, ...]:
        """Add the pad that is read, if there is room."""
        return row if len(row) == self.max_length(self.outputs[0], request) else (*row, Token("[pad]", Position.PAD))

    def mask_of(self, channel: Channel) -> Tensor:
        return (channel.positions < Position.UNREAD).to(channel.states.dtype)
