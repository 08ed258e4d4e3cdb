"""Sana: a Gemma that reads the prompt after a long instruction, of whose states only the first is kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Conditioning, Position, Token
from safegen.families.base import Family, Values, require_parts
from safegen.families.outputs import EncoderOutput
from safegen.families.tokens import Text

if TYPE_CHECKING:
    from torch import Tensor


class Sana(Family):
    """Adapter around a `SanaPipeline`."""

    pipelines: ClassVar[tuple[str, ...]] = ("SanaPipeline",)
    result: ClassVar[tuple[str, ...]] = (
        "prompt_embeds",
        "prompt_attention_mask",
        "negative_prompt_embeds",
        "negative_prompt_attention_mask",
    )
    steps = 20
    guidance = 4.5
    pad_position: ClassVar[Position] = Position.UNREAD

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe)
        self.patch = int(pipe.transformer.config.patch_size)

    @property
    def step(self) -> int:
        """The number of pixels that both sides are multiples of; the pipeline asks for 32 with any autoencoder."""
        return math.lcm(32, super().step)

    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find Gemma's last layer."""
        encoder, tokenizer = require_parts(self.pipe, "text_encoder", "tokenizer")
        length = self.default_request["max_sequence_length"]
        yield EncoderOutput("gemma", encoder, tokenizer, "last", encoder.config.hidden_size, length)

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Put the prompts, in lower case, after the instruction."""
        head = self._instruction(request)
        cleaned = self.pipe._text_preprocessing(list(prompts), clean_caption=request["clean_caption"])
        return [Text(head + text, len(head), len(head) + len(text), templated=True) for text in cleaned]

    def _instruction(self, request: Values) -> str:
        return "\n".join(request["complex_human_instruction"] or ())

    def max_length(self, output: EncoderOutput, request: Values) -> int:
        head, length = self._instruction(request), int(request["max_sequence_length"])
        return len(output.tokenizer.encode(head)) + length - 2 if head else length

    def kept_tokens(self, row: tuple[Token, ...], request: Values) -> tuple[Token, ...]:
        """Keep the first token and the window's last ones; the instruction between them is read and dropped."""
        skipped = self.max_length(self.outputs[0], request) - int(request["max_sequence_length"]) + 1
        return (*row[:1], *row[skipped:])

    def split(self, values: Values, request: Values) -> dict[str, Tensor]:
        return {"gemma": values["prompt_embeds"]}

    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        channel = conditioning.channels["gemma"]
        mask = (channel.positions != Position.UNREAD).long()
        return {"prompt_embeds": channel.states, "prompt_attention_mask": mask}

    @property
    def size(self) -> int:
        return int(self.pipe.transformer.config.sample_size * self.pipe.vae_scale_factor)

    def negative_arguments(self, negative: str, positive: Values) -> dict[str, Any]:
        """Encode the negative prompt without the instruction, as the pipeline does."""
        bare = self.join(self.encode([negative], complex_human_instruction=None), self.default_request)
        return {name: value.expand_as(positive[name]) for name, value in bare.items()}
