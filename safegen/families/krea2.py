"""Krea 2: twelve layers of a Qwen3-VL, which the denoiser gets as an axis of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Channel, Conditioning, Position, Token
from safegen.families.base import Values, require_parts
from safegen.families.outputs import EncoderOutput
from safegen.families.single import SingleFamily
from safegen.families.tokens import Text, pad_tokens

if TYPE_CHECKING:
    from torch import Tensor


class Krea2(SingleFamily):
    """Adapter around a `Krea2Pipeline`, which reads a template's end after the pads. A state holds all its layers."""

    pipelines: ClassVar[tuple[str, ...]] = ("Krea2Pipeline",)
    result: ClassVar[tuple[str, ...]] = ("prompt_embeds", "prompt_embeds_mask")
    channel: ClassVar[str] = "qwen"
    mask: ClassVar[str] = "prompt_embeds_mask"
    encodes_negative_apart: ClassVar[bool] = True
    passes_sigmas: ClassVar[bool] = True
    pad_position: ClassVar[Position] = Position.UNREAD
    steps = 28
    guidance = 4.5

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe)
        self.patch = int(pipe.patch_size)

    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find the layers that the model's configuration names."""
        encoder, tokenizer = require_parts(self.pipe, "text_encoder", "tokenizer")
        layers = self.pipe.text_encoder_select_layers
        width = len(layers) * encoder.config.get_text_config().hidden_size
        yield EncoderOutput(
            self.channel, encoder, tokenizer, f"hidden {' '.join(map(str, layers))}", width, self.window
        )

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Put the prompts after the template's beginning."""
        head = self.pipe.prompt_template_encode_prefix
        return [Text(head + prompt, len(head), len(head) + len(prompt), templated=True) for prompt in prompts]

    def max_length(self, output: EncoderOutput, request: Values) -> int:
        head, tail = self.pipe.prompt_template_encode_start_idx, self.pipe.prompt_template_encode_num_suffix_tokens
        return super().max_length(output, request) + int(head) - int(tail)

    def kept_tokens(self, row: tuple[Token, ...], request: Values) -> tuple[Token, ...]:
        """Cut off the template's beginning."""
        return row[self.pipe.prompt_template_encode_start_idx :]

    def padded(self, output: EncoderOutput, row: tuple[Token, ...], length: int) -> tuple[Token, ...]:
        """Put pads after the prompt, and the template's end after them."""
        count = len(output.tokenizer(self.pipe.prompt_template_encode_suffix)["input_ids"])
        padded = pad_tokens(output.tokenizer, row, length - count, self.pad_position)
        return (*padded, *(Token("[end]", Position.END),) * count)

    def split(self, values: Values, request: Values) -> dict[str, Tensor]:
        return {self.channel: values["prompt_embeds"].flatten(2)}

    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        joined = super().join(conditioning, request)
        states = joined["prompt_embeds"].unflatten(2, (len(self.pipe.text_encoder_select_layers), -1))
        return {**joined, "prompt_embeds": states}

    def mask_of(self, channel: Channel) -> Tensor:
        return channel.positions < Position.UNREAD

    def guided(self, guidance: float) -> bool:
        return guidance > 0 and not self.pipe.config.is_distilled
