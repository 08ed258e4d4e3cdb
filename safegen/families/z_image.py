"""Z-Image: the last layer but one of a Qwen3, chat template included; embeddings are as long as their prompts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Conditioning, Position
from safegen.errors import ModelError
from safegen.families.base import Family, Repair, Values, require_parts
from safegen.families.denoiser import Received
from safegen.families.intercept import replace_method
from safegen.families.outputs import EncoderOutput
from safegen.families.pictured import Kinds
from safegen.families.tokens import Text

if TYPE_CHECKING:
    from torch import Tensor


class ZImage(Family):
    """Adapter around a `ZImagePipeline` and its relatives that take text alone."""

    pipelines: ClassVar[tuple[str, ...]] = (
        "ZImagePipeline",
        "ZImageImg2ImgPipeline",
        "ZImageInpaintPipeline",
        "ZImageControlNetPipeline",
        "ZImageControlNetInpaintPipeline",
    )
    picture_kinds: ClassVar[Mapping[str, Kinds]] = {
        "ZImagePipeline": ("ZImageImg2ImgPipeline", "ZImageInpaintPipeline"),
    }
    result: ClassVar[tuple[str, ...]] = ("prompt_embeds", "negative_prompt_embeds")
    patch = 2
    blocks: ClassVar[tuple[str, ...]] = ("layers",)
    negative_first: ClassVar[bool] = False
    output_sign: ClassVar[int] = -1
    passes_sigmas: ClassVar[bool] = True
    steps = 50
    guidance = 5.0
    variable_length: ClassVar[bool] = True
    pad_position: ClassVar[Position] = Position.ABSENT

    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find the last layer but one."""
        encoder, tokenizer = require_parts(self.pipe, "text_encoder", "tokenizer")
        length = self.default_request["max_sequence_length"]
        yield EncoderOutput("qwen", encoder, tokenizer, "hidden -2", encoder.config.hidden_size, length)

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Put the prompts into the tokenizer's chat template."""
        head = self._rendered("\0").split("\0")[0]
        return [Text.inside(head, prompt, self._rendered(prompt)) for prompt in prompts]

    def _rendered(self, prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        tokenizer = self.pipe.tokenizer
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=True)
        )

    def max_length(self, output: EncoderOutput, request: Values) -> int:
        return int(request["max_sequence_length"])

    def split(self, values: Values, request: Values) -> dict[str, Tensor]:
        import torch

        return {"qwen": torch.nn.utils.rnn.pad_sequence(values["prompt_embeds"], batch_first=True)}

    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        channel = conditioning.channels["qwen"]
        counts = (channel.positions != Position.ABSENT).sum(1).tolist()
        return {"prompt_embeds": [states[:count] for states, count in zip(channel.states, counts, strict=True)]}

    def picture_tokens(self, received: Received) -> slice:
        """Give the first ones: the text comes after the picture."""
        _, frames, height, width = received.args[0][0].shape
        return slice(0, frames * (height // self.patch) * (width // self.patch))

    def guided(self, guidance: float) -> bool:
        return guidance > 0

    def negative_arguments(self, negative: str, positive: Values) -> dict[str, Any]:
        (one,) = self.join(self.encode([negative]), {})["prompt_embeds"]
        return {"prompt_embeds": [one] * len(positive["prompt_embeds"])}

    @contextlib.contextmanager
    def intercepted(self, repair: Repair) -> Iterator[None]:
        """Let calls draw from repaired conditioning, and refuse calls that encode no prompt.

        The pipeline skips `encode_prompt` when it is given embeddings, so `prepare_latents`, which comes next, checks.
        """
        encoded: list[bool] = []
        prepare = self.pipe.prepare_latents

        def noted(conditioning: Conditioning) -> Conditioning:
            encoded.append(True)
            return repair(conditioning)

        def prepare_latents(*args: Any, **named: Any) -> Any:
            if not encoded:
                raise ModelError("a guarded pipeline needs the prompt as text", "Pass prompt, not prompt_embeds.")
            encoded.clear()
            return prepare(*args, **named)

        with super().intercepted(noted), replace_method(self.pipe, "prepare_latents", prepare_latents):
            yield
