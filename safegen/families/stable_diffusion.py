"""Stable Diffusion 1.x and 2.x, and the embedded model: one text encoder, one sequence channel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Conditioning
from safegen.families.base import Family, Values, require_parts
from safegen.families.blending import BlendedDrawing
from safegen.families.outputs import EncoderOutput
from safegen.families.pictured import Kinds, PictureDrawing

if TYPE_CHECKING:
    from torch import Tensor

CHANNEL = "text"


class StableDiffusion(Family):
    """Adapter around a `StableDiffusionPipeline` and its relatives."""

    pipelines: ClassVar[tuple[str, ...]] = (
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionControlNetPipeline",
        "StableDiffusionControlNetImg2ImgPipeline",
        "StableDiffusionControlNetInpaintPipeline",
        "StableDiffusionPAGPipeline",
        "StableDiffusionPAGImg2ImgPipeline",
        "StableDiffusionPAGInpaintPipeline",
        "StableDiffusionControlNetPAGPipeline",
        "StableDiffusionControlNetPAGInpaintPipeline",
        "StableDiffusionAdapterPipeline",
        "StableDiffusionDepth2ImgPipeline",
        "StableDiffusionUpscalePipeline",
        "LatentConsistencyModelPipeline",
        "LatentConsistencyModelImg2ImgPipeline",
    )
    picture_kinds: ClassVar[Mapping[str, Kinds]] = {
        "StableDiffusionPipeline": ("StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"),
    }
    result: ClassVar[tuple[str, ...]] = ("prompt_embeds", "negative_prompt_embeds")
    blocks: ClassVar[tuple[str, ...]] = ("mid_block",)
    windows: ClassVar[int] = 8
    weighted: ClassVar[bool] = True

    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find the last layer of the text encoder."""
        encoder, tokenizer = require_parts(self.pipe, "text_encoder", "tokenizer")
        yield EncoderOutput(CHANNEL, encoder, tokenizer, "last", encoder.config.hidden_size, tokenizer.model_max_length)

    def split(self, values: Values, request: Values) -> dict[str, Tensor]:
        return {CHANNEL: values["prompt_embeds"]}

    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        return {"prompt_embeds": conditioning.channels[CHANNEL].states}

    def find_drawing(self, kinds: Kinds) -> PictureDrawing:
        """Find how the pipeline draws from pictures; diffusers' own pipeline for masks takes four channels alone."""
        way = PictureDrawing if self.pipe.vae.config.latent_channels == 4 else BlendedDrawing
        return way(self.pipe, kinds, self.size, self.step)

    @property
    def size(self) -> int:
        """The side of the pictures that the model was trained on, in pixels."""
        return int(self.pipe.unet.config.sample_size * self.pipe.vae_scale_factor)
