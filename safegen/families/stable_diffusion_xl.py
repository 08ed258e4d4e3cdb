"""SDXL: two CLIP encoders side by side, and the pooled vector of the second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Conditioning
from safegen.families.base import Family, Values, require_parts
from safegen.families.outputs import WITH_POOLED, EncoderOutput
from safegen.families.pictured import Kinds

if TYPE_CHECKING:
    from torch import Tensor


class StableDiffusionXL(Family):
    """Adapter around a `StableDiffusionXLPipeline` and its relatives; a refiner alone has one encoder too few."""

    pipelines: ClassVar[tuple[str, ...]] = (
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
        "StableDiffusionXLControlNetPipeline",
        "StableDiffusionXLControlNetImg2ImgPipeline",
        "StableDiffusionXLControlNetInpaintPipeline",
        "StableDiffusionXLControlNetUnionPipeline",
        "StableDiffusionXLControlNetUnionImg2ImgPipeline",
        "StableDiffusionXLControlNetUnionInpaintPipeline",
        "StableDiffusionXLPAGPipeline",
        "StableDiffusionXLPAGImg2ImgPipeline",
        "StableDiffusionXLPAGInpaintPipeline",
        "StableDiffusionXLControlNetPAGPipeline",
        "StableDiffusionXLControlNetPAGImg2ImgPipeline",
        "StableDiffusionXLAdapterPipeline",
        "StableDiffusionXLInstructPix2PixPipeline",
    )
    picture_kinds: ClassVar[Mapping[str, Kinds]] = {
        "StableDiffusionXLPipeline": ("StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline"),
    }
    result: ClassVar[tuple[str, ...]] = WITH_POOLED
    blocks: ClassVar[tuple[str, ...]] = ("mid_block",)
    guidance = 5.0
    windows: ClassVar[int] = 8
    weighted: ClassVar[bool] = True

    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find the last layer but one of both encoders, and the projection of the second one's end token."""
        first, tokenizer = require_parts(self.pipe, "text_encoder", "tokenizer")
        second, tokenizer_2 = require_parts(self.pipe, "text_encoder_2", "tokenizer_2")
        window = tokenizer.model_max_length
        yield EncoderOutput("clip_l", first, tokenizer, "hidden -2", first.config.hidden_size, window)
        yield EncoderOutput("clip_g", second, tokenizer_2, "hidden -2", second.config.hidden_size, window)
        yield EncoderOutput("clip_g_pooled", second, tokenizer_2, "projected", second.config.projection_dim, window)

    def split(self, values: Values, request: Values) -> dict[str, Tensor]:
        width = self.outputs[0].width
        states = values["prompt_embeds"]
        return {
            "clip_l": states[..., :width],
            "clip_g": states[..., width:],
            "clip_g_pooled": values["pooled_prompt_embeds"],
        }

    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        import torch

        states = {name: channel.states for name, channel in conditioning.channels.items()}
        return {
            "prompt_embeds": torch.cat([states["clip_l"], states["clip_g"]], dim=-1),
            "pooled_prompt_embeds": states["clip_g_pooled"][:, 0],
        }

    @property
    def size(self) -> int:
        return int(self.pipe.unet.config.sample_size * self.pipe.vae_scale_factor)

    def negative_arguments(self, negative: str, positive: Values) -> dict[str, Any]:
        """Encode the negative prompt; like the pipeline, give zeros for an empty one if the model was so trained."""
        if not negative and self.pipe.config.get("force_zeros_for_empty_prompt", False):
            names = ("prompt_embeds", "pooled_prompt_embeds")
            return {name: positive[name].new_zeros(positive[name].shape) for name in names}
        return super().negative_arguments(negative, positive)
