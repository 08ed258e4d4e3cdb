"""Stable Diffusion 3.x: two CLIP encoders side by side, T5 after them, and two pooled vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from safegen.conditioning import Conditioning
from safegen.families.base import Family, Values, require_parts
from safegen.families.outputs import WITH_POOLED, EncoderOutput
from safegen.families.pictured import Kinds

if TYPE_CHECKING:
    from torch import Tensor


class StableDiffusion3(Family):
    """Adapter around a `StableDiffusion3Pipeline` and its relatives; T5 may be absent."""

    pipelines: ClassVar[tuple[str, ...]] = (
        "StableDiffusion3Pipeline",
        "StableDiffusion3Img2ImgPipeline",
        "StableDiffusion3InpaintPipeline",
        "StableDiffusion3ControlNetPipeline",
        "StableDiffusion3ControlNetInpaintingPipeline",
        "StableDiffusion3PAGPipeline",
        "StableDiffusion3PAGImg2ImgPipeline",
    )
    picture_kinds: ClassVar[Mapping[str, Kinds]] = {
        "StableDiffusion3Pipeline": ("StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline"),
    }
    result: ClassVar[tuple[str, ...]] = WITH_POOLED
    blocks: ClassVar[tuple[str, ...]] = ("transformer_blocks",)
    steps = 28
    guidance = 7.0

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe)
        self.patch = int(pipe.transformer.config.patch_size)

    def find_outputs(self) -> Iterator[EncoderOutput]:
        """Find the last layer but one and the projection of both CLIPs, and T5's last layer, where there is a T5."""
        window = self.pipe.tokenizer_max_length
        for name, suffix in (("clip_l", ""), ("clip_g", "_2")):
            encoder, tokenizer = require_parts(self.pipe, f"text_encoder{suffix}", f"tokenizer{suffix}")
            yield EncoderOutput(name, encoder, tokenizer, "hidden -2", encoder.config.hidden_size, window)
            yield EncoderOutput(
                f"{name}_pooled", encoder, tokenizer, "projected", encoder.config.projection_dim, window
            )
        if self.pipe.text_encoder_3 is not None:
            encoder, tokenizer = require_parts(self.pipe, "text_encoder_3", "tokenizer_3")
            length = self.default_request["max_sequence_length"]
            yield EncoderOutput("t5", encoder, tokenizer, "last unmasked", encoder.config.d_model, length)

    def max_length(self, output: EncoderOutput, request: Values) -> int:
        return int(request["max_sequence_length"]) if output.channel == "t5" else output.window

    def split(self, values: Values, request: Values) -> dict[str, Tensor]:
        width = {output.channel: output.width for output in self.outputs}
        window, clip = self.pipe.tokenizer_max_length, width["clip_l"] + width["clip_g"]
        states, pooled = values["prompt_embeds"], values["pooled_prompt_embeds"]
        channels = {
            "clip_l": states[:, :window, : width["clip_l"]],
            "clip_g": states[:, :window, width["clip_l"] : clip],
            "clip_l_pooled": pooled[:, : width["clip_l_pooled"]],
            "clip_g_pooled": pooled[:, width["clip_l_pooled"] :],
        }
        return channels | ({"t5": states[:, window:]} if "t5" in width else {})

    def join(self, conditioning: Conditioning, request: Values) -> dict[str, Any]:
        import torch

        states = {name: channel.states for name, channel in conditioning.channels.items()}
        clip = torch.cat([states["clip_l"], states["clip_g"]], dim=-1)
        wide = self.pipe.transformer.config.joint_attention_dim
        # The denoiser takes zeros in place of an absent T5.
        t5 = states["t5"] if "t5" in states else clip.new_zeros(len(clip), request["max_sequence_length"], wide)
        clip = torch.nn.functional.pad(clip, (0, t5.shape[-1] - clip.shape[-1]))
        return {
            "prompt_embeds": torch.cat([clip, t5], dim=1),
            "pooled_prompt_embeds": torch.cat([states["clip_l_pooled"][:, 0], states["clip_g_pooled"][:, 0]], dim=-1),
        }

    @property
    def size(self) -> int:
        return int(self.pipe.transformer.config.sample_size * self.pipe.vae_scale_factor)
