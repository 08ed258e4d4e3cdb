"""Sana: a Gemma that reads the prompt after a long instruction, of whose states only the first is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from safegen.conditioning import Token
from safegen.families.base import Values
from safegen.families.masked import MaskedFamily
from safegen.families.outputs import EncoderOutput
from safegen.families.tokens import Text


class Sana(MaskedFamily):
    """Adapter around a `SanaPipeline` and its relatives."""

    pipelines: ClassVar[tuple[str, ...]] = ("SanaPipeline", "SanaPAGPipeline", "SanaControlNetPipeline")
    channel: ClassVar[str] = "gemma"
    blocks: ClassVar[tuple[str, ...]] = ("transformer_blocks",)

    @property
    def step(self) -> int:
        """The number of pixels that both sides are multiples of; the pipeline asks for 32 with any autoencoder."""
        return math.lcm(32, super().step)

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

    def negative_arguments(self, negative: str, positive: Values) -> dict[str, Any]:
        """Encode the negative prompt without the instruction, as the pipeline does."""
        bare = self.join(self.encode([negative], complex_human_instruction=None), self.default_request)
        return {name: value.expand_as(positive[name]) for name, value in bare.items()}


class SanaSprint(Sana):
    """Adapter around a `SanaSprintPipeline`: distilled, with guidance as an input and no negative branch."""

    pipelines: ClassVar[tuple[str, ...]] = ("SanaSprintPipeline", "SanaSprintImg2ImgPipeline")
    result: ClassVar[tuple[str, ...]] = ("prompt_embeds", "prompt_attention_mask")
    documented_defaults: ClassVar[bool] = True
    blocks: ClassVar[tuple[str, ...]] = ()
    steps = 2

    def timing(self, steps: int) -> dict[str, Any]:
        """Leave out the time between two steps, where there are more or fewer."""
        return super().timing(steps) | ({} if steps == 2 else {"intermediate_timesteps": None})
