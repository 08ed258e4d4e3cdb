"""Lumina-Next and Lumina Image 2: the last layer but one of a Gemma, under a mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from safegen.conditioning import Position
from safegen.families.base import Values
from safegen.families.outputs import WITH_MASK, EncoderOutput
from safegen.families.single import SingleFamily
from safegen.families.tokens import Text


class Lumina(SingleFamily):
    """Adapter around a `LuminaPipeline`, whose states are as many as the longest prompt has."""

    pipelines: ClassVar[tuple[str, ...]] = ("LuminaPipeline",)
    result: ClassVar[tuple[str, ...]] = WITH_MASK
    channel: ClassVar[str] = "gemma"
    layer: ClassVar[str] = "hidden -2"
    mask: ClassVar[str] = "prompt_attention_mask"
    negative_first: ClassVar[bool] = False
    passes_sigmas: ClassVar[bool] = True
    variable_length: ClassVar[bool] = True
    pad_position: ClassVar[Position] = Position.UNREAD
    patch = 2
    steps = 30
    guidance = 4.0

    @property
    def window(self) -> int:
        """The number of tokens that the pipeline reads, whatever it is asked for."""
        return int(self.pipe.max_sequence_length)

    def max_length(self, output: EncoderOutput, request: Values) -> int:
        return output.window

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Lower-case or clean the prompts, as the pipeline does it."""
        cleaned = self.pipe._text_preprocessing(list(prompts), clean_caption=request["clean_caption"])
        return [Text.plain(text) for text in cleaned]


class Lumina2(SingleFamily):
    """Adapter around a `Lumina2Pipeline`, which puts a system prompt before the prompt."""

    pipelines: ClassVar[tuple[str, ...]] = ("Lumina2Pipeline",)
    result: ClassVar[tuple[str, ...]] = WITH_MASK
    channel: ClassVar[str] = "gemma"
    layer: ClassVar[str] = "hidden -2"
    mask: ClassVar[str] = "prompt_attention_mask"
    output_sign: ClassVar[int] = -1
    passes_sigmas: ClassVar[bool] = True
    pad_position: ClassVar[Position] = Position.UNREAD
    patch = 2
    steps = 30
    guidance = 4.0

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Put the prompts after the system prompt."""
        head = f"{self.pipe.system_prompt} <Prompt Start> "
        return [Text(head + prompt, len(head), len(head) + len(prompt), templated=True) for prompt in prompts]
