"""Nucleus-Image: a layer near the end of a Qwen3-VL, chat template included."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from safegen.conditioning import Channel, Position
from safegen.families.base import Values, require_parts
from safegen.families.outputs import BOUNDLESS, EncoderOutput
from safegen.families.single import SingleFamily
from safegen.families.tokens import Text

if TYPE_CHECKING:
    from torch import Tensor


class Nucleus(SingleFamily):
    """Adapter around a `NucleusMoEImagePipeline`, whose states are as many as the longest prompt has."""

    pipelines: ClassVar[tuple[str, ...]] = ("NucleusMoEImagePipeline",)
    result: ClassVar[tuple[str, ...]] = ("prompt_embeds", "prompt_embeds_mask")
    channel: ClassVar[str] = "qwen"
    mask: ClassVar[str] = "prompt_embeds_mask"
    output_sign: ClassVar[int] = -1
    passes_sigmas: ClassVar[bool] = True
    variable_length: ClassVar[bool] = True
    encodes_negative_apart: ClassVar[bool] = True
    pad_position: ClassVar[Position] = Position.UNREAD
    patch = 2
    steps = 50
    guidance = 4.0

    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find the layer that the pipeline takes by default."""
        encoder, processor = require_parts(self.pipe, "text_encoder", "processor")
        width, layer = encoder.config.get_text_config().hidden_size, f"hidden {self.pipe.default_return_index}"
        yield EncoderOutput(self.channel, encoder, processor.tokenizer, layer, width, BOUNDLESS)

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Put the prompts into the chat template, after the system prompt."""
        head = self.pipe._format_prompt("\0").split("\0")[0]
        return [Text.inside(head, prompt, self.pipe._format_prompt(prompt)) for prompt in prompts]

    def mask_of(self, channel: Channel) -> Tensor | None:
        read = channel.positions < Position.UNREAD
        return None if bool(read.all()) else read.long()
