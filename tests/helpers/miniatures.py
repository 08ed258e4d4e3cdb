"""Every supported pipeline in miniature: the real classes with tiny random weights and real tokenizer types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import transformers

from safegen.models import loading
from tests.helpers import newcomers
from tests.helpers.parts import (
    CHAT,
    autoencoder,
    clip,
    clip_tokenizer,
    flux2_autoencoder,
    gemma_tokenizer,
    qwen3,
    qwen_tokenizer,
    seeded,
    t5,
    t5_tokenizer,
    unet,
)


def stable_diffusion() -> Any:
    return diffusers.StableDiffusionPipeline(
        autoencoder(),
        clip(),
        clip_tokenizer(),
        unet(64),
        diffusers.DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def checked(line: float, special: float = 2.0) -> Any:
    """A miniature with the real checker, whose concepts fire from a cosine of `line` on."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker

    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        vision_config={**vision, "image_size": 32, "patch_size": 16}, projection_dim=8, text_config=dict(vision)
    )
    checker = seeded(lambda: StableDiffusionSafetyChecker(config))
    checker.concept_embeds_weights.fill_(line)
    checker.special_care_embeds_weights.fill_(special)
    parts = stable_diffusion().components
    size = {"shortest_edge": 32}
    parts |= {"safety_checker": checker}
    parts["feature_extractor"] = transformers.CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32})
    pipe = diffusers.StableDiffusionPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def causal() -> Any:
    """The embedded model's encoder in front of a denoiser with random weights."""
    encoder = loading.load(device="cpu", offline=True)
    return diffusers.StableDiffusionPipeline(
        autoencoder(),
        encoder.text_encoder,
        encoder.tokenizer,
        unet(encoder.text_encoder.config.hidden_size),
        diffusers.DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> Any:
    return diffusers.StableDiffusionXLPipeline(
        autoencoder(),
        clip(),
        clip(projected=True, width=80),
        clip_tokenizer(),
        clip_tokenizer(),
        unet(
            144,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=48 + 6 * 4,
        ),
        diffusers.DDIMScheduler(clip_sample=False, steps_offset=1),
        add_watermarker=False,
    )


def stable_diffusion_3(with_t5: bool = True) -> Any:
    transformer = seeded(
        lambda: diffusers.SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=160,
            caption_projection_dim=16,
            pooled_projection_dim=96,
            pos_embed_max_size=16,
        )
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer,
        diffusers.FlowMatchEulerDiscreteScheduler(),
        autoencoder(shift_factor=0.0),
        clip(projected=True),
        clip_tokenizer(),
        clip(projected=True, width=80),
        clip_tokenizer(),
        t5(160) if with_t5 else None,
        t5_tokenizer() if with_t5 else None,
    )


def flux(distilled: bool = False) -> Any:
    transformer = seeded(
        lambda: diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=64,
            pooled_projection_dim=64,
            guidance_embeds=not distilled,
            axes_dims_rope=(4, 4, 8),
        )
    )
    return diffusers.FluxPipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(),
        autoencoder(shift_factor=0.0),
        clip(),
        clip_tokenizer(),
        t5(),
        t5_tokenizer(),
        transformer,
    )


def pixart() -> Any:
    transformer = seeded(
        lambda: diffusers.PixArtTransformer2DModel(
            sample_size=32,
            num_layers=1,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=2,
            in_channels=4,
            out_channels=8,
            cross_attention_dim=16,
            caption_channels=64,
            use_additional_conditions=False,
        )
    )
    return diffusers.PixArtSigmaPipeline(
        t5_tokenizer(), t5(), autoencoder(), transformer, diffusers.DDIMScheduler(clip_sample=False, steps_offset=1)
    )


def sana(distilled: bool = False) -> Any:
    transformer = seeded(
        lambda: diffusers.SanaTransformer2DModel(
            sample_size=32 if distilled else 16,
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=8,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=48,
            guidance_embeds=distilled,
        )
    )
    vae = seeded(
        lambda: diffusers.AutoencoderDC(
            in_channels=3,
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "ResBlock", "ResBlock"),
            decoder_block_types=("ResBlock", "ResBlock", "ResBlock"),
            encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            encoder_qkv_multiscales=((), (), ()),
            decoder_qkv_multiscales=((), (), ()),
            encoder_layers_per_block=(1, 1, 1),
            decoder_layers_per_block=(1, 1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
        )
    )
    tokenizer = gemma_tokenizer()
    config = transformers.Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=4096,
    )
    encoder = seeded(lambda: transformers.Gemma2Model(config))
    if distilled:
        return diffusers.SanaSprintPipeline(tokenizer, encoder, vae, transformer, diffusers.SCMScheduler())
    return diffusers.SanaPipeline(tokenizer, encoder, vae, transformer, diffusers.FlowMatchEulerDiscreteScheduler())


def z_image() -> Any:
    transformer = seeded(
        lambda: diffusers.ZImageTransformer2DModel(
            all_patch_size=(2,),
            all_f_patch_size=(1,),
            in_channels=4,
            dim=16,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=48,
            axes_dims=[2, 2, 4],
            axes_lens=[512, 32, 32],
        )
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return diffusers.ZImagePipeline(
        scheduler, autoencoder(shift_factor=0.0), qwen3(causal=False), qwen_tokenizer(), transformer
    )


def flux2_parts() -> tuple[Any, Any]:
    transformer = seeded(
        lambda: diffusers.Flux2Transformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=144,
            timestep_guidance_channels=16,
            axes_dims_rope=[4, 4, 4, 4],
        )
    )
    return flux2_autoencoder(), transformer


def flux2_klein() -> Any:
    vae, transformer = flux2_parts()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    encoder = qwen3(causal=True, layers=28)
    return diffusers.Flux2KleinPipeline(scheduler, vae, encoder, qwen_tokenizer(), transformer)


class TextProcessor(transformers.ProcessorMixin):
    """The text half of Pixtral's processor; the other half wants a library for images."""

    attributes = ("tokenizer",)
    tokenizer_class = "AutoTokenizer"

    def __init__(self, tokenizer: Any, chat_template: str) -> None:
        super().__init__(tokenizer, chat_template=chat_template)


def flux2() -> Any:
    vae, transformer = flux2_parts()
    tokenizer = qwen_tokenizer()
    processor = TextProcessor(tokenizer, chat_template=CHAT)
    config = transformers.Mistral3Config(
        text_config={
            "model_type": "mistral",
            "vocab_size": len(tokenizer),
            "hidden_size": 48,
            "intermediate_size": 32,
            "num_hidden_layers": 31,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "max_position_embeddings": 2048,
        },
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "head_dim": 8,
            "image_size": 32,
            "patch_size": 16,
        },
    )
    encoder = seeded(lambda: transformers.Mistral3ForConditionalGeneration(config))
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return diffusers.Flux2Pipeline(scheduler, vae, encoder, processor, transformer)


BUILDERS: dict[str, Callable[[], Any]] = {
    "sd": stable_diffusion,
    "sdxl": stable_diffusion_xl,
    "sd3": stable_diffusion_3,
    "sd3-without-t5": lambda: stable_diffusion_3(with_t5=False),
    "flux-dev": flux,
    "flux-schnell": lambda: flux(distilled=True),
    "pixart": pixart,
    "sana": sana,
    "sana-sprint": lambda: sana(distilled=True),
    "qwen-image": newcomers.qwen_image,
    "z-image": z_image,
    "flux2-klein": flux2_klein,
    "flux2": flux2,
    **newcomers.BUILDERS,
}
