"""FLUX.1 dev and schnell: T5's states, and CLIP's pooled vector; guidance is part of the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Conditioning
from safegen.families.base import Family, Values, require_parts
from safegen.families.denoiser import Received
from safegen.families.outputs import EncoderOutput
from safegen.families.pictured import Kinds

if TYPE_CHECKING:
    from torch import Tensor


class Flux(Family):
    """Adapter around a `FluxPipeline` and its relatives.

    With `true_cfg_scale` the pipeline has a negative branch; only a user's own call uses it.
    """

    pipelines: ClassVar[tuple[str, ...]] = (
        "FluxPipeline",
        "FluxImg2ImgPipeline",
        "FluxInpaintPipeline",
        "FluxFillPipeline",
        "FluxControlPipeline",
        "FluxControlNetPipeline",
        "FluxControlNetImg2ImgPipeline",
        "FluxControlNetInpaintPipeline",
        "FluxKontextPipeline",
        "FluxKontextInpaintPipeline",
        "FluxControlImg2ImgPipeline",
        "FluxControlInpaintPipeline",
    )
    picture_kinds: ClassVar[Mapping[str, Kinds]] = {
        "FluxPipeline": ("FluxImg2ImgPipeline", "FluxInpaintPipeline"),
        "FluxKontextPipeline": ("FluxKontextPipeline", "FluxKontextInpaintPipeline"),
    }
    result: ClassVar[tuple[str, ...]] = ("prompt_embeds", "pooled_prompt_embeds", "text_ids")
    patch = 2
    blocks: ClassVar[tuple[str, ...]] = ("transformer_blocks", "single_transformer_blocks")
    passes_sigmas: ClassVar[bool] = True
    documented_defaults: ClassVar[bool] = True
    negative = False
    encodes_negative_apart: ClassVar[bool] = True

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe)
        distilled_to_steps = not pipe.transformer.config.guidance_embeds  # schnell
        self.steps, self.guidance = (4, 0.0) if distilled_to_steps else (28, 3.5)

    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find T5's last layer, which attends to pads, and CLIP's end token."""
        t5, tokenizer_2 = require_parts(self.pipe, "text_encoder_2", "tokenizer_2")
        clip, tokenizer = require_parts(self.pipe, "text_encoder", "tokenizer")
        length = self.default_request["max_sequence_length"]
        yield EncoderOutput("t5", t5, tokenizer_2, "last unmasked", t5.config.d_model, length)
        yield EncoderOutput(
            "clip_l", clip, tokenizer, "pooled", clip.config.hidden_size, self.pipe.tokenizer_max_length
        )

    def max_length(self, output: EncoderOutput, request: Values) -> int:
        return int(request["max_sequence_length"]) if output.channel == "t5" else output.window

    def split(self, values: Values, request: Values) -> dict[str, Tensor]:
        return {"t5": values["prompt_embeds"], "clip_l": values["pooled_prompt_embeds"]}

    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        channels = conditioning.channels
        return {"prompt_embeds": channels["t5"].states, "pooled_prompt_embeds": channels["clip_l"].states[:, 0]}

    def picture_tokens(self, received: Received) -> slice:
        """Give the last ones: the blocks of a single stream see the text before the picture."""
        return slice(-received.named["hidden_states"].shape[1], None)
