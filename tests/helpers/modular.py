"""Miniatures in their modular form: blocks of diffusers around the parts of the classic one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import diffusers
import torch

from tests.helpers.miniatures import TextProcessor
from tests.helpers.newcomers import qwen3_vl
from tests.helpers.parts import CHAT, flux2_autoencoder, qwen_tokenizer, seeded
from tests.helpers.pipelines import CHANNELS, SIZE, pipeline, watched

# The blocks of every form that a miniature has; that of FLUX.2 klein's base model is told of by its parts.
BLOCKS = {
    "sdxl": "StableDiffusionXLAutoBlocks",
    "sd3": "StableDiffusion3AutoBlocks",
    "sd3-without-t5": "StableDiffusion3AutoBlocks",
    "flux-dev": "FluxAutoBlocks",
    "flux2": "Flux2AutoBlocks",
    "flux2-klein": "Flux2KleinAutoBlocks",
    "qwen-image": "QwenImageAutoBlocks",
    "z-image": "ZImageAutoBlocks",
    "ernie-image": "ErnieImageAutoBlocks",
}


def guider() -> Any:
    """No negative branch; SDXL's blocks turn on again what is off, so the scale has to say it, too."""
    return diffusers.ClassifierFreeGuidance(guidance_scale=1.0, enabled=False)


def of_blocks(blocks: Any, name: str) -> Any:
    """A pipeline of these blocks around the parts of a miniature, which draws without a negative branch."""
    pipe = blocks.init_pipeline()
    parts = {"guider": guider(), **pipeline(name).components}
    pipe.update_components(**{part: parts[part] for part in blocks.component_names if parts.get(part) is not None})
    return pipe


@functools.cache
def modular(name: str) -> Any:
    """Tests must leave it as it was."""
    return of_blocks(getattr(diffusers, BLOCKS[name])(), name)


def call(pipe: Any, prompt: Any, **more: Any) -> Any:
    """The user's own call."""
    draw = [torch.Generator().manual_seed(i) for i in range(len(prompt) if isinstance(prompt, list) else 1)]
    prompt = list(prompt) if isinstance(prompt, list) else prompt  # Z-Image writes its template into the list
    own = {"guidance_scale": 1.0} if "guidance_scale" in pipe.blocks.input_names else {}
    return pipe(prompt=prompt, generator=draw, output="images", **{**SIZE, "output_type": "pt", **own, **more})


def flux3(distilled: bool = False) -> Any:
    """FLUX.3, which diffusers has in no other form."""
    transformer = seeded(
        lambda: diffusers.Flux3Transformer2DModel(
            in_channels=16,
            cond_in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=8 * 48,
            timestep_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
            flow_map=distilled,
        )
    )
    blocks = diffusers.Flux3DistilledAutoBlocks() if distilled else diffusers.Flux3AutoBlocks()
    blocks.sub_blocks.pop("prompt_upsampler")  # another language model
    pipe = blocks.init_pipeline()
    parts = {
        "text_encoder": qwen3_vl(generating=True, layers=32),
        "tokenizer": TextProcessor(qwen_tokenizer(pictures=True), chat_template=CHAT),
        "transformer": transformer,
        "vae": flux2_autoencoder(),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(),
    }
    pipe.update_components(**parts, **({} if distilled else {"guider": guider()}))
    return pipe


def told(name: str, draw: Callable[[], Any], pipe: Any) -> dict[str, torch.Tensor]:
    """What the denoiser received in the first step of drawing, per channel, and the pictures."""
    with watched(pipe) as calls:
        pictures = draw()
    received = calls[0]
    if "cap_feats" in received:  # by name here, by place in the classic form
        received = {**received, "args": (received["x"], received["t"], received["cap_feats"])}
    return {"pictures": pictures, **{channel: read(received).clone() for channel, read in CHANNELS[name].items()}}
