"""Qwen-Image-Edit: like Qwen-Image, but the encoder sees pictures, whose tokens stand before the words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from safegen.conditioning import Conditioning, Token
from safegen.families.base import Values
from safegen.families.outputs import BOUNDLESS, EncoderOutput
from safegen.families.qwen_image import QwenImage
from safegen.families.tokens import Text

PICTURE = "<|image_pad|>"


class QwenImageEdit(QwenImage):
    """Adapter around a `QwenImageEditPipeline` and its relatives, of one picture or of several.

    What a word's state is depends on the pictures, so they go with a prompt into every further encoding. Nobody guards
    the pictures themselves.
    """

    pipelines: ClassVar[tuple[str, ...]] = (
        "QwenImageEditPipeline",
        "QwenImageEditInpaintPipeline",
        "QwenImageEditPlusPipeline",
    )
    carried: ClassVar[tuple[str, ...]] = ("max_sequence_length", "image")

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Put the prompts into the pipeline's template, with as many marks as the pictures have tokens."""
        head, tail = self.pipe.prompt_template_encode.split("{}")
        counts = self._count_tokens(request.get("image"))
        if PICTURE not in head:
            head += "".join(f"Picture {i + 1}: <|vision_start|>{PICTURE}<|vision_end|>" for i in range(len(counts)))
        first, *rest = head.split(PICTURE)
        counts += [1] * (len(rest) - len(counts))  # a mark without a picture is one token
        head = first + "".join(PICTURE * count + part for part, count in zip(rest, counts, strict=True))
        return [Text(head + p + tail, len(head), len(head) + len(p), templated=True) for p in prompts]

    def _count_tokens(self, images: Any) -> list[int]:
        """Count the tokens of each picture, as the processor does it."""
        if images is None:
            return []
        processor = self.pipe.processor.image_processor
        found = processor(images=images if isinstance(images, list) else [images], return_tensors="pt")
        return [int(grid.prod()) // processor.merge_size**2 for grid in found["image_grid_thw"]]

    def max_length(self, output: EncoderOutput, request: Values) -> int:
        return BOUNDLESS

    def kept_tokens(self, row: tuple[Token, ...], request: Values) -> tuple[Token, ...]:
        """Cut off the template's beginning."""
        return row[self.pipe.prompt_template_encode_start_idx :]

    def encode(self, prompts: Sequence[str], **asked: Any) -> Conditioning:
        """Encode prompts one by one: a picture belongs to one text."""
        first, *rest = [super(QwenImageEdit, self).encode([prompt], **asked) for prompt in prompts]
        return first.joined(rest) if rest else first
