"""Kandinsky 3: T5's states under a mask, cut behind the longest prompt."""

from __future__ import annotations

from typing import Any, ClassVar

from safegen.conditioning import Position
from safegen.families.single import SingleFamily


class Kandinsky3(SingleFamily):
    """Adapter around a `Kandinsky3Pipeline` and its relative that begins with a picture."""

    pipelines: ClassVar[tuple[str, ...]] = ("Kandinsky3Pipeline", "Kandinsky3Img2ImgPipeline")
    result: ClassVar[tuple[str, ...]] = (
        *("prompt_embeds", "negative_prompt_embeds"),
        *("attention_mask", "negative_attention_mask"),
    )
    channel: ClassVar[str] = "t5"
    mask: ClassVar[str] = "attention_mask"
    window = 128
    variable_length: ClassVar[bool] = True
    pad_position: ClassVar[Position] = Position.UNREAD
    steps = 25
    guidance = 3.0

    def _default_request(self) -> dict[str, Any]:
        return {**super()._default_request(), "_cut_context": True}  # as the pipeline calls it
