"""PixArt-Sigma: T5's states under a mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Conditioning, Position
from safegen.families.base import Family, Values, require_parts
from safegen.families.outputs import EncoderOutput
from safegen.families.tokens import Text

if TYPE_CHECKING:
    from torch import Tensor


class PixArt(Family):
    """Adapter around a `PixArtSigmaPipeline`."""

    pipelines: ClassVar[tuple[str, ...]] = ("PixArtSigmaPipeline",)
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

    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find T5's last layer."""
        encoder, tokenizer = require_parts(self.pipe, "text_encoder", "tokenizer")
        yield EncoderOutput(
            "t5", encoder, tokenizer, "last", encoder.config.d_model, self.default_request["max_sequence_length"]
        )

    def texts(self, prompts: Sequence[str], request: Values) -> list[Text]:
        """Lower-case or clean the prompts, as the pipeline does it."""
        cleaned = self.pipe._text_preprocessing(list(prompts), clean_caption=request["clean_caption"])
        return [Text.plain(text) for text in cleaned]

    def max_length(self, output: EncoderOutput, request: Values) -> int:
        return int(request["max_sequence_length"])

    def split(self, values: Values, request: Values) -> dict[str, Tensor]:
        return {"t5": values["prompt_embeds"]}

    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        channel = conditioning.channels["t5"]
        mask = (channel.positions != Position.UNREAD).long()
        return {"prompt_embeds": channel.states, "prompt_attention_mask": mask}

    @property
    def size(self) -> int:
        return int(self.pipe.transformer.config.sample_size * self.pipe.vae_scale_factor)
