"""Qwen-Image: the last layer of a Qwen2.5-VL, after a chat template whose beginning is cut off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Conditioning, Position, Token
from safegen.families.base import Family, Values, require_parts
from safegen.families.outputs import EncoderOutput
from safegen.families.pictured import Kinds
from safegen.families.tokens import Text

if TYPE_CHECKING:
    from torch import Tensor


class QwenImage(Family):
    """Adapter around a `QwenImagePipeline` and its relatives that take text alone.

    Its guidance is `true_cfg_scale`, which only a negative prompt turns on, even if it is just a space.
    """

    pipelines: ClassVar[tuple[str, ...]] = (
        "QwenImagePipeline",
        "QwenImageImg2ImgPipeline",
        "QwenImageInpaintPipeline",
        "QwenImageControlNetPipeline",
        "QwenImageControlNetInpaintPipeline",
        "QwenImageLayeredPipeline",
    )
    picture_kinds: ClassVar[Mapping[str, Kinds]] = {
        "QwenImagePipeline": ("QwenImageImg2ImgPipeline", "QwenImageInpaintPipeline"),
    }
    result: ClassVar[tuple[str, ...]] = ("prompt_embeds", "prompt_embeds_mask")
    blocks: ClassVar[tuple[str, ...]] = ("transformer_blocks",)
    patch = 2
    passes_sigmas: ClassVar[bool] = True
    steps = 50
    guidance = 4.0
    variable_length: ClassVar[bool] = True
    encodes_negative_apart: ClassVar[bool] = True
    pad_position: ClassVar[Position] = Position.ABSENT

    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find the last layer."""
        encoder, tokenizer = require_parts(self.pipe, "text_encoder", "tokenizer")
        width = encoder.config.get_text_config().hidden_size
        yield EncoderOutput("qwen", encoder, tokenizer, "hidden -1", width, self.pipe.tokenizer_max_length)

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Put the prompts into the pipeline's template."""
        template = self.pipe.prompt_template_encode
        head = template.split("{}")[0]
        return [Text.inside(head, prompt, template.format(prompt)) for prompt in prompts]

    def max_length(self, output: EncoderOutput, request: Values) -> int:
        return int(output.window + self.pipe.prompt_template_encode_start_idx)

    def kept_tokens(self, row: tuple[Token, ...], request: Values) -> tuple[Token, ...]:
        """Cut off the template's beginning, and what is beyond the length asked for."""
        first = self.pipe.prompt_template_encode_start_idx
        return row[first : first + int(request["max_sequence_length"])]

    def padded(self, output: EncoderOutput, row: tuple[Token, ...], length: int) -> tuple[Token, ...]:
        """Fill the end, on whichever side the tokenizer had put pads: the pipeline takes them out."""
        return (*row, *(Token("[pad]", self.pad_position),) * (length - len(row)))

    def split(self, values: Values, request: Values) -> dict[str, Tensor]:
        return {"qwen": values["prompt_embeds"]}

    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        channel = conditioning.channels["qwen"]
        read = channel.positions != Position.ABSENT
        return {"prompt_embeds": channel.states, "prompt_embeds_mask": None if bool(read.all()) else read.long()}

    def arguments(self, conditioning: Conditioning, negative: str, guidance: float) -> dict[str, Any]:
        """Give the pipeline's arguments, with true guidance only where there is a negative prompt."""
        arguments = self.join(conditioning, self.default_request)
        if not negative:
            return arguments
        absent = self.join(self.encode([negative] * len(conditioning.prompts)), self.default_request)
        named = {f"negative_{name}": value for name, value in absent.items()}
        return {**arguments, **named, "true_cfg_scale": guidance}
