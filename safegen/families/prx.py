"""PRX: the states of a T5Gemma under a mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Channel, Position
from safegen.families.base import Family, Values
from safegen.families.outputs import WITH_MASK, EncoderOutput
from safegen.families.single import SingleFamily
from safegen.families.tokens import Text

if TYPE_CHECKING:
    from torch import Tensor


class PRX(SingleFamily):
    """Adapter around a `PRXPipeline`, which cleans every prompt."""

    pipelines: ClassVar[tuple[str, ...]] = ("PRXPipeline",)
    result: ClassVar[tuple[str, ...]] = WITH_MASK
    channel: ClassVar[str] = "t5gemma"
    mask: ClassVar[str] = "prompt_attention_mask"
    carried: ClassVar[tuple[str, ...]] = ("tokenizer_max_length", "skip_text_cleaning")
    pad_position: ClassVar[Position] = Position.UNREAD
    patch = 2
    steps = 28
    guidance = 4.0

    @property
    def window(self) -> int:
        """The length, in tokens, that the tokenizer names as its own."""
        return int(self.pipe.tokenizer.model_max_length)

    def max_length(self, output: EncoderOutput, request: Values) -> int:
        return int(request["tokenizer_max_length"] or output.window)

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Clean the prompts, as the pipeline does it."""
        cleaner = self.pipe.text_preprocessor
        clean = cleaner.basic_clean if request["skip_text_cleaning"] else cleaner.clean_text
        return [Text.plain(clean(prompt)) for prompt in prompts]

    def mask_of(self, channel: Channel) -> Tensor:
        return channel.positions < Position.UNREAD

    def negative_arguments(self, negative: str, positive: Values) -> dict[str, Any]:
        """Encode the negative prompt apart: beside embeddings, the pipeline would leave it out."""
        return Family.negative_arguments(self, negative, positive)

    @property
    def size(self) -> int:
        return int(self.pipe.default_sample_size)
