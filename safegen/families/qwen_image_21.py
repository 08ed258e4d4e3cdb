"""Qwen-Image 2.1: the last layer of a Qwen3-VL before its norm, after a template whose beginning is cut off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from safegen.conditioning import Conditioning, Token
from safegen.errors import ModelError
from safegen.families.base import Values, require_parts
from safegen.families.outputs import BOUNDLESS, EncoderOutput
from safegen.families.qwen_image import QwenImage
from safegen.families.tokens import Text


class QwenImage21(QwenImage):
    """Adapter around a `QwenImage21Pipeline`, for text alone: it draws from pictures with the same class."""

    pipelines: ClassVar[tuple[str, ...]] = ("QwenImage21Pipeline",)
    result: ClassVar[tuple[str, ...]] = ("prompt_embeds", "prompt_embeds_mask", "image_pad_mask")
    blocks: ClassVar[tuple[str, ...]] = ()
    patch = 2
    steps = 40

    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find the last layer."""
        encoder, processor = require_parts(self.pipe, "text_encoder", "processor")
        width = encoder.config.get_text_config().hidden_size
        yield EncoderOutput("qwen", encoder, processor.tokenizer, "hidden -1 before norm", width, BOUNDLESS)

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Put the prompts into the pipeline's template; an empty one is a space there."""
        head, tail = self.pipe.prompt_template_t2i.split("{}")
        wholes = [f"{head}{prompt or ' '}{tail}" for prompt in prompts]
        return [Text(w, len(head), len(head) + len(p), templated=True) for w, p in zip(wholes, prompts, strict=True)]

    def max_length(self, output: EncoderOutput, request: Values) -> int:
        return output.window

    def kept_tokens(self, row: tuple[Token, ...], request: Values) -> tuple[Token, ...]:
        """Cut off the template's beginning."""
        return row[self.pipe._drop_idx :]

    def prompts_of(self, request: Values) -> list[str]:
        """Take the prompts from the arguments of a call to `encode_prompt`.

        Raises:
            ModelError: as for all families; or there are pictures, too.
        """
        if request.get("image") is not None:
            raise ModelError(
                "a guarded QwenImage21Pipeline draws from text alone",
                "Leave out the image, or edit with Qwen-Image-Edit.",
            )
        return super().prompts_of(request)

    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        joined = super().join(conditioning, request)
        if request.get("prompt") is None:  # given embeddings, the pipeline makes the mask of pictures itself
            return joined
        import torch

        states = joined["prompt_embeds"]
        return {**joined, "image_pad_mask": states.new_zeros(states.shape[:2], dtype=torch.bool)}
