"""FLUX.3, which exists as a modular pipeline alone: eight layers of a Qwen3-VL side by side, pads included."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Conditioning, Position, Token
from safegen.families.base import Family, Values, require_parts
from safegen.families.outputs import EncoderOutput
from safegen.families.tokens import Text

if TYPE_CHECKING:
    from torch import Tensor


class Flux3(Family):
    """Adapter around the block that encodes FLUX.3's prompts, see `modular.BlockPipeline`.

    Pads up to a multiple of 80 tokens are masked in the encoder, and the denoiser reads them. One prompt goes through
    at a time. Where the model's own upsampler rewrites the prompt, what that has written is guarded.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("Flux3ModularPipeline", "Flux3DistilledModularPipeline")
    result: ClassVar[tuple[str, ...]] = ("prompt_embeds",)
    negative = False
    variable_length: ClassVar[bool] = True
    steps = 50

    def _default_request(self) -> dict[str, Any]:
        """Give what the block itself takes where a call does not say it."""
        return {one.name: one.default for one in self.pipe.step.inputs if one.default is not None}

    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find the layers that the block takes by default, put one after the other in every state."""
        encoder, processor = require_parts(self.pipe, "text_encoder", "tokenizer")
        layers = self.default_request["text_encoder_out_layers"]
        width = len(layers) * encoder.config.get_text_config().hidden_size
        output, length = f"hidden {' '.join(map(str, layers))}", self.default_request["max_sequence_length"]
        yield EncoderOutput("qwen", encoder, processor.tokenizer, output, width, length)

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Put the prompts into the model's chat template."""
        head = self._rendered("\0").split("\0")[0]
        return [Text.inside(head, prompt, self._rendered(prompt)) for prompt in prompts]

    def _rendered(self, prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        return str(self.pipe.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def max_length(self, output: EncoderOutput, request: Values) -> int:
        return int(request["max_sequence_length"])

    def padded(self, output: EncoderOutput, row: tuple[Token, ...], length: int) -> tuple[Token, ...]:
        """Fill the end, on whichever side the tokenizer puts pads of its own."""
        return (*row, *(Token("[pad]", Position.PAD),) * (length - len(row)))

    def encode(self, prompts: Sequence[str], **asked: Any) -> Conditioning:
        """Encode prompts one by one, as the block does."""
        first, *rest = [super(Flux3, self).encode([prompt], **asked) for prompt in prompts]
        return first.joined(rest) if rest else first

    def split(self, values: Values, request: Values) -> dict[str, Tensor]:
        return {"qwen": values["prompt_embeds"]}

    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        return {"prompt_embeds": conditioning.channels["qwen"].states}
