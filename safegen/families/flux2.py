"""FLUX.2 dev and klein: three layers of a language model side by side, chat template and pads included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Conditioning
from safegen.families.base import Family, Values, require_parts
from safegen.families.denoiser import Received
from safegen.families.outputs import EncoderOutput
from safegen.families.pictured import Kinds
from safegen.families.tokens import Text

if TYPE_CHECKING:
    from torch import Tensor


class Flux2(Family):
    """Adapter around a `Flux2Pipeline` (Mistral 3) or a `Flux2KleinPipeline` (Qwen 3).

    Where Klein is not distilled, it has a negative branch, which is always the empty prompt.
    """

    pipelines: ClassVar[tuple[str, ...]] = (
        "Flux2Pipeline",
        "Flux2KleinPipeline",
        "Flux2KleinInpaintPipeline",
        "Flux2KleinKVPipeline",
    )
    picture_kinds: ClassVar[Mapping[str, Kinds]] = {
        "Flux2Pipeline": ("Flux2Pipeline", ""),
        "Flux2KleinPipeline": ("Flux2KleinPipeline", "Flux2KleinInpaintPipeline"),
    }
    result: ClassVar[tuple[str, ...]] = ("prompt_embeds", "text_ids")
    patch = 2
    blocks: ClassVar[tuple[str, ...]] = ("transformer_blocks", "single_transformer_blocks")
    passes_sigmas: ClassVar[bool] = True
    documented_defaults: ClassVar[bool] = True
    steps = 50
    guidance = 4.0
    negative = False
    encodes_negative_apart: ClassVar[bool] = True

    def __init__(self, pipe: Any) -> None:
        self._mistral = type(pipe).__name__ == "Flux2Pipeline"
        super().__init__(pipe)
        if not self._mistral and pipe.config.get("is_distilled", False):
            self.steps, self.guidance = 4, 1.0

    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find the layers that the pipeline takes by default, put one after the other in every state."""
        encoder, tokenizer = require_parts(self.pipe, "text_encoder", "tokenizer")
        layers = self.default_request["text_encoder_out_layers"]
        width = len(layers) * encoder.config.get_text_config().hidden_size
        if self._mistral:
            tokenizer = tokenizer.tokenizer  # of a processor for text and images
        output = f"hidden {' '.join(map(str, layers))}"
        yield EncoderOutput("llm", encoder, tokenizer, output, width, self.default_request["max_sequence_length"])

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Put the prompts into the model's chat template; Mistral's has a system message before the prompt."""
        head = self._rendered("\0").split("\0")[0]
        # For Mistral, the pipeline removes the marks that stand for images.
        read = [prompt.replace("[IMG]", "") for prompt in prompts] if self._mistral else prompts
        return [Text.inside(head, prompt, self._rendered(prompt)) for prompt in read]

    def _rendered(self, prompt: str) -> str:
        tokenizer = self.pipe.tokenizer
        if self._mistral:
            parts = {"system": self.pipe.system_message, "user": prompt}
            messages = [{"role": r, "content": [{"type": "text", "text": t}]} for r, t in parts.items()]
            return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False))
        return str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
            )
        )

    def arguments(self, conditioning: Conditioning, negative: str, guidance: float) -> dict[str, Any]:
        """Give the pipeline's arguments, with the empty negative prompt where Klein has a negative branch."""
        arguments = super().arguments(conditioning, negative, guidance)
        branched = "negative_prompt_embeds" in self._call
        if not branched or self.pipe.config.get("is_distilled", False) or guidance <= 1:
            return arguments
        return arguments | {"negative_prompt_embeds": self.negative_arguments("", arguments)["prompt_embeds"]}

    def max_length(self, output: EncoderOutput, request: Values) -> int:
        return int(request["max_sequence_length"])

    def split(self, values: Values, request: Values) -> dict[str, Tensor]:
        return {"llm": values["prompt_embeds"]}

    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        return {"prompt_embeds": conditioning.channels["llm"].states}

    def picture_tokens(self, received: Received) -> slice:
        """Give the last ones: the blocks of a single stream see the text before the picture."""
        return slice(-received.named["hidden_states"].shape[1], None)
